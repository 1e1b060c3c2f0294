//! The planner and the database: what they say of the whole, of liveness, readiness and lag.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{NOW, at, snapshot};
use crate::domain::health::{
    Database, NotReady, PlannerState, Snapshot, Status, alive, assess, readiness, scheduler_lag,
};

type Case = (&'static str, fn(&mut Snapshot, fn(i64) -> DateTime<Utc>), PlannerState, Status);

fn ago(seconds: i64) -> DateTime<Utc> {
    at(NOW) - TimeDelta::seconds(seconds)
}

const CASES: &[Case] = &[
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
    (
        "draining for minutes",
        |s, ago| (s.planner.draining, s.planner.last_turn) = (true, Some(ago(600))),
        PlannerState::Draining,
        Status::Healthy,
    ),
    (
        "draining before the first turn",
        |s, ago| {
            (s.planner.draining, s.planner.started_at) = (true, ago(600));
            (s.planner.last_turn, s.database.since) = (None, ago(600));
        },
        PlannerState::Draining,
        Status::Healthy,
    ),
    ("clock", |s, _| s.planner.clock_hold = true, PlannerState::ClockHold, Status::Degraded),
    ("away", |s, ago| (s.database.up, s.database.since) = (false, ago(59)), PlannerState::Running, Status::Degraded),
    (
        "away long",
        |s, ago| (s.database.up, s.database.since) = (false, ago(60)),
        PlannerState::Running,
        Status::Critical,
    ),
];

#[test]
fn the_planner_and_the_database_decide_over_the_whole() {
    let now = at(NOW);
    for (name, change, planner, status) in CASES {
        let mut snapshot = snapshot(now);
        change(&mut snapshot, ago);

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
