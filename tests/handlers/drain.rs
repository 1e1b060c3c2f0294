//! `drain` on a `queue_profile` as teams have it, on real tables of both databases.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        job::{Backoff, JobName},
        run::{Failure, ReplicaId, Report},
    },
    handlers::{Context, QueueLook, Targets, Tools, http::Target},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    attempt::{Home, checked, commit, context, noon},
    http_script::{Reply, Script, reply},
};

/// The queue of the profile workers: one active row per company.
pub const QUEUE_POSTGRES: &str = "\
    create table queue_profile (
      id bigint generated always as identity primary key, cnpj text not null, payload jsonb not null default '{}',
      status text not null default 'queued', attempts integer not null default 0,
      available_at timestamptz not null default '2025-01-08T11:00:00Z',
      locked_at timestamptz, locked_by text, last_error text);
    create unique index one_active on queue_profile (cnpj) where status in ('queued', 'processing')";
pub const QUEUE_SQLITE: &str = "\
    create table queue_profile (
      id integer primary key, cnpj text not null, payload json not null default '{}',
      status text not null default 'queued', attempts integer not null default 0,
      available_at text not null default '2025-01-08T11:00:00.000Z', locked_at text, locked_by text, last_error text);
    create unique index one_active on queue_profile (cnpj) where status in ('queued', 'processing')";

/// All rows as text that reads the same on both databases.
pub const ROWS: &str = "\
    select cnpj || ' ' || status || ' ' || cast(attempts as text)
        || case when locked_at is null then '' else ' locked' end || coalesce(' ' || last_error, '')
    from queue_profile order by cnpj";

pub fn settings() -> Value {
    json!({
        "table": "queue_profile",
        "where": "status = 'queued' and available_at <= :now",
        "claim": "status = 'processing', locked_at = :now, locked_by = :replica",
        "done": "status = 'done'",
        "retry": "status = 'queued', attempts = attempts + 1, available_at = :retry_at, locked_at = null, last_error = :error",
        "dead": "status = 'failed', attempts = attempts + 1, last_error = :error",
        "attempts": "attempts",
        "stuck": { "where": "status = 'processing' and locked_at < :stuck_before", "after": "5min" },
        "deliver": { "target": "api", "post": "/v2/profile/process" },
    })
}

/// Settings with some of them replaced.
pub fn with(changes: Value) -> Value {
    let mut settings = settings();
    for (key, value) in changes.as_object().expect("an object") {
        settings[key] = value.clone();
    }
    settings
}

/// The database with an empty `queue_profile`.
pub async fn queue(home: &Home) {
    match home {
        Home::Sqlite { .. } => home.execute(QUEUE_SQLITE).await,
        Home::Postgres { .. } => home.execute(QUEUE_POSTGRES).await,
    }
}

pub async fn add(home: &Home, companies: &str) {
    let values: Vec<_> = companies.split(' ').map(|company| format!("('{company}')")).collect();
    let insert = format!("insert into queue_profile (cnpj) values {}", values.join(", "));
    home.execute(Box::leak(insert.into_boxed_str())).await;
}

/// A context whose calls go to this server; waits are (n + 1) x 30 s, without jitter.
pub fn attempt(home: &Home, url: &str, now: DateTime<Utc>) -> Context {
    let mut ctx = context(home.app());
    let mut job = crate::attempt::job();
    job.name = JobName::from_store("fila_processamento");
    job.policy.retry.backoff = Backoff::Linear { step: std::time::Duration::from_secs(30) };
    // A claim stands a minute longer than that: 5 min, as `stuck.after` of these settings says.
    job.policy.timeout = std::time::Duration::from_secs(240);
    let mut run = crate::attempt::run();
    run.replica = Some(ReplicaId(Uuid::now_v7()));
    ctx.tools = Tools::new(targets(url));
    (ctx.now, ctx.deadline, ctx.job, ctx.run) = (now, now + TimeDelta::minutes(5), Arc::new(job), Arc::new(run));
    ctx
}

