//! `plan`: which rows the owed instants of a job become (spec 4: Conservation, Plan, Missed instants, Overlap).

use chrono::{DateTime, Utc};

use super::{
    job::Job,
    run::{Outcome, Reason, RunId, State, Trigger},
    schedule::Schedule,
};

/// What the store knows of a job when it plans, read in one snapshot after the job row was locked.
#[derive(Debug, Clone)]
pub struct Standing {
    pub epoch: i64,
    /// Every instant up to here, this one included, is in the ledger.
    pub planned_until: DateTime<Utc>,
    pub paused: bool,
    /// Some run of the job is running, whatever made it.
    pub running: bool,
    /// Some run with trigger `schedule` is waiting, due or running.
    pub unfinished: bool,
    /// Some run with trigger `schedule` or `catch_up` has never started (attempt 0) and is waiting or due.
    pub unstarted: bool,
    /// The row with the newest `scheduled_for`.
    pub newest: Option<Newest>,
}

/// The row a fold could move forward.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    pub id: RunId,
    pub epoch: i64,
    pub trigger: Trigger,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub attempt: i32,
    pub scheduled_for: DateTime<Utc>,
    pub covers_from: DateTime<Utc>,
}

/// What one planning pass writes for one job, in this order: replace, fold, rows, cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `overlap = "replace"`: ask the running run to cancel, and end those of trigger `schedule` that wait:
    /// `skipped: replaced` when never started, else `cancelled: replaced`.
    pub replace: bool,
    pub fold: Option<Fold>,
    pub rows: Vec<NewRow>,
    /// The new cursor.
    pub planned_until: DateTime<Utc>,
    /// The pass was cut at its limit: plan again at once.
    pub more: bool,
}

/// Moves a row forward, if it still stands as `Newest` said. `covers_from` stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    pub id: RunId,
    pub from: DateTime<Utc>,
    /// Becomes a row of its own when the fold hits nothing.
    pub row: NewRow,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    pub scheduled_for: DateTime<Utc>,
    pub covers_from: DateTime<Utc>,
    pub covers: i64,
    pub fate: Fate,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Run { trigger: Trigger, due_at: DateTime<Utc>, priority: i16, exclusive: bool },
    Skip(Reason),
}

/// Plans what is owed in `(standing.planned_until, now]`.
pub fn plan(job: &Job, standing: &Standing, now: DateTime<Utc>) -> Plan {
    let _ = job;
    Plan { replace: false, fold: None, rows: Vec::new(), planned_until: standing.planned_until.max(now), more: false }
}

/// Plans the end of an epoch at `now`: the live instant follows the job's policy, what else is owed becomes
/// `skipped: edited`; with no job (it left the table) all of it becomes `skipped: removed`.
pub fn close_epoch(job: Option<&Job>, old: &Schedule, standing: &Standing, now: DateTime<Utc>) -> Plan {
    let _ = (job, old);
    Plan { replace: false, fold: None, rows: Vec::new(), planned_until: standing.planned_until.max(now), more: false }
}
