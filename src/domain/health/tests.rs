//! A table of situations for each status, and a simulated week for staleness.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::domain::{
    job::{About, Backoff, CatchUp, Delivery, ExpectItems, Job, JobName, Keep, Overlap, Policy, Retry},
    run::{Outcome, Reason, ReplicaId},
    schedule::{Schedule, ScheduleSpec, Zone},
};

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant in RFC 3339")
}

fn schedule(text: &str) -> Schedule {
    Schedule::from_spec(&ScheduleSpec {
        schedule: text.into(),
        timezone: "America/Sao_Paulo".into(),
        dst: "gap=after repeat=first".into(),
        zone_data_version: "2026e".into(),
    })
    .expect("a schedule in the form of the schedules table")
}

pub(crate) fn job(name: &str, text: &str) -> Job {
    Job {
        name: JobName::parse(name).unwrap(),
        schedule: Some(schedule(text)),
        zone: Zone::utc(),
        handler: "http",
        disabled: None,
        gate: None,
        policy: Policy {
            timeout: Duration::from_secs(300),
            slow_after: Duration::from_secs(60),
            retry: Retry { max_attempts: 3, backoff: Backoff::List(vec![Duration::from_secs(5)]), jitter: false },
            overlap: Overlap::Skip,
            catch_up: CatchUp::Latest,
            catch_up_within: TimeDelta::days(1),
            delivery: Delivery::AtLeastOnce,
            critical: false,
            stale_after: None,
            expect_items: ExpectItems::Any,
            priority: 0,
            concurrency: None,
            keep: Keep { done: Duration::from_secs(604_800), failed: Duration::from_secs(2_592_000) },
        },
        payload: Value::Null,
        about: About::default(),
        previous_names: Vec::new(),
        work_hash: String::new(),
    }
}

/// A planner that has just turned, on a database that is up.
pub(crate) fn snapshot(now: DateTime<Utc>) -> Snapshot {
    let mut snapshot = Snapshot::starting(ReplicaId(Uuid::nil()), "0.1.0", now - TimeDelta::hours(1));
    snapshot.planner.last_turn = Some(now);
    snapshot.database = Database { up: true, since: now - TimeDelta::hours(1), migrated: true, clock_skew_ms: None };
    snapshot.sampled_at = Some(now);
    snapshot.replicas = 1;
    snapshot
}

/// A job every 30 s whose newest run went well 10 s ago.
pub(crate) fn fine(now: DateTime<Utc>) -> JobStats {
    let recently = now - TimeDelta::seconds(10);
    JobStats {
        planned_until: Some(recently),
        last_run: Some(recently),
        last_outcome: Some(Outcome::Success),
        last_success: Some(recently),
        last_duration_ms: Some(12),
        day: Day { runs: 2_880, successes: 2_880, ..Day::default() },
        ..JobStats::new(now - TimeDelta::days(30))
    }
}

const NOW: &str = "2026-11-18T13:30:10Z";

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