pub fn targets(url: &str) -> Targets {
    Targets::from([("api".to_owned(), Target::at(url))])
}

pub async fn run(settings: Value, ctx: Context) -> Result<Report, Failure> {
    let work = checked("drain", settings, &ctx.tools.targets).expect("settings that can run");
    commit(work.run(ctx).await).await
}

fn ok(_: &crate::http_script::Asked, _: usize) -> Reply {
    reply(200, json!({ "status": "ok" }))
}

#[tokio::test]
async fn each_row_is_delivered_as_it_was_claimed_and_marked_done() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        home.execute("update queue_profile set available_at = '2025-01-08T12:00:01.000Z' where cnpj = 'b'").await;
        let server = Script::answering(ok).await;

        let report = run(settings(), attempt(&home, &server.url, noon())).await.expect("a run");

        assert_eq!(home.texts(ROWS).await, ["a done 0 locked", "b queued 0", "c done 0 locked"]);
        assert_eq!((report.items, report.items_failed, report.left), (Some(2), 0, Some(0)));
        let mut calls = server.asked();
        calls.sort_by_key(|call| call.headers["idempotency-key"].clone());
        assert_eq!(calls.len(), 2);
        for (call, (id, company)) in calls.iter().zip([(1, "a"), (3, "c")]) {
            let row: Value = serde_json::from_slice(&call.body).expect("a row is JSON");
            assert_eq!(call.place, "/v2/profile/process");
            assert_eq!(call.headers["idempotency-key"], format!("fila_processamento:{id}"));
            assert_eq!(call.headers["webhook-id"], call.headers["idempotency-key"]);
            assert_eq!((&call.headers["workers-job"][..], &call.headers["workers-attempt"][..]), ("nightly", "1"));
            assert_eq!((&row["id"], &row["cnpj"], &row["status"]), (&json!(id), &json!(company), &json!("processing")));
            assert_eq!((&row["payload"], &row["last_error"]), (&json!({}), &Value::Null));
        }
    }
}

