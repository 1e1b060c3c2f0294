//! What planning makes of owed instants, as text: one line a row.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::domain::{
    job::{About, Backoff, Delivery, ExpectItems, JobName, Keep, Policy, Retry},
    schedule::{Schedule, Zone},
};

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-03-02T{text}Z").parse().unwrap()
}

fn job(every: &str, change: impl FnOnce(&mut Job)) -> Job {
    let every = match every {
        "1min" => Duration::from_secs(60),
        "1h" => Duration::from_secs(3_600),
        other => panic!("unknown interval {other}"),
    };
    let policy = Policy {
        timeout: Duration::from_secs(300),
        slow_after: Duration::from_secs(60),
        retry: Retry {
            max_attempts: 3,
            backoff: Backoff::Exponential { first: Duration::from_secs(5), most: Duration::from_secs(300) },
            jitter: false,
        },
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        catch_up_within: TimeDelta::hours(24),
        delivery: Delivery::AtLeastOnce,
        critical: false,
        stale_after: None,
        expect_items: ExpectItems::Any,
        priority: 0,
        concurrency: None,
        keep: Keep { done: Duration::from_secs(1), failed: Duration::from_secs(1) },
    };
    let mut job = Job {
        name: JobName::parse("probe").unwrap(),
        schedule: Some(Schedule::every(every, Duration::ZERO).unwrap()),
        zone: Zone::utc(),
        handler: "noop",
        disabled: None,
        gate: None,
        policy,
        payload: Value::Null,
        about: About::default(),
        previous_names: Vec::new(),
        work_hash: String::new(),
    };
    change(&mut job);
    job
}

fn standing(planned_until: DateTime<Utc>) -> Standing {
    Standing {
        epoch: 1,
        planned_until,
        paused: false,
        running: false,
        unfinished: false,
        unstarted: false,
        newest: None,
    }
}

fn newest(scheduled_for: DateTime<Utc>, change: impl FnOnce(&mut Newest)) -> Option<Newest> {
    let mut row = Newest {
        id: RunId(Uuid::nil()),
        epoch: 1,
        trigger: Trigger::Schedule,
        state: State::Finished,
        outcome: Some(Outcome::Skipped),
        reason: Some(Reason::Overlap),
        attempt: 0,
        scheduled_for,
        covers_from: scheduled_for,
    };
    change(&mut row);
    Some(row)
}

/// `08:00..08:09 x10 run catch_up`, one line a row.
fn show(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.replace {
        text.push_str("replace\n");
    }
    let fold = plan.fold.iter().map(|fold| ("fold ", &fold.row));
    for (mark, row) in fold.chain(plan.rows.iter().map(|row| ("", row))) {
        let (from, to) = (row.covers_from.format("%d %H:%M"), row.scheduled_for.format("%d %H:%M"));
        let fate = match &row.fate {
            Fate::Run { trigger, priority, exclusive, .. } => format!("run {trigger} {priority} {exclusive}"),
            Fate::Skip(reason) => format!("skip {reason}"),
        };
        writeln!(text, "{mark}{from}..{to} x{} {fate}", row.covers).unwrap();
    }
    writeln!(text, "until {}{}", plan.planned_until.format("%d %H:%M:%S%.3f"), if plan.more { " more" } else { "" })
        .unwrap();
    text
}

#[track_caller]
fn check(job: &Job, standing: &Standing, now: DateTime<Utc>, expected: &[&str]) {
    let planned = plan(job, standing, now);
    assert_eq!(show(&planned).trim_end().lines().collect::<Vec<_>>(), expected);
    let covered: i64 =
        planned.fold.iter().map(|fold| fold.row.covers).chain(planned.rows.iter().map(|row| row.covers)).sum();
    let owed = job.schedule.as_ref().unwrap().span(standing.planned_until, planned.planned_until);
    assert_eq!(covered, owed.map_or(0, |span| span.count), "every owed instant is covered exactly once");
}

#[test]
fn a_live_instant_becomes_a_run_of_trigger_schedule() {
    let job = job("1min", |_| {});

    check(
        &job,
        &standing(at("07:59:00")),
        at("08:00:00.002"),
        &["02 08:00..02 08:00 x1 run schedule 0 true", "until 02 08:00:00.002"],
    );
}

