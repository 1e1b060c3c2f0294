//! A daemon made of its pure parts: the real `plan`, `settle`, `look_back` and `assess` over a ledger in memory and a
//! clock that the test moves. Attempts are not executed: their script says when and how they end.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        health::{self, JobStats, NEWEST_RUNS, Snapshot},
        job::{Job, JobName},
        plan::{Fate, NewRow, Newest, Standing, plan},
        run::{Outcome, Reason, ReplicaId, Run, RunId, State, Trigger},
        settle::{Ended, Next, settle},
    },
    job_table::{Environment, parse},
};
use serde_json::json;
use uuid::Uuid;

/// What becomes of a due run.
pub enum Fortune {
    /// Nobody claims it.
    Unclaimed,
    /// Its attempt ends after so long, like this.
    Ends(TimeDelta, Ended),
}

pub type Script = Box<dyn Fn(&Run, DateTime<Utc>) -> Fortune>;

/// One simulated replica with its ledger.
pub struct Sim {
    pub now: DateTime<Utc>,
    pub workers: Vec<Worker>,
    pub snapshot: Snapshot,
    pub down: bool,
    ids: u128,
}

/// A job, its rows, and how its attempts go.
pub struct Worker {
    pub job: Arc<Job>,
    pub script: Script,
    pub paused: bool,
    first_seen: DateTime<Utc>,
    cursor: DateTime<Utc>,
    newest: Option<Newest>,
    unfinished: Vec<Unfinished>,
    /// In the order in which they finished.
    finished: Vec<(RunId, health::Ended)>,
}

struct Unfinished {
    run: Run,
    /// Of the running attempt.
    end: Option<(DateTime<Utc>, Ended)>,
}

pub fn jobs(table: &str) -> Vec<Arc<Job>> {
    let table = parse(table, "jobs.toml", &Environment::default()).expect("the test's table is right");
    table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect()
}

impl Sim {
    pub fn new(now: DateTime<Utc>) -> Self {
        let mut snapshot = Snapshot::starting(ReplicaId(Uuid::nil()), "0.0.0", now);
        (snapshot.database.up, snapshot.database.migrated) = (true, true);
        Self { now, workers: Vec::new(), snapshot, down: false, ids: 0 }
    }

    pub fn add(&mut self, job: Arc<Job>, script: Script) {
        self.workers.push(Worker {
            job,
            script,
            paused: false,
            first_seen: self.now,
            cursor: self.now,
            newest: None,
            unfinished: Vec::new(),
            finished: Vec::new(),
        });
    }

    pub fn worker(&mut self, name: &str) -> &mut Worker {
        self.workers.iter_mut().find(|worker| worker.job.name.as_str() == name).expect("a job of the table")
    }

    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.workers.iter().map(|worker| Arc::clone(&worker.job)).collect()
    }

    /// Everything that happens at `now`.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        self.now = now;
        if self.down {
            return;
        }
        for worker in &mut self.workers {
            worker.land(now);
            worker.plan(now, &mut self.ids);
            worker.claim(now);
            // What ends at once makes room at once.
            worker.land(now);
        }
    }

    /// The process ends: what runs is interrupted, what was remembered is forgotten.
    pub fn stop(&mut self) {
        self.down = true;
        let now = self.now;
        for worker in &mut self.workers {
            for row in worker.unfinished.iter_mut().filter(|row| row.end.is_some()) {
                row.end = Some((now, Ended::Interrupted));
            }
            worker.land(now);
        }
        self.snapshot.jobs = BTreeMap::new();
        self.snapshot.sampled_at = None;
    }

    /// What the observer does: looks at the ledger and keeps what it knew.
    pub fn look(&mut self) {
        let (now, is_first) = (self.now, self.snapshot.sampled_at.is_none());
        self.snapshot.planner.last_turn = Some(now);
        (self.snapshot.sampled_at, self.snapshot.counted_at) = (Some(now), Some(now));
        let known = std::mem::take(&mut self.snapshot.jobs);
        for worker in &self.workers {
            let mut stats = worker.stats(is_first);
            if let Some(old) = known.get(&worker.job.name) {
                stats.remember(old, now);
            }
            self.snapshot.jobs.insert(worker.job.name.clone(), stats);
        }
    }
}

