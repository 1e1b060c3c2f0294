//! The judge of health: each rule that turns it from `healthy` is an alert, and the status is the worst of them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    snapshot::{JobStats, Snapshot},
    stale::stale_at,
    verdict::{
        Alert, AlertName, DatabaseHealth, Health, JobHealth, JobStatus, JobVerdict, NotReady, PlannerState,
        QueueHealth, Severity, Status, Why,
    },
};
use crate::domain::{
    job::{Job, JobName},
    run::Reason,
};

/// A planner that has not turned for this long is stalled: critical, and `/livez` says so.
pub const PLANNER_PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// A database away for this long is critical.
pub const DATABASE_PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// Failures in a row that make a critical job critical.
pub const CRITICAL_FAILURES: i64 = 3;
/// The documented threshold of `scheduler_lag`.
pub const LAG_LIMIT: TimeDelta = TimeDelta::seconds(30);
/// The documented threshold of `queue_size`.
pub const QUEUE_LIMIT: i64 = 100;
/// A cursor may be this far ahead of the clock before its job is `ahead` (spec 4, Plan).
const AHEAD_LIMIT: TimeDelta = TimeDelta::seconds(60);
/// The planner turns at least each second; an instant younger than this may be in the turn that runs now.
const TURN_SLACK: TimeDelta = TimeDelta::seconds(2);

/// Judges the jobs of the table by what is known of them. Pure: the same look at the same moment gives the same answer.
pub fn assess(jobs: &[Arc<Job>], snapshot: &Snapshot, now: DateTime<Utc>) -> Health {
    let jobs: Vec<_> = jobs.iter().map(|job| Judged::new(job, snapshot.jobs.get(&job.name), now)).collect();
    let mut alerts = daemon_alerts(snapshot, now);
    alerts.extend(jobs.iter().filter_map(Judged::alert));
    alerts.extend(jobs.iter().filter_map(Judged::backlog));
    Health {
        scheduler: planner_state(snapshot, now),
        last_job_at: jobs.iter().filter_map(|job| job.stats?.last_run).max(),
        queue_size: queue_size(&jobs),
        status: worst(&alerts),
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
        queues: jobs.iter().filter_map(|job| job.queue(snapshot.sampled_at)).collect(),
        jobs: jobs.into_iter().map(|job| JobVerdict { name: job.job.name.clone(), health: job.health() }).collect(),
        alerts,
    }
}

/// Whether `/livez` says yes: the planner turns. Touches no database and no job.
pub fn alive(snapshot: &Snapshot, now: DateTime<Utc>) -> bool {
    now - planner_seen(snapshot, now) < PLANNER_PATIENCE
}

