//! `temperature_decay` on real tables of both databases.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Report},
        schedule::Zone,
    },
    handlers::{
        Targets, Tools,
        team::{self, tables::FILA_MENSAGENS},
    },
};
use serde_json::{Value, json};

use crate::attempt::{Home, checked, commit, context, instant, noon, work};

/// The whole table as text that reads the same on both databases.
const LEADS: &str = "\
    select cliente_id || ' ' || permission_state || ' ' || cast(cast(round(temperature * 100) as integer) as text)
        || ' ' || temperature_trend || ' ' || cast(contact_count_7d as text) || ' ' || lifecycle_stage
    from doctor_state order by cliente_id";

async fn run_at(home: &Home, now: DateTime<Utc>) -> Result<Report, Failure> {
    run_with(home, json!({}), now).await
}

async fn run_with(home: &Home, settings: Value, now: DateTime<Utc>) -> Result<Report, Failure> {
    let mut ctx = context(home.app());
    let mut job = crate::attempt::job();
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    (ctx.now, ctx.job) = (now, Arc::new(job));
    commit(work("temperature_decay", settings).run(ctx).await).await
}

/// A table that the handler made itself.
async fn made(home: &Home) {
    run_at(home, noon()).await.expect("the table is created");
}

/// Leads of many kinds; the clock of the tests stands at Wednesday, 2025-01-08T12:00:00Z.
const MANY: &str = "\
    insert into doctor_state
      (cliente_id, permission_state, cooling_off_until, temperature, last_inbound_at, last_outbound_at,
       contact_count_7d, lifecycle_stage, last_decay_at)
    values
      ('a silent since 3.5 days', 'active', null, 0.50, '2025-01-05T00:00:00Z', null, 0, 'novo', null),
      ('b silent since 23 h', 'active', null, 0.50, '2025-01-07T13:00:00Z', null, 0, 'novo', null),
      ('c answered after its last cooling', 'active', null, 0.80, '2025-01-06T12:00:00Z', null, 0, 'novo',
        '2025-01-02T00:00:00Z'),
      ('d cooled after its last answer', 'active', null, 0.80, '2025-01-02T00:00:00Z', null, 0, 'novo',
        '2025-01-06T12:00:00Z'),
      ('e opted out', 'opted_out', null, 0.50, '2025-01-01T00:00:00Z', null, 0, 'novo', null),
      ('f nearly cold', 'active', null, 0.07, '2025-01-01T00:00:00Z', null, 0, 'novo', null),
      ('g cold', 'active', null, 0, '2025-01-01T00:00:00Z', null, 0, 'novo', null),
      ('h never heard of', 'active', null, 0.50, null, null, 0, 'novo', null),
      ('i cooling off until yesterday', 'cooling_off', '2025-01-07T12:00:00Z', 0.50, null, null, 0, 'novo', null),
      ('j cooling off until tomorrow', 'cooling_off', '2025-01-09T12:00:00Z', 0.50, null, null, 0, 'novo', null),
      ('k cooling off for ever', 'cooling_off', null, 0.50, null, null, 0, 'novo', null),
      ('l silent for 90 days', 'active', null, 0, '2024-10-10T12:00:00Z', null, 0, 'novo', null),
      ('m silent for 89 days', 'active', null, 0, '2024-10-11T12:00:00Z', null, 0, 'novo', null),
      ('n talked to last week', 'active', null, 0.50, null, '2025-01-06T02:59:00Z', 4, 'novo', null),
      ('o talked to this week', 'active', null, 0.50, null, '2025-01-06T03:01:00Z', 4, 'novo', null),
      ('p counted without a date', 'active', null, 0.50, null, null, 4, 'novo', null)";

