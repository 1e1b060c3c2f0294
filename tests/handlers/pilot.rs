//! `pilot`: the figures of a window, the switches, and an alert that is told once.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report, Run},
    handlers::{Targets, Work},
};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, checked, commit},
    http_script::{Script, reply},
    retomada::{at, monday, read},
};

async fn run_at(home: &Home, now: DateTime<Utc>) -> Result<Report, Failure> {
    run_with(home, json!({}), now).await
}

async fn run_with(home: &Home, settings: Value, now: DateTime<Utc>) -> Result<Report, Failure> {
    let variables =
        [("PILOT_MODE", "true"), ("OFERTA_AUTOMATICO_ENABLED", "off"), ("FEEDBACK_AUTOMATICO_ENABLED", "?")];
    observed(home, read("pilot", settings, (&Targets::new(), json!({}), &variables)), now).await
}

async fn observed(home: &Home, work: Work, now: DateTime<Utc>) -> Result<Report, Failure> {
    let mut ctx = at(home, now, Targets::new());
    // Planned a little before it started: the window ends where it was planned.
    ctx.run = Arc::new(Run { scheduled_for: Some(now), ..Run::clone(&ctx.run) });
    ctx.now = now + TimeDelta::seconds(2);
    commit(work.run(ctx).await).await
}

fn switches() -> Value {
    json!({
        "PILOT_MODE": true,
        "DISCOVERY_AUTOMATICO_ENABLED": null,
        "OFERTA_AUTOMATICO_ENABLED": false,
        "REATIVACAO_AUTOMATICO_ENABLED": null,
        "FEEDBACK_AUTOMATICO_ENABLED": null,
    })
}

/// Clients 1 and 2 are the pilot, 3 is not; the window is 10:45 to 11:00 in UTC.
const CLIENTS: &str = "\
    create table clientes (id integer primary key, telefone text, piloto boolean, loja text);
    insert into clientes values (1, '551', true, 'a'), (2, '552', true, 'a'), (3, '553', false, 'a'), (4, '554', null, 'a')";

const MESSAGES: &str = "\
    create table fila_mensagens (
      id integer primary key, cliente_id integer, conversa_id integer, conteudo text, tipo text, prioridade integer,
      status text, agendar_para timestamp, enviada_em timestamp, metadata text, created_at timestamp,
      max_tentativas integer, tentativas integer, erro text, processando_desde timestamp, outcome text,
      outcome_reason_code text, outcome_at timestamp, provider_message_id text);
    insert into fila_mensagens (id, cliente_id, status, enviada_em, outcome, outcome_at)
    values
      (1, 1, 'enviada', '2025-01-13 10:45:00', 'SENT', '2025-01-13 10:45:00'),
      (2, 1, 'enviada', '2025-01-13 10:59:59', 'SENT', '2025-01-13 10:59:59'),
      (3, 2, 'enviada', '2025-01-13 10:50:00', 'BYPASS', '2025-01-13 10:50:00'),
      (4, 1, 'enviada', '2025-01-13 10:44:59', 'SENT', '2025-01-13 10:44:59'),
      (5, 1, 'enviada', '2025-01-13 11:00:00', 'SENT', '2025-01-13 11:00:00'),
      (6, 3, 'enviada', '2025-01-13 10:50:00', 'SENT', '2025-01-13 10:50:00'),
      (7, 2, 'erro', null, 'FAILED_PROVIDER', '2025-01-13 10:55:00'),
      (8, 2, 'cancelada', null, 'FAILED_EXPIRED', '2025-01-13 10:55:00'),
      (9, 2, 'cancelada', null, null, '2025-01-13 10:55:00'),
      (10, 2, 'bloqueada', null, 'BLOCKED_OPTED_OUT', '2025-01-13 10:55:00'),
      (11, 3, 'erro', null, 'FAILED_PROVIDER', '2025-01-13 10:55:00'),
      (12, 1, 'erro', null, 'FAILED_PROVIDER', '2025-01-13 10:30:00')";

const EVENTS: &str = "select substr(dedupe_key, 12) from business_events order by dedupe_key";

