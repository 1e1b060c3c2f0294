//! What health says: the parts its tests share, a simulated week for staleness, and the documented bytes.

mod house;
mod situations;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::domain::{
    job::{About, Backoff, CatchUp, Delivery, ExpectItems, Job, JobName, Keep, Overlap, Policy, Retry},
    run::{Outcome, ReplicaId},
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
