//! Health as others see it: the rules against the exported metrics and the documentation, the shape of the answers, and a
//! real daemon that fails.

mod support;

use std::{collections::BTreeSet, fs, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        health::{
            AlertName, Database, Day, JobStats, JobStatus, JobsHealth, PlannerState, QueueFigures, RULES, Snapshot,
            Status, WatchedQueue, Why, assess,
        },
        job::Job,
        run::{Failure, Outcome, ReplicaId},
        settle::Ended,
    },
    engine::{Scope, observe::Observer},
    metrics::Metrics,
};
use serde_json::{Value, json};
use support::{
    daemon::{Setup, http},
    world::{House, World, name, read_table, utc},
};
use uuid::Uuid;

const OPERATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
const TABLE: &str = r#"
[jobs.fila_worker]
every = "30s"
critical = true
expect_items = "some"
run.http = { post = "http://app/fila" }
[jobs.mensagens]
run.http = { post = "http://app/mensagens" }
"#;

fn now() -> DateTime<Utc> {
    "2026-11-18T13:30:10Z".parse().unwrap()
}

fn jobs() -> Vec<Arc<Job>> {
    read_table(TABLE).jobs.values().map(|entry| Arc::clone(&entry.job)).collect()
}

/// A daemon that runs well, and knows nothing of `mensagens`.
fn snapshot() -> Snapshot {
    let ago = |seconds| now() - TimeDelta::seconds(seconds);
    let mut look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.1.0", ago(3_600));
    look.planner.last_turn = Some(now());
    look.database = Database { up: true, since: ago(3_600), migrated: true, clock_skew_ms: None };
    (look.sampled_at, look.counted_at, look.replicas) = (Some(ago(3)), Some(ago(20)), 1);
    let day = Day { runs: 2_880, successes: 2_878, errors: 1, timeouts: 1, items: 9_000, ..Day::default() };
    let stats = JobStats {
        planned_until: Some(ago(10)),
        last_run: Some(ago(10)),
        last_outcome: Some(Outcome::Success),
        last_success: Some(ago(9)),
        last_failure: Some(ago(7_000)),
        last_error: Some("http://app/fila answered 500".into()),
        last_duration_ms: Some(12),
        day: Day { avg_duration_ms: Some(11), ..day },
        ..JobStats::new(ago(1_000_000))
    };
    look.jobs.insert(jobs()[0].name.clone(), stats);
    look
}

/// Every word of an expression that has an underscore and is neither a label nor in a matcher.
fn metrics_named(expression: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '{') {
        rest = &rest[start..];
        if let Some(matcher) = rest.strip_prefix('{') {
            rest = matcher.split_once('}').expect("a matcher is closed").1;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.contains('_') && !["job_name", "label_replace"].contains(&word) {
            names.insert(word);
        }
        rest = after;
    }
    names
}

/// No zero stands for what nobody knows.
#[test]
fn what_a_look_at_a_drained_table_cannot_tell_is_absent() {
    let (jobs, mut look) = (jobs(), snapshot());
    let drain = &jobs[0].name;
    look.jobs.insert(drain.clone(), JobStats { running: 1, ..JobStats::new(now()) });
    let seen = QueueFigures::waiting(now(), 4);
    look.queues.insert(drain.clone(), WatchedQueue { figures: Some(seen), ..WatchedQueue::new(now()) });

    let health = assess(&jobs, &look, now());
    let queue = health.queues.iter().find(|(name, _)| name == drain).map(|(_, queue)| serde_json::json!(queue));
    let text = Metrics::new(&jobs, "0.1.0", "").render(&look, now());

    let queue = queue.expect("it drains a table");
    assert_eq!((&queue["size"], &queue["running"], &queue["failed"]), (&4.into(), &1.into(), &Value::Null));
    let of_drain = |line: &&str| line.starts_with("workers_queue_") && line.contains(&format!("\"{drain}\""));
    let series: Vec<&str> = text.lines().filter(of_drain).filter_map(|line| line.split(' ').next()).collect();
    let named = |family: &str, more: &str| format!("workers_queue_{family}{{queue=\"{drain}\"{more}}}");
    assert_eq!(
        series,
        [
            named("figures_timestamp_seconds", ""),
            named("oldest_age_seconds", ""),
            named("size", ",state=\"running\""),
            named("size", ",state=\"waiting\""),
        ]
    );
}