#[test]
fn nothing_is_owed_twice_or_backwards() {
    let job = job("1min", |_| {});

    check(&job, &standing(at("08:00:00.002")), at("08:00:30"), &["until 02 08:00:30.000"]);
    check(&job, &standing(at("08:00:30")), at("07:00:00"), &["until 02 08:00:30.000"]);
}

#[test]
fn latest_folds_what_was_missed_into_the_live_run() {
    let job = job("1min", |_| {});

    check(
        &job,
        &standing(at("08:00:00")),
        at("08:10:05"),
        &["02 08:01..02 08:10 x10 run schedule 0 true", "until 02 08:10:05.000"],
    );
}

#[test]
fn latest_without_a_live_instant_makes_one_catch_up_run() {
    let job = job("1h", |_| {});

    check(
        &job,
        &standing(at("05:00:00")),
        at("08:30:00"),
        &["02 06:00..02 08:00 x3 run catch_up 0 true", "until 02 08:30:00.000"],
    );
}

#[test]
fn none_records_what_was_missed_and_runs_the_live_one() {
    let job = job("1min", |job| job.policy.catch_up = CatchUp::None);

    check(
        &job,
        &standing(at("08:00:00")),
        at("08:10:05"),
        &["02 08:01..02 08:09 x9 skip missed", "02 08:10..02 08:10 x1 run schedule 0 true", "until 02 08:10:05.000"],
    );
}

#[test]
fn all_makes_a_row_each_below_live_work_and_one_at_a_time() {
    let job = job("1min", |job| {
        job.policy.catch_up = CatchUp::All;
        job.policy.overlap = Overlap::Allow;
    });

    check(
        &job,
        &standing(at("08:00:00")),
        at("08:03:05"),
        &[
            "02 08:01..02 08:01 x1 run catch_up -11 true",
            "02 08:02..02 08:02 x1 run catch_up -11 true",
            "02 08:03..02 08:03 x1 run schedule 0 false",
            "until 02 08:03:05.000",
        ],
    );
}

#[test]
fn a_backlog_comes_in_passes_of_a_hundred_that_lose_nothing() {
    let job = job("1min", |job| job.policy.catch_up = CatchUp::All);
    let (mut standing, now) = (standing(at("00:00:00")), at("04:10:05"));
    let (mut rows, mut passes) = (0, 0);

    loop {
        let planned = plan(&job, &standing, now);
        rows += planned.rows.len();
        passes += 1;
        assert!(planned.rows.len() <= BACKLOG_PASS + 1);
        standing.planned_until = planned.planned_until;
        if !planned.more {
            break;
        }
    }

    assert_eq!((rows, passes), (250, 3));
}

#[test]
fn what_is_older_than_catch_up_within_is_too_late() {
    let job = job("1h", |job| job.policy.catch_up_within = TimeDelta::hours(2));

    check(
        &job,
        &standing(at("03:00:00")),
        at("08:30:00"),
        &["02 04:00..02 06:00 x3 skip too_late", "02 07:00..02 08:00 x2 run catch_up 0 true", "until 02 08:30:00.000"],
    );
}

#[test]
fn a_month_of_silence_is_one_row_a_day_over_a_few_passes() {
    let job = job("1min", |_| {});
    let now = at("08:00:05");
    let mut standing = standing(now - TimeDelta::days(30));
    let (mut rows, mut covered, mut passes) = (0, 0, 0);

    loop {
        let planned = plan(&job, &standing, now);
        rows += planned.rows.len();
        covered += planned.rows.iter().map(|row| row.covers).sum::<i64>();
        passes += 1;
        standing.planned_until = planned.planned_until;
        // The store would hand the last row back; without it each pass begins a row of its own.
        if !planned.more {
            break;
        }
    }

    assert_eq!((covered, passes), (30 * 24 * 60, 4));
    assert!(rows <= 31, "{rows} rows");
}

#[test]
fn skip_records_an_overlap_and_folds_the_next_ones_into_it() {
    let job = job("1min", |_| {});
    let mut standing = standing(at("08:00:00"));
    standing.running = true;

    check(&job, &standing, at("08:01:00"), &["02 08:01..02 08:01 x1 skip overlap", "until 02 08:01:00.000"]);

    standing.planned_until = at("08:01:00");
    standing.newest = newest(at("08:01:00"), |_| {});
    check(&job, &standing, at("08:02:00"), &["fold 02 08:02..02 08:02 x1 skip overlap", "until 02 08:02:00.000"]);
}

