//! What `assess` is told: the memory of the engine beside the last answers of the database.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::queue::{QueueFigures, WatchedQueue};
use crate::domain::{
    job::JobName,
    run::{Outcome, Reason, ReplicaId},
};

/// One look at the daemon. The engine refreshes its memory part each second and its database part every few seconds;
/// while the database is away the old answers stay, with their age in `sampled_at`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub replica: ReplicaId,
    pub version: String,
    pub planner: Planner,
    pub database: Database,
    /// When the database last answered the questions below; `None` = never yet.
    pub sampled_at: Option<DateTime<Utc>>,
    /// When it last counted queues and days, which it is asked less often.
    pub counted_at: Option<DateTime<Utc>>,
    /// Replicas with a living lease, this one included.
    pub replicas: u32,
    /// Missing, doubled and extra instants of the audit; must be 0.
    pub unexplained: i64,
    /// The ledger lies on its container's own layer, and goes with it.
    pub ephemeral: bool,
    /// The job table on disk could not be taken over: the old one goes on.
    pub reload: Option<FailedReload>,
    pub slots: Slots,
    /// What is known of each job; a job that the database has not shown yet is absent.
    pub jobs: BTreeMap<JobName, JobStats>,
    /// The queues in tables of the team, by the job that drains each.
    pub queues: BTreeMap<JobName, WatchedQueue>,
}

impl Snapshot {
    /// The look of a process that has only just started: nothing turned, nothing known.
    pub fn starting(replica: ReplicaId, version: impl Into<String>, now: DateTime<Utc>) -> Self {
        Self {
            replica,
            version: version.into(),
            planner: Planner {
                started_at: now,
                last_turn: None,
                oldest_owed: None,
                draining: false,
                clock_hold: false,
            },
            database: Database { up: false, since: now, migrated: false, clock_skew_ms: None },
            sampled_at: None,
            counted_at: None,
            replicas: 0,
            unexplained: 0,
            ephemeral: false,
            reload: None,
            slots: Slots::default(),
            jobs: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }

    /// What was last seen of the queue that a job drains; `None` = it drains none, or nobody has seen it yet.
    pub fn queue_of(&self, job: &JobName) -> Option<&QueueFigures> {
        self.queues.get(job)?.figures.as_ref()
    }

    /// The job's queue size: what was seen in its table, else what its newest run left there, else its waiting runs.
    pub fn queue_size(&self, job: &JobName) -> i64 {
        let seen = self.queue_of(job).map(|figures| figures.left);
        let of_runs = || self.jobs.get(job).map_or(0, |stats| stats.left.unwrap_or(stats.waiting));
        seen.unwrap_or_else(of_runs)
    }

    /// What is being worked on of the job's queue: rows, or runs where its table cannot tell. `None` = neither is known yet.
    pub fn queue_running(&self, job: &JobName) -> Option<i64> {
        let seen = self.queue_of(job).and_then(|figures| figures.running);
        seen.or_else(|| Some(self.jobs.get(job)?.running))
    }
}

/// The loop that turns instants into runs.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Start of the process.
    pub started_at: DateTime<Utc>,
    /// End of the last turn; a turn that failed on the database counts.
    pub last_turn: Option<DateTime<Utc>>,
    /// The oldest instant that is not in the ledger yet, as the last turn left it: usually in the future.
    pub oldest_owed: Option<DateTime<Utc>>,
    pub draining: bool,
    /// Planning is held because the clock jumped (spec 4, Clock).
    pub clock_hold: bool,
}

#[derive(Debug, Clone)]
pub struct Database {
    pub up: bool,
    /// Since when it has been up, or away.
    pub since: DateTime<Utc>,
    /// Our migrations are applied.
    pub migrated: bool,
    /// Database clock minus host clock.
    pub clock_skew_ms: Option<i64>,
}

/// A job table that was refused when it was loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedReload {
    /// When it was first refused.
    pub since: DateTime<Utc>,
    /// What is wrong with it. Free text: shown to holders of a token only.
    pub problem: String,
}