#[test]
fn every_metric_that_a_rule_names_is_exported() {
    let jobs = jobs();
    let mut look = snapshot();
    // The series of a table that a job drains are there from the first look at it on.
    look.queues.insert(jobs[0].name.clone(), WatchedQueue::new(now()));
    let text = Metrics::new(&jobs, "0.1.0", "").render(&look, now());
    let exported: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();

    for rule in RULES {
        let expression = rule.expression();
        let named = metrics_named(&expression);
        assert!(!named.is_empty(), "{}: {expression}", rule.name);
        for metric in named {
            assert!(exported.contains(metric), "{} names {metric}, which is not exported: {expression}", rule.name);
        }
    }
}

#[test]
fn the_words_of_health_and_its_rules_stand_in_the_documentation() {
    let text = fs::read_to_string(OPERATIONS).unwrap();
    let mut wanted = text.clone();
    for rule in RULES {
        assert!(text.contains(&format!("\n### {}\n", rule.name)), "docs/operations.md has no heading {}", rule.name);
        let begin = format!("<!-- generated: rule {} -->\n", rule.name);
        let (before, after) = wanted.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?}"));
        let (_, after) = after.split_once("<!-- end -->").expect("what is generated has an end");
        let meaning = rule.meaning;
        let facts = format!("{meaning}\n\n{}\n\n```promql\n{}\n```\n", rule.facts(), rule.expression());
        let facts = facts[..1].to_uppercase() + &facts[1..].replacen("\n\n", ".\n\n", 1);
        wanted = format!("{before}{begin}{facts}<!-- end -->{after}");
    }
    if std::env::var_os("WRITE_EXPECTED").is_some() {
        fs::write(OPERATIONS, &wanted).unwrap();
    }
    assert_eq!(fs::read_to_string(OPERATIONS).unwrap(), wanted, "WRITE_EXPECTED=1 writes it");

    let words = [
        Status::ALL.iter().map(|word| word.word()).collect::<Vec<_>>(),
        PlannerState::ALL.iter().map(|word| word.word()).collect(),
        JobStatus::ALL.iter().map(|word| word.word()).collect(),
        Why::ALL.iter().map(|word| word.word()).collect(),
    ];
    for word in words.concat() {
        assert!(wanted.contains(&format!("`{word}`")), "docs/operations.md does not say what `{word}` is");
    }
    assert_eq!(RULES.len(), AlertName::ALL.len());
}

