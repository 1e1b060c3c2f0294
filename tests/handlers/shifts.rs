//! `shifts` on real tables of both databases.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Report},
        schedule::Zone,
    },
    handlers::{Targets, Tools},
};
use serde_json::{Value, json};

use crate::attempt::{Home, checked, commit, context, instant, job, work};

const SHIFTS: &str = "select titulo || ' ' || cast(status as text) from vagas order by titulo";
const EVENTS: &str = "\
    select event_type || ' ' || v.titulo from business_events e
    join vagas v on e.dedupe_key = 'shift_confirmation_due:' || cast(v.id as text) order by v.titulo";

async fn run_in(home: &Home, zone: &str, now: DateTime<Utc>) -> Result<Report, Failure> {
    run_with(home, json!({}), zone, now).await
}

async fn run_with(home: &Home, settings: Value, zone: &str, now: DateTime<Utc>) -> Result<Report, Failure> {
    let mut ctx = context(home.app());
    let mut job = job();
    job.zone = Zone::parse(zone).expect("a zone");
    (ctx.now, ctx.job) = (now, Arc::new(job));
    commit(work("shifts", settings).run(ctx).await).await
}

async fn run_at(home: &Home, now: &str) -> Result<Report, Failure> {
    run_in(home, "America/Sao_Paulo", instant(now)).await
}

async fn made(home: &Home) {
    run_at(home, "2025-01-01T12:00:00Z").await.expect("the tables are created");
}

#[tokio::test]
async fn a_shift_is_asked_for_two_hours_after_its_end_on_the_local_clock_to_the_minute() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim) values
              ('a day', 'reservada', '2025-01-08', '07:00', '19:00'),
              ('b night', 'reservada', '2025-01-08', '19:00', '07:00'),
              ('c whole day', 'reservada', '2025-01-08', '07:00', '07:00'),
              ('d open', 'aberta', '2025-01-01', '07:00', '19:00'),
              ('e paid', 'paga', '2025-01-01', '07:00', '19:00'),
              ('f asked', 'pendente_confirmacao', '2025-01-01', '07:00', '19:00'),
              ('g undated', 'reservada', null, '07:00', '19:00')",
        )
        .await;

        let mut due = Vec::new();
        // 19:00 in São Paulo is 22:00 in UTC.
        for now in [
            "2025-01-08T23:59:59.999Z",
            "2025-01-09T00:00:00Z",
            "2025-01-09T00:30:00Z",
            "2025-01-09T11:59:00Z",
            "2025-01-09T12:00:00Z",
            "2025-01-09T12:30:00Z",
        ] {
            let report = run_at(&home, now).await.expect("a run");
            due.push(report.items.unwrap_or(0));
            assert_eq!(report.result, Some(json!({ "asked": due[due.len() - 1], "undated": 1 })));
        }

        assert_eq!(due, [0, 1, 0, 0, 2, 0]);
        assert_eq!(
            home.texts(SHIFTS).await,
            [
                "a day pendente_confirmacao",
                "b night pendente_confirmacao",
                "c whole day pendente_confirmacao",
                "d open aberta",
                "e paid paga",
                "f asked pendente_confirmacao",
                "g undated reservada",
            ]
        );
        let events = ["a day", "b night", "c whole day"].map(|shift| format!("shift_confirmation_due {shift}"));
        assert_eq!(home.texts(EVENTS).await, events);
        let moment = match home {
            Home::Sqlite { .. } => "select pendente_confirmacao_em from vagas where titulo = 'a day'",
            Home::Postgres { .. } => {
                "select to_char(pendente_confirmacao_em at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
                from vagas where titulo = 'a day'"
            }
        };
        assert_eq!(home.texts(moment).await, ["2025-01-09T00:00:00.000Z"]);
    }
}

