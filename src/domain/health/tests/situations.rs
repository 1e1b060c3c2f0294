//! A situation for each status of a job.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{NOW, at, fine, job, snapshot};
use crate::domain::{
    health::{JobStats, JobStatus, Status, Why, assess},
    job::Job,
    run::{Outcome, Reason},
};

/// What `assess` says of one job of every 30 s in this situation.
fn verdict(change: impl FnOnce(&mut Job, &mut JobStats)) -> (Status, JobStatus, Option<Why>) {
    let now = at(NOW);
    let (mut job, mut stats) = (job("fila_worker", "every 30s"), fine(now));
    change(&mut job, &mut stats);
    let mut snapshot = snapshot(now);
    snapshot.jobs.insert(job.name.clone(), stats);
    let health = assess(&[Arc::new(job)], &snapshot, now);
    let job = health.job("fila_worker").unwrap();
    (health.status, job.status, job.reason)
}

type Case = (&'static str, fn(&mut Job, &mut JobStats, DateTime<Utc>), Status, JobStatus, Option<Why>);

/// What a job did and did not do; `old` is seven minutes ago.
const DEEDS: &[Case] = &[
    ("fine", |_, _, _| {}, Status::Healthy, JobStatus::Healthy, None),
    ("failed", |_, s, _| s.consecutive_failures = 1, Status::Degraded, JobStatus::Degraded, Some(Why::Failing)),
    (
        "critical failed twice",
        |j, s, _| (j.policy.critical, s.consecutive_failures) = (true, 2),
        Status::Degraded,
        JobStatus::Degraded,
        Some(Why::Failing),
    ),
    (
        "critical failed three times",
        |j, s, _| (j.policy.critical, s.consecutive_failures) = (true, 3),
        Status::Critical,
        JobStatus::Degraded,
        Some(Why::Failing),
    ),
    ("slow", |_, s, _| s.last_duration_ms = Some(60_001), Status::Degraded, JobStatus::Degraded, Some(Why::Slow)),
    ("not slow", |_, s, _| s.last_duration_ms = Some(60_000), Status::Healthy, JobStatus::Healthy, None),
    ("stuck", |_, s, _| s.stuck = 1, Status::Degraded, JobStatus::Degraded, Some(Why::Stuck)),
    ("stale", |_, s, old| s.last_success = Some(old), Status::Degraded, JobStatus::Stale, Some(Why::NoSuccess)),
    (
        "critical stale",
        |j, s, old| (j.policy.critical, s.last_success) = (true, Some(old)),
        Status::Critical,
        JobStatus::Stale,
        Some(Why::NoSuccess),
    ),
    ("never ran", |_, s, old| *s = JobStats::new(old), Status::Degraded, JobStatus::NeverRan, Some(Why::NeverStarted)),
    (
        "critical never ran",
        |j, s, old| (j.policy.critical, *s) = (true, JobStats::new(old)),
        Status::Critical,
        JobStatus::NeverRan,
        Some(Why::NeverStarted),
    ),
    ("new", |_, s, old| *s = JobStats::new(old + TimeDelta::minutes(5)), Status::Healthy, JobStatus::Healthy, None),
];

/// What was done to a job, or said about it.
const CIRCUMSTANCES: &[Case] = &[
    (
        "ahead",
        |_, s, old| s.planned_until = Some(old + TimeDelta::minutes(9)),
        Status::Degraded,
        JobStatus::Ahead,
        Some(Why::CursorAhead),
    ),
    (
        "idle",
        |j, s, old| {
            j.policy.critical = true;
            (s.last_outcome, s.last_reason) = (Some(Outcome::Skipped), Some(Reason::NotConfigured));
            s.last_success = Some(old);
        },
        Status::Healthy,
        JobStatus::Idle,
        Some(Why::NotConfigured),
    ),
    (
        "gate closed",
        |_, s, old| {
            (s.last_outcome, s.last_reason) = (Some(Outcome::Skipped), Some(Reason::Gate));
            (s.last_success, s.excused_until) = (Some(old), s.planned_until);
        },
        Status::Healthy,
        JobStatus::Idle,
        Some(Why::GateClosed),
    ),
    (
        "the handler had nothing to do",
        |_, s, old| {
            (s.last_outcome, s.last_reason) = (Some(Outcome::Skipped), Some(Reason::Handler));
            (s.last_success, s.answered_until) = (Some(old), s.planned_until);
        },
        Status::Healthy,
        JobStatus::Idle,
        Some(Why::NothingToDo),
    ),
    (
        "the handler had nothing to do, and the table asks for a success",
        |j, s, old| {
            j.policy.stale_after = Some(Duration::from_secs(400));
            (s.last_outcome, s.last_reason) = (Some(Outcome::Skipped), Some(Reason::Handler));
            (s.last_success, s.answered_until) = (Some(old), s.planned_until);
        },
        Status::Degraded,
        JobStatus::Stale,
        Some(Why::NoSuccess),
    ),
    (
        "followed elsewhere",
        |_, s, old| (s.last_success, s.polling_since) = (Some(old), Some(old)),
        Status::Healthy,
        JobStatus::Healthy,
        None,
    ),
    (
        "another table's schedule is in force",
        |j, s, old| (j.policy.critical, s.foreign, s.last_success) = (true, true, Some(old)),
        Status::Healthy,
        JobStatus::Healthy,
        Some(Why::OtherTable),
    ),
    (
        "placeholder",
        |j, s, old| (j.handler, j.policy.critical, s.last_success) = ("noop", true, Some(old)),
        Status::Healthy,
        JobStatus::Placeholder,
        Some(Why::Noop),
    ),
    (
        "paused",
        |j, s, old| (j.policy.critical, s.paused, s.last_success) = (true, true, Some(old)),
        Status::Healthy,
        JobStatus::Paused,
        Some(Why::Paused),
    ),
    (
        "resumed after a long pause",
        |_, s, old| (s.last_success, s.excused_until) = (Some(old), s.planned_until),
        Status::Healthy,
        JobStatus::Healthy,
        None,
    ),
    (
        "edited a moment ago",
        |_, s, old| (s.last_success, s.epoch_since) = (Some(old), s.planned_until),
        Status::Healthy,
        JobStatus::Healthy,
        None,
    ),
    (
        "disabled",
        |j, s, old| (j.disabled, s.last_success) = (Some("only in production".into()), Some(old)),
        Status::Healthy,
        JobStatus::Disabled,
        Some(Why::Disabled),
    ),
    ("backlog", |_, s, _| s.waiting = 101, Status::Degraded, JobStatus::Healthy, None),
    (
        "own limit",
        |j, s, old| {
            j.policy.stale_after = Some(Duration::from_secs(3_600));
            s.last_success = Some(old);
        },
        Status::Healthy,
        JobStatus::Healthy,
        None,
    ),
];

#[test]
fn each_status_of_a_job_has_its_situation_and_its_weight() {
    let old = at(NOW) - TimeDelta::minutes(7);

    for (name, change, status, job_status, why) in DEEDS.iter().chain(CIRCUMSTANCES) {
        let found = verdict(|job, stats| change(job, stats, old));

        assert_eq!(found, (*status, *job_status, *why), "{name}");
    }
}
