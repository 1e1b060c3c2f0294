//! What a scrape shows: series at 0 from the start, counted endings, bounded numbers of series.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::Metrics;
use crate::domain::{
    health::{
        Day, JobStats,
        tests::{at, fine, job, snapshot},
    },
    job::{ExpectItems, Job, JobName},
    run::{Outcome, Reason, Run, RunId, State, Trigger},
    settle::{Next, Settlement},
};

/// Most series one job may have (spec 7, Metrics).
const MOST_SERIES: usize = 60;

fn run(name: &str, now: DateTime<Utc>) -> Run {
    Run {
        id: RunId(Uuid::nil()),
        job: JobName::parse(name).unwrap(),
        epoch: 1,
        trigger: Trigger::Schedule,
        scheduled_for: Some(now),
        covers: 1,
        covers_from: Some(now),
        state: State::Running,
        outcome: None,
        reason: None,
        due_at: now,
        priority: 0,
        key: None,
        dedupe_key: None,
        payload: Value::Null,
        attempt: 1,
        max_attempts: 3,
        crashes: 0,
        exclusive: true,
        replica: None,
        resume: None,
        retry_of: None,
        cancel_requested_at: None,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        lag_ms: Some(4),
        duration_ms: None,
        items: None,
        items_failed: None,
        response_code: None,
        result: None,
        error: None,
        errors: Value::Null,
    }
}

fn settlement(next: Next) -> Settlement {
    Settlement {
        next,
        attempt_spent: true,
        items: Some(7),
        items_failed: None,
        left: None,
        response_code: None,
        result: None,
        error: None,
        resume: None,
        pause_job: false,
        delete: false,
    }
}

