//! The judge of health: the rules decide, and the status is the worst of those that hold.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    rules::{JobLook, Look, alive, attempts_stuck, daemon_alerts, is_fila, job_alerts, queue_alerts, scheduler_lag},
    snapshot::{JobStats, Snapshot},
    stale::{Patience, patience},
    verdict::{
        Alert, AlertName, DatabaseHealth, Health, JobHealth, JobStatus, JobVerdict, NotReady, PlannerState,
        QueueHealth, Severity, Status, Why,
    },
};
use crate::domain::{
    job::{Job, JobName},
    run::{Outcome, Reason},
};

/// Judges the jobs of the table by what is known of them. Pure: the same look at the same moment gives the same answer.
pub fn assess(jobs: &[Arc<Job>], snapshot: &Snapshot, now: DateTime<Utc>) -> Health {
    let mut jobs: Vec<_> = jobs.iter().map(|job| Judged::new(job, snapshot, now)).collect();
    let mut alerts = daemon_alerts(&Look { snapshot, now });
    jobs.iter_mut().for_each(|job| alerts.append(&mut job.alerts));
    Health {
        scheduler: planner_state(snapshot, now),
        last_job_at: jobs.iter().filter_map(|job| job.stats?.last_run).max(),
        queue_size: queue_size(&jobs, snapshot),
        status: status(&alerts),
        lag_seconds: scheduler_lag(snapshot, now).num_milliseconds() as f64 / 1_000.0,
        replicas: snapshot.replicas,
        version: snapshot.version.clone(),
        timestamp: now,
        replica: snapshot.replica,
        database: DatabaseHealth {
            status: if snapshot.database.up { "up" } else { "away" },
            since: snapshot.database.since,
            sampled_at: snapshot.sampled_at,
        },
        queues: jobs.iter().filter_map(|job| job.queue(snapshot)).collect(),
        jobs: jobs.into_iter().map(|job| JobVerdict { name: job.job.name.clone(), health: job.health() }).collect(),
        alerts,
    }
}

/// What keeps `/readyz` from saying yes; empty = ready. Neither leadership nor job success counts.
pub fn readiness(snapshot: &Snapshot) -> Vec<NotReady> {
    let database = &snapshot.database;
    [
        (!database.up, NotReady::DatabaseAway),
        (!database.migrated, NotReady::NotMigrated),
        (snapshot.planner.draining, NotReady::Draining),
    ]
    .into_iter()
    .filter_map(|(holds, why)| holds.then_some(why))
    .collect()
}

fn planner_state(snapshot: &Snapshot, now: DateTime<Utc>) -> PlannerState {
    let planner = &snapshot.planner;
    match planner {
        _ if planner.draining => PlannerState::Draining,
        _ if !alive(snapshot, now) => PlannerState::Stalled,
        _ if planner.last_turn.is_none() => PlannerState::Starting,
        _ if planner.clock_hold => PlannerState::ClockHold,
        _ => PlannerState::Running,
    }
}

/// What waits makes the whole degraded at most: `/health/workers` says how the daemon is, and spec 7 closes the list of what is
/// critical there. `/health/fila` says how the queue is.
fn status(alerts: &[Alert]) -> Status {
    let (of_queues, others): (Vec<Alert>, Vec<Alert>) =
        alerts.iter().cloned().partition(|alert| alert.name.is_of_queue());
    match worst(&others) {
        Status::Healthy if !of_queues.is_empty() => Status::Degraded,
        status => status,
    }
}

/// The worst of what holds.
pub(super) fn worst(alerts: &[Alert]) -> Status {
    match alerts.iter().map(|alert| alert.severity).max() {
        Some(Severity::Critical) => Status::Critical,
        Some(Severity::Warning) => Status::Degraded,
        None => Status::Healthy,
    }
}

/// What waits in the table of the critical drain, that of the messages before any other; else all waiting runs.
fn queue_size(jobs: &[Judged<'_>], snapshot: &Snapshot) -> i64 {
    let critical = || jobs.iter().filter(|job| job.job.policy.critical);
    let fila = critical().filter(|job| is_fila(job.job)).find_map(|job| job.left(snapshot));
    let drain = fila.or_else(|| critical().find_map(|job| job.left(snapshot)));
    drain.unwrap_or_else(|| jobs.iter().filter_map(|job| job.stats).map(|stats| stats.waiting).sum())
}

/// A job, what is known of it, and the verdict.
struct Judged<'a> {
    job: &'a Job,
    stats: Option<&'a JobStats>,
    now: DateTime<Utc>,
    patience: Option<Patience>,
    /// Its silence would be held against it.
    is_watched: bool,
    status: JobStatus,
    why: Option<Why>,
    silence: Option<AlertName>,
    alerts: Vec<Alert>,
}

impl<'a> Judged<'a> {
    fn new(job: &'a Job, snapshot: &'a Snapshot, now: DateTime<Utc>) -> Self {
        let Some(stats) = snapshot.jobs.get(&job.name) else { return Self::not_seen_yet(job, snapshot, now) };
        let patience = patience(job, stats, now);
        let look = JobLook { job, stats, snapshot, patience, now };
        let backlog = queue_alerts(&look);
        let judged = Self { stats: Some(stats), patience, ..Self::unjudged(job, now) };
        if let Some((status, why)) = off(job, stats) {
            return Self { status, why: Some(why), alerts: backlog, ..judged };
        }
        let (holding, verdict) = job_alerts(&look);
        let verdict = verdict.or_else(|| at_rest(job, stats));
        let silences = [AlertName::JobStale, AlertName::JobNeverRan];
        Self {
            is_watched: look.is_watched(),
            status: verdict.map_or(JobStatus::Healthy, |(status, _)| status),
            why: verdict.map(|(_, why)| why),
            silence: holding.iter().map(|alert| alert.name).find(|name| silences.contains(name)),
            alerts: [holding, backlog].concat(),
            ..judged
        }
    }

