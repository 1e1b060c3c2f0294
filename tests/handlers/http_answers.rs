//! `http` and the answers that the `/jobs/*` endpoints of real applications give: judged right, items found.

use std::{collections::BTreeMap, path::Path};

use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report},
    handlers::{Outbound, Scope, Targets, Work},
};
use serde_json::{Value, json};

use crate::{
    attempt::{commit, context, no_database, work},
    http_script::{Script, reply},
};

/// How an answer ends an attempt: items done and failed, the reason of a skip, or the end of the message of an error.
#[derive(Debug, PartialEq)]
enum End {
    Done(Option<u64>, u64),
    Skipped(&'static str),
    Error(&'static str, Option<u64>, u64),
}
use End::{Done, Error, Skipped};

async fn ended(body: &str, kind: &'static str, more: &Value) -> Result<Report, Failure> {
    let server = Script::replying(vec![reply(200, body).with("content-type", kind)]).await;
    let mut settings = json!({ "post": format!("{}/jobs/x", server.url) });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    commit(work("http", settings).run(context(no_database())).await).await
}

fn matches(ended: &Result<Report, Failure>, expected: &End) -> bool {
    match (ended, expected) {
        (Ok(report), Done(items, failed)) => (report.items, report.items_failed) == (*items, *failed),
        (Err(failure), Skipped(reason)) => {
            failure.kind == FailureKind::Skipped(Reason::Handler) && failure.message.ends_with(reason)
        }
        (Err(failure), Error(message, items, failed)) => {
            let report = failure.report.as_ref().expect("what was done is kept");
            let counts = (report.items, report.items_failed) == (*items, *failed);
            failure.kind == FailureKind::Retry && failure.message.ends_with(message) && counts
        }
        _ => false,
    }
}

#[tokio::test]
async fn the_answers_of_real_endpoints_are_judged_right() {
    let cases = [
        // A cycle with its figures inside.
        (json!({ "status": "ok", "stats": { "processados": 12, "erros": 0 } }), Done(Some(12), 0)),
        (json!({ "status": "ok", "stats": { "total": 8, "enviadas": 5, "erros": 3 } }), Done(Some(8), 3)),
        (json!({ "status": "ok", "ciclo": { "grupos": 3, "processados": 40 }, "duracao_s": 1.2 }), Done(Some(40), 0)),
        (json!({ "status": "completed", "result": { "processed": 0 } }), Done(Some(0), 0)),
        (json!({ "status": "ok", "message": "Nenhum grupo", "processados": 0 }), Done(Some(0), 0)),
        (json!({ "status": "ok", "removidos": 17, "dias": 30 }), Done(Some(17), 0)),
        (json!({ "success": true, "processadas": [1, 2, 3] }), Done(Some(3), 0)),
        (json!({ "status": "ok" }), Done(None, 0)),
        (json!({ "message": "done" }), Done(None, 0)),
        (json!({}), Done(None, 0)),
        // 200, and it went wrong.
        (
            json!({ "success": false, "error": "connection refused" }),
            Error(": success is false: connection refused", None, 0),
        ),
        (json!({ "success": false }), Error(": success is false", None, 0)),
        (json!({ "ok": false, "erro": "sem token" }), Error(": ok is false: sem token", None, 0)),
        (json!({ "status": "error", "message": "timeout" }), Error(": status is \"error\": timeout", None, 0)),
        (json!({ "status": "failed", "processados": 2 }), Error(": status is \"failed\"", Some(2), 0)),
        (json!({ "status": "critical", "stats": { "erros": 4 } }), Error(": status is \"critical\"", None, 4)),
        (json!({ "status": "Error" }), Error(": status is \"Error\"", None, 0)),
        // Errors that are only counted.
        (json!({ "status": "ok", "processados": 10, "erros": 2 }), Done(Some(10), 2)),
        (json!({ "status": "ok", "processados": 0, "erros": 2 }), Error(": 2 failed and none was done", Some(0), 2)),
        (json!({ "status": "ok", "erros": 5 }), Error(": 5 failed and none was done", None, 5)),
        (json!({ "status": "ok", "stats": { "processados": 3, "errors": ["a", "b"] } }), Done(Some(3), 2)),
        (
            json!({ "status": "ok", "ciclo": { "processados": 0, "erro": 1 } }),
            Error(": 1 failed and none was done", Some(0), 1),
        ),
        (json!({ "status": "ok", "errors": [] }), Done(None, 0)),
        (json!({ "status": "ok", "erro": null, "error": null }), Done(None, 0)),
        // Nothing to do, in its own words.
        (json!({ "skipped": true, "reason": "fora do horário" }), Skipped(": fora do horário")),
        (json!({ "status": "skipped", "message": "pilot mode" }), Skipped(": pilot mode")),
        (json!({ "status": "skipped" }), Skipped(": the application skipped")),
        (json!({ "skipped": false, "count": 2 }), Done(Some(2), 0)),
        (json!({ "skipped": 4, "count": 2 }), Done(Some(2), 0)),
        // What is no object says nothing about itself.
        (json!([{ "status": "error" }]), Done(None, 0)),
        (json!("error"), Done(None, 0)),
        (json!(null), Done(None, 0)),
        (json!(3), Done(None, 0)),
    ];
    for (answer, expected) in cases {
        let ended = ended(&answer.to_string(), "application/json", &json!({})).await;

        assert!(matches(&ended, &expected), "{answer}: {ended:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn what_is_judged_does_not_depend_on_how_the_answer_is_labelled() {
    for kind in ["application/json; charset=utf-8", "application/problem+json", "text/plain", "text/html", "x"] {
        let bad = ended(r#"  {"status": "error"}"#, kind, &json!({})).await;
        assert!(matches(&bad, &Error(": status is \"error\"", None, 0)), "{kind}: {bad:?}");
    }
    for text in ["", "OK", "done: 3", "error", "<html>error</html>"] {
        let good = ended(text, "text/html", &json!({})).await;
        assert!(matches(&good, &Done(None, 0)), "{text}: {good:?}");
    }
}

#[tokio::test]
async fn a_job_can_say_what_its_endpoint_means() {
    for (answer, more, expected) in [
        (json!({ "data": { "rows": 6 }, "count": 1 }), json!({ "items": "data.rows" }), Done(Some(6), 0)),
        (json!({ "data": { "rows": 6, "erros": 1 } }), json!({ "items": "data.rows" }), Done(Some(6), 1)),
        (
            json!({ "data": { "rows": 0, "erros": 1 } }),
            json!({ "items": "data.rows" }),
            Error(": 1 failed and none was done", Some(0), 1),
        ),
        (json!({ "count": 1 }), json!({ "items": "data.rows" }), Done(None, 0)),
        (json!({ "status": "error", "count": 3 }), json!({ "judge": "status" }), Done(None, 0)),
        (json!({ "status": "ok", "n": 1 }), json!({ "expect": { "json": { "status": "ok" } } }), Done(None, 0)),
        (
            json!({ "status": "degraded" }),
            json!({ "expect": { "json": { "status": "ok" } } }),
            Error(": not the expected answer: status is not \"ok\"", None, 0),
        ),
        (
            json!({ "status": "degraded" }),
            json!({ "judge": "status", "expect": { "json": { "status": "ok" } } }),
            Error(": not the expected answer: status is not \"ok\"", None, 0),
        ),
        (json!({ "count": 2 }), json!({ "expect": { "status": [204, 200] } }), Done(Some(2), 0)),
        (
            json!({ "count": 2 }),
            json!({ "expect": { "status": 204 } }),
            Error("/jobs/x answered 200, not 204", None, 0),
        ),
    ] {
        let ended = ended(&answer.to_string(), "application/json", &more).await;

        assert!(matches(&ended, &expected), "{answer} {more}: {ended:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn a_path_that_came_from_a_variable_is_shown_to_nobody() {
    let server = Script::answering(|asked, _| {
        let said = format!("no {} for {}", asked.place, asked.header("authorization"));
        reply(500, json!({ "error": said }).to_string())
    })
    .await;
    let host = server.url.strip_prefix("http://").expect("a URL of the web");
    let hook = format!("http://ana:pa55-w0rd@{host}/services/T0/B0/c4nary");
    let variables = BTreeMap::from([("HOOK".to_owned(), hook.clone()), ("APP_URL".to_owned(), server.url.clone())]);
    let (targets, folder) = (Targets::new(), Path::new("."));
    for (place, shown) in [(hook, "/..."), (format!("{}/plain", server.url), "/plain")] {
        let mut work = Work::parse("http", json!({ "post": place })).expect("settings");
        assert!(
            work.check(&Scope { targets: &targets, outbound: &Outbound::default(), folder, variables: &variables })
                .is_empty()
        );

        let failure = commit(work.run(context(no_database())).await).await.expect_err("500");

        assert!(failure.message.starts_with(&format!("POST {}{shown} ", server.url)), "{}", failure.message);
        // `ana:pa55-w0rd`, as the header has it.
        for secret in ["c4nary", "pa55-w0rd", "YW5hOnBhNTUtdzByZA=="] {
            assert!(!format!("{failure:?}").contains(secret), "{failure:?}");
        }
    }
}