/// When the planner was last known to work. It begins when the database is open: waiting for that is no stall.
fn planner_seen(snapshot: &Snapshot, now: DateTime<Utc>) -> DateTime<Utc> {
    let (planner, database) = (&snapshot.planner, &snapshot.database);
    match planner.last_turn {
        Some(turned) => turned,
        None if database.migrated => planner.started_at.max(database.since),
        None => now,
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

/// Age of the oldest due instant that is not in the ledger; zero = none.
pub fn scheduler_lag(snapshot: &Snapshot, now: DateTime<Utc>) -> TimeDelta {
    let planner = &snapshot.planner;
    let (Some(owed), Some(turned)) = (planner.oldest_owed, planner.last_turn) else { return TimeDelta::zero() };
    let age = now - owed;
    // An instant that came due after the last turn is late only when the next turn is.
    let left_behind = owed <= turned || TURN_SLACK < age;
    if left_behind { age.max(TimeDelta::zero()) } else { TimeDelta::zero() }
}

/// Whether a cursor stands further in the future than clocks and slow commands explain.
pub fn is_ahead(planned_until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now + AHEAD_LIMIT < planned_until
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

fn worst(alerts: &[Alert]) -> Status {
    match alerts.iter().map(|alert| alert.severity).max() {
        Some(Severity::Critical) => Status::Critical,
        Some(Severity::Warning) => Status::Degraded,
        None => Status::Healthy,
    }
}

/// What the critical drain left in its table, else all waiting runs.
fn queue_size(jobs: &[Judged<'_>]) -> i64 {
    let drain = jobs.iter().filter(|job| job.job.policy.critical).find_map(|job| job.stats?.left);
    drain.unwrap_or_else(|| jobs.iter().filter_map(|job| job.stats).map(|stats| stats.waiting).sum())
}

fn daemon_alerts(snapshot: &Snapshot, now: DateTime<Utc>) -> Vec<Alert> {
    let rules = [
        stalled(snapshot, now),
        lagging(snapshot, now),
        clock_held(snapshot),
        away(snapshot, now),
        ephemeral(snapshot),
        unexplained(snapshot),
    ];
    rules.into_iter().flatten().collect()
}

fn stalled(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Alert> {
    let since = planner_seen(snapshot, now);
    let holds = !snapshot.planner.draining && !alive(snapshot, now);
    holds.then(|| Alert {
        name: AlertName::SchedulerStalled,
        severity: Severity::Critical,
        job: None,
        since: Some(since),
        message: format!("the planner has not turned for {} s", (now - since).num_seconds()),
    })
}

fn lagging(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Alert> {
    let lag = scheduler_lag(snapshot, now);
    (LAG_LIMIT < lag).then(|| Alert {
        name: AlertName::SchedulerLag,
        severity: Severity::Warning,
        job: None,
        since: snapshot.planner.oldest_owed,
        message: format!("the oldest due instant has waited {} s for its ledger entry", lag.num_seconds()),
    })
}

fn clock_held(snapshot: &Snapshot) -> Option<Alert> {
    snapshot.planner.clock_hold.then(|| Alert {
        name: AlertName::ClockHold,
        severity: Severity::Warning,
        job: None,
        since: None,
        message: "the clock jumped; planning waits for three agreeing samples".into(),
    })
}

fn away(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Alert> {
    let away = now - snapshot.database.since;
    (!snapshot.database.up).then(|| Alert {
        name: AlertName::DatabaseAway,
        severity: if away < DATABASE_PATIENCE { Severity::Warning } else { Severity::Critical },
        job: None,
        since: Some(snapshot.database.since),
        message: format!("the database has been away for {} s", away.num_seconds()),
    })
}

fn ephemeral(snapshot: &Snapshot) -> Option<Alert> {
    snapshot.ephemeral.then(|| Alert {
        name: AlertName::DatabaseEphemeral,
        severity: Severity::Warning,
        job: None,
        since: Some(snapshot.planner.started_at),
        message: "the database lies on the container's own layer and goes with it: mount a volume".into(),
    })
}

fn unexplained(snapshot: &Snapshot) -> Option<Alert> {
    (snapshot.unexplained != 0).then(|| Alert {
        name: AlertName::OccurrencesUnexplained,
        severity: Severity::Warning,
        job: None,
        since: None,
        message: format!("{} instants are missing, doubled or extra in the ledger", snapshot.unexplained),
    })
}

/// A job, what is known of it, and the verdict.
struct Judged<'a> {
    job: &'a Job,
    stats: Option<&'a JobStats>,
    now: DateTime<Utc>,
    stale_at: Option<DateTime<Utc>>,
    status: JobStatus,
    why: Option<Why>,
}

impl<'a> Judged<'a> {
    fn new(job: &'a Job, stats: Option<&'a JobStats>, now: DateTime<Utc>) -> Self {
        let stale_at = stats.and_then(|stats| stale_at(job, stats));
        let (status, why) = judge(job, stats, stale_at, now);
        Self { job, stats, now, stale_at, status, why }
    }

    fn health(&self) -> JobHealth {
        let stats = self.stats;
        JobHealth {
            status: self.status,
            criticality: if self.job.policy.critical { "critical" } else { "normal" },
            last_outcome: stats.and_then(|stats| stats.last_outcome),
            last_run: stats.and_then(|stats| stats.last_run),
            next_run: self.next_run(),
            runs_24h: stats.map_or(0, |stats| stats.runs_24h),
            failures_24h: stats.map_or(0, |stats| stats.failures_24h),
            consecutive_failures: stats.map_or(0, |stats| stats.consecutive_failures),
            p95_duration_ms: stats.and_then(|stats| stats.p95_duration_ms),
            max_lag_ms_24h: stats.and_then(|stats| stats.max_lag_ms_24h),
            stale_after: self.stale_at.filter(|_| self.is_watched()),
            reason: self.why,
        }
    }

    fn next_run(&self) -> Option<DateTime<Utc>> {
        if matches!(self.status, JobStatus::Paused | JobStatus::Disabled) {
            return None;
        }
        self.job.schedule.as_ref()?.next_after(self.now)
    }

    /// Whether its silence would be held against it.
    fn is_watched(&self) -> bool {
        use JobStatus::{Disabled, Idle, Paused, Placeholder};
        !matches!(self.status, Disabled | Idle | Paused | Placeholder)
    }

    fn alert(&self) -> Option<Alert> {
        let stats = self.stats?;
        let (name, since, message) = match (self.status, self.why?) {
            (JobStatus::Stale, _) => {
                (AlertName::JobStale, self.stale_at, "has had no success since one was due".into())
            }
            (JobStatus::NeverRan, _) => (AlertName::JobNeverRan, self.stale_at, "has never run".into()),
            (JobStatus::Ahead, _) => (AlertName::JobAhead, None, "has a cursor ahead of the clock: rewind it".into()),
            (_, Why::Stuck) => {
                (AlertName::JobStuck, stats.last_run, format!("has {} attempts that ignore their abort", stats.stuck))
            }
            (_, Why::Failing) => (
                AlertName::JobFailing,
                stats.last_failure,
                format!("failed {} times in a row", stats.consecutive_failures),
            ),
            (_, Why::Slow) => (AlertName::JobSlow, stats.last_run, "took longer than slow_after".into()),
            _ => return None,
        };
        let message = format!("job {} {message}", self.job.name);
        Some(Alert { name, severity: self.severity(), job: Some(self.job.name.clone()), since, message })
    }

    fn severity(&self) -> Severity {
        let failures = self.stats.map_or(0, |stats| stats.consecutive_failures);
        let silent = matches!(self.status, JobStatus::Stale | JobStatus::NeverRan);
        let grave = self.job.policy.critical && (silent || CRITICAL_FAILURES <= failures);
        if grave { Severity::Critical } else { Severity::Warning }
    }

    fn backlog(&self) -> Option<Alert> {
        let stats = self.stats?;
        let size = stats.queue_size();
        (QUEUE_LIMIT < size).then(|| Alert {
            name: AlertName::QueueBacklog,
            severity: Severity::Warning,
            job: Some(self.job.name.clone()),
            since: stats.oldest_due,
            message: format!("job {} has {size} waiting, more than {QUEUE_LIMIT}", self.job.name),
        })
    }

    fn queue(&self, sampled_at: Option<DateTime<Utc>>) -> Option<(JobName, QueueHealth)> {
        let is_queue = self.job.schedule.is_none();
        let stats = self.stats.filter(|stats| is_queue || stats.left.is_some())?;
        let age = |at: DateTime<Utc>| (self.now - at).num_seconds().max(0);
        let queue = QueueHealth {
            size: stats.queue_size(),
            oldest_age_seconds: stats.oldest_due.map_or(0, age),
            running: stats.running,
            failed: stats.failures_24h,
            sampled_age_seconds: sampled_at.map(age),
        };
        Some((self.job.name.clone(), queue))
    }
}

/// The status of one job; the first rule that holds decides.
fn judge(
    job: &Job,
    stats: Option<&JobStats>,
    stale_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> (JobStatus, Option<Why>) {
    if job.disabled.is_some() {
        return (JobStatus::Disabled, Some(Why::Disabled));
    }
    let Some(stats) = stats else {
        // A placeholder is one before the database has said anything of it.
        return match job.handler {
            "noop" => (JobStatus::Placeholder, Some(Why::Noop)),
            _ => (JobStatus::Healthy, Some(Why::NotSeenYet)),
        };
    };
    let silent = stale_at.is_some_and(|at| at < now);
    let slow_after_ms = i64::try_from(job.policy.slow_after.as_millis()).unwrap_or(i64::MAX);
    let slow = stats.last_outcome.is_some_and(|outcome| outcome.is_success())
        && stats.last_duration_ms.is_some_and(|took| slow_after_ms < took);
    match stats {
        _ if stats.paused => (JobStatus::Paused, Some(Why::Paused)),
        _ if stats.planned_until.is_some_and(|until| is_ahead(until, now)) => {
            (JobStatus::Ahead, Some(Why::CursorAhead))
        }
        _ if job.handler == "noop" => (JobStatus::Placeholder, Some(Why::Noop)),
        _ if 0 < stats.stuck => (JobStatus::Degraded, Some(Why::Stuck)),
        _ if stats.last_reason == Some(Reason::NotConfigured) => (JobStatus::Idle, Some(Why::NotConfigured)),
        _ if stats.last_reason == Some(Reason::Gate) && !silent => (JobStatus::Idle, Some(Why::GateClosed)),
        _ if silent && stats.last_run.is_none() => (JobStatus::NeverRan, Some(Why::NeverStarted)),
        _ if silent => (JobStatus::Stale, Some(Why::NoSuccess)),
        _ if 0 < stats.consecutive_failures => (JobStatus::Degraded, Some(Why::Failing)),
        _ if slow => (JobStatus::Degraded, Some(Why::Slow)),
        _ => (JobStatus::Healthy, None),
    }
}