#[tokio::test]
async fn without_a_group_there_is_nothing_to_report_but_the_switches_and_no_table_is_made() {
    for home in Home::both().await {
        let nobody = run_at(&home, monday()).await.expect_err("there are no clients");
        home.execute("create table clientes (id integer primary key, telefone text)").await;
        let no_group = run_at(&home, monday()).await.expect_err("no client is in a group");

        for failure in [nobody, no_group] {
            assert_eq!(failure.kind, FailureKind::Skipped(Reason::NotConfigured));
            assert!(failure.message.contains("alter table clientes add column piloto boolean"), "{}", failure.message);
            assert_eq!(failure.report.expect("a report").result, Some(json!({ "switches": switches() })));
        }
        let tables = match &home {
            Home::Sqlite { .. } => "select name from sqlite_master where type = 'table'",
            Home::Postgres { .. } => "select tablename::text from pg_tables where schemaname = 'public'",
        };
        assert_eq!(home.texts(tables).await, ["clientes"]);
    }
}

#[tokio::test]
async fn messages_of_the_group_are_counted_from_the_edge_of_the_window_to_before_its_end() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute(MESSAGES).await;

        let blind = run_at(&home, monday()).await.expect("figures");
        home.execute(
            "create table doctor_state (cliente_id text, last_inbound_at timestamp);
             insert into doctor_state values ('1', '2025-01-13 10:50:00'), ('2', '2025-01-13 10:49:59'), ('3', '2025-01-13 10:59:00')",
        )
        .await;
        let report = run_at(&home, monday()).await.expect("figures");

        assert_eq!(blind.result.expect("a result")["answered"], Value::Null);
        assert_eq!(
            report.result,
            Some(json!({
                "switches": switches(), "group": 2, "sent": 3, "answered": 1, "failed": 2, "failure_rate": 0.4, "alert": true,
            }))
        );
        assert_eq!((report.items, report.items_failed), (Some(3), 0));
        assert_eq!(report.note.as_deref(), Some("2 of 5 messages to the pilot group failed"));
    }
}

#[tokio::test]
async fn an_alert_begins_once_ends_once_and_is_not_ended_by_silence() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute(MESSAGES).await;
        let minutes = |minutes| monday() + TimeDelta::minutes(minutes);

        for now in [monday(), minutes(1), minutes(2)] {
            run_at(&home, now).await.expect("figures");
        }
        let began = home.texts(EVENTS).await;
        let silent = run_at(&home, minutes(60)).await.expect("figures");
        let still = home.texts(EVENTS).await;
        home.execute("update fila_mensagens set enviada_em = '2025-01-13 13:00:00' where id = 1").await;
        for now in [minutes(121), minutes(122)] {
            run_at(&home, now).await.expect("figures");
        }

        assert_eq!(began, [":nightly:2025-01-13T11:00:02.000Z:on"]);
        assert_eq!(silent.result.as_ref().expect("a result")["failure_rate"], Value::Null);
        assert_eq!((silent.items, still), (Some(0), began.clone()));
        assert_eq!(home.texts(EVENTS).await, [began[0].as_str(), ":nightly:2025-01-13T13:01:02.000Z:off"]);
    }
}

#[tokio::test]
async fn slack_is_told_of_each_change_once_and_again_only_when_it_was_away() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute(MESSAGES).await;
        let script = Script::replying(vec![reply(500, "down"), reply(200, "ok")]).await;
        let place = json!({ "slack": format!("{}/services/x", script.url) });
        let pilot = || read("pilot", json!({}), (&Targets::new(), place.clone(), &[]));
        let minutes = |minutes| monday() + TimeDelta::minutes(minutes);

        let away = observed(&home, pilot(), monday()).await.expect_err("Slack is down");
        let taken_back = home.texts(EVENTS).await;
        for minute in 1..=3 {
            observed(&home, pilot(), minutes(minute)).await.expect("figures");
        }
        home.execute("update fila_mensagens set enviada_em = '2025-01-13 13:00:00' where id = 1").await;
        for minute in 121..=123 {
            observed(&home, pilot(), minutes(minute)).await.expect("figures");
        }

        assert_eq!(away.kind, FailureKind::Retry);
        let figures = away.report.expect("what was counted").result.expect("figures");
        assert_eq!((&figures["failed"], &figures["alert"]), (&json!(2), &json!(true)));
        assert_eq!(taken_back, Vec::<String>::new());
        let told = script.asked();
        let told: Vec<Value> = told.iter().map(|asked| serde_json::from_slice(&asked.body).expect("JSON")).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0]["text"], told[1]["text"]);
        assert_eq!(
            [&told[1]["text"], &told[2]["text"]],
            [
                "Piloto: falhas demais. 2 de 5 mensagens falharam em 15min (40,0 %; limite 10,0 %).",
                "Piloto: voltou ao normal. 0 de 1 mensagens falharam em 15min (0,0 %; limite 10,0 %)."
            ]
        );
    }
}