#[tokio::test]
async fn a_row_that_fails_waits_for_n_plus_1_times_30_s_and_is_given_up_at_the_last() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a").await;
        let server = Script::answering(|_, _| reply(500, json!({ "detail": "no model" }))).await;
        let due = "select cast(available_at as text) from queue_profile";
        let mut now = noon();
        for (wait, standing) in [(60, "a queued 1"), (90, "a queued 2")] {
            let failure = run(settings(), attempt(&home, &server.url, now)).await.expect_err("all rows failed");
            let early = run(settings(), attempt(&home, &server.url, now + TimeDelta::seconds(wait - 1))).await;

            assert!(failure.message.starts_with("all 1 rows failed, the first: POST http://"), "{}", failure.message);
            assert_eq!(early.expect("nothing is due").items, Some(0));
            assert!(home.texts(ROWS).await[0].starts_with(standing), "{:?}", home.texts(ROWS).await);
            now += TimeDelta::seconds(wait);
            let written = now.format(match home {
                Home::Sqlite { .. } => "%Y-%m-%dT%H:%M:%S",
                Home::Postgres { .. } => "%Y-%m-%d %H:%M:%S",
            });
            assert!(home.texts(due).await[0].starts_with(&written.to_string()[..18]), "{written}");
            // The clock goes on while a run works.
            now += TimeDelta::seconds(2);
        }

        let failure = run(settings(), attempt(&home, &server.url, now)).await.expect_err("all rows failed");

        let report = failure.report.expect("what was done");
        let result = report.result.expect("counts");
        assert_eq!((report.items, report.items_failed, report.left), (Some(0), 1, Some(0)));
        assert_eq!(
            (&result["dead"], &result["retried"], &result["errors"][0]["id"]),
            (&json!(1), &json!(0), &json!("1"))
        );
        let row = &home.texts(ROWS).await[0];
        assert!(row.starts_with("a failed 3 locked POST http://") && row.ends_with("answered 500: no model"), "{row}");
        let attempts: Vec<_> = server.asked().iter().map(|call| call.headers["workers-attempt"].clone()).collect();
        assert_eq!(attempts, ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn an_answer_decides_what_becomes_of_its_row() {
    for (status, body, standing, is_failed) in [
        (200, "{\"status\":\"error\",\"error\":\"busy\"}", "a queued 1", true),
        (200, "{\"skipped\":true}", "a done 0", false),
        (202, "", "a done 0", false),
        (204, "", "a done 0", false),
        (408, "", "a queued 1", true),
        (425, "", "a queued 1", true),
        (429, "", "a queued 1", true),
        (503, "", "a queued 1", true),
        (400, "", "a failed 1", true),
        (409, "", "a failed 1", true),
        (413, "", "a failed 1", true),
        (422, "{\"detail\":\"no cnpj\"}", "a failed 1", true),
    ] {
        let home = Home::sqlite().await;
        queue(&home).await;
        add(&home, "a").await;
        let server = Script::answering(move |_, _| reply(status, body).with("content-type", "application/json")).await;

        let ended = run(settings(), attempt(&home, &server.url, noon())).await;

        assert!(home.texts(ROWS).await[0].starts_with(standing), "{status}: {:?}", home.texts(ROWS).await);
        assert_eq!(ended.is_err(), is_failed, "{status}: {ended:?}");
    }
}

#[tokio::test]
async fn some_failed_rows_make_a_run_partial() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        let server = Script::answering(|call, _| {
            if String::from_utf8_lossy(&call.body).contains("\"b\"") { reply(422, "poison") } else { reply(200, "{}") }
        })
        .await;

        let report = run(settings(), attempt(&home, &server.url, noon())).await.expect("some were done");

        assert_eq!((report.items, report.items_failed, report.left), (Some(2), 1, Some(0)));
        let error = &report.result.expect("counts")["errors"][0];
        assert!(error["error"].as_str().expect("words").ends_with("answered 422: poison"), "{error}");
        assert!(home.texts(ROWS).await[1].starts_with("b failed 1"), "{:?}", home.texts(ROWS).await);
    }
}

#[tokio::test]
async fn a_batch_after_another_is_claimed_until_nothing_waits() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c d e f g").await;
        let server = Script::answering(ok).await;

        let changes = json!({ "batch": 2, "concurrency": 1, "order": "cnpj desc" });
        let report = run(with(changes), attempt(&home, &server.url, noon())).await.expect("a run");

        assert_eq!((report.items, report.left), (Some(7), Some(0)));
        let company = |call: &crate::http_script::Asked| {
            serde_json::from_slice::<Value>(&call.body).expect("JSON")["cnpj"].as_str().expect("text").to_owned()
        };
        let order: Vec<_> = server.asked().iter().map(company).collect();
        assert_eq!(order, ["g", "f", "e", "d", "c", "b", "a"]);
    }
}

#[tokio::test]
async fn a_stuck_row_spends_an_attempt_and_waits_again_or_is_given_up() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        home.execute(
            "update queue_profile set status = 'processing', locked_by = 'somebody', locked_at = '2025-01-08T11:54:59.000Z';
            update queue_profile set locked_at = '2025-01-08T11:55:01.000Z' where cnpj = 'a';
            update queue_profile set attempts = 2 where cnpj = 'c'",
        )
        .await;
        let server = Script::answering(ok).await;

        let failure = run(settings(), attempt(&home, &server.url, noon())).await.expect_err("one was given up");

        let rows = home.texts(ROWS).await;
        let error = "no end was written down within 5min of its claim";
        assert_eq!(
            rows,
            ["a processing 0 locked", &format!("b queued 1 {error}"), &format!("c failed 3 locked {error}")]
        );
        let report = failure.report.expect("counts");
        assert_eq!((report.items, report.items_failed), (Some(0), 1));
        assert_eq!(report.result.expect("counts")["rescued"], json!(1));
        assert!(server.asked().is_empty(), "a rescued row waits for its time");
    }
}

