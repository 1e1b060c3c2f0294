//! The one door to the metrics: what the engine counts, and what `/metrics` shows (spec 7, Metrics).
//!
//! Counters and histograms are per process (sum them); gauges are what the latest snapshot knows, set at scrape, and are
//! the same in every replica (take the maximum). Label values come from the job table alone.

mod failures;
mod families;
mod forget;
mod process;
mod scrape;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use prometheus::{Registry, TextEncoder};

use crate::domain::{
    health::{Snapshot, assess},
    job::{Job, JobName},
    run::{Outcome, Reason, Run},
    settle::{Next, Settlement},
};
use failures::Failures;
use families::{Counted, Shown};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The metrics of one process. Cheap to use from many tasks.
pub struct Metrics {
    registry: Registry,
    counted: Counted,
    shown: Shown,
    failures: Failures,
    /// The jobs of the table at work, and whether each is a queue.
    names: ArcSwap<HashMap<JobName, bool>>,
    /// The same jobs. In hand while series come, go or are written out: a scrape that began under an old table must not
    /// bring its series back.
    jobs: Mutex<Vec<Arc<Job>>>,
    /// Tells how many lines the log has dropped.
    dropped_lines: OnceLock<fn() -> u64>,
}

fn names_of(jobs: &[Arc<Job>]) -> HashMap<JobName, bool> {
    jobs.iter().map(|job| (job.name.clone(), job.schedule.is_none())).collect()
}

impl Metrics {
    /// A registry of its own, with each series of each job at 0. `revision` names the build: a commit, or empty.
    pub fn new(jobs: &[Arc<Job>], version: &str, revision: &str) -> Self {
        let registry = Registry::new();
        let counted = Counted::register(&registry);
        let shown = Shown::register(&registry);
        for job in jobs {
            counted.start_at_zero(job);
        }
        shown.build_info.with_label_values(&[version, revision]).set(1);
        Self {
            registry,
            counted,
            shown,
            failures: Failures::default(),
            names: ArcSwap::from_pointee(names_of(jobs)),
            jobs: Mutex::new(jobs.to_vec()),
            dropped_lines: OnceLock::new(),
        }
    }

    /// The job table was replaced: new jobs begin at 0, and the series of those that are gone go too.
    pub fn follow(&self, jobs: &[Arc<Job>]) {
        let mut at_work = self.jobs();
        let names: BTreeSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        self.counted.forget_all_but(&names);
        self.shown.forget_jobs();
        self.failures.forget_all_but(&names);
        self.names.store(Arc::new(names_of(jobs)));
        for job in jobs {
            self.counted.start_at_zero(job);
        }
        *at_work = jobs.to_vec();
    }

    /// Where the log says how many lines it has dropped since the start. The first one stays.
    pub fn count_dropped_lines(&self, dropped: fn() -> u64) {
        self.dropped_lines.get_or_init(|| dropped);
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_queue(&self, job: &JobName) -> bool {
        self.names.load().get(job).copied().unwrap_or(false)
    }

    /// Labels are names from the job table at work: what an old one still runs is not counted any more.
    fn knows(&self, job: &JobName) -> bool {
        self.names.load().contains_key(job)
    }

    /// An attempt has started. The first one counts what made the run and how late it is.
    pub fn started(&self, run: &Run) {
        let went_on = run.resume.is_some() || run.errors.as_array().is_some_and(|errors| !errors.is_empty());
        if 1 < run.attempt || went_on || !self.knows(&run.job) {
            return;
        }
        self.counted.triggers.with_label_values(&[run.job.as_str(), run.trigger.word()]).inc();
        if let Some(lag_ms) = run.lag_ms {
            let lag = lag_ms as f64 / 1_000.0;
            self.counted.lag.observe(lag);
            if self.is_queue(&run.job) {
                self.counted.queue_wait.observe(lag);
            }
        }
    }

    /// An attempt was judged, and the judgement was written. `took` is `None` when nothing was started (a closed gate).
    pub fn settled(&self, run: &Run, settlement: &Settlement, took: Option<Duration>, now: DateTime<Utc>) {
        let job = run.job.as_str();
        if !self.knows(&run.job) {
            return;
        }
        if let Some(took) = took {
            self.counted.duration.with_label_values(&[job]).observe(took.as_secs_f64());
        }
        if let Some(items) = settlement.items.and_then(|items| u64::try_from(items).ok()) {
            self.counted.items.with_label_values(&[job]).inc_by(items);
        }
        match &settlement.next {
            Next::Finish { outcome, .. } => self.finished(&run.job, *outcome, now),
            Next::Again { .. } if settlement.attempt_spent => {
                self.counted.retries.with_label_values(&[job]).inc();
                self.failures.push(&run.job, now);
            }
            Next::Again { .. } => {}
        }
    }

    /// Instants that entered the ledger as skipped, without a run.
    pub fn skipped(&self, job: &JobName, reason: Reason, instants: i64) {
        let instants = u64::try_from(instants).unwrap_or(0);
        if !self.knows(job) {
            return;
        }
        self.counted.skipped.with_label_values(&[job.as_str(), reason.word()]).inc_by(instants);
    }

    /// A run that another process lost was settled by this one (`lost`, `unknown`), or one was cancelled while it waited.
    pub fn finished_unstarted(&self, job: &JobName, outcome: Outcome, now: DateTime<Utc>) {
        if self.knows(job) {
            self.finished(job, outcome, now);
        }
    }

    fn finished(&self, job: &JobName, outcome: Outcome, now: DateTime<Utc>) {
        let labels = [job.as_str(), outcome.word()];
        self.counted.runs.with_label_values(&labels).inc();
        if self.is_queue(job) {
            self.counted.queue_processed.with_label_values(&labels).inc();
        }
        if outcome.is_failure() {
            self.failures.push(job, now);
        }
    }

    /// Failed attempts of the job in the last five minutes, in this process: what `job_failures` shows.
    pub fn recent_failures(&self, job: &JobName, now: DateTime<Utc>) -> i64 {
        self.failures.count(job, now)
    }

    /// This replica's lease ran out under it.
    pub fn lease_lost(&self) {
        self.counted.lease_lost.inc();
    }

    /// An HTTP answer was given. `route` is the route's pattern, never the path that was asked for.
    pub fn answered(&self, route: &str, code: u16) {
        self.counted.http.with_label_values(&[route, &code.to_string()]).inc();
    }

    /// The text of `/metrics`, from the counters and this look at the daemon.
    pub fn render(&self, snapshot: &Snapshot, now: DateTime<Utc>) -> String {
        let jobs = self.jobs();
        let health = assess(&jobs, snapshot, now);
        self.shown.daemon(snapshot, &health, now);
        for (job, verdict) in jobs.iter().zip(&health.jobs) {
            self.shown.job(job, &verdict.health, snapshot.jobs.get(&job.name));
            let failures = self.failures.count(&job.name, now);
            self.shown.job_failures.with_label_values(&[job.name.as_str()]).set(failures);
        }
        self.shown.queues(&jobs, snapshot, now);
        self.shown.process();
        let dropped = self.dropped_lines.get().map_or(0, |dropped| dropped());
        self.counted.dropped_lines.inc_by(dropped.saturating_sub(self.counted.dropped_lines.get()));
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        text.expect("families that were registered together encode")
    }
}