#[test]
fn the_planner_and_the_database_decide_over_the_whole() {
    let now = at(NOW);
    let ago = |seconds| now - TimeDelta::seconds(seconds);
    type Case = (&'static str, fn(&mut Snapshot, &dyn Fn(i64) -> DateTime<Utc>), PlannerState, Status);
    let cases: &[Case] = &[
        ("fine", |_, _| {}, PlannerState::Running, Status::Healthy),
        (
            "new",
            |s, ago| (s.planner.started_at, s.planner.last_turn) = (ago(5), None),
            PlannerState::Starting,
            Status::Healthy,
        ),
        (
            "never turned",
            |s, ago| (s.planner.started_at, s.database.since, s.planner.last_turn) = (ago(60), ago(60), None),
            PlannerState::Stalled,
            Status::Critical,
        ),
        (
            "waiting for a database since the start",
            |s, ago| {
                (s.planner.started_at, s.planner.last_turn) = (ago(600), None);
                s.database = Database { up: false, since: ago(600), migrated: false, clock_skew_ms: None };
            },
            PlannerState::Starting,
            Status::Critical,
        ),
        (
            "just got its database",
            |s, ago| {
                (s.planner.started_at, s.planner.last_turn) = (ago(600), None);
                s.database.since = ago(1);
            },
            PlannerState::Starting,
            Status::Healthy,
        ),
        ("stalled", |s, ago| s.planner.last_turn = Some(ago(60)), PlannerState::Stalled, Status::Critical),
        ("draining", |s, _| s.planner.draining = true, PlannerState::Draining, Status::Healthy),
        ("clock", |s, _| s.planner.clock_hold = true, PlannerState::ClockHold, Status::Degraded),
        (
            "away",
            |s, ago| (s.database.up, s.database.since) = (false, ago(59)),
            PlannerState::Running,
            Status::Degraded,
        ),
        (
            "away long",
            |s, ago| (s.database.up, s.database.since) = (false, ago(60)),
            PlannerState::Running,
            Status::Critical,
        ),
        ("on a container's layer", |s, _| s.ephemeral = true, PlannerState::Running, Status::Degraded),
        ("unexplained", |s, _| s.unexplained = 1, PlannerState::Running, Status::Degraded),
        ("late", |s, ago| s.planner.oldest_owed = Some(ago(31)), PlannerState::Running, Status::Degraded),
        ("old figures", |s, ago| s.sampled_at = Some(ago(121)), PlannerState::Running, Status::Degraded),
        (
            "an edit was refused",
            |s, ago| s.reload = Some(FailedReload { since: ago(9), problem: "line 3".into() }),
            PlannerState::Running,
            Status::Degraded,
        ),
    ];

    for (name, change, planner, status) in cases {
        let mut snapshot = snapshot(now);
        change(&mut snapshot, &ago);

        let health = assess(&[], &snapshot, now);

        assert_eq!((health.scheduler, health.status), (*planner, *status), "{name}");
        assert_eq!(alive(&snapshot, now), *planner != PlannerState::Stalled, "{name}");
    }
}

#[test]
fn lag_counts_what_a_turn_left_behind_and_not_what_came_due_since() {
    let now = at(NOW);
    let mut look = snapshot(now);
    let mut lag = |turned_ms: i64, owed_ms: i64| {
        look.planner.last_turn = Some(now - TimeDelta::milliseconds(turned_ms));
        look.planner.oldest_owed = Some(now - TimeDelta::milliseconds(owed_ms));
        scheduler_lag(&look, now).num_milliseconds()
    };

    assert_eq!(lag(900, -5_000), 0, "in the future");
    assert_eq!(lag(900, 300), 0, "due since the last turn");
    assert_eq!(lag(900, 1_200), 1_200, "left behind by the last turn");
    assert_eq!(lag(5_000, 3_000), 3_000, "the turn itself is late");
}

#[test]
fn readiness_asks_for_the_database_and_not_for_the_jobs() {
    let now = at(NOW);
    let mut look = snapshot(now);
    look.jobs = BTreeMap::new();
    assert_eq!(readiness(&look), []);

    look.database.up = false;
    look.database.migrated = false;
    look.planner.draining = true;

    assert_eq!(readiness(&look), [NotReady::DatabaseAway, NotReady::NotMigrated, NotReady::Draining]);
}

#[test]
fn a_week_of_working_days_is_never_stale_at_night_nor_on_the_weekend_and_stale_soon_after_a_missed_morning() {
    let weekdays = job("retomada_fora_horario", "cron 0 8 * * 1-5");
    let missed = at("2026-11-19T11:00:00Z"); // Thursday, 08:00 in Sao Paulo
    let mut stats = JobStats::new(at("2026-11-16T03:00:00Z"));
    let mut stale = Vec::new();
    let mut now = at("2026-11-16T03:00:00Z"); // Monday, 00:00 in Sao Paulo
    let week = now + TimeDelta::days(8);

    while now < week {
        let is_due =
            now.format("%H:%M").to_string() == "11:00" && !matches!(now.weekday(), Weekday::Sat | Weekday::Sun);
        if is_due && now != missed {
            (stats.last_run, stats.last_success) = (Some(now), Some(now + TimeDelta::seconds(2)));
        }
        if patience(&weekdays, &stats, now).unwrap().until < now {
            stale.push(now);
        }
        now += TimeDelta::minutes(1);
    }

    // Stale from 08:06 (time-out 300 s, slack 60 s) until Friday's success at 08:00, and at no other minute.
    assert_eq!(stale.first(), Some(&(missed + TimeDelta::minutes(7))));
    assert_eq!(stale.last(), Some(&(missed + TimeDelta::hours(24) - TimeDelta::minutes(1))));
    assert_eq!(stale.len(), 24 * 60 - 7);
}

#[test]
fn the_answer_begins_with_the_documented_four_keys() {
    let now = at(NOW);
    let jobs = [job("another", "every 30s"), job("fila_worker", "every 30s")].map(Arc::new);
    let mut look = snapshot(now);
    look.jobs = jobs.iter().map(|job| (job.name.clone(), JobStats { waiting: 5, ..fine(now) })).collect();

    let text = serde_json::to_string(&assess(&jobs, &look, now)).unwrap();
    let alone = serde_json::to_string(&assess(&jobs[..1], &look, now)).unwrap();

    let documented = r#"{"scheduler":"running","fila_worker":"healthy","last_job_at":"2026-11-18T13:30:00Z","queue_size":10,"status":"healthy""#;
    assert!(text.starts_with(documented), "{text}");
    assert!(text.ends_with(r#""alerts":[],"another":"healthy"}"#), "{text}");
    assert!(alone.starts_with(r#"{"scheduler":"running","last_job_at":"#), "{alone}");
}