#[tokio::test]
async fn how_long_a_shift_must_be_over_is_a_setting() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim)
            values ('a', 'reservada', '2025-01-08', '07:00', '19:00')",
        )
        .await;
        let run = |now: &str| run_with(&home, json!({ "ended_for": "30min" }), "UTC", instant(now));

        let counts = (run("2025-01-08T19:29:00Z").await, run("2025-01-08T19:30:00Z").await);

        assert_eq!((counts.0.expect("a run").items, counts.1.expect("a run").items), (Some(0), Some(1)));
    }
    let errors = checked("shifts", json!({ "ended_for": "soon" }), &Targets::new()).expect_err("no length");
    assert!(errors[0].contains("\"soon\""), "{errors:?}");
}

#[tokio::test]
async fn the_end_is_right_where_the_clocks_change() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim) values
              ('a before the longer night', 'reservada', '2025-11-01', '19:00', '01:30'),
              ('b through it', 'reservada', '2025-11-01', '19:00', '07:00'),
              ('c through the shorter one', 'reservada', '2026-03-07', '19:00', '07:00'),
              ('d until a time that is not', 'reservada', '2026-03-07', '19:00', '02:30')",
        )
        .await;

        let mut due = Vec::new();
        for now in [
            // 01:30 in New York comes at 05:30 UTC and again at 06:30.
            "2025-11-02T07:29:00Z",
            "2025-11-02T07:30:00Z",
            // 07:00 is 12:00 UTC by then.
            "2025-11-02T13:59:00Z",
            "2025-11-02T14:00:00Z",
            // 02:00 becomes 03:00 at 07:00 UTC.
            "2026-03-08T08:59:00Z",
            "2026-03-08T09:00:00Z",
            "2026-03-08T12:59:00Z",
            "2026-03-08T13:00:00Z",
        ] {
            due.push(run_in(&home, "America/New_York", instant(now)).await.expect("a run").items.unwrap_or(0));
        }

        assert_eq!(due, [0, 1, 0, 1, 0, 1, 0, 1]);
    }
}

#[tokio::test]
async fn a_shift_that_is_reserved_again_by_hand_is_asked_for_again_and_its_event_is_kept() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim)
            values ('a', 'reservada', '2025-01-08', '07:00', '19:00')",
        )
        .await;
        run_at(&home, "2025-01-10T12:00:00Z").await.expect("a run");
        home.execute("update vagas set status = 'reservada'").await;

        let again = run_at(&home, "2025-01-10T12:30:00Z").await.expect("a run");

        assert_eq!(again.items, Some(1));
        assert_eq!(home.texts(EVENTS).await, ["shift_confirmation_due a"]);
    }
}

#[tokio::test]
async fn two_replicas_at_once_ask_for_each_shift_once() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim)
            with recursive n(n) as (select 1 union all select n + 1 from n where n < 200)
            select 'a', 'reservada', '2025-01-08', '07:00', '19:00' from n",
        )
        .await;

        let (one, two) = tokio::join!(run_at(&home, "2025-01-10T12:00:00Z"), run_at(&home, "2025-01-10T12:00:00Z"));

        assert_eq!(one.expect("a run").items.unwrap_or(0) + two.expect("a run").items.unwrap_or(0), 200);
        assert_eq!(home.texts(EVENTS).await.len(), 200);
    }
}

#[tokio::test]
async fn a_run_that_is_not_settled_asks_for_nothing() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim)
            values ('a', 'reservada', '2025-01-01', '07:00', '19:00')",
        )
        .await;

        drop(work("shifts", json!({})).run(context(home.app())).await);

        assert_eq!(home.texts(SHIFTS).await, ["a reservada"]);
        assert!(home.texts(EVENTS).await.is_empty());
    }
}

