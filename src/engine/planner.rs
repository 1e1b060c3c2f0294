//! The planner: writes what is due into the ledger, exactly when it is due, and waits for nobody.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use super::{Engine, desk::Desk, running::Claimed};
use crate::{
    domain::{
        job::{Job, JobName, Overlap},
        run::{Reason, Trigger},
    },
    store::{JobRow, Lane, PlanRequest, Planned, Recorded, Result},
};

/// First wait after a job was locked or its transaction failed; doubles up to `LONGEST_RETRY`.
const FIRST_RETRY: TimeDelta = TimeDelta::milliseconds(50);
const LONGEST_RETRY: TimeDelta = TimeDelta::seconds(1);
/// A job whose active schedule is another table's is looked at again after this long.
const FOREIGN_WAIT: TimeDelta = TimeDelta::seconds(5);
/// Jobs planned in one transaction.
const BATCH: usize = 500;

/// Knows when to look at which job next. The cursor it reads, never its memory, says what is owed.
pub struct Planner {
    engine: Arc<Engine>,
    /// The agenda follows from this table; a reload begins a new one.
    desk: Arc<Desk>,
    agenda: BTreeSet<(DateTime<Utc>, JobName)>,
    looks: HashMap<JobName, Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: DateTime<Utc>,
    /// The oldest instant that may not be in the ledger yet.
    due: DateTime<Utc>,
    /// Grows while the job stays locked.
    wait: TimeDelta,
}

/// What a tick leaves to be done by the loop.
#[derive(Default)]
pub struct Tick {
    /// Born running: start them.
    pub started: Vec<Claimed>,
    pub planned_jobs: usize,
}

