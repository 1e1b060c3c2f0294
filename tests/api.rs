//! `/api/v1` as producers and people use it, on the real binary.

mod support;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    daemon::{Answer, Daemon, Setup},
    postgres::{Cluster, Database},
    raw::{ask, connect, header, read_all},
};

/// Queues that are done at once, slow, or not kept; a schedule that is far away, and jobs that are switched off.
const JOBS: &str = r#"
version = 1
[defaults]
timezone = "UTC"
[jobs.mensagens]
payload = { origem = "tabela" }
run.noop = {}
[jobs.lenta]
run.noop = { sleep = "2s" }
[jobs.presa]
run.noop = { sleep = "60s" }
[jobs.efemera]
keep = { done = "0s" }
run.noop = { sleep = "300ms" }
[jobs.retomada]
at = "08:00"
run.noop = {}
[jobs.so_producao]
only_in = ["production"]
run.noop = {}
"#;

fn call(daemon: &Daemon, method: &str, path: &str, body: &str) -> Answer {
    let host = format!("Host: localhost:{}", daemon.port);
    let mut headers = vec![host.as_str()];
    headers.extend((!body.is_empty()).then_some("Content-Type: application/json"));
    ask(daemon.port, &format!("{method} {path}"), &headers, body)
}

fn enqueue(daemon: &Daemon, job: &str, body: &Value) -> Answer {
    call(daemon, "POST", &format!("/api/v1/jobs/{job}/runs"), &body.to_string())
}

/// The id of an accepted run.
#[track_caller]
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{} {}", answer.head, answer.body);
    answer.json()["id"].as_str().expect("a run has an id").to_owned()
}

fn show(daemon: &Daemon, id: &str) -> Value {
    let answer = call(daemon, "GET", &format!("/api/v1/runs/{id}?wait=20s"), "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The whole life of a run, on this database.
fn a_run_lives(daemon: &Daemon) {
    let answer =
        enqueue(daemon, "mensagens", &json!({"payload": {"id": 42, "nome": "<b>é</b>"}, "key": "k", "priority": -3}));
    let id = accepted(&answer);
    assert_eq!(header(&answer, "location"), Some(format!("/api/v1/runs/{id}").as_str()));
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));

    let run = show(daemon, &id);
    assert_eq!(
        (&run["state"], &run["outcome"], &run["trigger"]),
        (&json!("finished"), &json!("success"), &json!("enqueue"))
    );
    assert_eq!(run["payload"], json!({"id": 42, "nome": "<b>é</b>"}));
    assert_eq!((&run["key"], &run["priority"], &run["attempt"]), (&json!("k"), &json!(-3), &json!(1)));

    let again = call(daemon, "POST", &format!("/api/v1/runs/{id}/retry"), "");
    let again = show(daemon, &accepted(&again));
    let twice = call(daemon, "POST", &format!("/api/v1/runs/{id}/retry"), "");
    assert_eq!(twice.status, 409, "a retry is made once: {}", twice.body);
    assert!(twice.body.contains(again["id"].as_str().unwrap()), "it names the retry: {}", twice.body);
    assert_eq!(daemon.setup.run(&["runs", "retry", &id]).status.code(), Some(8), "the same rule beside it");
    assert_eq!(
        (&again["retry_of"], &again["trigger"], &again["outcome"]),
        (&json!(id), &json!("retry"), &json!("success"))
    );
    assert_eq!((&again["payload"], &again["priority"]), (&run["payload"], &run["priority"]));
    assert_eq!(show(daemon, &id), run, "the old row is a fact and stays");

    let plain = show(daemon, &accepted(&call(daemon, "POST", "/api/v1/jobs/mensagens/runs", "")));
    assert_eq!(plain["payload"], json!({"origem": "tabela"}), "the payload of the table");
    let null = show(daemon, &accepted(&enqueue(daemon, "mensagens", &json!({"payload": null}))));
    assert_eq!(null["payload"], Value::Null);
    let manual = show(daemon, &accepted(&enqueue(daemon, "retomada", &json!({}))));
    assert_eq!((&manual["trigger"], &manual["scheduled_for"]), (&json!("manual"), &Value::Null));
}

