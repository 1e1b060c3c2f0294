//! `retomada` with an answering endpoint: whatever the endpoint does, no message is consumed without its answer queued.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::post};
use chrono::TimeDelta;
use emponto::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{AppTx, Context, Targets, http::Target},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};

use crate::{
    attempt::{Home, commit},
    http_script::{Reply, Script, reply},
    retomada::{MESSAGES, QUEUED, at, made, monday, read},
    server::{Step, raw},
};

const TWO: &str = "\
    insert into mensagens_fora_horario (cliente_id, conversa_id, mensagem, recebida_em, contexto, inbound_message_id)
    values
      ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-0000000000ca', 'first', '2025-01-11T00:00:00Z',
        '{\"vaga\": 7}', 'in-1'),
      ('00000000-0000-0000-0000-00000000000b', null, 'second', '2025-01-12T00:00:00Z', '{}', null)";

const BOTH_ANSWERED: [&str; 2] = [
    "00000000-0000-0000-0000-00000000000a resposta pendente about first",
    "00000000-0000-0000-0000-00000000000b resposta pendente about second",
];

fn targets(url: &str) -> Targets {
    Targets::from([("default".into(), Target::at(url))])
}

pub async fn ask(ctx: Context, url: &str, settings: Value) -> Result<Report, Failure> {
    let mut all = json!({ "post": "/responder" });
    all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
    commit(read("retomada", all, (&targets(url), json!({}), &[])).run(ctx).await).await
}

/// A new run on this database, this many days after Monday.
pub fn day(home: &Home, url: &str, days: i64) -> Context {
    at(home, monday() + TimeDelta::days(days), targets(url))
}

async fn filled(home: &Home) {
    made(home).await;
    home.execute(TWO).await;
}

pub fn of(asked: &crate::http_script::Asked) -> Value {
    serde_json::from_slice(&asked.body).expect("JSON")
}

/// Answers each message with its own words.
pub fn answering(asked: &crate::http_script::Asked, _: usize) -> Reply {
    reply(200, json!({ "resposta": format!("about {}", of(asked)["mensagem"].as_str().expect("text")) }))
}

#[tokio::test]
async fn each_message_is_handed_over_and_its_answer_is_queued() {
    for home in Home::both().await {
        filled(&home).await;
        let script = Script::answering(answering).await;

        let report = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect("all are answered");

        assert_eq!((report.items, report.items_failed, report.left), (Some(2), 0, Some(0)));
        assert_eq!(home.texts(QUEUED).await, BOTH_ANSWERED);
        assert_eq!(home.texts(MESSAGES).await, ["first: processed resposta", "second: processed resposta"]);
        let asked = script.asked();
        let first = home.texts("select cast(id as text) from mensagens_fora_horario where mensagem = 'first'").await;
        assert_eq!(
            of(&asked[0]),
            json!({
                "id": first[0],
                "cliente_id": "00000000-0000-0000-0000-00000000000a",
                "conversa_id": "00000000-0000-0000-0000-0000000000ca",
                "mensagem": "first",
                "recebida_em": "2025-01-11T00:00:00.000Z",
                "contexto": { "vaga": 7 },
                "inbound_message_id": "in-1",
            })
        );
        assert_ne!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
        assert_eq!(asked[0].header("idempotency-key"), asked[0].header("webhook-id"));
    }
}

#[tokio::test]
async fn an_application_that_answers_by_itself_or_has_nothing_to_say_is_believed() {
    for home in Home::both().await {
        filled(&home).await;
        let answers =
            vec![reply(200, json!({ "enviada": true, "resposta": "x" })), reply(200, json!({ "skipped": true }))];
        let script = Script::replying(answers).await;

        let report = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect("both are handled");

        assert_eq!((report.items, report.left), (Some(2), Some(0)));
        assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
        assert_eq!(
            home.texts(MESSAGES).await,
            ["first: processed enviada_pela_aplicacao", "second: processed sem_resposta"]
        );
    }
}