const AFTERWARDS: [&str; 16] = [
    "a silent since 3.5 days active 35 cooling 0 novo",
    "b silent since 23 h active 50 stable 0 novo",
    "c answered after its last cooling active 70 cooling 0 novo",
    "d cooled after its last answer active 70 cooling 0 novo",
    "e opted out opted_out 50 stable 0 novo",
    "f nearly cold active 0 cooling 0 novo",
    "g cold active 0 stable 0 novo",
    "h never heard of active 50 stable 0 novo",
    "i cooling off until yesterday active 50 stable 0 novo",
    "j cooling off until tomorrow cooling_off 50 stable 0 novo",
    "k cooling off for ever cooling_off 50 stable 0 novo",
    "l silent for 90 days active 0 stable 0 churned",
    "m silent for 89 days active 0 stable 0 novo",
    "n talked to last week active 50 stable 0 novo",
    "o talked to this week active 50 stable 4 novo",
    "p counted without a date active 50 stable 4 novo",
];

#[tokio::test]
async fn each_lead_gets_what_is_due_to_it_and_a_second_run_changes_nothing() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(MANY).await;

        let first = run_at(&home, noon()).await.expect("a first run");
        let after_first = home.texts(LEADS).await;
        let second = run_at(&home, noon()).await.expect("a second run");

        assert_eq!(after_first, AFTERWARDS);
        assert_eq!(first.items, Some(4));
        assert_eq!(
            first.result,
            Some(json!({ "cooled": 4, "reactivated": 1, "churned": 1, "contacts_recounted": 0, "contacts_reset": 1 }))
        );
        assert_eq!(home.texts(LEADS).await, AFTERWARDS);
        assert_eq!(
            second.result,
            Some(json!({ "cooled": 0, "reactivated": 0, "churned": 0, "contacts_recounted": 0, "contacts_reset": 0 }))
        );
    }
}

#[tokio::test]
async fn the_sum_does_not_depend_on_how_often_the_job_runs() {
    let (begin, days) = (instant("2025-01-08T12:00:00Z"), 9);
    let hourly: Vec<_> = (0..=days * 24).map(TimeDelta::hours).collect();
    let daily: Vec<_> = (0..=days).map(TimeDelta::days).collect();
    let odd: Vec<_> = [7, 25, 26, 49, 50, 120, 216].map(TimeDelta::hours).to_vec();
    let after_a_week_away: Vec<_> = [TimeDelta::zero(), TimeDelta::days(8), TimeDelta::days(9)].to_vec();
    let once = vec![TimeDelta::days(days)];
    for home in Home::both().await {
        made(&home).await;
        for times in [&hourly, &daily, &odd, &after_a_week_away, &once] {
            home.execute(
                "delete from doctor_state;
                insert into doctor_state (cliente_id, temperature, last_inbound_at) values
                  ('half', 0.50, '2025-01-08T12:00:00Z'), ('warm', 0.99, '2025-01-08T18:30:00.123Z'),
                  ('cool', 0.33, '2025-01-01T00:00:00Z'), ('full', 1, '2025-01-08T11:59:59Z')",
            )
            .await;

            for time in times {
                run_at(&home, begin + *time).await.expect("a run");
            }

            let leads = home.texts(LEADS).await;
            let temperatures: Vec<_> =
                leads.iter().map(|lead| lead.split(' ').nth(2).expect("a temperature")).collect();
            // cool, full, half, warm: 16 days are more than it had, 9 days, 9 days, 8 whole days.
            assert_eq!(temperatures, ["0", "55", "5", "59"], "{} runs", times.len());
        }
    }
}

#[tokio::test]
async fn the_mark_moves_by_whole_days() {
    let [sqlite, postgres] = Home::both().await;
    let lead = "insert into doctor_state (cliente_id, last_inbound_at) values ('a', '2025-01-05T01:02:03.250Z')";
    for home in [&sqlite, &postgres] {
        made(home).await;
        home.execute(lead).await;
        run_at(home, noon()).await.expect("a run");
    }

    assert_eq!(sqlite.texts("select last_decay_at from doctor_state").await, ["2025-01-08T01:02:03.250Z"]);
    let mark = "select to_char(last_decay_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') from doctor_state";
    assert_eq!(postgres.texts(mark).await, ["2025-01-08 01:02:03.250"]);
}