#[tokio::test]
async fn a_team_s_own_tables_are_adopted_as_they_are() {
    let [sqlite, postgres] = Home::both().await;
    let texts = Home::postgres().await;
    postgres
        .execute(
            "create type vaga_status as enum ('aberta', 'reservada', 'pendente_confirmacao');
            create table vagas (id bigserial primary key, titulo varchar(20), status vaga_status, data timestamp,
              hora_inicio time, hora_fim time, pendente_confirmacao_em timestamp, valor numeric);
            create table business_events (id bigserial primary key, event_type varchar(40), dedupe_key text, vaga_id bigint,
              event_props json)",
        )
        .await;
    texts
        .execute(
            "create table vagas (id uuid primary key default gen_random_uuid(), titulo text, status text, data text,
              hora_inicio varchar(8), hora_fim varchar(8), pendente_confirmacao_em text, cliente_id text);
            create table business_events (event_type text, dedupe_key text unique, vaga_id text, cliente_id text,
              created_at timestamp)",
        )
        .await;
    sqlite
        .execute(
            "create table vagas (id text primary key, titulo text, status text, data text, hora_inicio text, hora_fim text,
              pendente_confirmacao_em text);
            create table business_events (event_type text, dedupe_key text)",
        )
        .await;
    sqlite
        .execute(
            "insert into vagas (id, titulo, status, data, hora_inicio, hora_fim) values
              ('x', 'a', 'reservada', '2025-01-08 00:00:00', '07:00:00', '19:00:00.000'),
              ('y', 'b', 'reservada', 'a confirmar', '07:00', '19:00')",
        )
        .await;
    texts
        .execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim) values
              ('a', 'reservada', '2025-01-08', '07:00', '19:00'), ('b', 'reservada', 'a confirmar', '7h', '19h')",
        )
        .await;
    postgres
        .execute(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim) values
              ('a', 'reservada', '2025-01-08', '07:00', '19:00'), ('b', 'reservada', null, '07:00', '19:00')",
        )
        .await;
    for home in [&sqlite, &texts, &postgres] {
        let early = run_at(home, "2025-01-08T23:59:00Z").await.expect("adopted");
        let due = run_at(home, "2025-01-09T00:00:00Z").await.expect("adopted");

        assert_eq!((early.items, due.items), (Some(0), Some(1)));
        assert_eq!(due.result.expect("a result")["undated"], json!(1));
        assert_eq!(home.texts(SHIFTS).await, ["a pendente_confirmacao", "b reservada"]);
        assert_eq!(home.texts(EVENTS).await, ["shift_confirmation_due a"]);
    }
}

#[tokio::test]
async fn a_date_that_no_calendar_has_is_undated_and_keeps_no_other_shift() {
    for home in Home::both().await {
        home.execute(
            "create table vagas (id text primary key, titulo text, status text, data text, hora_inicio text, hora_fim text,
              pendente_confirmacao_em text)",
        )
        .await;
        home.execute(
            "insert into vagas (id, titulo, status, hora_inicio, hora_fim, data) values
              ('1', 'a', 'reservada', '07:00', '19:00', '2024-02-29'), ('2', 'b', 'reservada', '07:00', '19:00', '2000-02-29'),
              ('3', 'c', 'reservada', '07:00', '19:00', '2024-12-31T00:00:00Z'),
              ('4', 'd', 'reservada', '07:00', '19:00', '2023-02-29'), ('5', 'e', 'reservada', '07:00', '19:00', '1900-02-29'),
              ('6', 'f', 'reservada', '07:00', '19:00', '2024-02-30'), ('7', 'g', 'reservada', '07:00', '19:00', '2024-13-45'),
              ('8', 'h', 'reservada', '07:00', '19:00', '2024-04-31'), ('9', 'i', 'reservada', '07:00', '19:00', '2024-00-10')",
        )
        .await;

        let report = run_at(&home, "2025-01-09T00:00:00Z").await.expect("no text spoils it");

        assert_eq!(report.result, Some(json!({ "asked": 3, "undated": 6 })));
        assert_eq!(
            home.texts("select titulo from vagas where status <> 'reservada' order by id").await,
            ["a", "b", "c"]
        );
    }
}