#[test]
fn the_jobs_answer_has_the_documented_shape_and_every_job_of_the_table() {
    let (jobs, look) = (jobs(), snapshot());
    let health = assess(&jobs, &look, now());

    let answer = JobsHealth::new(&jobs, &look, &health);

    let expected = json!({
        "status": "healthy",
        "jobs": {
            "fila_worker": {
                "last_run": "2026-11-18T13:30:00.000Z", "last_status": "success", "runs_24h": 2880,
                "success_24h": 2878, "errors_24h": 1, "timeouts_24h": 1, "avg_duration_ms": 11,
                "total_items_processed": 9000, "last_error": "http://app/fila answered 500",
                // From the success at 13:30:01 to the firing at 13:30:30, its time-out and a minute.
                "sla_seconds": 29 + 300 + 60, "is_stale": false, "seconds_since_last_run": 10,
            },
            "mensagens": {
                "last_run": null, "last_status": null, "runs_24h": 0, "success_24h": 0, "errors_24h": 0,
                "timeouts_24h": 0, "avg_duration_ms": null, "total_items_processed": 0, "last_error": null,
                "sla_seconds": null, "is_stale": false, "seconds_since_last_run": null,
            },
        },
        "alerts": {
            "jobs_with_errors": ["fila_worker"], "jobs_with_timeouts": ["fila_worker"], "stale_jobs": [],
            "critical_stale": [], "missing_critical": [],
        },
        "sla_config": { "critical_jobs": ["fila_worker"], "sla_definitions": { "fila_worker": 389 } },
        "period": "24h",
        "total_executions": 2880,
        "timestamp": "2026-11-18T13:30:10.000Z",
        "database": {
            "status": "up", "since": "2026-11-18T12:30:10.000Z", "sampled_at": "2026-11-18T13:30:07.000Z",
        },
        "sampled_age_seconds": 20,
    });
    assert_eq!(serde_json::to_value(&answer).unwrap(), expected);
    let public = serde_json::to_value(answer.without_free_text()).unwrap();
    assert_eq!(public["jobs"]["fila_worker"]["last_error"], Value::Null);
    let text = serde_json::to_string(&JobsHealth::new(&jobs, &look, &health)).unwrap();
    assert!(text.starts_with(r#"{"status":"healthy","jobs":{"fila_worker":{"last_run":"#), "{text}");
}

#[test]
fn a_critical_job_that_never_ran_is_missing_and_turns_the_answer_critical() {
    let (jobs, mut look) = (jobs(), snapshot());
    *look.jobs.values_mut().next().unwrap() = JobStats::new(now() - TimeDelta::days(3));

    let health = assess(&jobs, &look, now());
    let answer = JobsHealth::new(&jobs, &look, &health);

    let name = vec![jobs[0].name.clone()];
    assert_eq!(answer.status, Status::Critical);
    let lists = &answer.alerts;
    assert_eq!((&lists.missing_critical, &lists.critical_stale, &lists.stale_jobs), (&name, &name, &name));
}

#[test]
fn the_first_four_keys_of_the_workers_answer_are_the_documented_bytes() {
    let (jobs, mut look) = (jobs(), snapshot());
    look.jobs.values_mut().next().unwrap().waiting = 5;

    let text = serde_json::to_string(&assess(&jobs, &look, now())).unwrap();

    let documented =
        r#"{"scheduler":"running","fila_worker":"healthy","last_job_at":"2026-11-18T13:30:00Z","queue_size":5,"#;
    assert!(text.starts_with(documented), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["queue_size"].is_i64() && answer["mensagens"] == "healthy");
}

#[tokio::test]
async fn an_old_success_is_remembered_behind_many_failures_and_found_again_after_a_restart() {
    let mut world =
        World::new("[jobs.a]\nevery = '1min'\nretry = { max_attempts = 1 }\nrun.noop = {}", "2026-03-02 08:00").await;
    let observe = |world: &World| {
        let look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.0.0", world.now());
        Observer::new(Arc::new(arc_swap::ArcSwap::from_pointee(look)))
    };
    let observer = observe(&world);
    world.run_until("2026-03-02 08:05").await;
    let engine = Arc::clone(&world.house.as_ref().unwrap().engine);
    observer.sample(&engine, world.now()).await.unwrap();
    world.script("a", |_| (TimeDelta::zero(), Ended::Answered(Err(Failure::retry("no")))));

    for minute in ["08:20", "08:40", "09:00"] {
        world.run_until(&format!("2026-03-02 {minute}")).await;
        observer.follow(&engine, world.now()).await.unwrap();
    }

    let restarted = observe(&world);
    restarted.follow(&engine, world.now()).await.unwrap();
    for observer in [&observer, &restarted] {
        let look = observer.reader().load_full();
        let stats = &look.jobs[&name("a")];
        assert_eq!(stats.last_success, Some(utc("2026-03-02 08:05")));
        assert_eq!((stats.consecutive_failures, stats.last_error.as_deref()), (20, Some("no")));
    }
    // Counts come with the longer look.
    assert_eq!(observer.reader().load().jobs[&name("a")].day.errors, 0);
    observer.sample(&engine, world.now()).await.unwrap();
    assert_eq!(observer.reader().load().jobs[&name("a")].day.errors, 55);
}

#[tokio::test]
async fn a_job_whose_only_run_waits_for_its_retry_has_run_and_says_what_failed() {
    let table = "[jobs.a]\nevery = '1h'\ncritical = true\nstale_after = '70s'\n\
                 retry = { max_attempts = 3, backoff = '20min' }\nrun.noop = {}";
    let mut world = World::new(table, "2026-03-02 08:00").await;
    world.script("a", |_| (TimeDelta::zero(), Ended::Answered(Err(Failure::retry("busy")))));
    world.run_until("2026-03-02 09:05").await;
    let engine = Arc::clone(&world.house.as_ref().unwrap().engine);
    let starting = Snapshot::starting(ReplicaId(Uuid::nil()), "0.0.0", world.now());
    let observer = Observer::new(Arc::new(arc_swap::ArcSwap::from_pointee(starting)));

    observer.sample(&engine, world.now()).await.unwrap();

    let look = observer.reader().load_full();
    let stats = &look.jobs[&name("a")];
    let hour = Some(utc("2026-03-02 09:00"));
    assert_eq!((stats.waiting, stats.last_success, stats.last_error.as_deref()), (1, None, Some("busy")));
    assert_eq!((stats.last_run, stats.last_failure), (hour, hour));
    let job = Job { handler: "http", ..Job::clone(&engine.desk().table.jobs[&name("a")].job) };
    let health = assess(&[Arc::new(job)], &look, world.now());
    assert_eq!(health.job("a").unwrap().status, JobStatus::Stale, "{health:?}");
}

#[tokio::test]
async fn a_job_whose_schedule_in_force_is_another_tables_is_not_judged_by_ours() {
    let table = |schedule: &str| format!("[jobs.a]\n{schedule}\nrun.http = {{ post = 'http://app/' }}");
    let mut world = World::new(&table("every = '10min'"), "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:30").await;
    let newer = read_table(&table("at = '12:00'"));
    let _other = House::open(&world.store, &world.clock, &newer, Scope::default()).await;

    world.run_until("2026-03-02 09:30").await;

    let engine = Arc::clone(&world.house.as_ref().unwrap().engine);
    let look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.0.0", world.now());
    let observer = Observer::new(Arc::new(arc_swap::ArcSwap::from_pointee(look)));
    observer.sample(&engine, world.now()).await.unwrap();
    let jobs: Vec<_> = engine.table().jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
    let health = assess(&jobs, &observer.reader().load(), world.now());
    let verdict = health.job("a").unwrap();
    assert_eq!((verdict.status, verdict.reason), (JobStatus::Healthy, Some(Why::OtherTable)));
}

const FAILING: &str = r#"
[jobs.falha]
every = "1s"
retry = { max_attempts = 1 }
run.noop = { fail = 1.0 }
"#;

#[test]
fn a_failing_job_is_reported_alike_by_both_answers_and_its_words_are_for_holders_of_a_token() {
    let mut daemon = Setup::new(FAILING).env("WORKERS_READ_TOKEN", "s3cret").start();
    daemon.wait_for("three failures in a row", |daemon| {
        let answer = daemon.get("/health/workers").json();
        answer["jobs"]["falha"]["consecutive_failures"].as_i64().is_some_and(|failures| 3 <= failures)
    });
    let told = |path| http(daemon.port, "GET", path, &["Authorization: Bearer s3cret"], "").expect("it answers").json();

    let (public, jobs, workers) = (daemon.get("/health/jobs").json(), told("/health/jobs"), told("/health/workers"));

    assert_eq!(public["jobs"]["falha"]["last_error"], Value::Null);
    assert_eq!(jobs["jobs"]["falha"]["last_error"], "failed on purpose");
    assert_eq!((&jobs["status"], &jobs["jobs"]["falha"]["last_status"]), (&json!("degraded"), &json!("error")));
    let names: Vec<_> = workers["alerts"].as_array().unwrap().iter().map(|alert| alert["name"].clone()).collect();
    assert!(names.contains(&json!("JobFailingRepeatedly")) && names.contains(&json!("JobFailing")), "{names:?}");
}