#[tokio::test]
async fn a_day_costs_what_the_setting_says() {
    for home in Home::both().await {
        made(&home).await;
        home.execute("insert into doctor_state (cliente_id, last_inbound_at) values ('a', '2025-01-06T12:00:00Z')")
            .await;

        run_with(&home, json!({ "per_day": 0.07 }), noon()).await.expect("a run");

        assert_eq!(home.texts(LEADS).await, ["a active 36 cooling 0 novo"]);
    }
    let errors = checked("temperature_decay", json!({ "per_day": 0.001 }), &Targets::new()).expect_err("too fine");
    assert_eq!(errors, ["per_day is 0.001, and must be hundredths between 0.01 and 1"]);
}

#[tokio::test]
async fn a_team_s_own_table_is_adopted_as_it_is() {
    let [sqlite, postgres] = Home::both().await;
    // Other types, other columns, instants without a zone.
    postgres
        .execute(
            "create type permission as enum ('active', 'cooling_off', 'opted_out');
            create table doctor_state (cliente_id uuid primary key default gen_random_uuid(), permission_state permission,
              cooling_off_until timestamp, temperature double precision, temperature_trend varchar(20),
              last_inbound_at timestamp, last_outbound_at timestamp, contact_count_7d smallint, lifecycle_stage varchar(20),
              last_decay_at timestamp, notes text)",
        )
        .await;
    sqlite
        .execute(
            "create table doctor_state (cliente_id integer, permission_state text, cooling_off_until text, temperature numeric,
              temperature_trend text, last_inbound_at text, last_outbound_at text, contact_count_7d integer,
              lifecycle_stage text, last_decay_at text, notes text, primary key (cliente_id)) without rowid",
        )
        .await;
    postgres
        .execute("insert into doctor_state (permission_state, temperature, last_inbound_at) values ('active', 0.55, '2025-01-06 12:00:00')")
        .await;
    sqlite
        .execute("insert into doctor_state (cliente_id, temperature, last_inbound_at) values (1, 0.55, '2025-01-06 12:00:00')")
        .await;
    for home in [&sqlite, &postgres] {
        let report = run_at(home, noon()).await.expect("adopted");

        assert_eq!(report.items, Some(1));
        let cents = "select cast(cast(round(temperature * 100) as integer) as text) from doctor_state";
        assert_eq!(home.texts(cents).await, ["45"]);
        assert_eq!(home.texts("select temperature_trend from doctor_state").await, ["cooling"]);
    }
    let mark = "select cast(last_decay_at as text) from doctor_state";
    assert_eq!(postgres.texts(mark).await, ["2025-01-08 12:00:00"]);
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_statement_that_adds_it() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "alter table doctor_state drop column last_decay_at; alter table doctor_state drop column lifecycle_stage",
        )
        .await;

        let failure = run_at(&home, noon()).await.expect_err("columns are missing");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        let begin = "table doctor_state lacks lifecycle_stage, last_decay_at; add with: ";
        let statements =
            failure.message.strip_prefix(begin).unwrap_or_else(|| panic!("{}", failure.message)).to_owned();
        home.execute(Box::leak(statements.into_boxed_str())).await;
        run_at(&home, noon()).await.expect("the statements that were given repair it");
    }
}

#[tokio::test]
async fn a_missing_table_is_created_only_where_that_is_allowed() {
    for home in Home::both().await {
        let mut ctx = context(home.app());
        ctx.tools = Tools { create_team_tables: false, ..ctx.tools };

        let failure = commit(work("temperature_decay", json!({})).run(ctx).await).await.expect_err("forbidden");

        assert_eq!(failure.kind, FailureKind::Permanent);
        assert_eq!(
            failure.message,
            "table doctor_state is missing, and create_team_tables = false forbids to create it"
        );
        made(&home).await;
        assert!(home.texts("select cliente_id from doctor_state").await.is_empty());
    }
}