#[tokio::test]
async fn a_claim_that_counts_attempts_is_understood() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a").await;
        let server = Script::answering(|_, _| reply(500, "")).await;
        let changes = json!({
            "claim": "status = 'processing', locked_at = :now, attempts = attempts + 1",
            "retry": "status = 'queued', available_at = :retry_at",
            "dead": "status = 'failed'",
            "max_attempts": 2,
        });
        for (now, standing) in [(noon(), "a queued 1"), (noon() + TimeDelta::seconds(70), "a failed 2")] {
            run(with(changes.clone()), attempt(&home, &server.url, now)).await.expect_err("all failed");

            assert!(home.texts(ROWS).await[0].starts_with(standing), "{:?}", home.texts(ROWS).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_rescued_and_claimed_again_is_not_settled_by_the_late_one() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a").await;
        let (called, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (call, gone) = (Arc::clone(&called), Arc::clone(&go));
        let server = Script::answering(move |_, _| {
            call.store(true, Ordering::SeqCst);
            // What this thread had next must not wait for it.
            tokio::task::block_in_place(|| {
                while !gone.load(Ordering::SeqCst) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
            reply(200, "{}")
        })
        .await;

        let late = tokio::spawn(run(settings(), attempt(&home, &server.url, noon())));
        while !called.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // Another replica finds it stuck, and has it again.
        home.execute("update queue_profile set locked_at = '2025-01-08T12:10:00.000Z', locked_by = 'another'").await;
        go.store(true, Ordering::SeqCst);
        let report = late.await.expect("no panic").expect("a run");

        assert_eq!(home.texts(ROWS).await, ["a processing 0 locked"]);
        assert_eq!(home.texts("select locked_by from queue_profile").await, ["another"]);
        assert_eq!(report.result.expect("counts")["changed_elsewhere"], json!(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_deliver_each_row_once() {
    for home in Home::both().await {
        queue(&home).await;
        let companies: Vec<_> = (0..120).map(|number| format!("c{number:03}")).collect();
        add(&home, &companies.join(" ")).await;
        let server = Script::answering(ok).await;

        let one = tokio::spawn(run(settings(), attempt(&home, &server.url, noon())));
        let two = tokio::spawn(run(settings(), attempt(&home, &server.url, noon())));
        let reports = [one.await.expect("no panic").expect("a run"), two.await.expect("no panic").expect("a run")];

        let done: u64 = reports.iter().filter_map(|report| report.items).sum();
        let mut keys: Vec<_> = server.asked().iter().map(|call| call.headers["idempotency-key"].clone()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!((done, server.asked().len(), keys.len()), (120, 120, 120));
        assert!(home.texts(ROWS).await.iter().all(|row| row.contains(" done 0")));
    }
}

#[tokio::test]
async fn a_look_counts_what_waits_and_what_is_stuck() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        home.execute(
            "update queue_profile set status = 'processing', locked_at = '2025-01-08T11:00:00.000Z' where cnpj = 'a';
            update queue_profile set available_at = '2025-01-08T11:30:00.000Z' where cnpj = 'b'",
        )
        .await;
        let ctx = attempt(&home, "http://127.0.0.1:1", noon());
        let work = checked("drain", settings(), &ctx.tools.targets).expect("settings that can run");

        let look = QueueLook { job: ctx.job, now: noon(), tools: ctx.tools, database: home.app() };
        let figures = work.look(look).await.expect("a drain has a queue").expect("it can be counted");

        assert_eq!((figures.left, figures.stuck), (2, Some(1)));
        assert_eq!((figures.running, figures.later, figures.failed), (None, None, None), "its table does not say");
        assert_eq!(figures.oldest_due, Some(noon() - TimeDelta::hours(1)));
    }
}