#[test]
fn a_run_is_asked_for_shown_waited_for_and_retried_on_sqlite() {
    a_run_lives(&Setup::new(JOBS).start());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_asked_for_shown_waited_for_and_retried_on_postgresql() {
    let database = Database::new().await;
    let daemon = Setup::new(JOBS).database(&database.url).start();

    tokio::task::spawn_blocking(move || a_run_lives(&daemon)).await.expect("the life is as it should be");
}

#[test]
fn a_run_put_off_waits_for_its_instant() {
    let daemon = Setup::new(JOBS).start();
    let soon = (chrono::Utc::now() + chrono::TimeDelta::hours(2)).to_rfc3339();

    for (body, hours) in [(json!({"in": "90min"}), 1.5), (json!({"in": 3600}), 1.0), (json!({"due_at": soon}), 2.0)] {
        let answer = enqueue(&daemon, "mensagens", &body);
        accepted(&answer);
        let run = answer.json();
        let due = chrono::DateTime::parse_from_rfc3339(run["due_at"].as_str().expect("it is due some time")).unwrap();
        let off = (due.to_utc() - chrono::Utc::now()).as_seconds_f64() / 3_600.0;
        assert!((hours - 0.1..hours + 0.01).contains(&off), "{body}: {off} h");
        assert_eq!(run["state"], "waiting");
        let advice: f64 = header(&answer, "retry-after").and_then(|value| value.parse().ok()).expect("seconds");
        assert!((3_000.0..=3_600.0).contains(&advice), "{advice}");
    }
    let past = enqueue(&daemon, "mensagens", &json!({"due_at": "2001-01-01T00:00:00-03:00"}));
    let run = show(&daemon, &accepted(&past));
    assert!(run["lag_ms"].as_i64().expect("it has started") < 60_000, "an instant that has passed means now: {run}");
}

#[test]
fn a_waiting_run_is_cancelled_at_once_and_a_running_one_is_asked_to_end() {
    let daemon = Setup::new(JOBS).start();
    let cancel = |id: &str| call(&daemon, "POST", &format!("/api/v1/runs/{id}/cancel"), "");
    let waiting = accepted(&enqueue(&daemon, "mensagens", &json!({"in": "1h"})));
    let running = accepted(&enqueue(&daemon, "presa", &json!({})));
    let is_running = |id: &str| call(&daemon, "GET", &format!("/api/v1/runs/{id}"), "").json()["state"] == "running";
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_running(&running) {
        assert!(Instant::now() < deadline, "it never ran");
        thread::sleep(Duration::from_millis(20));
    }

    let unfinished = call(&daemon, "POST", &format!("/api/v1/runs/{running}/retry"), "");
    assert_eq!((unfinished.status, unfinished.json()["detail"].as_str().unwrap().contains("running")), (409, true));
    let now = cancel(&waiting);
    let soon = cancel(&running);
    let again = cancel(&waiting);

    assert_eq!(
        (now.status, &now.json()["outcome"], &now.json()["reason"]),
        (200, &json!("cancelled"), &json!("operator"))
    );
    assert_eq!((soon.status, soon.json()["cancel_requested_at"].is_string()), (202, true));
    assert_eq!((again.status, again.json()["title"].clone()), (409, json!("Conflict")));
    assert_eq!(show(&daemon, &running)["outcome"], "cancelled");
}

#[test]
fn one_unfinished_run_per_dedupe_key() {
    let daemon = Setup::new(JOBS).start();
    let body = json!({"dedupe_key": "empresa-7", "in": "1h"});

    let first = enqueue(&daemon, "mensagens", &body);
    let second = enqueue(&daemon, "mensagens", &json!({"dedupe_key": "empresa-7"}));
    let id = accepted(&first);
    assert_eq!((second.status, &second.json()["id"]), (200, &json!(id)), "the same run");
    assert_eq!(header(&second, "location"), Some(format!("/api/v1/runs/{id}").as_str()));

    // A finished run frees the key; who has it done again has decided, and asks for no key.
    assert_eq!(call(&daemon, "POST", &format!("/api/v1/runs/{id}/cancel"), "").status, 200);
    accepted(&enqueue(&daemon, "mensagens", &body));
    let retry = call(&daemon, "POST", &format!("/api/v1/runs/{id}/retry"), "");
    accepted(&retry);
    assert_eq!(retry.json()["dedupe_key"], Value::Null);
}

#[test]
fn a_wait_ends_soon_after_the_run_and_not_before_its_own_end() {
    let daemon = Setup::new(JOBS).start();
    let id = accepted(&enqueue(&daemon, "lenta", &json!({})));

    let asked = Instant::now();
    let early = call(&daemon, "GET", &format!("/api/v1/runs/{id}?wait=300ms"), "");
    let early_took = asked.elapsed();
    let run = show(&daemon, &id);

    assert!(Duration::from_millis(300) <= early_took && early_took < Duration::from_millis(1_900), "{early_took:?}");
    assert_ne!(early.json()["state"], "finished");
    assert_eq!(run["state"], "finished");
    let finished = chrono::DateTime::parse_from_rfc3339(run["finished_at"].as_str().unwrap()).unwrap().to_utc();
    let late = chrono::Utc::now() - finished;
    println!("the waiting client knew {} ms after the end", late.num_milliseconds());
    assert!(late < chrono::TimeDelta::seconds(2), "{late}");
    let kept = accepted(&enqueue(&daemon, "efemera", &json!({})));
    assert_eq!(call(&daemon, "GET", &format!("/api/v1/runs/{kept}?wait=20s"), "").status, 410, "no row is kept");
}

#[test]
fn waits_are_bounded_and_cost_the_database_one_look_for_all() {
    const MOST: usize = 64;
    let daemon = Setup::new(JOBS).start();
    let id = accepted(&enqueue(&daemon, "mensagens", &json!({"in": "1h"})));
    let request = format!(
        "GET /api/v1/runs/{id}?wait=30s HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n",
        daemon.port
    );
    let mut waiting: Vec<_> = (0..MOST).map(|_| connect(daemon.port)).collect();
    for stream in &mut waiting {
        std::io::Write::write_all(stream, request.as_bytes()).expect("it is sent");
    }
    thread::sleep(Duration::from_millis(500));

    let one_more = call(&daemon, "GET", &format!("/api/v1/runs/{id}?wait=30s"), "");
    let at_once = call(&daemon, "GET", &format!("/api/v1/runs/{id}"), "");
    drop(waiting.pop());
    thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    call(&daemon, "POST", &format!("/api/v1/runs/{id}/cancel"), "");
    let told: Vec<_> = waiting.iter_mut().map(read_all).collect();

    assert_eq!((one_more.status, header(&one_more, "retry-after")), (503, Some("5")));
    assert_eq!(at_once.status, 200, "who does not wait is answered");
    assert!(told.iter().all(|answer| answer.contains(r#""outcome":"cancelled""#)), "all are told");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn a_shutdown_answers_whoever_waits() {
    let mut daemon = Setup::new(JOBS).start();
    let id = accepted(&enqueue(&daemon, "mensagens", &json!({"in": "1h"})));
    let (port, path) = (daemon.port, format!("GET /api/v1/runs/{id}?wait=30s"));
    let client = thread::spawn(move || ask(port, &path, &[&format!("Host: localhost:{port}")], ""));
    thread::sleep(Duration::from_millis(300));

    daemon.terminate();

    let answer = client.join().expect("the client was answered");
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("waiting")));
}

#[test]
fn what_cannot_be_used_is_refused_with_the_field_named() {
    let daemon = Setup::new(JOBS).start();
    for (body, field) in [
        (json!({"prioridade": 1}), "prioridade"),
        (json!({"payload": 1, "run": {"command": {"argv": ["sh"]}}}), "run"),
        (json!({"url": "http://169.254.169.254/"}), "url"),
        (json!({"priority": 11}), "priority"),
        (json!({"priority": 1.5}), "priority"),
        (json!({"priority": "high"}), "priority"),
        (json!({"priority": 1e300}), "priority"),
        (json!({"in": "soon"}), "in"),
        (json!({"in": -1}), "in"),
        (json!({"in": 1e18}), "in"),
        (json!({"in": "1000d"}), "in"),
        (json!({"in": 18_446_744_073_709_551_615_u64}), "in"),
        (json!({"in": "1h", "due_at": "2030-01-01T00:00:00Z"}), "in"),
        (json!({"due_at": "2030-01-01 00:00"}), "due_at"),
        (json!({"due_at": "9999-12-31T23:59:59Z"}), "due_at"),
        (json!({"due_at": 1_700_000_000}), "due_at"),
        (json!({"key": ""}), "key"),
        (json!({"key": 7}), "key"),
        (json!({"dedupe_key": "x".repeat(257)}), "dedupe_key"),
    ] {
        let answer = enqueue(&daemon, "mensagens", &body);

        assert_eq!((answer.status, &answer.json()["field"]), (422, &json!(field)), "{body}: {}", answer.body);
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], 422);
    }
    let problem = |method: &str, path: &str, body: &str| call(&daemon, method, path, body).status;
    let run = "/api/v1/runs/01976f3e-0000-7000-8000-000000000000";
    for (status, method, path, body) in [
        (400, "POST", "/api/v1/jobs/mensagens/runs", "not json"),
        (400, "POST", "/api/v1/jobs/mensagens/runs", "[]"),
        (400, "POST", "/api/v1/jobs/mensagens/runs", "null"),
        (404, "POST", "/api/v1/jobs/ninguem/runs", "{}"),
        (404, "POST", "/api/v1/jobs/..%2f..%2fmetrics/runs", "{}"),
        (404, "POST", "/api/v1/jobs/%ff/runs", "{}"),
        (404, "POST", "/api/v1/jobs/%00/runs", "{}"),
        (409, "POST", "/api/v1/jobs/so_producao/runs", "{}"),
        (404, "GET", run, ""),
        (404, "GET", &format!("{run}?wait=1s"), ""),
        (404, "GET", "/api/v1/runs/42", ""),
        (404, "POST", &format!("{run}/cancel"), ""),
        (404, "POST", &format!("{run}/retry"), ""),
        (422, "POST", &format!("{run}/cancel"), r#"{"force":true}"#),
        (400, "GET", &format!("{run}?wait=31s"), ""),
        (400, "GET", &format!("{run}?wait=99999999999999999999"), ""),
        (400, "GET", &format!("{run}?wait=-1s"), ""),
        (400, "GET", &format!("{run}?wait=1s&wait=2s"), ""),
        (400, "GET", &format!("{run}?espera=1s"), ""),
        (405, "GET", "/api/v1/jobs/mensagens/runs", ""),
        (405, "DELETE", run, ""),
        (405, "GET", &format!("{run}/cancel"), ""),
    ] {
        assert_eq!(problem(method, path, body), status, "{method} {path} {body}");
    }
}

#[test]
fn an_idempotency_key_is_refused_and_never_ignored() {
    let daemon = Setup::new(JOBS).start();
    let host = format!("Host: localhost:{}", daemon.port);

    let answer = ask(daemon.port, "POST /api/v1/jobs/mensagens/runs", &[&host, "Idempotency-Key: 7"], "");

    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("Idempotency-Key") && answer.body.contains("dedupe_key"), "{}", answer.body);
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let daemon = Setup::new(JOBS).start();
    let head = format!(
        "POST /api/v1/jobs/mensagens/runs HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n",
        daemon.port
    );

    let declared = support::raw::send(
        daemon.port,
        format!("{head}Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n").as_bytes(),
    );
    let text = "x".repeat(1_048_576 - 14);
    let largest = enqueue(&daemon, "mensagens", &json!({"payload": text}));
    let chunk = format!("{:x}\r\n{}\r\n", 600_000, "x".repeat(600_000));
    let chunked = support::raw::send(
        daemon.port,
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n").as_bytes(),
    );

    assert!(declared.starts_with("HTTP/1.1 413 "), "no 100 Continue first: {declared}");
    assert_eq!(largest.status, 202, "{}", largest.head);
    // The reset may come before the answer was read; what counts is that it was not accepted.
    assert!(chunked.is_empty() || chunked.contains("HTTP/1.1 413 "), "{chunked}");
    assert_eq!(daemon.get("/livez").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_nothing_is_done_by_half() {
    let cluster = Arc::new(Cluster::start());
    let database = cluster.database().await;
    let setup = Setup::new(JOBS).database(&database.url);
    let daemon = tokio::task::spawn_blocking(move || setup.start()).await.expect("it starts");
    let id = accepted(&enqueue(&daemon, "mensagens", &json!({"in": "1h"})));

    cluster.stop();
    let refused: Vec<Answer> = (0..20).map(|_| enqueue(&daemon, "mensagens", &json!({}))).collect();
    let read = call(&daemon, "GET", &format!("/api/v1/runs/{id}"), "");
    cluster.start_again();
    let deadline = Instant::now() + Duration::from_secs(60);
    while call(&daemon, "GET", &format!("/api/v1/runs/{id}"), "").status != 200 {
        assert!(Instant::now() < deadline, "{}", daemon.output());
        thread::sleep(Duration::from_millis(100));
    }
    let back = enqueue(&daemon, "mensagens", &json!({}));

    for answer in refused.iter().chain([&read]) {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(header(answer, "retry-after"), Some("5"));
        assert!(answer.body.contains("the database"), "{}", answer.body);
    }
    accepted(&back);
    let listed = daemon.setup.run(&["runs", "list", "--job", "mensagens", "-o", "json"]);
    let rows: Value = serde_json::from_slice(&listed.stdout).expect("a list of runs");
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "the refused left nothing behind: {rows}");
}