fn world() -> (DateTime<Utc>, Metrics) {
    let now = at("2026-11-18T13:30:10Z");
    (now, Metrics::new(&[Arc::new(job("fila_worker", "every 30s"))], "0.1.0", ""))
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

#[test]
fn the_documented_four_and_each_counter_stand_at_zero_before_anything_happened() {
    let (now, metrics) = world();

    let text = metrics.render(&snapshot(now), now);

    assert_line(&text, r#"queue_size{queue="fila_worker"} 0"#);
    assert_line(&text, r#"job_duration_seconds_count{job_name="fila_worker"} 0"#);
    assert_line(&text, r#"job_failures{job_name="fila_worker"} 0"#);
    assert_line(&text, "scheduler_lag 0");
    assert_line(&text, r#"workers_job_runs_total{job_name="fila_worker",outcome="timeout"} 0"#);
    assert_line(&text, r#"workers_job_skipped_total{job_name="fila_worker",reason="overlap"} 0"#);
    assert_line(&text, r#"workers_build_info{revision="",version="0.1.0"} 1"#);
    assert_line(&text, "workers_lease_lost_total 0");
    assert_line(&text, "workers_occurrences_unexplained 0");
}

#[test]
fn what_the_engine_reports_is_counted_and_what_the_database_knows_is_shown() {
    let (now, metrics) = world();
    let run = run("fila_worker", now);
    let mut look = snapshot(now);
    look.jobs.insert(run.job.clone(), fine(now));

    metrics.started(&run);
    let again = Next::Again { at: now, reason: None };
    metrics.settled(&run, &settlement(again), Some(Duration::from_millis(40)), now);
    metrics.started(&Run { attempt: 2, ..run.clone() });
    let failed = Next::Finish { outcome: Outcome::Error, reason: Some(Reason::Exhausted) };
    metrics.settled(&run, &settlement(failed), Some(Duration::from_secs(700)), now);
    metrics.skipped(&run.job, Reason::Overlap, 3);
    let text = metrics.render(&look, now);

    assert_line(&text, r#"workers_job_triggers_total{job_name="fila_worker",trigger="schedule"} 1"#);
    assert_line(&text, r#"workers_lag_seconds_bucket{le="0.005"} 1"#);
    assert_line(&text, r#"workers_job_retries_total{job_name="fila_worker"} 1"#);
    assert_line(&text, r#"workers_job_runs_total{job_name="fila_worker",outcome="error"} 1"#);
    assert_line(&text, r#"job_duration_seconds_bucket{job_name="fila_worker",le="0.05"} 1"#);
    assert_line(&text, r#"job_duration_seconds_bucket{job_name="fila_worker",le="+Inf"} 2"#);
    assert_line(&text, r#"workers_job_items_total{job_name="fila_worker"} 14"#);
    assert_line(&text, r#"workers_job_skipped_total{job_name="fila_worker",reason="overlap"} 3"#);
    assert_line(&text, r#"workers_job_last_success_timestamp_seconds{job_name="fila_worker"} 1795008600"#);
}

#[test]
fn failures_leave_the_gauge_after_five_minutes() {
    let (now, metrics) = world();
    let failed = Next::Finish { outcome: Outcome::Timeout, reason: None };
    for seconds in [0, 100, 200] {
        let moment = now + TimeDelta::seconds(seconds);
        metrics.settled(&run("fila_worker", moment), &settlement(failed.clone()), None, moment);
    }
    let shown = |seconds| {
        let moment = now + TimeDelta::seconds(seconds);
        let text = metrics.render(&snapshot(moment), moment);
        let line = text.lines().find(|line| line.starts_with("job_failures{")).unwrap();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };

    assert_eq!([shown(200), shown(299), shown(300), shown(400), shown(500)], ["3", "3", "2", "1", "0"]);
}

#[test]
fn a_planner_that_rests_in_a_drain_does_not_look_stalled_to_a_scrape() {
    let (now, metrics) = world();
    let mut look = snapshot(now);
    look.planner.last_turn = Some(now - TimeDelta::minutes(10));
    let tick = |at: DateTime<Utc>| format!("workers_scheduler_last_tick_timestamp_seconds {}", at.timestamp());

    assert_line(&metrics.render(&look, now), &tick(now - TimeDelta::minutes(10)));
    look.planner.draining = true;
    assert_line(&metrics.render(&look, now), &tick(now));
}

#[test]
fn a_job_has_at_most_sixty_series_whatever_happens_to_it() {
    let now = at("2026-11-18T13:30:10Z");
    let queue = Job { schedule: None, ..job("mensagens", "every 30s") };
    let mut expecting = job("fila_worker", "every 30s");
    expecting.policy.expect_items = ExpectItems::Some;
    let jobs = vec![Arc::new(expecting), Arc::new(queue)];
    let metrics = Metrics::new(&jobs, "0.1.0", "");
    let mut look = snapshot(now);
    look.jobs = jobs.iter().map(|job| (job.name.clone(), fine(now))).collect();

    let text = metrics.render(&look, now);

    for job in &jobs {
        let series = text.lines().filter(|line| line.contains(&format!("\"{}\"", job.name))).count();
        assert!(series <= MOST_SERIES, "{} has {series} series", job.name);
    }
}

#[test]
fn a_new_table_brings_its_series_at_zero_and_takes_those_of_removed_jobs_away() {
    let now = at("2026-11-18T13:30:10Z");
    let jobs = |names: [&str; 2]| names.map(|name| Arc::new(job(name, "every 30s"))).to_vec();
    let metrics = Metrics::new(&jobs(["stays", "goes"]), "0.1.0", "");
    let names = |text: &str, name: &str| text.matches(&format!("\"{name}\"")).count();
    metrics.started(&run("stays", now));
    let before = metrics.render(&snapshot(now), now);

    metrics.follow(&jobs(["stays", "comes"]));
    let after = metrics.render(&snapshot(now), now);

    assert_eq!((names(&before, "goes"), names(&after, "goes")), (names(&before, "stays"), 0));
    assert_eq!(names(&after, "comes"), names(&before, "goes"));
    assert!(after.contains("workers_job_triggers_total{job_name=\"stays\",trigger=\"schedule\"} 1"), "{after}");
}

#[test]
fn a_scrape_that_began_under_the_old_table_brings_nothing_of_it_back() {
    let now = at("2026-11-18T13:30:10Z");
    let table = |prefix: &str, schedule: &str| -> Vec<Arc<Job>> {
        let own = (0..150).map(|number| Arc::new(job(&format!("{prefix}_{number}"), schedule)));
        own.chain([Arc::new(job("edited", schedule))]).collect()
    };
    let (old, new) = (table("goes", "every 30s"), table("stays", "every 31s"));
    let metrics = Metrics::new(&new, "0.1.0", "");
    let count = |text: &str, part: &str| text.matches(part).count();

    for _ in 0..20 {
        metrics.follow(&old);
        std::thread::scope(|scope| {
            scope.spawn(|| metrics.render(&snapshot(now), now));
            std::thread::yield_now();
            metrics.follow(&new);
        });
        let text = metrics.render(&snapshot(now), now);

        assert_eq!((count(&text, "\"goes_"), count(&text, "workers_job_info{")), (0, new.len()));
    }
}

#[test]
fn a_queue_counts_its_endings_its_waits_and_its_failures_of_the_day() {
    let (now, _) = world();
    let jobs = [Arc::new(Job { schedule: None, ..job("mensagens", "every 30s") }), Arc::new(job("a", "every 30s"))];
    let metrics = Metrics::new(&jobs, "0.1.0", "");
    let mut look = snapshot(now);
    let day = Day { errors: 2, timeouts: 1, ..Day::default() };
    look.jobs.insert(jobs[0].name.clone(), JobStats { day, ..fine(now) });
    assert_line(&metrics.render(&look, now), r#"workers_queue_processed_total{outcome="lost",queue="mensagens"} 0"#);

    for name in ["mensagens", "a"] {
        let finished = Next::Finish { outcome: Outcome::Success, reason: None };
        metrics.started(&run(name, now));
        metrics.settled(&run(name, now), &settlement(finished), None, now);
    }
    metrics.finished_unstarted(&jobs[0].name, Outcome::Lost, now);
    metrics.count_dropped_lines(|| 7);
    metrics.render(&look, now);
    let text = metrics.render(&look, now);

    assert_line(&text, r#"workers_queue_processed_total{outcome="success",queue="mensagens"} 1"#);
    assert_line(&text, r#"workers_queue_processed_total{outcome="lost",queue="mensagens"} 1"#);
    assert!(!text.contains(r#"queue_processed_total{outcome="success",queue="a"}"#), "{text}");
    assert_line(&text, "workers_queue_wait_seconds_count 1");
    assert_line(&text, r#"workers_queue_size{queue="mensagens",state="failed"} 3"#);
    assert_line(&text, "workers_log_lines_dropped_total 7");
    metrics.follow(&jobs[1..]);
    assert!(!metrics.render(&look, now).contains("mensagens"), "its series go with it");
}

#[test]
fn a_run_that_is_looked_at_again_is_counted_once() {
    let now = at("2026-11-18T13:30:10Z");
    let jobs = [Arc::new(job("polls", "every 30s"))];
    let metrics = Metrics::new(&jobs, "0.1.0", "");

    metrics.started(&run("polls", now));
    metrics.started(&Run { resume: Some(serde_json::json!({ "location": "/jobs/7" })), ..run("polls", now) });
    metrics.started(&Run { errors: serde_json::json!([{ "error": "asked to wait" }]), ..run("polls", now) });

    let text = metrics.render(&snapshot(now), now);
    assert!(text.contains("workers_job_triggers_total{job_name=\"polls\",trigger=\"schedule\"} 1"), "{text}");
}