/// Answers that are about the message: each costs one try, and the next message is asked about all the same.
#[tokio::test]
async fn an_answer_that_answers_nothing_consumes_nothing() {
    let home = Home::sqlite().await;
    filled(&home).await;
    for (answer, words) in [
        (reply(500, "boom"), "answered 500"),
        (reply(502, "<html>"), "answered 502"),
        (reply(422, json!({ "detail": "first" })), "answered 422"),
        (reply(200, ""), "answered with no JSON object"),
        (reply(200, "<html>"), "answered with no JSON object"),
        (reply(200, "{\"resposta\": "), "answered with JSON that cannot be read"),
        (reply(200, json!({ "status": "error", "message": "first" })), "answered that it failed: status is error"),
        (reply(200, json!({ "message": "queued" })), "answered without resposta, texto, text, reply"),
        (reply(202, json!({})), "answered without resposta, texto, text, reply"),
        (reply(204, ""), "answered with no JSON object"),
        (reply(200, json!({ "resposta": "" })), "answered with an empty text at resposta, texto, text, reply"),
        (reply(200, json!({ "resposta": null })), "answered with null at resposta, texto, text, reply"),
    ] {
        home.execute("update mensagens_fora_horario set processada_resultado = null").await;
        let script = Script::replying(vec![answer]).await;

        let failure = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect_err(words);

        assert_eq!(failure.kind, FailureKind::Retry, "{words}");
        let report = failure.report.expect("counts");
        assert_eq!((report.items, report.items_failed, report.left), (Some(0), 2, Some(2)), "{words}");
        let errors = report.result.expect("a result")["errors"].clone();
        assert!(errors[0]["error"].as_str().is_some_and(|error| error.ends_with(words)), "{errors}");
        assert!(!errors.to_string().contains("first"), "an error quotes the message: {errors}");
        assert_eq!(script.asked().len(), 2, "{words}");
        assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
        for message in home.texts(MESSAGES).await {
            assert!(message.contains(": waits tentativa:1:") && message.ends_with(words), "{message}");
        }
    }
}

