//! A ledger on SQLite that is the same at every run: its rows are written by hand.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, SqliteConnection};

use super::saying::say;
use crate::support::daemon::Setup;

pub const JOBS: &str = r#"
version = 1
[defaults]
timezone = "America/Sao_Paulo"
[jobs.mail]
description = "Sends what the team wrote"
payload = { to = "nobody" }
run.noop = {}
[jobs.sync]
every = "1h"
critical = true
run.noop = {}
[jobs.report]
cron = "0 8 * * 1-5"
enabled = false
run.noop = {}
"#;

/// Ids of the seeded runs, the oldest first.
pub const IDS: [&str; 6] = [
    "019ca000-0000-7000-8000-000000000001",
    "019ca000-0000-7000-8000-000000000002",
    "019ca000-0000-7000-8000-000000000003",
    "019ca000-0000-7000-8000-000000000004",
    "019ca000-0000-7000-8000-000000000005",
    "019ca000-0000-7000-8000-000000000006",
];

/// Four instants of `sync` from 01:00 on, the one of 05:00 is missing; a failed and a waiting message.
pub fn seeded() -> Setup {
    let setup = Setup::new(JOBS);
    say(&setup, &["migrate", "up"], 0);
    say(&setup, &["config", "activate"], 0);
    let (midnight, five) = (ms("2026-03-02T00:00:00Z"), ms("2026-03-02T05:00:00Z"));
    execute(&setup, &format!("update workers_jobs set first_seen = {midnight}, audited_until = {midnight}"));
    execute(&setup, &format!("update workers_jobs set planned_until = {five} where name <> 'mail'"));
    execute(&setup, &format!("update workers_schedules set valid_from = {midnight}"));
    let rows = [
        ("sync", "2026-03-02T01:00:00Z", "'finished', 'success', null"),
        ("sync", "2026-03-02T02:00:00Z", "'finished', 'skipped', 'overlap'"),
        ("sync", "2026-03-02T03:00:00Z", "'finished', 'error', 'exhausted'"),
        ("sync", "2026-03-02T04:00:00Z", "'finished', 'partial', null"),
        ("mail", "2026-03-02T04:30:00Z", "'finished', 'timeout', 'exhausted'"),
        ("mail", "2126-03-02T05:00:00Z", "'waiting', null, null"),
    ];
    for (id, (job, due, end)) in IDS.iter().zip(rows) {
        insert(&setup, id, (job, due, end));
    }
    setup
}

fn insert(setup: &Setup, id: &str, (job, due, end): (&str, &str, &str)) {
    let due = ms(due);
    let (instant, covers, trigger) =
        if job == "sync" { (due.to_string(), 1, "schedule") } else { ("null".into(), 0, "enqueue") };
    let ran = end.contains("finished") && !end.contains("skipped");
    let times = match (ran, end.contains("finished")) {
        (true, _) => format!("1, {due} + 4, {due} + 1004, 4, 1000, 10, 200"),
        (false, true) => format!("0, null, {due}, null, null, null, null"),
        (false, false) => "0, null, null, null, null, null, null".into(),
    };
    let error = if end.contains("exhausted") { "'answered 500'" } else { "null" };
    execute(
        setup,
        &format!(
            "insert into workers_runs (id, job, epoch, trigger, scheduled_for, covers, covers_from, state, outcome, reason,
                attempt, started_at, finished_at, lag_ms, duration_ms, items, response_code,
                due_at, priority, payload, max_attempts, crashes, exclusive, at_most_once, created_at, error, errors)
            values ('{id}', '{job}', 1, '{trigger}', {instant}, {covers}, {instant}, {end},
                {times}, {due}, 0, '{{\"n\":1}}', 3, 0, 0, 0, {due}, {error}, '[]')"
        ),
    );
}

fn ms(instant: &str) -> i64 {
    instant.parse::<DateTime<Utc>>().expect("an instant").timestamp_millis()
}

/// Runs a statement on the SQLite file; returns how many rows it changed.
pub fn execute(setup: &Setup, sql: &str) -> u64 {
    let url = format!("sqlite://{}", setup.path("workers.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut database = SqliteConnection::connect(&url).await.expect("the file opens");
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut database).await.expect("the statement works");
        database.close().await.expect("the file closes");
        done.rows_affected()
    })
}