impl Worker {
    /// When its runs succeeded.
    pub fn successes(&self) -> impl DoubleEndedIterator<Item = DateTime<Utc>> + '_ {
        self.finished.iter().filter(|(_, row)| row.outcome.is_success()).map(|(_, row)| row.finished_at)
    }

    /// The instants for which nobody may blame it.
    pub fn excuses(&self, reasons: &'static [Reason]) -> impl DoubleEndedIterator<Item = DateTime<Utc>> + '_ {
        let is_excuse = |row: &health::Ended| row.reason.is_some_and(|reason| reasons.contains(&reason));
        self.finished.iter().filter(move |(_, row)| is_excuse(row)).filter_map(|(_, row)| row.scheduled_for)
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.finished.iter().filter(|(_, row)| row.outcome == outcome).count()
    }

    fn plan(&mut self, now: DateTime<Utc>, ids: &mut u128) {
        let is_due = |worker: &Self| {
            let next = worker.job.schedule.as_ref().and_then(|schedule| schedule.next_after(worker.cursor));
            next.is_some_and(|next| next <= now)
        };
        while is_due(self) {
            let planned = plan(&self.job, &self.standing(), now);
            if let Some(fold) = planned.fold {
                self.fold(fold.id, &fold.row);
            }
            for row in planned.rows {
                *ids += 1;
                self.insert(&row, RunId(Uuid::from_u128(*ids)), now);
            }
            self.cursor = planned.planned_until;
        }
    }

    fn standing(&self) -> Standing {
        let scheduled = |row: &&Unfinished| row.run.trigger == Trigger::Schedule;
        Standing {
            epoch: 1,
            planned_until: self.cursor,
            paused: self.paused,
            running: self.unfinished.iter().any(|row| row.end.is_some()),
            unfinished: self.unfinished.iter().any(|row| scheduled(&row)),
            unstarted: self.unfinished.iter().any(|row| row.run.attempt == 0),
            newest: self.newest.clone(),
        }
    }

    fn fold(&mut self, id: RunId, row: &NewRow) {
        let newest = self.newest.as_mut().expect("only the newest row is folded");
        newest.scheduled_for = row.scheduled_for;
        for (_, ended) in self.finished.iter_mut().filter(|(found, _)| *found == id) {
            ended.scheduled_for = Some(row.scheduled_for);
        }
        for waiting in self.unfinished.iter_mut().filter(|waiting| waiting.run.id == id) {
            waiting.run.scheduled_for = Some(row.scheduled_for);
        }
    }

    fn insert(&mut self, row: &NewRow, id: RunId, now: DateTime<Utc>) {
        let mut run = self.run(row, id, now);
        let mut newest = Newest {
            id,
            epoch: 1,
            trigger: Trigger::Schedule,
            state: State::Due,
            outcome: None,
            reason: None,
            attempt: 0,
            scheduled_for: row.scheduled_for,
            covers_from: row.covers_from,
        };
        match &row.fate {
            Fate::Run { trigger, due_at, .. } => {
                (run.trigger, run.due_at, newest.trigger) = (*trigger, *due_at, *trigger);
                self.unfinished.push(Unfinished { run, end: None });
            }
            Fate::Skip(reason) => {
                (newest.state, newest.outcome) = (State::Finished, Some(Outcome::Skipped));
                newest.reason = Some(*reason);
                run.started_at = None;
                self.finish(&run, Outcome::Skipped, (Some(*reason), None), now);
            }
        }
        self.newest = Some(newest);
    }

    /// Starts what is due, one at a time.
    fn claim(&mut self, now: DateTime<Utc>) {
        if self.unfinished.iter().any(|row| row.end.is_some()) {
            return;
        }
        let Some(row) = self.unfinished.iter_mut().find(|row| row.run.due_at <= now) else { return };
        match (self.script)(&row.run, now) {
            Fortune::Unclaimed => {}
            Fortune::Ends(after, end) => {
                row.run.attempt += 1;
                row.run.started_at = row.run.started_at.filter(|_| row.run.resume.is_some()).or(Some(now));
                row.end = Some((now + after, end));
                if let Some(newest) = self.newest.as_mut().filter(|newest| newest.id == row.run.id) {
                    (newest.state, newest.attempt) = (State::Running, row.run.attempt);
                }
            }
        }
    }

    fn land(&mut self, now: DateTime<Utc>) {
        let landed = |row: &Unfinished| row.end.as_ref().is_some_and(|(at, _)| *at <= now);
        while let Some(index) = self.unfinished.iter().position(landed) {
            let mut row = self.unfinished.remove(index);
            let (at, end) = row.end.take().expect("it has landed");
            let settlement = settle(&row.run, &self.job.policy, end, at);
            row.run.attempt -= i32::from(!settlement.attempt_spent);
            row.run.resume = settlement.resume.or(row.run.resume);
            match settlement.next {
                Next::Again { at, .. } => {
                    row.run.due_at = at;
                    self.unfinished.push(row);
                }
                Next::Finish { outcome, reason } => {
                    if let Some(newest) = self.newest.as_mut().filter(|newest| newest.id == row.run.id) {
                        (newest.state, newest.outcome) = (State::Finished, Some(outcome));
                        newest.reason = reason;
                    }
                    self.finish(&row.run, outcome, (reason, settlement.items), at);
                }
            }
        }
    }

    fn finish(&mut self, run: &Run, outcome: Outcome, told: (Option<Reason>, Option<i64>), now: DateTime<Utc>) {
        let ended = health::Ended {
            outcome,
            reason: told.0,
            attempt: run.attempt.into(),
            scheduled_for: run.scheduled_for,
            started_at: run.started_at,
            finished_at: now,
            lag_ms: None,
            duration_ms: run.started_at.map(|started| (now - started).num_milliseconds()),
            items: told.1,
            left: None,
            error: None,
        };
        self.finished.push((run.id, ended));
    }

    fn stats(&self, whole: bool) -> JobStats {
        let mut stats = JobStats::new(self.first_seen);
        stats.planned_until = Some(self.cursor);
        stats.paused = self.paused;
        if whole {
            stats.last_success = self.successes().next_back();
        }
        let newest: Vec<_> = self.finished.iter().rev().take(NEWEST_RUNS).map(|(_, row)| row.clone()).collect();
        stats.look_back(&newest);
        let running = self.unfinished.iter().filter(|row| row.end.is_some());
        for row in running {
            stats.running += 1;
            stats.last_run = stats.last_run.max(row.run.started_at);
            stats.oldest_attempt = row.run.started_at.filter(|_| row.run.resume.is_none());
        }
        let elsewhere = self.unfinished.iter().filter(|row| row.run.resume.is_some());
        stats.polling_since = elsewhere.filter_map(|row| row.run.started_at).min();
        stats
    }

    fn run(&self, row: &NewRow, id: RunId, now: DateTime<Utc>) -> Run {
        Run {
            id,
            job: JobName::from_store(self.job.name.as_str()),
            epoch: 1,
            trigger: Trigger::Schedule,
            scheduled_for: Some(row.scheduled_for),
            covers: row.covers,
            covers_from: Some(row.covers_from),
            state: State::Due,
            outcome: None,
            reason: None,
            due_at: now,
            priority: 0,
            key: None,
            dedupe_key: None,
            payload: serde_json::Value::Null,
            attempt: 0,
            max_attempts: i32::try_from(self.job.policy.retry.max_attempts).expect("a few"),
            crashes: 0,
            exclusive: true,
            replica: None,
            resume: None,
            retry_of: None,
            cancel_requested_at: None,
            created_at: now,
            started_at: None,
            finished_at: None,
            lag_ms: None,
            duration_ms: None,
            items: None,
            items_failed: None,
            response_code: None,
            result: None,
            error: None,
            errors: json!([]),
        }
    }
}