    fn unjudged(job: &'a Job, now: DateTime<Utc>) -> Self {
        Self {
            job,
            stats: None,
            now,
            patience: None,
            is_watched: false,
            status: JobStatus::Healthy,
            why: None,
            silence: None,
            alerts: Vec::new(),
        }
    }

    /// A placeholder is one before the database has said anything of it.
    fn not_seen_yet(job: &'a Job, snapshot: &'a Snapshot, now: DateTime<Utc>) -> Self {
        let (status, why) = match (&job.disabled, job.handler) {
            (Some(_), _) => (JobStatus::Disabled, Why::Disabled),
            (None, "noop") => (JobStatus::Placeholder, Why::Noop),
            _ => (JobStatus::Healthy, Why::NotSeenYet),
        };
        // Its queue may have been seen before its runs.
        let (stats, patience) = (&JobStats::new(now), None);
        let alerts = queue_alerts(&JobLook { job, stats, snapshot, patience, now });
        Self { status, why: Some(why), alerts, ..Self::unjudged(job, now) }
    }

    fn health(&self) -> JobHealth {
        let stats = self.stats;
        let day = stats.map(|stats| &stats.day);
        JobHealth {
            status: self.status,
            criticality: if self.job.policy.critical { "critical" } else { "normal" },
            last_outcome: stats.and_then(|stats| stats.last_outcome),
            last_run: stats.and_then(|stats| stats.last_run),
            next_run: self.next_run(),
            runs_24h: day.map_or(0, |day| day.runs),
            failures_24h: day.map_or(0, |day| day.failures()),
            consecutive_failures: stats.map_or(0, |stats| stats.consecutive_failures),
            p95_duration_ms: day.and_then(|day| day.p95_duration_ms),
            max_lag_ms_24h: day.and_then(|day| day.max_lag_ms),
            stale_after: self.patience.filter(|_| self.is_watched).map(|patience| patience.until),
            reason: self.why,
            allowed: self.patience.map(|patience| patience.until - patience.since),
            silence: self.silence,
            stuck: stats.map_or(0, |stats| attempts_stuck(self.job, stats, self.now)),
        }
    }

    fn next_run(&self) -> Option<DateTime<Utc>> {
        if matches!(self.status, JobStatus::Paused | JobStatus::Disabled) {
            return None;
        }
        self.job.schedule.as_ref()?.next_after(self.now)
    }

    /// What waits in the table that it drains, as it was last seen or as its newest run left it; `None` = it drains none.
    fn left(&self, snapshot: &Snapshot) -> Option<i64> {
        let seen = snapshot.queue_of(&self.job.name).map(|figures| figures.left);
        seen.or_else(|| self.stats?.left)
    }

    fn queue(&self, snapshot: &Snapshot) -> Option<(JobName, QueueHealth)> {
        let age = |at: DateTime<Utc>| (self.now - at).max(TimeDelta::zero()).num_seconds();
        if let Some(figures) = snapshot.queue_of(&self.job.name) {
            let queue = QueueHealth {
                size: figures.left,
                oldest_age_seconds: figures.oldest_age(self.now).num_seconds(),
                running: snapshot.queue_running(&self.job.name),
                failed: figures.failed,
                sampled_age_seconds: Some(age(figures.at)),
            };
            return Some((self.job.name.clone(), queue));
        }
        let is_queue = self.job.schedule.is_none();
        let stats = self.stats.filter(|stats| is_queue || stats.left.is_some())?;
        let queue = QueueHealth {
            size: snapshot.queue_size(&self.job.name),
            oldest_age_seconds: stats.oldest_due.map_or(0, age),
            running: Some(stats.running),
            failed: Some(stats.day.failures()),
            sampled_age_seconds: snapshot.counted_at.map(age),
        };
        Some((self.job.name.clone(), queue))
    }
}

/// Somebody switched it off: no rule of a job is asked.
fn off(job: &Job, stats: &JobStats) -> Option<(JobStatus, Why)> {
    match job.disabled {
        Some(_) => Some((JobStatus::Disabled, Why::Disabled)),
        None if stats.paused => Some((JobStatus::Paused, Why::Paused)),
        None => None,
    }
}

/// Why a job about which no rule complains does nothing, if so.
fn at_rest(job: &Job, stats: &JobStats) -> Option<(JobStatus, Why)> {
    let skipped = stats.last_outcome == Some(Outcome::Skipped);
    match stats.last_reason {
        _ if job.handler == "noop" => Some((JobStatus::Placeholder, Why::Noop)),
        _ if stats.foreign => Some((JobStatus::Healthy, Why::OtherTable)),
        Some(Reason::NotConfigured) => Some((JobStatus::Idle, Why::NotConfigured)),
        Some(Reason::Gate) => Some((JobStatus::Idle, Why::GateClosed)),
        _ if skipped => Some((JobStatus::Idle, Why::NothingToDo)),
        _ => None,
    }
}
