//! `grupos`: what its endpoint's answers make of a run, and the table that it only watches.

use std::sync::Arc;

use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report},
    handlers::{Targets, http::Target},
};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, checked, commit},
    http_script::{Reply, Script, reply},
    retomada::{at, monday, read},
};

async fn run_with(home: &Home, settings: Value, targets: Targets) -> Result<Report, Failure> {
    let work = read("grupos", settings, (&targets, json!({}), &[]));
    commit(work.run(at(home, monday(), targets)).await).await
}

async fn called(home: &Home, answer: Reply) -> Result<Report, Failure> {
    let script = Script::replying(vec![answer]).await;
    run_with(home, json!({}), Targets::from([("default".into(), Target::at(&script.url))])).await
}

async fn not_called(home: &Home) -> Failure {
    run_with(home, json!({}), Targets::new()).await.expect_err("there is nowhere to call")
}

/// Monday, 11:00 in UTC: an hour ago is stuck, less is not, also of the last try (10).
const QUEUE: &str = "\
    create table fila_processamento_grupos (
      id integer primary key, mensagem_id integer, estagio varchar(30), tentativas integer, max_tentativas integer,
      ultimo_erro text, proximo_retry timestamp, created_at timestamp, updated_at timestamp, grupo text);
    insert into fila_processamento_grupos
      (id, estagio, tentativas, max_tentativas, proximo_retry, created_at, updated_at)
    values
      (1, 'classificacao', 0, 3, null, '2025-01-13 10:30:00', '2025-01-13 10:30:00'),
      (2, 'classificacao', 2, 3, null, '2025-01-13 08:00:00', '2025-01-13 10:00:00'),
      (3, 'extracao', 1, 3, '2025-01-13 12:00:00', '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (4, 'extracao', 1, 3, '2025-01-13 08:30:00', '2025-01-13 08:00:00', null),
      (5, 'extracao', 3, 3, null, '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (6, 'importacao', 4, 3, null, '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (7, 'finalizado', 3, 3, null, '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (8, 'descartado', 0, 3, null, '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (9, 'erro', 3, 3, null, '2025-01-13 08:00:00', '2025-01-13 08:00:00'),
      (10, 'importacao', 3, null, null, '2025-01-13 10:59:00', '2025-01-13 10:59:00')";

const STAGES: &str = "select cast(id as text) || ' ' || estagio from fila_processamento_grupos order by id";

fn watched() -> Value {
    let stages = json!({ "classificacao": 2, "extracao": 2, "importacao": 1 });
    json!({ "waiting": 5, "stages": stages, "stuck": 2, "moved_to_erro": 2 })
}

#[tokio::test]
async fn the_table_is_watched_beside_the_call() {
    for home in Home::both().await {
        home.execute(QUEUE).await;
        let answer = json!({ "status": "ok", "ciclo": { "processados": 5, "erros": 1 }, "fila": { "extracao": 99 } });

        let report = called(&home, reply(200, answer.to_string())).await.expect("one of six failed");

        assert_eq!((report.items, report.items_failed, report.left), (Some(5), 1, Some(5)));
        assert_eq!(report.result, Some(json!({ "answer": answer, "queue": watched() })));
        assert_eq!(
            report.note.as_deref(),
            Some("2 items with no tries left were moved to erro; 2 items have not moved for 60 min")
        );
        assert_eq!(
            home.texts(STAGES).await,
            [
                "1 classificacao",
                "2 classificacao",
                "3 extracao",
                "4 extracao",
                "5 erro",
                "6 erro",
                "7 finalizado",
                "8 descartado",
                "9 erro",
                "10 importacao"
            ]
        );
        let again = called(&home, reply(200, "{}")).await.expect("a second cycle");
        assert_eq!(again.result.expect("a result")["queue"]["moved_to_erro"], 0);
    }
}

#[tokio::test]
async fn without_an_endpoint_the_table_is_watched_all_the_same() {
    for home in Home::both().await {
        let before = not_called(&home).await;
        home.execute(QUEUE).await;

        let failure = not_called(&home).await;

        for failure in [&before, &failure] {
            assert_eq!(failure.kind, FailureKind::Skipped(Reason::NotConfigured), "{}", failure.message);
        }
        assert_eq!(before.report.expect("a report").result, None);
        let report = failure.report.expect("what was seen");
        assert_eq!((report.left, report.result), (Some(5), Some(json!({ "queue": watched() }))));
    }
}

#[tokio::test]
async fn a_cycle_that_fails_hides_no_queue() {
    for home in Home::both().await {
        home.execute(QUEUE).await;

        let failure = called(&home, reply(500, "boom")).await.expect_err("the cycle failed");

        assert_eq!(failure.kind, FailureKind::Retry);
        assert!(failure.message.ends_with("/jobs/processar-grupos answered 500: boom"), "{}", failure.message);
        assert_eq!(failure.report.expect("what was seen").left, Some(5));
    }
}

#[tokio::test]
async fn answers_are_judged_by_what_they_say() {
    let home = Home::sqlite().await;
    for (answer, items, failed, left) in [
        (json!({ "ciclo": { "processados": 5, "erros": 0, "por_estagio": {} } }), Some(5), 0, None),
        (
            json!({ "ciclo": { "processados": 5, "erros": 2 }, "fila": { "a": 1, "b": 2, "finalizado": 9 } }),
            Some(5),
            2,
            Some(3),
        ),
        (
            json!({ "status": "ok", "ciclo": { "processados": 0 }, "fila": { "erros_max_tentativas": 4 } }),
            Some(0),
            0,
            Some(0),
        ),
        (json!({}), None, 0, None),
    ] {
        let report =
            called(&home, reply(200, answer.to_string())).await.unwrap_or_else(|it| panic!("{answer}: {it:?}"));
        assert_eq!((report.items, report.items_failed, report.left), (items, failed, left), "{answer}");
    }
    for (answer, kind, words) in [
        (
            reply(200, json!({ "status": "error", "message": "sem modelo" })),
            FailureKind::Retry,
            "status is \"error\": sem modelo",
        ),
        (
            reply(200, json!({ "ciclo": { "processados": 0, "erros": 3 } })),
            FailureKind::Retry,
            "3 failed and none was done",
        ),
        (reply(200, "{\"status\""), FailureKind::Retry, "cannot be read"),
        (reply(404, ""), FailureKind::Permanent, "answered 404"),
        (
            reply(200, json!({ "status": "skipped", "reason": "desligado" })),
            FailureKind::Skipped(Reason::Handler),
            "desligado",
        ),
    ] {
        let failure = called(&home, answer.clone()).await.expect_err(words);
        assert_eq!(failure.kind, kind, "{answer:?}");
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[tokio::test]
async fn the_application_is_told_how_many_to_take() {
    let home = Home::sqlite().await;
    let script = Script::replying(vec![reply(200, "{}")]).await;
    let targets = Targets::from([("api".into(), Target::at(&script.url))]);

    run_with(&home, json!({ "target": "api", "batch": 7 }), targets).await.expect("a good answer");

    let asked = script.asked();
    assert_eq!(script.calls(), ["POST /jobs/processar-grupos"]);
    assert_eq!(serde_json::from_slice::<Value>(&asked[0].body).expect("JSON"), json!({ "batch": 7 }));
}

#[tokio::test]
async fn a_table_that_cannot_be_watched_is_named_and_the_cycle_goes_on() {
    for home in Home::both().await {
        home.execute("create table fila_processamento_grupos (id integer primary key, estagio text)").await;
        let script = Script::replying(vec![reply(200, json!({ "processados": 2 }))]).await;
        let targets = Targets::from([("default".into(), Target::at(&script.url))]);

        let report = run_with(&home, json!({}), targets).await.expect("the cycle took effect");

        let note = report.note.as_deref().expect("what was not watched");
        assert!(
            note.starts_with(
                "the cycle was run, and its table could not be watched: table fila_processamento_grupos lacks tentativas; \
                 add with: alter table fila_processamento_grupos add column tentativas "
            ),
            "{note}"
        );
        assert_eq!((report.items, report.items_failed), (Some(2), 1));
        assert_eq!(script.calls().len(), 1);
        assert_eq!(not_called(&home).await.kind, FailureKind::Permanent);
    }
}

#[tokio::test]
async fn a_cycle_that_took_effect_is_never_repeated_because_of_its_table() {
    for home in Home::both().await {
        home.execute(
            "create table fila_processamento_grupos (
               id integer, estagio text check (estagio <> 'erro'), tentativas integer);
             insert into fila_processamento_grupos values (1, 'extracao', 3)",
        )
        .await;
        for (answer, items_failed) in [(json!({ "processados": 2 }), 1), (json!({ "processados": 0 }), 0)] {
            for is_away in [false, true] {
                let script = Script::replying(vec![reply(200, answer.to_string())]).await;
                let targets = Targets::from([("default".into(), Target::at(&script.url))]);
                let work = read("grupos", json!({}), (&targets, json!({}), &[]));
                let mut ctx = at(&home, monday(), targets);
                if is_away {
                    let away = || Box::pin(async { Err(Failure::retry("the database is away")) }) as _;
                    ctx.database.begin_reading = Arc::new(away);
                }

                let report = commit(work.run(ctx).await).await.expect("the cycle took effect");

                let note = report.note.expect("what was not watched").to_lowercase();
                let trouble = if is_away { "the database is away" } else { "check constraint" };
                assert!(note.starts_with("the cycle was run") && note.contains(trouble), "{note}");
                // 0 done and 1 failed would be a failure, and repeated.
                assert_eq!(report.items_failed, items_failed, "{answer}");
                assert_eq!(script.calls().len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_table_with_nothing_but_what_is_needed_is_watched() {
    for home in Home::both().await {
        home.execute(
            "create table fila_processamento_grupos (id integer, estagio text, tentativas integer);
             insert into fila_processamento_grupos values (1, 'a', 2), (2, 'a', 3), (3, 'b', null)",
        )
        .await;

        let report = not_called(&home).await.report.expect("what was seen");

        let queue = json!({ "waiting": 2, "stages": { "a": 1, "b": 1 }, "stuck": null, "moved_to_erro": 1 });
        assert_eq!(report.result, Some(json!({ "queue": queue })));
    }
}

#[tokio::test]
async fn an_enumeration_without_the_word_is_named() {
    let home = Home::postgres().await;
    home.execute(
        "create type estagio as enum ('pendente', 'finalizado');
         create table fila_processamento_grupos (id uuid, estagio estagio, tentativas integer);
         insert into fila_processamento_grupos values (gen_random_uuid(), 'pendente', 9)",
    )
    .await;

    let report = *not_called(&home).await.report.expect("what was seen");

    assert_eq!(report.left, Some(1));
    assert_eq!(report.note.as_deref(), Some("items with no tries left stay: alter type estagio add value 'erro'"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, words) in [
        (json!({ "batch": 0 }), "batch is 0"),
        (json!({ "target": "api" }), "unknown target \"api\""),
        (json!({ "post": "jobs" }), "begins neither with /"),
        (json!({ "lote": 7 }), "unknown field"),
    ] {
        let errors = checked("grupos", settings.clone(), &Targets::new()).expect_err("a mistake");
        assert!(errors.join("\n").contains(words), "{settings}: {errors:?}");
    }
}