#[tokio::test]
async fn two_replicas_may_create_the_table_at_once() {
    let home = Home::postgres().await;

    let (one, two) = tokio::join!(run_at(&home, noon()), run_at(&home, noon()));

    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_run_that_is_not_settled_cools_nobody() {
    for home in Home::both().await {
        made(&home).await;
        home.execute("insert into doctor_state (cliente_id, last_inbound_at) values ('a', '2025-01-06T12:00:00Z')")
            .await;
        let mut ctx = context(home.app());
        ctx.now = noon();

        drop(work("temperature_decay", json!({})).run(ctx).await);

        assert_eq!(home.texts(LEADS).await, ["a active 50 stable 0 novo"]);
    }
}

#[tokio::test]
async fn contacts_of_the_last_seven_days_are_counted_where_messages_are_recorded() {
    let id = |number: u32| format!("00000000-0000-0000-0000-00000000000{number}");
    for home in Home::both().await {
        made(&home).await;
        let mut tx = (home.app().begin)().await.expect("a transaction");
        team::adopt(&mut tx, &[&FILA_MENSAGENS], true).await.expect("the table is created");
        tx.commit().await.expect("committed");
        let leads = format!(
            "insert into doctor_state (cliente_id, contact_count_7d, last_outbound_at) values
              ('{}', 0, '2025-01-08T10:00:00.000Z'), ('{}', 5, '2025-01-01T10:00:00.000Z'),
              ('{}', 5, '2025-01-01T10:00:00.000Z'), ('{}', 5, '2025-01-07T10:00:00.000Z');
            insert into fila_mensagens (cliente_id, conteudo, status, enviada_em) values
              ('{}', 'x', 'enviada', '2025-01-08T10:00:00.000Z'), ('{}', 'x', 'enviada', '2025-01-01T12:00:00.001Z'),
              ('{}', 'x', 'enviada', '2025-01-01T12:00:00.000Z'), ('{}', 'x', 'pendente', null),
              ('{}', 'x', 'enviada', '2025-01-01T10:00:00.000Z'), ('{}', 'x', 'erro', null);
            insert into fila_mensagens (cliente_id, conteudo, tipo, status, enviada_em) values
              ('00000000-0000-0000-0000-000000000001', 'x', 'resposta', 'enviada', '2025-01-08T10:00:00.000Z'),
              ('00000000-0000-0000-0000-000000000001', 'x', 'sistema', 'enviada', '2025-01-08T10:00:00.000Z')",
            id(1),
            id(2),
            id(3),
            id(4),
            id(1),
            id(1),
            id(1),
            id(1),
            id(2),
            id(3)
        );
        home.execute(Box::leak(leads.into_boxed_str())).await;

        let first = run_at(&home, noon()).await.expect("a run").result.expect("counts");
        let second = run_at(&home, noon()).await.expect("a run").result.expect("counts");

        let counts = "select cast(contact_count_7d as text) from doctor_state order by cliente_id";
        // Two within the window; one before it; none recorded and last week's; none recorded and this week's.
        assert_eq!(home.texts(counts).await, ["2", "0", "0", "5"]);
        assert_eq!((&first["contacts_recounted"], &first["contacts_reset"]), (&json!(1), &json!(2)));
        assert_eq!((&second["contacts_recounted"], &second["contacts_reset"]), (&json!(0), &json!(0)));
    }
}

#[tokio::test]
async fn an_enumeration_without_a_word_is_named_with_the_statement_that_adds_it() {
    for (labels, word) in [("'active', 'opted_out'", "cooling_off"), ("'active', 'cooling_off'", "opted_out")] {
        let home = Home::postgres().await;
        made(&home).await;
        let statements = format!(
            "alter table doctor_state drop column permission_state; create type permission as enum ({labels});
            alter table doctor_state add column permission_state permission"
        );
        home.execute(Box::leak(statements.into_boxed_str())).await;

        let failure = run_at(&home, noon()).await.expect_err("a word is missing");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        assert_eq!(
            failure.message,
            format!(
                "column doctor_state.permission_state does not know {word:?}; add with: alter type permission add value '{word}'"
            )
        );
    }
}