#[test]
fn a_fold_never_crosses_an_epoch_a_reason_or_a_day() {
    let job = job("1min", |_| {});
    let mut standing = standing(at("08:01:00"));
    standing.running = true;
    let separate = ["02 08:02..02 08:02 x1 skip overlap", "until 02 08:02:00.000"];

    standing.newest = newest(at("08:01:00"), |row| row.epoch = 0);
    check(&job, &standing, at("08:02:00"), &separate);
    standing.newest = newest(at("08:01:00"), |row| row.reason = Some(Reason::Paused));
    check(&job, &standing, at("08:02:00"), &separate);
    standing.newest = newest(at("08:01:00"), |row| row.covers_from -= TimeDelta::hours(24));
    check(&job, &standing, at("08:02:00"), &separate);
    standing.newest = newest(at("08:01:00"), |row| row.attempt = 1);
    check(&job, &standing, at("08:02:00"), &separate);
}

#[test]
fn queue_lets_one_wait_and_folds_the_next_ones_into_it() {
    let job = job("1min", |job| job.policy.overlap = Overlap::Queue);
    let mut standing = standing(at("08:00:00"));
    standing.running = true;
    standing.unfinished = true;

    check(&job, &standing, at("08:01:00"), &["02 08:01..02 08:01 x1 run schedule 0 true", "until 02 08:01:00.000"]);

    standing.planned_until = at("08:01:00");
    standing.unstarted = true;
    standing.newest = newest(at("08:01:00"), |row| (row.state, row.outcome, row.reason) = (State::Due, None, None));
    check(
        &job,
        &standing,
        at("08:02:00"),
        &["fold 02 08:02..02 08:02 x1 run schedule 0 true", "until 02 08:02:00.000"],
    );

    standing.newest = newest(at("08:01:00"), |row| row.reason = Some(Reason::Paused));
    check(&job, &standing, at("08:02:00"), &["02 08:02..02 08:02 x1 skip overlap", "until 02 08:02:00.000"]);
}

#[test]
fn replace_asks_for_the_place_and_allow_needs_none() {
    let replace = job("1min", |job| job.policy.overlap = Overlap::Replace);
    let allow = job("1min", |job| job.policy.overlap = Overlap::Allow);
    let mut standing = standing(at("08:00:00"));
    standing.running = true;

    check(
        &replace,
        &standing,
        at("08:01:00"),
        &["replace", "02 08:01..02 08:01 x1 run schedule 0 true", "until 02 08:01:00.000"],
    );
    check(&allow, &standing, at("08:01:00"), &["02 08:01..02 08:01 x1 run schedule 0 false", "until 02 08:01:00.000"]);
}

#[test]
fn paused_and_disabled_jobs_account_for_their_instants() {
    let disabled = job("1min", |job| job.disabled = Some("enabled = false".into()));
    let paused = job("1min", |_| {});
    let mut standing = standing(at("08:00:00"));

    check(&disabled, &standing, at("08:02:00"), &["02 08:01..02 08:02 x2 skip disabled", "until 02 08:02:00.000"]);
    standing.paused = true;
    check(&paused, &standing, at("08:02:00"), &["02 08:01..02 08:02 x2 skip paused", "until 02 08:02:00.000"]);
}

#[test]
fn an_epoch_ends_with_its_live_instant_and_one_edited_row() {
    let job = job("1min", |_| {});
    let old = Schedule::every(Duration::from_secs(60), Duration::ZERO).unwrap();
    let standing = standing(at("08:00:00"));

    let edited = show(&close_epoch(Some(&job), &old, &standing, at("08:05:10")));
    let removed = show(&close_epoch(None, &old, &standing, at("08:05:10")));

    assert_eq!(
        edited,
        "02 08:01..02 08:04 x4 skip edited\n02 08:05..02 08:05 x1 run schedule 0 true\nuntil 02 08:05:10.000\n"
    );
    assert_eq!(removed, "02 08:01..02 08:05 x5 skip removed\nuntil 02 08:05:10.000\n");
}