impl Planner {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { desk: engine.desk(), engine, agenda: BTreeSet::new(), looks: HashMap::new() }
    }

    /// Takes the cursors of the database over; jobs it does not know (yet) or that are retired are left out.
    pub fn read_cursors(&mut self, rows: &[JobRow]) {
        for row in rows.iter().filter(|row| row.retired_at.is_none()) {
            let Some(cursor) = row.planned_until else { continue };
            self.follow(&row.name, cursor);
        }
    }

    /// Whether the engine works by another table since.
    pub fn is_outdated(&self) -> bool {
        !Arc::ptr_eq(&self.desk, &self.engine.desk())
    }

    /// When to look next; `None` = nothing on the agenda.
    pub fn next_look(&self) -> Option<DateTime<Utc>> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// The oldest instant that may not be recorded yet; usually in the future.
    pub fn oldest_owed(&self) -> Option<DateTime<Utc>> {
        self.looks.values().map(|look| look.due).min()
    }

    /// Plans the jobs whose look has come, one batch of them: what it starts need not wait for the next batch, and
    /// what becomes due meanwhile need not wait for a long backlog. After an error its jobs are tried again soon.
    pub async fn tick(&mut self, now: DateTime<Utc>) -> Result<Tick> {
        let names = self.take(now);
        if names.is_empty() {
            return Ok(Tick::default());
        }
        Ok(Tick { started: self.plan(&names, now).await?, planned_jobs: names.len() })
    }

    async fn plan(&mut self, names: &[JobName], now: DateTime<Utc>) -> Result<Vec<Claimed>> {
        let engine = Arc::clone(&self.engine);
        let desk = Arc::clone(&self.desk);
        let fence = engine.running.new_fence();
        let jobs: Vec<Arc<Job>> = names.iter().filter_map(|name| desk.table.job(name)).cloned().collect();
        // A run of a job that this process was told to leave alone must not be born running here.
        let all_ours = jobs.iter().all(|job| engine.settings.scope.claims(job));
        let free_slots = if all_ours { engine.free_slots(Lane::Scheduled) } else { 0 };
        let request = PlanRequest {
            jobs,
            replica: engine.running.replica(),
            fence,
            now,
            free_slots: u32::try_from(free_slots).unwrap_or(u32::MAX),
        };
        match engine.store.plan(&request).await {
            Ok(mut planned) => {
                let started = std::mem::take(&mut planned.started);
                self.note_foreign(names, &planned.foreign);
                self.note(&planned, now);
                Ok(engine.running.enter(started, fence, &desk))
            }
            Err(error) => {
                engine.running.unanswered(fence);
                names.iter().for_each(|name| self.retry(name, self.wait_of(name), now));
                Err(error)
            }
        }
    }

    /// Health does not judge a job by a schedule that is not in force.
    fn note_foreign(&self, planned: &[JobName], foreign: &[JobName]) {
        self.engine.status.change(|condition| {
            condition.foreign.retain(|name| !planned.contains(name));
            condition.foreign.extend(foreign.iter().cloned());
        });
    }

    fn note(&mut self, planned: &Planned, now: DateTime<Utc>) {
        let locked: HashSet<&JobName> = planned.locked.iter().collect();
        for (name, cursor) in &planned.cursors {
            let wait = self.wait_of(name);
            self.follow(name, *cursor);
            if locked.contains(name) {
                self.retry(name, wait, now);
            }
        }
        for name in &planned.more {
            // Behind those that have waited longer.
            self.set(name, Look { at: now, due: self.looks.get(name).map_or(now, |look| look.due), wait: FIRST_RETRY });
        }
        for name in &planned.foreign {
            self.look_again(name, now + FOREIGN_WAIT);
        }
        for row in &planned.recorded {
            if let Some(reason) = row.skipped {
                self.engine.metrics.skipped(&row.job, reason, row.covers);
            }
            bill(row);
            let replaces = |job: &Arc<Job>| job.policy.overlap == Overlap::Replace;
            if self.desk.table.job(&row.job).is_some_and(replaces) {
                // The renewal brings the cancel flag home; the new run should not wait ten seconds for it.
                self.engine.wake.lease.notify_one();
            }
        }
    }

    /// Looks at the job again when its next instant after the cursor comes.
    fn follow(&mut self, name: &JobName, cursor: DateTime<Utc>) {
        let job = self.desk.table.job(name);
        let due = job.and_then(|job| job.schedule.as_ref()).and_then(|schedule| schedule.next_after(cursor));
        match due {
            Some(due) => self.set(name, Look { at: due, due, wait: FIRST_RETRY }),
            None => self.forget(name),
        }
    }

    /// Looks again after `wait`, unless whoever was quicker has recorded what we came for.
    fn retry(&mut self, name: &JobName, wait: TimeDelta, now: DateTime<Utc>) {
        if let Some(look) = self.looks.get(name).copied().filter(|look| look.at <= now) {
            self.set(name, Look { at: now + wait, wait: (wait * 2).min(LONGEST_RETRY), ..look });
        }
    }

    fn wait_of(&self, name: &JobName) -> TimeDelta {
        self.looks.get(name).map_or(FIRST_RETRY, |look| look.wait)
    }

    fn look_again(&mut self, name: &JobName, at: DateTime<Utc>) {
        // Someone else's epoch: what is due in it is not ours to be late with.
        self.set(name, Look { at, due: at, wait: FIRST_RETRY });
    }

    /// Takes the jobs off the agenda whose look has come; they stay known until they are followed or retried.
    fn take(&mut self, now: DateTime<Utc>) -> Vec<JobName> {
        let mut names = Vec::new();
        while names.len() < BATCH && self.agenda.first().is_some_and(|(at, _)| *at <= now) {
            names.extend(self.agenda.pop_first().map(|(_, name)| name));
        }
        names
    }

    fn set(&mut self, name: &JobName, look: Look) {
        self.forget(name);
        self.agenda.insert((look.at, name.clone()));
        self.looks.insert(name.clone(), look);
    }

    fn forget(&mut self, name: &JobName) {
        if let Some(old) = self.looks.remove(name) {
            self.agenda.remove(&(old.at, name.clone()));
        }
    }
}

/// Says what became of instants that were not recorded when they were due: downtime, a stall, an edit. The lines of a
/// start are its bill.
pub fn bill(row: &Recorded) {
    let (owed, until) = (row.covers, row.scheduled_for.to_rfc3339());
    let fate = match row.skipped {
        Some(reason @ (Reason::Missed | Reason::TooLate | Reason::Edited | Reason::Removed)) => {
            format!("skipped: {reason}")
        }
        Some(_) => return,
        None if row.trigger == Trigger::CatchUp => "caught up in one run".into(),
        None if 1 < owed => "folded into the live run".into(),
        None => return,
    };
    info!(component = "scheduler", job_name = %row.job, "owed {owed} instants up to {until}: {fate}");
}
