//! `http` against real servers, sound and hostile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report},
    handlers::{Context, Targets, Tools, http::Target},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    attempt::{checked, commit, context, no_database, work},
    server::{Server, Step, raw, send},
};

/// Settings of a GET of a full URL, with more settings beside it.
fn get(url: &str, more: Value) -> Value {
    let mut settings = json!({ "get": format!("{url}/jobs/x") });
    let more = more.as_object().expect("settings are an object").clone();
    settings.as_object_mut().expect("settings are an object").extend(more);
    settings
}

async fn call(settings: Value) -> Result<Report, Failure> {
    commit(work("http", settings).run(context(no_database())).await).await
}

fn ctx_with(targets: Targets) -> Context {
    Context { tools: Tools::new(targets), ..context(no_database()) }
}

fn target(base_url: &str) -> Target {
    serde_json::from_value(json!({ "base_url": base_url, "headers": { "Authorization": "Bearer t0ken" } }))
        .expect("a target")
}

#[tokio::test]
async fn each_status_is_judged_as_the_page_says() {
    for (status, headers, kind, before_effect) in [
        (400, &[][..], FailureKind::Permanent, false),
        (401, &[], FailureKind::Permanent, false),
        (404, &[], FailureKind::Permanent, false),
        (408, &[], FailureKind::Retry, false),
        (410, &[], FailureKind::Pause, false),
        (425, &[], FailureKind::Retry, false),
        (429, &[], FailureKind::Retry, true),
        (429, &[("retry-after", "120")], FailureKind::Snooze(Duration::from_secs(120)), true),
        (429, &[("retry-after", "soon")], FailureKind::Retry, true),
        (500, &[], FailureKind::Retry, false),
        (500, &[("retry-after", "120")], FailureKind::Retry, false),
        (503, &[], FailureKind::Retry, false),
        (503, &[("retry-after", "0")], FailureKind::Snooze(Duration::from_secs(1)), true),
        (503, &[("retry-after", "999999")], FailureKind::Snooze(Duration::from_secs(3_600)), true),
        (
            503,
            &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")],
            FailureKind::Snooze(Duration::from_secs(60)),
            true,
        ),
        (599, &[], FailureKind::Retry, false),
        (301, &[("location", "/elsewhere")], FailureKind::Permanent, false),
        (304, &[], FailureKind::Permanent, false),
    ] {
        let server = Server::answering(status, headers, "").await;

        let failure = call(get(&server.url, json!({}))).await.expect_err("a bad status");

        assert_eq!((failure.kind, failure.before_effect), (kind, before_effect), "{status} {headers:?}");
        assert_eq!(failure.response_code, Some(status));
        assert!(
            failure.message.starts_with(&format!("GET {}/jobs/x answered {status}", server.url)),
            "{}",
            failure.message
        );
    }
    for status in [200, 201, 202, 204] {
        let server = Server::answering(status, &[], "").await;

        let report = call(get(&server.url, json!({}))).await.expect("a good status");

        assert_eq!(report, Report { response_code: Some(status), ..Report::default() });
    }
}

#[tokio::test]
async fn a_good_status_is_not_enough() {
    let items = |items, items_failed| Ok((Some(items), items_failed));
    for (answer, settings, ending) in [
        (json!({ "status": "ok", "processados": 3 }), json!({}), items(3, 0)),
        (json!({ "processados": 3, "erros": 1 }), json!({}), items(3, 1)),
        (json!({ "stats": { "enviadas": 2 } }), json!({}), items(2, 0)),
        (json!({ "ciclo": { "n": 4 } }), json!({ "items": "ciclo.n" }), items(4, 0)),
        (json!({ "processados": 0, "erros": 2 }), json!({}), Err(FailureKind::Retry)),
        (json!({ "status": "error" }), json!({}), Err(FailureKind::Retry)),
        (json!({ "success": false }), json!({}), Err(FailureKind::Retry)),
        (json!({ "skipped": true }), json!({}), Err(FailureKind::Skipped(Reason::Handler))),
        (json!({ "status": "error" }), json!({ "judge": "status" }), Ok((None, 0))),
        (json!({ "status": "ok" }), json!({ "expect": { "json": { "status": "ok" } } }), Ok((None, 0))),
        (json!({ "status": "no" }), json!({ "expect": { "json": { "status": "ok" } } }), Err(FailureKind::Retry)),
        (json!(["ok"]), json!({ "expect": { "json": { "status": "ok" } } }), Err(FailureKind::Retry)),
        (json!({ "status": "no" }), json!({ "expect": { "status": 204 } }), Err(FailureKind::Retry)),
        (json!({ "ok": true }), json!({ "expect": { "status": "2xx" } }), Ok((None, 0))),
        (json!("error"), json!({}), Ok((None, 0))),
    ] {
        let server = Server::answering(200, &[("content-type", "application/json")], answer.to_string()).await;

        let ended = call(get(&server.url, settings.clone())).await;

        let found = ended.as_ref().map(|it| (it.items, it.items_failed)).map_err(|failure| failure.kind);
        assert_eq!(found, ending, "{answer} with {settings}");
        let report = ended.unwrap_or_else(|failure| *failure.report.expect("what was answered is kept"));
        assert_eq!(report.result, Some(answer));
    }
}