#[tokio::test]
async fn tables_that_are_made_beside_a_team_s_own_take_ids_of_any_type() {
    let home = Home::postgres().await;
    home.execute(
        "create table clientes (id bigserial primary key, telefone text);
        create table vagas (id bigserial primary key, titulo text, status text, data date, hora_inicio time, hora_fim time,
          cliente_id bigint, pendente_confirmacao_em timestamptz);
        insert into vagas (titulo, status, data, hora_inicio, hora_fim, cliente_id)
          values ('a', 'reservada', '2025-01-08', '07:00', '19:00', 7)",
    )
    .await;

    let report = run_at(&home, "2025-01-09T00:00:00Z").await.expect("the events are created");

    assert_eq!(report.items, Some(1));
    assert_eq!(home.texts("select vaga_id || ' ' || cliente_id from business_events").await, ["1 7"]);
}

#[tokio::test]
async fn an_id_that_the_team_s_events_cannot_hold_is_left_out_and_the_event_is_told() {
    let home = Home::postgres().await;
    home.execute(
        "create table business_events (event_type text, dedupe_key text unique, vaga_id bigint, cliente_id uuid)",
    )
    .await;
    made(&home).await;
    home.execute(
        "insert into vagas (titulo, status, data, hora_inicio, hora_fim, cliente_id) values
          ('a', 'reservada', '2025-01-08', '07:00', '19:00', 'nobody'),
          ('b', 'reservada', '2025-01-08', '07:00', '19:00', '00000000-0000-0000-0000-000000000077')",
    )
    .await;

    run_at(&home, "2025-01-09T00:00:00Z").await.expect("no id spoils it");

    assert_eq!(home.texts(EVENTS).await, ["shift_confirmation_due a", "shift_confirmation_due b"]);
    let held = "select cast(cliente_id as text) from business_events where vaga_id is null and cliente_id is not null";
    assert_eq!(home.texts(held).await, ["00000000-0000-0000-0000-000000000077"]);
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_statement_that_adds_it() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "alter table vagas drop column pendente_confirmacao_em; alter table vagas drop column hora_inicio",
        )
        .await;

        let failure = run_at(&home, "2025-01-09T00:00:00Z").await.expect_err("columns are missing");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        let begin = "table vagas lacks hora_inicio, pendente_confirmacao_em; add with: ";
        let statements =
            failure.message.strip_prefix(begin).unwrap_or_else(|| panic!("{}", failure.message)).to_owned();
        home.execute(Box::leak(statements.into_boxed_str())).await;
        run_at(&home, "2025-01-09T00:00:00Z").await.expect("the statements that were given repair it");
    }
}

#[tokio::test]
async fn a_word_that_an_enumeration_lacks_is_named_with_the_statement_that_adds_it() {
    let home = Home::postgres().await;
    home.execute(
        "create type vaga_status as enum ('aberta', 'reservada');
        create table vagas (id bigserial primary key, status vaga_status, data date, hora_inicio time, hora_fim time,
          pendente_confirmacao_em timestamptz)",
    )
    .await;

    let failure = run_at(&home, "2025-01-09T00:00:00Z").await.expect_err("a word is missing");

    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(
        failure.message,
        "column vagas.status does not know \"pendente_confirmacao\"; \
         add with: alter type vaga_status add value 'pendente_confirmacao'"
    );
}

#[tokio::test]
async fn a_missing_table_is_created_only_where_that_is_allowed() {
    for home in Home::both().await {
        let mut ctx = context(home.app());
        ctx.tools = Tools { create_team_tables: false, ..ctx.tools };

        let failure = commit(work("shifts", json!({})).run(ctx).await).await.expect_err("forbidden");

        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Permanent, "table vagas is missing, and create_team_tables = false forbids to create it")
        );
    }
}