/// Places for runs in this process, both lanes together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots {
    pub total: u32,
    pub busy: u32,
}

/// What is known of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStats {
    /// Nothing was owed before.
    pub first_seen: DateTime<Utc>,
    /// Start of the job's active epoch: an edited schedule is not judged by what the old one did.
    pub epoch_since: Option<DateTime<Utc>>,
    /// Every instant up to here is in the ledger.
    pub planned_until: Option<DateTime<Utc>>,
    pub paused: bool,
    /// Another table's schedule is the active one: ours says nothing about when it fires.
    pub foreign: bool,
    /// The newest instant that was excused: `skipped` as paused, disabled, edited, removed or by its gate.
    pub excused_until: Option<DateTime<Utc>>,
    /// The newest instant at which the handler said that there is nothing to do.
    pub answered_until: Option<DateTime<Utc>>,
    /// First start of the oldest unfinished run that goes on elsewhere (an application that answered 202).
    pub polling_since: Option<DateTime<Utc>>,
    /// Start of the newest attempt, whether or not its run has ended.
    pub last_run: Option<DateTime<Utc>>,
    /// How the newest finished run ended, among those that were started or kept back by their gate.
    pub last_outcome: Option<Outcome>,
    pub last_reason: Option<Reason>,
    /// When a run last ended in `success` or `partial`.
    pub last_success: Option<DateTime<Utc>>,
    /// When a run, or an attempt of one that goes on, last failed.
    pub last_failure: Option<DateTime<Utc>>,
    /// What the newest failure said, shortened. Free text: shown to holders of a token only.
    pub last_error: Option<String>,
    /// Of the newest run that succeeded or failed since the job was last idle.
    pub last_duration_ms: Option<i64>,
    pub last_lag_ms: Option<i64>,
    /// Failed runs since the last success, as far as [`super::NEWEST_RUNS`] go back.
    pub consecutive_failures: i64,
    /// Successes without an item since the last one that had some.
    pub empty_successes: i64,
    /// Failed attempts of the last five minutes in this replica.
    pub recent_failures: i64,
    pub running: i64,
    /// Start of the oldest running attempt, in any replica; not of runs that go on elsewhere.
    pub oldest_attempt: Option<DateTime<Utc>>,
    /// Attempts of this replica that went on after their abort.
    pub stuck: i64,
    /// Runs that wait or are due.
    pub waiting: i64,
    /// `due_at` of the oldest run that is due and not started.
    pub oldest_due: Option<DateTime<Utc>>,
    /// What the last run of a drain said is left in its table.
    pub left: Option<i64>,
    pub day: Day,
}

/// What happened in the last 24 h.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Day {
    /// Runs that finished after at least one attempt.
    pub runs: i64,
    pub successes: i64,
    /// Every failure but time-outs.
    pub errors: i64,
    pub timeouts: i64,
    pub items: i64,
    pub avg_duration_ms: Option<i64>,
    /// Of the newest runs only, when there were many.
    pub p95_duration_ms: Option<i64>,
    pub max_lag_ms: Option<i64>,
    /// Runs of the last hour that succeeded or failed.
    pub judged_1h: i64,
    pub failures_1h: i64,
}

impl Day {
    pub fn failures(&self) -> i64 {
        self.errors + self.timeouts
    }
}

impl JobStats {
    /// A job the database has only just met.
    pub fn new(first_seen: DateTime<Utc>) -> Self {
        Self {
            first_seen,
            epoch_since: None,
            planned_until: None,
            paused: false,
            foreign: false,
            excused_until: None,
            answered_until: None,
            polling_since: None,
            last_run: None,
            last_outcome: None,
            last_reason: None,
            last_success: None,
            last_failure: None,
            last_error: None,
            last_duration_ms: None,
            last_lag_ms: None,
            consecutive_failures: 0,
            empty_successes: 0,
            recent_failures: 0,
            running: 0,
            oldest_attempt: None,
            stuck: 0,
            waiting: 0,
            oldest_due: None,
            left: None,
            day: Day::default(),
        }
    }
}