#[tokio::test]
async fn an_expected_status_is_good_whatever_its_class() {
    let server = Server::answering(404, &[], r#"{"count": 1}"#).await;

    let report =
        call(get(&server.url, json!({ "expect": { "status": ["2xx", 404] } }))).await.expect("404 is expected");

    assert_eq!((report.items, report.response_code), (Some(1), Some(404)));
}

#[tokio::test]
async fn a_failure_says_what_the_application_said() {
    for (body, said) in [
        (r#"{"error": "no such table"}"#, ": no such table"),
        ("plain words", ": plain words"),
        ("<html>page</html>", ""),
        ("", ""),
    ] {
        let server = Server::answering(500, &[], body).await;

        let failure = call(get(&server.url, json!({}))).await.expect_err("500");

        assert_eq!(failure.message, format!("GET {}/jobs/x answered 500{said}", server.url));
    }
}

#[tokio::test]
async fn a_call_carries_who_asks_and_what_the_target_wants() {
    let server = Server::answering(200, &[], "{}").await;
    let targets = Targets::from([("api".into(), target(&format!("{}/base/", server.url)))]);
    let settings =
        json!({ "target": "api", "post": "/jobs/x?a=1", "query": { "b": [2, "ç"] }, "headers": { "X-Team": "ops" } });
    let work = checked("http", settings, &targets).expect("settings that can run");
    let mut ctx = ctx_with(targets);
    let mut run = crate::attempt::run();
    run.payload = json!({ "tenant": 7 });
    let id = run.id.to_string();
    (ctx.run, ctx.attempt) = (Arc::new(run), 2);

    commit(work.run(ctx).await).await.expect("answered");

    let asked = server.asked().remove(0);
    let header = |name: &str| asked.headers.get(name).map_or("", String::as_str);
    assert_eq!((asked.method.as_str(), asked.place.as_str()), ("POST", "/base/jobs/x?a=1&b=2&b=%C3%A7"));
    assert_eq!(asked.body, r#"{"tenant":7}"#);
    assert_eq!(header("authorization"), "Bearer t0ken");
    assert_eq!(header("x-team"), "ops");
    assert_eq!((header("idempotency-key"), header("webhook-id")), (id.as_str(), id.as_str()));
    assert_eq!((header("workers-job"), header("workers-attempt")), ("nightly", "2"));
    assert_eq!(header("workers-scheduled-for"), "2025-01-08T11:59:58Z");
    assert_eq!(header("content-type"), "application/json");
    let trace = format!("00-{}-", id.replace('-', ""));
    assert!(
        header("traceparent").starts_with(&trace) && header("traceparent").len() == 55,
        "{}",
        header("traceparent")
    );
}

#[tokio::test]
async fn every_method_is_sent_and_only_some_carry_the_payload() {
    let server = Server::answering(200, &[], "").await;
    for (method, settings, body) in [
        ("GET", json!({ "get": "/x" }), ""),
        ("POST", json!({ "post": "/x" }), "[1]"),
        ("PUT", json!({ "put": "/x" }), "[1]"),
        ("PATCH", json!({ "patch": "/x" }), "[1]"),
        ("DELETE", json!({ "delete": "/x" }), ""),
        ("POST", json!({ "post": "/x", "json": { "a": 1 } }), r#"{"a":1}"#),
    ] {
        let targets = Targets::from([("default".into(), Target::at(&server.url))]);
        let work = checked("http", settings, &targets).expect("settings that can run");
        let mut ctx = ctx_with(targets);
        let mut job = crate::attempt::job();
        job.payload = json!([1]);
        ctx.job = Arc::new(job);

        commit(work.run(ctx).await).await.expect("answered");

        let asked = server.asked().pop().expect("asked");
        assert_eq!((asked.method.as_str(), asked.body.as_str()), (method, body));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = Server::answering(200, &[], "{}").await;
    let server = Server::answering(302, &[("location", &trap.url)], "").await;

    let failure = call(get(&server.url, json!({}))).await.expect_err("a redirect");

    assert!(failure.message.ends_with("answered 302: redirects are not followed"), "{}", failure.message);
    assert!(trap.asked().is_empty());
}

#[tokio::test]
async fn nobody_there_is_known_to_have_had_no_effect() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let closed = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    for (url, words) in [(closed.as_str(), "refused"), ("http://host.invalid", "lookup")] {
        let failure = call(get(url, json!({}))).await.expect_err("nobody there");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true), "{}", failure.message);
        assert!(failure.message.contains("cannot connect: ") && failure.message.contains(words), "{}", failure.message);
    }
}

#[tokio::test]
async fn tls_that_is_not_there_fails_before_the_effect() {
    let plain = Server::answering(200, &[], "{}").await;
    let silent = raw(vec![Step::Wait(Duration::from_secs(60))]).await;

    let garbage = call(get(&plain.url.replace("http:", "https:"), json!({}))).await.expect_err("no TLS");
    let begun = Instant::now();
    let waiting = call(get(&silent.replace("http:", "https:"), json!({ "connect_timeout": "200ms" })))
        .await
        .expect_err("silence");

    assert_eq!((garbage.kind, garbage.before_effect), (FailureKind::Retry, true), "{}", garbage.message);
    assert_eq!((waiting.kind, waiting.before_effect), (FailureKind::Retry, true), "{}", waiting.message);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_never_answers_or_drips_is_given_up_and_leaves_a_doubt() {
    let mut drip = vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")];
    for _ in 0..1_000 {
        drip.extend([send("x"), Step::Wait(Duration::from_millis(20))]);
    }
    for steps in [vec![Step::Wait(Duration::from_secs(60))], drip] {
        let url = raw(steps).await;
        let begun = Instant::now();

        let failure = call(get(&url, json!({ "timeout": "200ms" }))).await.expect_err("too slow");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false));
        assert_eq!(failure.message, format!("GET {url}/jobs/x: no whole answer within 200ms"));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_request_leaves_a_doubt() {
    let half = || send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":");
    for (steps, words) in [
        (vec![], "no answer: "),
        (vec![Step::Reset], "no answer: "),
        (vec![half()], "answered 200 and broke off: "),
        (vec![half(), Step::Wait(Duration::from_millis(50)), Step::Reset], "answered 200 and broke off: "),
        (vec![send("not http at all\r\n\r\n")], "no answer: "),
    ] {
        let url = raw(steps.clone()).await;

        let failure = call(get(&url, json!({}))).await.expect_err("a lost connection");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false), "{steps:?}");
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[tokio::test]
async fn an_answer_is_cleaned_before_anyone_keeps_it() {
    for (body, kept) in [
        (&br#"{"a":"x\u0000y\ud800"}"#[..], json!({ "a": "x\u{fffd}y\u{fffd}" })),
        (b"a\0b", json!({ "text": "a\u{fffd}b" })),
        (b"\xff\xfe", json!({ "text": "\u{fffd}\u{fffd}" })),
        (b"[\"\xff\"]", json!(["\u{fffd}"])),
    ] {
        let server = Server::answering(200, &[], body).await;

        let report = call(get(&server.url, json!({}))).await.expect("a good status");

        assert_eq!(report.result, Some(kept));
    }
    let server = Server::answering(500, &[], "nul \0 here").await;
    let failure = call(get(&server.url, json!({}))).await.expect_err("500");
    assert!(failure.message.ends_with(": nul \u{fffd} here"), "{:?}", failure.message);
}

#[tokio::test]
async fn a_long_answer_is_kept_in_part_and_a_huge_one_is_not_read() {
    let long = format!(r#"{{"processados": 2, "log": "{}"}}"#, "x".repeat(200_000));
    let server = Server::answering(200, &[], long).await;
    let report = call(get(&server.url, json!({}))).await.expect("judged whole, kept in part");
    assert_eq!(report.items, Some(2));
    let kept = report.result.expect("a beginning");
    assert_eq!(kept["truncated"], json!(true));
    assert!(kept.to_string().len() <= 64 * 1024);

    let header = b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
    let endless = |first: &str| {
        let mut steps = vec![send(header), send(first)];
        steps.extend(std::iter::repeat_n(send(vec![b' '; 64 * 1024]), 4_000));
        steps
    };
    let text = raw(endless("page ")).await;
    let report = call(get(&text, json!({}))).await.expect("a text is not judged");
    assert!(report.note.expect("a note").contains("cut at 1048576 bytes"));
    let object = raw(endless(r#"{"status": "ok", "#)).await;
    let failure = call(get(&object, json!({}))).await.expect_err("an object must be judged, and cannot");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure.message.ends_with("answered more than 1048576 bytes, too many to be judged"),
        "{}",
        failure.message
    );
    call(get(&object, json!({ "judge": "status" }))).await.expect("the status is all that counts");
}

#[tokio::test]
async fn a_bad_address_is_found_before_anything_runs() {
    let targets = Targets::from([("api".into(), target("https://app.example")), ("empty".into(), Target::default())]);
    for (settings, message) in [
        (json!({}), "no address: give one of get, post, put, patch, delete"),
        (json!({ "get": "/a", "post": "/b" }), "two addresses: get and post; a call has one"),
        (json!({ "get": "/a" }), "no target: set APP_URL, add [targets.default], name a target, or give a full URL"),
        (json!({ "get": "/a", "target": "apy" }), "unknown target \"apy\"; known are: api, empty"),
        (json!({ "get": "/a", "target": "empty" }), "target \"empty\": base_url is empty"),
        (json!({ "get": "a", "target": "api" }), "\"a\" begins neither with / nor with http:// or https://"),
        (json!({ "get": "ftp://x/a" }), "the URL begins with \"ftp\", and must begin with http:// or https://"),
        (json!({ "get": "http://" }), "not a URL: empty host"),
        (json!({ "get": "http://x/", "target": "api" }), "a full URL takes no target, and \"api\" is given"),
        (
            json!({ "get": "http://x/", "query": { "a": null } }),
            "query \"a\" is neither text nor a number nor true or false",
        ),
        (json!({ "get": "http://x/", "headers": { "a b": "" } }), "header \"a b\" is not a name that HTTP allows"),
        (
            json!({ "get": "http://x/", "headers": { "a": "b\nc" } }),
            "header \"a\" has a value with a line break or a control character",
        ),
        (
            json!({ "get": "http://x/", "headers": { "Idempotency-Key": "1" } }),
            "header \"Idempotency-Key\" is set by the daemon",
        ),
        (json!({ "get": "http://x/", "json": {} }), "get takes no json"),
        (
            json!({ "get": "http://x/", "items": "a..b" }),
            "items has an empty part; write a dotted path such as stats.processados",
        ),
        (json!({ "get": "http://x/", "gett": 1 }), "unknown field `gett`"),
    ] {
        let errors = checked("http", settings.clone(), &targets).expect_err("a mistake");

        assert!(errors.len() == 1 && errors[0].starts_with(message), "{settings}: {errors:?}");
    }
}

#[test]
fn a_target_tells_its_mistakes() {
    for (settings, message) in [
        (json!({}), "base_url is empty"),
        (json!({ "base_url": "app.example" }), "not a URL: relative URL without a base"),
        (
            json!({ "base_url": "http://x/?a=1" }),
            "base_url has a query or a fragment; a call adds its own with `query`",
        ),
        (json!({ "base_url": "http://x", "headers": { "Host": "y" } }), "header \"Host\" is set by the daemon"),
        (
            json!({ "base_url": "http://x", "headers": { "Webhook-Signature": "v1,a" } }),
            "header \"Webhook-Signature\" is set by the daemon",
        ),
        (
            json!({ "base_url": "http://x", "secret": "hunter2" }),
            "secret is not base64, as Standard Webhooks has it: `openssl rand -base64 32` makes one",
        ),
        (
            json!({ "base_url": "http://x", "breaker": { "failures": 0 } }),
            "breaker: failures is 0, and must be from 1 to 1000",
        ),
    ] {
        let target: Target = serde_json::from_value(settings.clone()).expect("settings of a target");

        assert_eq!(target.check(), [message], "{settings}");
    }
    assert!(target("https://app.example/base").check().is_empty());
}

#[tokio::test]
async fn secrets_of_a_call_are_in_no_message_and_no_result() {
    let closed = "http://user:canary@127.0.0.1:1/x?key=canary";
    let settings = json!({ "get": closed, "headers": { "X-Key": "canary" }, "query": { "token": "canary" } });

    let failure = call(settings).await.expect_err("nobody there");

    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    assert!(failure.message.starts_with("GET http://127.0.0.1:1/x: cannot connect"), "{}", failure.message);
}
