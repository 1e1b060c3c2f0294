//! Sets the gauges from one look at the daemon.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    families::{JobCount, JobSeconds, Shown},
    process,
};
use crate::domain::{
    health::{Health, JobHealth, JobStats, JobStatus, QueueFigures, Snapshot, WatchedQueue, figures_seen, last_tick},
    job::{ExpectItems, Job},
};

impl Shown {
    pub fn daemon(&self, snapshot: &Snapshot, health: &Health, now: DateTime<Utc>) {
        let planner = &snapshot.planner;
        self.scheduler_lag.set(health.lag_seconds);
        self.lag.set(health.lag_seconds);
        self.last_tick.set(seconds(last_tick(snapshot, now)));
        self.unexplained.set(snapshot.unexplained);
        self.db_up.set(snapshot.database.up.into());
        self.db_ephemeral.set(snapshot.ephemeral.into());
        self.figures.set(seconds(Some(figures_seen(snapshot))));
        self.last_reload.set(snapshot.reload.is_none().into());
        self.db_clock_skew.set(milliseconds(snapshot.database.clock_skew_ms));
        self.slots.set(snapshot.slots.total.into());
        self.slots_busy.set(snapshot.slots.busy.into());
        self.replicas.set(snapshot.replicas.into());
        self.clock_hold.set(planner.clock_hold.into());
        self.started.set(seconds(Some(planner.started_at.min(now))));
    }

    pub fn job(&self, job: &Job, health: &JobHealth, stats: Option<&JobStats>) {
        let name = job.name.as_str();
        let spec = job.schedule.as_ref().map(crate::domain::schedule::Schedule::spec);
        let (schedule, timezone) = spec.as_ref().map_or(("queue", ""), |spec| (&spec.schedule, &spec.timezone));
        let critical = if job.policy.critical { "true" } else { "false" };
        self.job_info.with_label_values(&[name, job.handler, schedule, timezone, critical]).set(1);
        for (what, gauges) in &self.job_counts {
            gauges.with_label_values(&[name]).set(count(*what, health, stats));
        }
        for (what, gauges) in &self.job_seconds {
            gauges.with_label_values(&[name]).set(length_or_instant(*what, job, health, stats));
        }
        if job.schedule.is_some() {
            let planned_until = seconds(stats.and_then(|stats| stats.planned_until));
            self.job_planned_until.with_label_values(&[name]).set(planned_until);
        }
        if job.policy.expect_items == ExpectItems::Some {
            let empty = stats.map_or(0, |stats| stats.empty_successes);
            self.job_empty_successes.with_label_values(&[name]).set(empty);
        }
    }

    pub fn queues(&self, jobs: &[Arc<Job>], snapshot: &Snapshot, now: DateTime<Utc>) {
        for job in jobs {
            let queue = job.name.as_str();
            self.queue.size.with_label_values(&[queue]).set(snapshot.queue_size(&job.name));
            match (snapshot.queues.get(&job.name), &job.schedule) {
                (Some(watched), _) => {
                    self.drained(queue, watched, now);
                    self.known(queue, "running", snapshot.queue_running(&job.name).or(Some(0)));
                }
                (None, None) => self.waiting_runs(queue, snapshot.jobs.get(&job.name), now),
                (None, Some(_)) => {}
            }
        }
    }

    /// A queue of runs.
    fn waiting_runs(&self, queue: &str, stats: Option<&JobStats>, now: DateTime<Utc>) {
        let of = |number: fn(&JobStats) -> i64| stats.map_or(0, number);
        self.state(queue, "waiting", of(|stats| stats.waiting));
        self.state(queue, "running", of(|stats| stats.running));
        self.state(queue, "failed", of(|stats| stats.day.failures()));
        let oldest = stats.and_then(|stats| stats.oldest_due);
        let age = oldest.map_or(0.0, |due| (now - due).num_seconds().max(0) as f64);
        self.queue.oldest_age.with_label_values(&[queue]).set(age);
    }

    /// A queue in a table of the team's, as it was last seen. What its table cannot tell has no series; until it is first seen, all have.
    fn drained(&self, queue: &str, watched: &WatchedQueue, now: DateTime<Utc>) {
        let figures = watched.figures.clone().unwrap_or_else(|| QueueFigures::empty(watched.watched_since));
        self.state(queue, "waiting", figures.left);
        self.known(queue, "later", figures.later);
        self.known(queue, "stuck", figures.stuck);
        self.known(queue, "failed", figures.failed);
        for (family, number) in [(&self.queue.done, figures.done_1h), (&self.queue.errors, figures.errors_1h)] {
            if let Some(number) = number {
                family.with_label_values(&[queue]).set(number);
            }
        }
        let age = figures.oldest_age(now).num_seconds() as f64;
        self.queue.oldest_age.with_label_values(&[queue]).set(age);
        self.queue.figures.with_label_values(&[queue]).set(seconds(Some(watched.seen_at())));
    }

    fn known(&self, queue: &str, state: &str, size: Option<i64>) {
        if let Some(size) = size {
            self.state(queue, state, size);
        }
    }

    fn state(&self, queue: &str, state: &str, size: i64) {
        self.queue.states.with_label_values(&[queue, state]).set(size);
    }

    pub fn process(&self) {
        let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.memory_limit.set(whole(process::memory_limit_bytes()));
        self.resident.set(whole(process::resident_bytes()));
        self.cpu.set(process::cpu_seconds());
        self.open_files.set(process::open_files() as i64);
    }
}

fn count(what: JobCount, health: &JobHealth, stats: Option<&JobStats>) -> i64 {
    match what {
        JobCount::Running => stats.map_or(0, |stats| stats.running),
        JobCount::Enabled => (!matches!(health.status, JobStatus::Disabled | JobStatus::Paused)).into(),
        JobCount::ConsecutiveFailures => health.consecutive_failures,
        JobCount::Stuck => health.stuck,
    }
}

fn length_or_instant(what: JobSeconds, job: &Job, health: &JobHealth, stats: Option<&JobStats>) -> f64 {
    match what {
        JobSeconds::LastLag => milliseconds(stats.and_then(|stats| stats.last_lag_ms)),
        JobSeconds::LastDuration => milliseconds(stats.and_then(|stats| stats.last_duration_ms)),
        JobSeconds::LastStart => seconds(health.last_run),
        JobSeconds::LastSuccess => seconds(stats.and_then(|stats| stats.last_success)),
        JobSeconds::LastFailure => seconds(stats.and_then(|stats| stats.last_failure)),
        JobSeconds::NextRun => seconds(health.next_run),
        JobSeconds::Registered => seconds(stats.map(|stats| stats.first_seen)),
        JobSeconds::StaleAt => seconds(health.stale_after),
        JobSeconds::SlowAfter => job.policy.slow_after.as_secs_f64(),
        JobSeconds::Timeout => job.policy.timeout.as_secs_f64(),
    }
}

/// Seconds since 1970; 0 = never.
fn seconds(at: Option<DateTime<Utc>>) -> f64 {
    at.map_or(0.0, |at| at.timestamp_millis() as f64 / 1_000.0)
}

fn milliseconds(length: Option<i64>) -> f64 {
    length.unwrap_or(0) as f64 / 1_000.0
}