/// Answers that are about the endpoint: no try is counted, and nothing more is asked.
#[tokio::test]
async fn an_endpoint_that_is_away_costs_no_message_a_try() {
    let home = Home::sqlite().await;
    filled(&home).await;
    let wait = Duration::from_secs(120);
    for (answer, kind) in [
        (reply(401, ""), FailureKind::Permanent),
        (reply(404, ""), FailureKind::Permanent),
        (reply(301, "").with("location", "/elsewhere"), FailureKind::Permanent),
        (reply(429, ""), FailureKind::Retry),
        (reply(429, "").with("retry-after", "120"), FailureKind::Snooze(wait)),
        (reply(503, "").with("retry-after", "120"), FailureKind::Snooze(wait)),
    ] {
        let script = Script::replying(vec![answer.clone()]).await;

        let failure = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect_err("nobody is answered");

        assert_eq!(failure.kind, kind, "{answer:?}: {}", failure.message);
        assert_eq!(failure.report.expect("counts").left, Some(2));
        assert_eq!(script.asked().len(), 1, "{answer:?}");
        assert_eq!(home.texts(MESSAGES).await, ["first: waits -", "second: waits -"]);
    }
    let nobody = "http://127.0.0.1:1";
    let failure = ask(day(&home, nobody, 0), nobody, json!({})).await.expect_err("nobody is there");
    assert!(failure.message.contains("cannot connect"), "{}", failure.message);
    assert_eq!(home.texts(MESSAGES).await, ["first: waits -", "second: waits -"]);
    assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_endpoint_that_never_answers_or_hangs_up_is_waited_for_no_longer_than_told() {
    for home in Home::both().await {
        filled(&home).await;
        for (steps, words) in [
            (vec![Step::Wait(Duration::from_secs(60))], "no whole answer within 300ms"),
            (vec![Step::Reset], "no answer: "),
            (vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"resp".to_vec())], "broke off"),
        ] {
            home.execute("update mensagens_fora_horario set processada_resultado = null").await;
            let url = raw(steps).await;

            let failure =
                ask(day(&home, &url, 0), &url, json!({ "timeout": "300ms" })).await.expect_err("there is no answer");

            assert_eq!(failure.report.expect("counts").items_failed, 2, "{words}");
            assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
            for message in home.texts(MESSAGES).await {
                assert!(message.contains(": waits tentativa:1:") && message.contains(words), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn the_third_run_that_fails_gives_a_message_up_and_says_so() {
    for home in Home::both().await {
        filled(&home).await;
        let fails_on_first = |asked: &_, before| match of(asked)["mensagem"].as_str() {
            Some("first") => reply(500, ""),
            _ => answering(asked, before),
        };
        let script = Script::answering(fails_on_first).await;

        // However often the attempts of a run fail, the run is one try.
        for (days, attempts, left, given_up) in [(0, 2, 1, 0), (1, 1, 1, 0), (2, 1, 0, 1)] {
            let ctx = day(&home, &script.url, days);
            for attempt in 1..=attempts {
                let ended = ask(Context { attempt, ..ctx.clone() }, &script.url, json!({})).await;
                let report = ended.unwrap_or_else(|failure| *failure.report.expect("counts"));
                assert_eq!((report.items_failed, report.left), (1, Some(left)), "day {days}, attempt {attempt}");
                assert_eq!(report.result.expect("a result")["given_up"], given_up);
            }
        }

        let messages = home.texts(MESSAGES).await;
        assert!(messages[0].starts_with("first: processed erro:POST http://127.0.0.1:"), "{messages:?}");
        assert!(messages[0].ends_with("/responder answered 500"), "{messages:?}");
        assert_eq!(home.texts(QUEUED).await, [BOTH_ANSWERED[1]]);
        let asked = script.asked();
        let of_first: Vec<_> = asked.iter().filter(|asked| of(asked)["mensagem"] == "first").collect();
        assert_eq!(of_first.len(), 4, "twice in the first run, once in each of the others");
        assert!(of_first.iter().all(|asked| asked.header("idempotency-key") == of_first[0].header("idempotency-key")));
    }
}

#[tokio::test]
async fn messages_that_fail_one_after_the_other_keep_those_behind_them_waiting_for_one_attempt_only() {
    let home = Home::sqlite().await;
    made(&home).await;
    home.execute(
        "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 8)
         insert into mensagens_fora_horario (cliente_id, mensagem, recebida_em)
         select 'c' || n, case when n <= 6 then 'poison' else 'good' end, '2025-01-11T00:00:0' || n || 'Z' from numbers",
    )
    .await;
    let script = Script::answering(|asked, before| match of(asked)["mensagem"].as_str() {
        Some("poison") => reply(500, ""),
        _ => answering(asked, before),
    })
    .await;
    let ctx = day(&home, &script.url, 0);
    let (run, again) = (Arc::clone(&ctx.run), day(&home, &script.url, 0));

    let first = ask(ctx, &script.url, json!({})).await.expect_err("five in a row");
    let second = ask(Context { run, attempt: 2, ..again }, &script.url, json!({})).await;

    assert!(first.message.starts_with("5 messages failed in a row"), "{}", first.message);
    assert_eq!(first.report.expect("counts").left, Some(8));
    let report = second.unwrap_or_else(|failure| *failure.report.expect("counts"));
    assert_eq!((report.items, report.left), (Some(2), Some(6)));
    assert_eq!(home.texts(QUEUED).await, ["c7 resposta pendente about good", "c8 resposta pendente about good"]);
}

/// An endpoint that answers, and while it does takes the queue away from whoever asked: on SQLite the whole database.
async fn takes_database(home: &Home) -> (String, Arc<Mutex<Option<AppTx>>>) {
    let held = Arc::<Mutex<Option<AppTx>>>::default();
    let (app, holding) = (home.app(), Arc::clone(&held));
    let answer = move || {
        let (app, holding) = (app.clone(), Arc::clone(&holding));
        async move {
            let mut tx = (app.begin)().await.expect("the test's database answers");
            if let AppTx::Postgres(tx) = &mut tx {
                let lock = sqlx::query("lock table fila_mensagens in access exclusive mode");
                lock.execute(&mut **tx).await.expect("nobody else holds it");
            }
            *holding.lock().await = Some(tx);
            json!({ "resposta": "lost" }).to_string()
        }
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let router = Router::new().route("/responder", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, held)
}

#[tokio::test]
async fn a_crash_between_the_answer_and_the_commit_leaves_the_message_for_the_next_run() {
    for home in Home::both().await {
        filled(&home).await;
        let (url, held) = takes_database(&home).await;

        let attempt = tokio::spawn(ask(day(&home, &url, 0), Box::leak(url.clone().into_boxed_str()), json!({})));
        let answered = async {
            while held.lock().await.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), answered).await.expect("the endpoint is asked");
        attempt.abort();
        assert!(attempt.await.expect_err("it was aborted").is_cancelled());
        drop(held.lock().await.take());

        assert_eq!(home.texts(MESSAGES).await, ["first: waits -", "second: waits -"]);
        assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
        let script = Script::answering(answering).await;
        ask(day(&home, &script.url, 1), &script.url, json!({})).await.expect("all are answered");
        assert_eq!(home.texts(QUEUED).await, BOTH_ANSWERED);
    }
}

#[tokio::test]
async fn two_replicas_that_ask_about_one_message_queue_one_answer() {
    for home in Home::both().await {
        filled(&home).await;
        // Answers only once both have asked.
        let both = Arc::new(tokio::sync::Barrier::new(2));
        let answer = move || {
            let both = Arc::clone(&both);
            async move {
                let _ = tokio::time::timeout(Duration::from_secs(5), both.wait()).await;
                json!({ "resposta": "Oi!" }).to_string()
            }
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let router = Router::new().route("/responder", post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let (one, other) =
            tokio::join!(ask(day(&home, &url, 0), &url, json!({})), ask(day(&home, &url, 0), &url, json!({})),);

        let (one, other) = (one.expect("no failure"), other.expect("no failure"));
        assert_eq!(one.items.unwrap_or(0) + other.items.unwrap_or(0), 2);
        assert_eq!((one.items_failed, other.items_failed), (0, 0));
        let queued = home.texts(QUEUED).await;
        assert_eq!(queued.len(), 2, "{queued:?}");
    }
}

#[tokio::test]
async fn a_run_whose_time_is_up_goes_on_with_what_is_left() {
    let home = Home::sqlite().await;
    made(&home).await;
    home.execute(
        "with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n < 9)
         insert into mensagens_fora_horario (cliente_id, mensagem, recebida_em)
         select 'c' || n, 'm', '2025-01-11T00:00:0' || n || 'Z' from numbers",
    )
    .await;
    let script = Script::answering(|asked, before| {
        std::thread::sleep(Duration::from_millis(200));
        answering(asked, before)
    })
    .await;
    let mut ctx = day(&home, &script.url, 0);
    // Half of it is kept for the last call, and less than the ten calls take.
    ctx.deadline = ctx.now + TimeDelta::seconds(2);

    let failure = ask(ctx, &script.url, json!({})).await.expect_err("time is up");

    assert_eq!(failure.kind, FailureKind::Snooze(Duration::from_secs(1)));
    let report = failure.report.expect("counts");
    let answered = report.items.expect("a count");
    assert!(answered < 10, "{answered}");
    assert_eq!(report.left, Some(10 - answered));
    let rest = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect("the rest");
    assert_eq!((rest.items, rest.left), (Some(10 - answered), Some(0)));
    assert_eq!(home.texts(QUEUED).await.len(), 10);
}