#[tokio::test]
async fn an_enumeration_of_events_without_the_alert_is_named() {
    let home = Home::postgres().await;
    home.execute(CLIENTS).await;
    home.execute(MESSAGES).await;
    home.execute(
        "create type event_kind as enum ('shift_confirmation_due');
         create table business_events (dedupe_key text unique, event_type event_kind, created_at timestamptz)",
    )
    .await;

    let failure = run_at(&home, monday()).await.expect_err("a word is missing");
    home.execute("alter type event_kind add value 'pilot_alert'").await;
    run_at(&home, monday()).await.expect("figures");

    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(
        failure.message,
        "column business_events.event_type does not know \"pilot_alert\"; \
         add with: alter type event_kind add value 'pilot_alert'"
    );
    assert_eq!(home.texts(EVENTS).await, [":nightly:2025-01-13T11:00:02.000Z:on"]);
}

#[tokio::test]
async fn the_alert_of_a_job_is_told_from_that_of_another_whose_name_begins_alike() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute(MESSAGES).await;
        run_at(&home, monday()).await.expect("figures");
        home.execute(
            "insert into business_events (event_type, dedupe_key) values
               ('x', 'pilot_alert:nightly2:2025-01-13T12:00:02.000Z:off'),
               ('x', 'pilot_alert:night:2025-01-13T12:00:02.000Z:off'),
               ('x', 'pilot_alert:nightly:zz:off')",
        )
        .await;

        run_at(&home, monday() + TimeDelta::minutes(1)).await.expect("figures");

        assert_eq!(home.texts(EVENTS).await.len(), 4, "the alert is still on, and written once");
    }
}

#[tokio::test]
async fn a_count_waits_for_nobody_who_writes() {
    let home = Home::sqlite().await;
    home.execute(CLIENTS).await;
    home.execute(MESSAGES).await;
    run_at(&home, monday()).await.expect("the alert is written down");
    let database = home.app();
    let writer = (database.begin)().await.expect("the only writer");

    let counted = tokio::time::timeout(std::time::Duration::from_secs(60), run_at(&home, monday())).await;

    counted.expect("it does not wait").expect("figures");
    drop(writer);
}

#[tokio::test]
async fn a_share_that_is_only_reached_is_no_alert() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute(MESSAGES).await;

        let report = run_with(&home, json!({ "alert_above": 0.4 }), monday()).await.expect("figures");

        assert_eq!(report.result.expect("a result")["alert"], false);
        assert_eq!(home.texts(EVENTS).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn figures_begin_with_tables_that_the_daemon_makes_itself() {
    for home in Home::both().await {
        match &home {
            Home::Sqlite { .. } => home.execute("create table clientes (id integer primary key, telefone text, g integer); insert into clientes values (1, '1', 1)").await,
            Home::Postgres { .. } => home.execute("create table clientes (id uuid primary key, telefone text, g integer); insert into clientes values (gen_random_uuid(), '1', 1)").await,
        }

        let report = run_with(&home, json!({ "group": "g", "window": "1h" }), monday()).await.expect("figures");

        let result = report.result.expect("a result");
        assert_eq!((&result["group"], &result["sent"], &result["alert"]), (&json!(1), &json!(0), &json!(false)));
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    for home in Home::both().await {
        home.execute(CLIENTS).await;
        home.execute("create table fila_mensagens (id integer primary key, cliente_id integer)").await;

        let failure = run_at(&home, monday()).await.expect_err("columns are missing");

        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.starts_with("table fila_mensagens lacks conversa_id, "), "{}", failure.message);
    }
}

#[test]
fn a_switch_that_says_nothing_is_told_and_settings_that_make_no_sense_are_refused() {
    let work = read("pilot", json!({}), (&Targets::new(), json!({}), &[("PILOT_MODE", "maybe")]));
    assert_eq!(work.warnings(), ["PILOT_MODE is neither true nor false, and is reported as unknown"]);

    for (settings, words) in [
        (json!({ "group": "a b" }), "group is \"a b\""),
        (json!({ "alert_above": 1.5 }), "alert_above is 1.5"),
        (json!({ "window": "60d" }), "window is 60d"),
        (json!({ "grupo": "x" }), "unknown field"),
    ] {
        let errors = checked("pilot", settings.clone(), &Targets::new()).expect_err("a mistake");
        assert!(errors.join("\n").contains(words), "{settings}: {errors:?}");
    }
}
