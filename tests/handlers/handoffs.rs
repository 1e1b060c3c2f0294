//! `handoffs` on real tables of both databases.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Report},
        schedule::Zone,
    },
    handlers::{
        Context, Outbound, Scope, Targets, Tools, Work,
        team::{self, tables},
    },
    outbound::{Confidential, Hours},
};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, checked, commit, context, instant, job},
    server::Server,
};

/// A Monday, 10:00 in São Paulo: the handoffs of most tests are made here.
const MADE: &str = "2025-01-06T13:00:00Z";

/// All handoffs, with the shift and how often its end was recorded, as text that reads the same on both databases.
const HANDOFFS: &str = "\
    select h.divulgador_nome || ' ' || cast(h.status as text) || ' ' || cast(h.followup_count as text) || ' vaga '
      || coalesce((select cast(v.status as text) from vagas v where cast(v.id as text) = cast(h.vaga_id as text)), '-')
    from external_handoffs h order by h.divulgador_nome";

/// Messages in the order they are due.
const MESSAGES: &str = "\
    select cast(tipo as text) || ' ' || coalesce(telefone, 'doctor') || ' ' || cast(status as text)
    from fila_mensagens order by created_at, tipo";

const EVENTS: &str = "select event_type from business_events order by event_type";

/// Business without an end, for tests of other things.
fn always() -> Value {
    json!({ "opens": "00:00", "closes": "23:59", "days": "all" })
}

fn handoffs(settings: Value, hours: Value) -> Work {
    let hours: Hours = serde_json::from_value(hours).expect("business hours");
    with_outbound(settings, &Outbound { hours, ..Outbound::default() })
}

/// Tells Slack at a server of the test.
fn telling(server: &Server) -> Work {
    let hours: Hours = serde_json::from_value(always()).expect("business hours");
    let slack = Some(Confidential::new(format!("{}/services/T0/B0/x", server.url)));
    with_outbound(json!({}), &Outbound { hours, slack, ..Outbound::default() })
}

fn with_outbound(settings: Value, outbound: &Outbound) -> Work {
    let mut work = Work::parse("handoffs", settings).expect("settings");
    let scope = Scope {
        targets: &Targets::new(),
        outbound,
        folder: std::path::Path::new("."),
        variables: &std::env::vars().collect(),
    };
    assert_eq!(work.check(&scope), Vec::<String>::new());
    work
}

fn context_at(home: &Home, now: DateTime<Utc>) -> Context {
    let mut ctx = context(home.app());
    let mut job = job();
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    (ctx.now, ctx.job) = (now, Arc::new(job));
    ctx
}

async fn run_with(home: &Home, work: &Work, now: DateTime<Utc>) -> Result<Report, Failure> {
    commit(work.run(context_at(home, now)).await).await
}

async fn run_at(home: &Home, now: DateTime<Utc>) -> Result<Report, Failure> {
    run_with(home, &handoffs(json!({}), always()), now).await
}

async fn execute(home: &Home, statements: String) {
    home.execute(Box::leak(statements.into_boxed_str())).await;
}

/// A home with the tables, as the handler makes them.
async fn made(home: &Home) {
    run_at(home, instant("2025-01-01T12:00:00Z")).await.expect("the tables are created");
}

/// A doctor, a shift that is reserved for her, and a handoff that was made at `made`, for two days.
async fn hand_off(home: &Home, name: &str, made: &str) {
    let until = (instant(made) + TimeDelta::hours(48)).to_rfc3339();
    execute(
        home,
        format!(
            "insert into vagas (titulo, status, data, hora_inicio, hora_fim)
             values ('{name}', 'reservada', '2025-01-20', '19:00', '07:00');
             insert into external_handoffs (divulgador_nome, divulgador_telefone, vaga_id, created_at, reserved_until)
             select '{name}', '+55 (11) 98765-4321', v.id, '{made}', '{until}' from vagas v where v.titulo = '{name}'"
        ),
    )
    .await;
}

/// The same, with a doctor who has a number.
async fn hand_off_with_doctor(home: &Home, name: &str, made: &str) {
    hand_off(home, name, made).await;
    let id = match home {
        Home::Sqlite { .. } => "'77'",
        Home::Postgres { .. } => "'00000000-0000-0000-0000-000000000077'",
    };
    execute(home, format!("update external_handoffs set cliente_id = {id} where divulgador_nome = '{name}'")).await;
}

fn hours_after(made: &str, hours: i64, minutes: i64) -> DateTime<Utc> {
    instant(made) + TimeDelta::hours(hours) + TimeDelta::minutes(minutes)
}

fn counts(report: &Report) -> (Option<u64>, u64, Option<u64>) {
    (report.items, report.items_failed, report.left)
}

fn result<'a>(report: &'a Report, key: &str) -> &'a Value {
    &report.result.as_ref().expect("a result")[key]
}

#[tokio::test]
async fn follow_ups_go_at_2_24_and_36_hours_and_the_end_comes_at_48_to_the_minute() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;

        for (hours, minutes, state) in [
            (0, 0, "ana pending 0 vaga reservada"),
            (1, 59, "ana pending 0 vaga reservada"),
            (2, 0, "ana contacted 1 vaga reservada"),
            (2, 5, "ana contacted 1 vaga reservada"),
            (23, 59, "ana contacted 1 vaga reservada"),
            (24, 0, "ana contacted 2 vaga reservada"),
            (35, 59, "ana contacted 2 vaga reservada"),
            (36, 0, "ana contacted 3 vaga reservada"),
            (47, 59, "ana contacted 3 vaga reservada"),
            (48, 0, "ana expired 3 vaga aberta"),
            (48, 5, "ana expired 3 vaga aberta"),
            (96, 0, "ana expired 3 vaga aberta"),
        ] {
            let report = run_at(&home, hours_after(MADE, hours, minutes)).await.expect("a run");

            assert_eq!(home.texts(HANDOFFS).await, [state], "{hours} h {minutes}");
            assert_eq!((report.items_failed, report.left), (0, Some(0)));
        }
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "followup 5511987654321 pendente",
                "followup 5511987654321 pendente",
                "followup 5511987654321 pendente",
                "sistema doctor pendente",
            ]
        );
        assert_eq!(
            home.texts(EVENTS).await,
            ["handoff_expired", "handoff_followup", "handoff_followup", "handoff_followup"]
        );
    }
}

#[tokio::test]
async fn two_days_of_runs_every_five_minutes_write_four_messages() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        let work = handoffs(json!({}), always());

        let mut items = 0;
        for run in 0..=(50 * 12) {
            items += run_with(&home, &work, hours_after(MADE, 0, run * 5)).await.expect("a run").items.unwrap_or(0);
        }

        assert_eq!(items, 4);
        assert_eq!(home.texts(MESSAGES).await.len(), 4);
        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 3 vaga aberta"]);
    }
}

#[tokio::test]
async fn what_people_are_told_has_names_the_shift_and_the_local_deadline() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        let doctor = match home {
            Home::Sqlite { .. } => {
                "create table clientes (id integer primary key, telefone text, primeiro_nome text);
                insert into clientes values (77, '5511912345678', 'Clara')"
            }
            Home::Postgres { .. } => {
                "create table clientes (id uuid primary key, telefone text, primeiro_nome text);
                insert into clientes values ('00000000-0000-0000-0000-000000000077', '5511912345678', 'Clara')"
            }
        };
        home.execute(doctor).await;
        let texts = json!({ "texts": { "followup_1": "{nome}|{vaga}|{prazo}", "expired": "{nome}|{vaga}|{prazo}" } });
        let work = handoffs(texts, always());

        run_with(&home, &work, hours_after(MADE, 2, 0)).await.expect("a follow-up");
        run_with(&home, &work, hours_after(MADE, 48, 0)).await.expect("the end");

        assert_eq!(
            home.texts("select conteudo from fila_mensagens order by created_at").await,
            ["ana|ana (20/01, 19:00 às 07:00)|08/01 às 10:00", "Clara|ana (20/01, 19:00 às 07:00)|08/01 às 10:00",]
        );
    }
}

#[tokio::test]
async fn after_a_day_away_one_follow_up_goes_with_the_number_that_is_due() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;

        let after_a_day = run_at(&home, hours_after(MADE, 25, 0)).await.expect("a run");
        run_at(&home, hours_after(MADE, 25, 5)).await.expect("a run");
        let after_25_hours = home.texts(HANDOFFS).await;
        run_at(&home, hours_after(MADE, 36, 0)).await.expect("a run");

        assert_eq!(result(&after_a_day, "followed_up"), &json!({ "1": 0, "2": 1, "3": 0 }));
        assert_eq!(after_25_hours, ["ana contacted 2 vaga reservada"]);
        assert_eq!(home.texts(HANDOFFS).await, ["ana contacted 3 vaga reservada"]);
        assert_eq!(home.texts(MESSAGES).await.len(), 2);
        let keys = home.texts("select dedupe_key from business_events order by dedupe_key").await;
        assert!(keys[0].ends_with(":2") && keys[1].ends_with(":3"), "{keys:?}");
    }
}

#[tokio::test]
async fn after_an_absence_beyond_its_end_a_handoff_only_expires() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;

        let report = run_at(&home, hours_after(MADE, 72, 0)).await.expect("a run");

        assert_eq!(counts(&report), (Some(1), 0, Some(0)));
        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 0 vaga aberta"]);
        assert_eq!(home.texts(MESSAGES).await, ["sistema doctor pendente"]);
    }
}

#[tokio::test]
async fn a_late_follow_up_is_not_followed_by_the_next_one_within_the_hour() {
    for home in Home::both().await {
        made(&home).await;
        hand_off(&home, "ana", MADE).await;

        run_at(&home, hours_after(MADE, 35, 50)).await.expect("the second");
        run_at(&home, hours_after(MADE, 36, 49)).await.expect("not yet");
        let within = home.texts(HANDOFFS).await;
        run_at(&home, hours_after(MADE, 36, 50)).await.expect("the third");

        assert_eq!(within, ["ana contacted 2 vaga reservada"]);
        assert_eq!(home.texts(HANDOFFS).await, ["ana contacted 3 vaga reservada"]);
    }
}

#[tokio::test]
async fn the_end_is_when_the_reservation_says_else_48_hours_after_it_was_made() {
    for home in Home::both().await {
        made(&home).await;
        for name in ["early", "endless", "late", "undated"] {
            hand_off(&home, name, MADE).await;
        }
        home.execute(
            "update external_handoffs set reserved_until = '2025-01-06T14:00:00Z' where divulgador_nome = 'early';
            update external_handoffs set reserved_until = null where divulgador_nome = 'endless';
            update external_handoffs set reserved_until = '2025-01-10T13:00:00Z' where divulgador_nome = 'late'",
        )
        .await;
        if let Home::Postgres { .. } = home {
            home.execute("alter table external_handoffs alter column created_at drop not null").await;
        } else {
            // SQLite keeps the constraint: a text that is no instant is as good as none.
            home.execute("update external_handoffs set created_at = '' where divulgador_nome = 'undated'").await;
        }
        let undate = match home {
            Home::Sqlite { .. } => {
                "update external_handoffs set reserved_until = null where divulgador_nome = 'undated'"
            }
            Home::Postgres { .. } => {
                "update external_handoffs set reserved_until = null, created_at = null where divulgador_nome = 'undated'"
            }
        };
        home.execute(undate).await;

        let work = handoffs(json!({ "follow_ups": false }), always());
        run_with(&home, &work, hours_after(MADE, 1, 0)).await.expect("a run");
        let after_an_hour = home.texts(HANDOFFS).await;
        run_with(&home, &work, hours_after(MADE, 47, 59)).await.expect("a run");
        let before_two_days = home.texts(HANDOFFS).await;
        let report = run_with(&home, &work, hours_after(MADE, 48, 0)).await.expect("a run");

        let rows = |early: &str, endless: &str| {
            let rest = ["late pending 0 vaga reservada", "undated pending 0 vaga reservada"].map(str::to_owned);
            [vec![early.to_owned(), endless.to_owned()], rest.to_vec()].concat()
        };
        assert_eq!(after_an_hour, rows("early expired 0 vaga aberta", "endless pending 0 vaga reservada"));
        assert_eq!(before_two_days, after_an_hour);
        assert_eq!(home.texts(HANDOFFS).await, rows("early expired 0 vaga aberta", "endless expired 0 vaga aberta"));
        assert_eq!(result(&report, "undated"), &json!(1));
    }
}

#[tokio::test]
async fn handoffs_that_were_answered_are_left_alone() {
    for home in Home::both().await {
        made(&home).await;
        for status in ["confirmed", "expired", "not_confirmed"] {
            hand_off(&home, status, MADE).await;
            execute(
                &home,
                format!("update external_handoffs set status = '{status}' where divulgador_nome = '{status}'"),
            )
            .await;
        }

        let reports = [run_at(&home, hours_after(MADE, 30, 0)).await, run_at(&home, hours_after(MADE, 60, 0)).await];

        assert!(reports.iter().all(|report| report.as_ref().is_ok_and(|it| it.items == Some(0))), "{reports:?}");
        assert_eq!(
            home.texts(HANDOFFS).await,
            [
                "confirmed confirmed 0 vaga reservada",
                "expired expired 0 vaga reservada",
                "not_confirmed not_confirmed 0 vaga reservada",
            ]
        );
        assert!(home.texts(MESSAGES).await.is_empty());
    }
}

#[tokio::test]
async fn a_handoff_expires_whatever_became_of_its_shift() {
    for home in Home::both().await {
        made(&home).await;
        for name in ["gone", "taken", "theirs"] {
            hand_off_with_doctor(&home, name, MADE).await;
        }
        let other = match home {
            Home::Sqlite { .. } => "update vagas set cliente_id = '78' where titulo = 'theirs'",
            Home::Postgres { .. } => {
                "update vagas set cliente_id = '00000000-0000-0000-0000-000000000078' where titulo = 'theirs'"
            }
        };
        home.execute(other).await;
        home.execute(
            "delete from vagas where titulo = 'gone'; update vagas set status = 'paga' where titulo = 'taken'",
        )
        .await;

        let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("a run");

        assert_eq!((report.items, result(&report, "reopened")), (Some(3), &json!(0)));
        assert_eq!(
            home.texts(HANDOFFS).await,
            ["gone expired 0 vaga -", "taken expired 0 vaga paga", "theirs expired 0 vaga reservada"]
        );
    }
}

#[tokio::test]
async fn a_paused_handler_follows_up_nobody_and_lets_handoffs_expire() {
    for home in Home::both().await {
        made(&home).await;
        hand_off(&home, "ana", MADE).await;
        let paused = handoffs(json!({ "follow_ups": false }), always());

        let early = run_with(&home, &paused, hours_after(MADE, 24, 0)).await.expect("a run");
        let late = run_with(&home, &paused, hours_after(MADE, 48, 0)).await.expect("a run");

        assert_eq!((early.items, result(&early, "follow_ups")), (Some(0), &json!("paused")));
        assert_eq!(counts(&late), (Some(1), 0, Some(0)));
        assert!(home.texts(MESSAGES).await.is_empty(), "there is no doctor");
    }
}

#[tokio::test]
async fn follow_ups_wait_for_business_hours_and_the_end_does_not() {
    // A Friday, 21:00 in São Paulo; the Monday after is a holiday.
    let friday = "2025-01-11T00:00:00Z";
    let hours = json!({ "holidays": ["2025-01-13"] });
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", friday).await;
        hand_off(&home, "bia", friday).await;
        home.execute(
            "update external_handoffs set reserved_until = '2025-01-18T00:00:00Z' where divulgador_nome = 'bia'",
        )
        .await;
        let work = handoffs(json!({}), hours.clone());

        let night = run_with(&home, &work, hours_after(friday, 2, 0)).await.expect("a run");
        run_with(&home, &work, hours_after(friday, 48, 0)).await.expect("a run");
        let holiday = run_with(&home, &work, instant("2025-01-13T15:00:00Z")).await.expect("a run");
        let before_opening = run_with(&home, &work, instant("2025-01-14T10:59:00Z")).await.expect("a run");
        let quiet = home.texts(HANDOFFS).await;
        let opening = run_with(&home, &work, instant("2025-01-14T11:00:00Z")).await.expect("a run");

        for report in [night, holiday, before_opening] {
            assert_eq!((report.items, result(&report, "follow_ups")), (Some(0), &json!("outside_hours")));
            assert_eq!(report.left, Some(0), "what must wait is no backlog");
        }
        assert_eq!(quiet, ["ana expired 0 vaga aberta", "bia pending 0 vaga reservada"]);
        assert_eq!(result(&opening, "followed_up"), &json!({ "1": 0, "2": 0, "3": 1 }));
        let opens = match home {
            Home::Sqlite { .. } => "select agendar_para from fila_mensagens where tipo = 'sistema'",
            Home::Postgres { .. } => {
                "select to_char(agendar_para at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
                from fila_mensagens where tipo = 'sistema'"
            }
        };
        assert_eq!(home.texts(opens).await, ["2025-01-14T11:00:00.000Z"], "the doctor sleeps, too");
    }
}

#[tokio::test]
async fn a_recruiter_who_opted_out_is_not_followed_up_however_the_number_is_written() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "create table clientes (id integer primary key, telefone text, primeiro_nome text);
            create table doctor_state (cliente_id text, permission_state text);
            insert into clientes values (1, '11 98765-4321', 'Ana'), (2, '+55 11 91111-1111', 'Bia'), (3, '5511922222222', 'Cid');
            insert into doctor_state values ('1', 'opted_out'), ('2', 'opted_out'), ('3', 'active')",
        )
        .await;
        for (name, number) in
            [("ana", "+55 (11) 98765-4321"), ("bia", "11911111111"), ("cid", "11 92222 2222"), ("none", " - ")]
        {
            hand_off(&home, name, MADE).await;
            execute(
                &home,
                format!(
                    "update external_handoffs set divulgador_telefone = '{number}' where divulgador_nome = '{name}'"
                ),
            )
            .await;
        }
        if let Home::Postgres { .. } = home {
            home.execute("alter table fila_mensagens alter column cliente_id type integer using null").await;
        }

        let report = run_at(&home, hours_after(MADE, 2, 0)).await.expect("a run");
        let again = run_at(&home, hours_after(MADE, 3, 0)).await.expect("a run");

        assert_eq!(counts(&report), (Some(1), 0, Some(0)));
        assert_eq!((result(&report, "opted_out"), result(&report, "without_number")), (&json!(2), &json!(1)));
        assert_eq!(again.items, Some(0));
        let written = "select telefone || ' ' || cast(cliente_id as text) from fila_mensagens";
        assert_eq!(home.texts(written).await, ["11922222222 3"], "its client is the recruiter");
        run_at(&home, hours_after(MADE, 48, 0)).await.expect("a run");
        assert!(home.texts(HANDOFFS).await.iter().all(|row| row.contains(" expired ")));
    }
}

#[tokio::test]
async fn two_replicas_at_once_do_everything_once() {
    for home in Home::both().await {
        made(&home).await;
        for number in 0..10 {
            hand_off_with_doctor(&home, &format!("ends {number}"), MADE).await;
            hand_off(&home, &format!("goes on {number}"), "2025-01-07T13:00:00Z").await;
        }
        let at = hours_after(MADE, 48, 0);

        let (one, two) = tokio::join!(run_at(&home, at), run_at(&home, at));

        let (one, two) = (one.expect("a run"), two.expect("a run"));
        assert_eq!(one.items.unwrap_or(0) + two.items.unwrap_or(0), 20);
        assert_eq!(home.texts(MESSAGES).await.len(), 20);
        assert_eq!(home.texts(EVENTS).await.len(), 20);
    }
}

#[tokio::test]
async fn an_event_that_is_there_makes_a_repeat_impossible_whatever_the_row_says() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        run_at(&home, hours_after(MADE, 2, 0)).await.expect("the first");
        home.execute("update external_handoffs set followup_count = 0, last_followup_at = null, status = 'pending'")
            .await;

        let again = run_at(&home, hours_after(MADE, 3, 0)).await.expect("a run");
        run_at(&home, hours_after(MADE, 48, 0)).await.expect("the end");
        home.execute("update external_handoffs set status = 'pending'").await;
        run_at(&home, hours_after(MADE, 49, 0)).await.expect("the end again");

        assert_eq!(again.items, Some(0));
        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 1 vaga aberta"]);
        assert_eq!(home.texts(MESSAGES).await, ["followup 5511987654321 pendente", "sistema doctor pendente"]);
    }
}

#[tokio::test]
async fn an_attempt_that_is_cut_off_anywhere_leaves_all_of_a_step_or_nothing() {
    for home in Home::both().await {
        made(&home).await;
        for number in 0..8 {
            hand_off_with_doctor(&home, &format!("ana {number}"), MADE).await;
        }
        let work = handoffs(json!({}), always());
        let uneven = "\
            select h.divulgador_nome from external_handoffs h join vagas v on cast(v.id as text) = cast(h.vaga_id as text)
            where (h.status = 'expired') <> (v.status = 'aberta')
               or (h.status = 'expired')
                <> exists (select 1 from business_events e where e.dedupe_key = 'handoff_expired:' || cast(h.id as text))";
        let open = "select divulgador_nome from external_handoffs where status = 'pending'";
        let mut cut = 0_u64;

        while !home.texts(open).await.is_empty() {
            cut += 1;
            let attempt = run_with(&home, &work, hours_after(MADE, 48, 0));
            let _ = tokio::time::timeout(Duration::from_micros(500 * cut), attempt).await;
            assert!(home.texts(uneven).await.is_empty(), "cut off after {cut}");
            let (expired, told) = (8 - home.texts(open).await.len(), home.texts(MESSAGES).await.len());
            assert_eq!(expired, told, "cut off after {cut}");
            assert!(cut < 2_000, "it never ends");
        }

        run_with(&home, &work, hours_after(MADE, 48, 0)).await.expect("a whole run");
        assert_eq!(home.texts(MESSAGES).await.len(), 8);
        assert_eq!(home.texts(EVENTS).await, vec!["handoff_expired"; 8]);
    }
}

/// Refuses messages to one kind of people, as a broken trigger of the team would.
async fn refuse(home: &Home, tipo: &str) {
    let refusal = match home {
        Home::Sqlite { .. } => format!(
            "create trigger broken before insert on fila_mensagens when new.tipo = '{tipo}'
            begin select raise(abort, 'the trigger is broken'); end"
        ),
        Home::Postgres { .. } => {
            format!("alter table fila_mensagens add constraint broken check (tipo <> '{tipo}')")
        }
    };
    execute(home, refusal).await;
}

async fn mend(home: &Home) {
    let mending = match home {
        Home::Sqlite { .. } => "drop trigger broken",
        Home::Postgres { .. } => "alter table fila_mensagens drop constraint broken",
    };
    home.execute(mending).await;
}

#[tokio::test]
async fn an_end_whose_doctor_cannot_be_told_is_an_end_all_the_same_and_the_run_says_so() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        refuse(&home, "sistema").await;

        let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("it expired");
        mend(&home).await;
        let again = run_at(&home, hours_after(MADE, 48, 5)).await.expect("a run");

        assert_eq!((counts(&report), counts(&again)), ((Some(1), 1, Some(0)), (Some(0), 0, Some(0))));
        let error = &result(&report, "errors")[0];
        assert_eq!(error["message"], json!("expired"));
        assert!(error["handoff"].is_string() && error["error"].to_string().contains("broken"), "{error}");
        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 0 vaga aberta"]);
        assert_eq!(home.texts(EVENTS).await, ["handoff_expired"]);
        assert!(home.texts(MESSAGES).await.is_empty());
    }
}

#[tokio::test]
async fn a_handoff_that_is_refused_does_not_keep_the_others() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        hand_off(&home, "bia", MADE).await;
        let refusal = match home {
            Home::Sqlite { .. } => {
                "create trigger broken before update on vagas when new.titulo = 'ana'
                begin select raise(abort, 'the trigger is broken'); end"
            }
            Home::Postgres { .. } => {
                "alter table vagas add constraint broken check (titulo <> 'ana' or status = 'reservada')"
            }
        };
        home.execute(refusal).await;

        let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("one was done");

        assert_eq!(counts(&report), (Some(1), 1, Some(1)));
        let error = &result(&report, "errors")[0];
        assert!(error["handoff"].is_string() && error["error"].to_string().contains("broken"), "{error}");
        assert!(!error.to_string().contains("98765"), "no numbers in errors");
        assert_eq!(home.texts(HANDOFFS).await, ["ana pending 0 vaga reservada", "bia expired 0 vaga aberta"]);
    }
}

#[tokio::test]
async fn those_who_are_not_written_to_take_no_place_of_others() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "create table clientes (id integer primary key, telefone text, primeiro_nome text);
            create table doctor_state (cliente_id text, permission_state text);
            insert into clientes values (1, '+55 (11) 91111-1111', 'Ana');
            insert into doctor_state values ('1', 'opted_out')",
        )
        .await;
        for (name, made) in [("ana", MADE), ("bia", MADE), ("cid", "2025-01-06T13:01:00Z")] {
            hand_off(&home, name, made).await;
        }
        home.execute(
            "update external_handoffs set divulgador_telefone = '11 91111-1111' where divulgador_nome = 'ana';
            update external_handoffs set divulgador_telefone = ' - ' where divulgador_nome = 'bia'",
        )
        .await;
        let one_at_a_time = handoffs(json!({ "batch": 1 }), always());

        let report = run_with(&home, &one_at_a_time, hours_after(MADE, 3, 0)).await.expect("a run");

        assert_eq!(counts(&report), (Some(1), 0, Some(0)));
        assert_eq!((result(&report, "opted_out"), result(&report, "without_number")), (&json!(1), &json!(1)));
        let rows = ["ana pending 0 vaga reservada", "bia pending 0 vaga reservada", "cid contacted 1 vaga reservada"];
        assert_eq!(home.texts(HANDOFFS).await, rows);
    }
}

#[tokio::test]
async fn a_count_of_follow_ups_that_cannot_be_is_lived_with() {
    for home in Home::both().await {
        made(&home).await;
        for (name, count) in [("ana", "-1"), ("bia", "4")] {
            hand_off(&home, name, MADE).await;
            execute(
                &home,
                format!("update external_handoffs set followup_count = {count} where divulgador_nome = '{name}'"),
            )
            .await;
        }

        let early = run_at(&home, hours_after(MADE, 1, 0)).await.expect("nothing is due");
        run_at(&home, hours_after(MADE, 2, 0)).await.expect("one is due");

        assert_eq!(counts(&early), (Some(0), 0, Some(0)));
        assert_eq!(home.texts(HANDOFFS).await, ["ana contacted 1 vaga reservada", "bia pending 4 vaga reservada"]);
    }
}

#[tokio::test]
async fn a_column_that_a_table_beside_lacks_stops_follow_ups_by_name_and_no_end() {
    for lacking in [
        "create table doctor_state (cliente_id text, temperature real)",
        "create table clientes (id integer primary key, primeiro_nome text)",
    ] {
        for home in Home::both().await {
            made(&home).await;
            hand_off_with_doctor(&home, "ends", MADE).await;
            hand_off(&home, "goes on", "2025-01-07T13:00:00Z").await;
            home.execute(lacking).await;

            let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("one expires");

            assert_eq!(counts(&report), (Some(1), 1, Some(1)));
            let note = report.note.expect("a note");
            assert!(note.contains("lacks") && note.contains("add with: alter table"), "{note}");
            assert_eq!(home.texts(HANDOFFS).await, ["ends expired 0 vaga aberta", "goes on pending 0 vaga reservada"]);
            assert_eq!(home.texts(MESSAGES).await, ["sistema doctor pendente"]);
        }
    }
}

#[tokio::test]
async fn tables_that_are_made_beside_a_team_s_own_take_ids_of_any_type() {
    let home = Home::postgres().await;
    home.execute(
        "create table clientes (id bigserial primary key, telefone text, primeiro_nome text);
        create table vagas (id bigserial primary key, titulo text, status text, cliente_id bigint);
        insert into clientes (telefone, primeiro_nome) values ('5511900000000', 'Clara'), ('11 98765-4321', 'Ana');
        insert into vagas (titulo, status, cliente_id) values ('ana', 'reservada', 1), ('bia', 'reservada', 1)",
    )
    .await;
    made(&home).await;
    home.execute(
        "insert into external_handoffs (divulgador_nome, divulgador_telefone, vaga_id, cliente_id, created_at) values
          ('ana', '5511987654321', '1', '1', '2025-01-06T13:00:00Z'),
          ('bia', '5511987654321', 'two', 'nobody', '2025-01-06T13:00:00Z')",
    )
    .await;

    let followed_up = run_at(&home, hours_after(MADE, 2, 0)).await.expect("follow-ups");
    let expired = run_at(&home, hours_after(MADE, 48, 0)).await.expect("ends");

    assert_eq!((counts(&followed_up), counts(&expired)), ((Some(2), 0, Some(0)), (Some(2), 0, Some(0))));
    assert_eq!(home.texts(HANDOFFS).await, ["ana expired 1 vaga aberta", "bia expired 1 vaga -"]);
    let queued =
        "select tipo || ' ' || cliente_id || ' ' || left(conteudo, 11) from fila_mensagens order by created_at, 1";
    assert_eq!(
        home.texts(queued).await,
        ["followup 2 Olá, ana! T", "followup 2 Olá, bia! T", "sistema 1 Olá, Clara!", "sistema nobody Olá, doutor"]
    );
}

#[tokio::test]
async fn a_notice_that_nobody_took_in_a_week_is_forgotten_and_without_slack_none_is_kept() {
    let of_ends = "select event_type from business_events where event_type <> 'handoff_followup' order by event_type";
    for home in Home::both().await {
        made(&home).await;
        hand_off(&home, "ana", MADE).await;
        hand_off(&home, "bia", "2025-01-07T13:00:00Z").await;
        let down = Server::answering(500, &[], "").await;

        run_with(&home, &telling(&down), hours_after(MADE, 48, 0)).await.expect("one expired");
        let waits = home.texts(of_ends).await;
        let after_a_week = run_with(&home, &telling(&down), hours_after(MADE, 48 + 24 * 7, 1)).await;
        let kept = home.texts(of_ends).await;
        run_at(&home, hours_after(MADE, 48 + 24 * 7, 2)).await.expect("a run without Slack");

        assert_eq!(waits, ["handoff_expired", "handoff_expired_notice"]);
        after_a_week.expect("one expired");
        assert_eq!(kept, ["handoff_expired", "handoff_expired", "handoff_expired_notice"]);
        assert_eq!(home.texts(of_ends).await, ["handoff_expired", "handoff_expired"]);
    }
}

#[tokio::test]
async fn a_run_takes_a_batch_and_says_what_is_left() {
    for home in Home::both().await {
        made(&home).await;
        for number in 0..5 {
            hand_off(&home, &format!("ana {number}"), MADE).await;
        }
        let work = handoffs(json!({ "batch": 2 }), always());

        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(counts(&run_with(&home, &work, hours_after(MADE, 48, 0)).await.expect("a run")));
        }

        assert_eq!(all, [(Some(2), 0, Some(3)), (Some(2), 0, Some(1)), (Some(1), 0, Some(0)), (Some(0), 0, Some(0))]);
    }
}

#[tokio::test]
async fn slack_is_told_once_of_all_that_expired() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        hand_off(&home, "bia", MADE).await;
        let slack = Server::answering(200, &[], "ok").await;
        let work = telling(&slack);

        let report = run_with(&home, &work, hours_after(MADE, 48, 0)).await.expect("a run");
        let again = run_with(&home, &work, hours_after(MADE, 48, 5)).await.expect("a run");

        assert_eq!((result(&report, "slack"), result(&again, "slack")), (&json!("told"), &json!("nothing_to_tell")));
        let asked = slack.asked();
        assert_eq!(asked.len(), 1);
        let told: Value = serde_json::from_str(&asked[0].body).expect("JSON");
        assert_eq!(
            told["text"],
            json!(
                "2 handoffs expiraram sem confirmação:\n\
                 - ana (20/01, 19:00 às 07:00), com ana\n\
                 - bia (20/01, 19:00 às 07:00), com bia"
            )
        );
        assert_eq!(home.texts(EVENTS).await, ["handoff_expired", "handoff_expired"], "no notice is left");
    }
}

#[tokio::test]
async fn when_slack_is_down_the_run_says_so_and_the_next_one_tells_it_and_nothing_is_repeated() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ana", MADE).await;
        let (down, up) = (Server::answering(500, &[], "").await, Server::answering(200, &[], "ok").await);

        let partial = run_with(&home, &telling(&down), hours_after(MADE, 48, 0)).await.expect("one expired");
        let failure = run_with(&home, &telling(&down), hours_after(MADE, 48, 5)).await.expect_err("still down");
        let told = run_with(&home, &telling(&up), hours_after(MADE, 72, 0)).await.expect("a run");

        assert_eq!(counts(&partial), (Some(1), 1, Some(0)));
        assert_eq!(result(&partial, "slack"), &json!("failed"));
        assert!(partial.note.as_deref().is_some_and(|note| note.contains("Slack answered 500")), "{:?}", partial.note);
        assert_eq!(failure.kind, FailureKind::Retry);
        assert!(failure.message.contains("Slack answered 500"), "{}", failure.message);
        assert_eq!(result(&told, "slack"), &json!("told"));
        assert_eq!((down.asked().len(), up.asked().len()), (2, 1));
        assert_eq!(home.texts(MESSAGES).await, ["sistema doctor pendente"]);
        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 0 vaga aberta"]);
    }
}

#[tokio::test]
async fn without_slack_no_notice_waits_for_the_day_it_comes() {
    for home in Home::both().await {
        made(&home).await;
        hand_off(&home, "ana", MADE).await;
        let slack = Server::answering(200, &[], "ok").await;

        let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("a run");
        run_with(&home, &telling(&slack), hours_after(MADE, 49, 0)).await.expect("a run");

        assert_eq!((report.items_failed, result(&report, "slack")), (0, &json!("not_configured")));
        assert!(slack.asked().is_empty());
    }
}

#[tokio::test]
async fn a_team_s_own_tables_are_adopted_as_they_are() {
    let [sqlite, postgres] = Home::both().await;
    postgres
        .execute(
            "create type handoff_status as enum ('pending', 'contacted', 'confirmed', 'not_confirmed', 'expired');
            create type vaga_status as enum ('aberta', 'reservada', 'fechada');
            create type tipo_mensagem as enum ('lembrete', 'followup', 'sistema');
            create table clientes (id uuid primary key default gen_random_uuid(), telefone varchar(20), primeiro_nome varchar(40));
            create table vagas (id bigserial primary key, status vaga_status not null, hospital_id int);
            create table external_handoffs (id bigserial primary key, vaga_id bigint references vagas, cliente_id uuid
              references clientes, divulgador_nome varchar(60), divulgador_telefone varchar(20), status handoff_status
              not null default 'pending', reserved_until timestamp, last_followup_at timestamp, followup_count smallint,
              expired_at timestamp, created_at timestamp not null, notes text);
            create table business_events (id bigserial primary key, event_type varchar(40) not null, dedupe_key varchar(80)
              unique, vaga_id bigint, event_props json not null);
            create table fila_mensagens (id uuid primary key default gen_random_uuid(), cliente_id uuid references clientes,
              conversa_id uuid, telefone varchar(20), conteudo text not null, tipo tipo_mensagem, prioridade smallint, status
              varchar(20), agendar_para timestamp, enviada_em timestamp, metadata json, created_at timestamp, max_tentativas
              int default 3, tentativas int default 0, erro text, processando_desde timestamp, outcome text,
              outcome_reason_code text, outcome_at timestamp, provider_message_id text, motivo text);
            insert into clientes (telefone, primeiro_nome) values ('5511900000000', 'Clara');
            insert into vagas (status) values ('reservada');
            insert into external_handoffs (vaga_id, cliente_id, divulgador_nome, divulgador_telefone, created_at, reserved_until)
              select 1, id, 'ana', '5511987654321', '2025-01-06 13:00:00', '2025-01-08 13:00:00' from clientes",
        )
        .await;
    sqlite
        .execute(
            "create table clientes (id text primary key, telefone text, primeiro_nome text);
            create table vagas (id integer primary key, status text not null);
            create table external_handoffs (id text primary key, vaga_id integer, cliente_id text, divulgador_nome text,
              divulgador_telefone integer, status text default 'pending', reserved_until text, last_followup_at text,
              followup_count integer, expired_at text, created_at text);
            create table business_events (dedupe_key text unique, vaga_id integer);
            create table fila_mensagens (id integer primary key, cliente_id text, conversa_id text, telefone text, conteudo
              text, tipo text, prioridade integer, status text, agendar_para text, enviada_em text, metadata text, created_at
              text, max_tentativas integer default 3, tentativas integer default 0, erro text, processando_desde text,
              outcome text, outcome_reason_code text, outcome_at text, provider_message_id text);
            insert into clientes values ('c-1', '5511900000000', 'Clara');
            insert into vagas (status) values ('reservada');
            insert into external_handoffs (id, vaga_id, cliente_id, divulgador_nome, divulgador_telefone, created_at,
              reserved_until) values ('h-1', 1, 'c-1', 'ana', 5511987654321, '2025-01-06 13:00:00', '2025-01-08 10:00:00-03:00')",
        )
        .await;
    for home in [&sqlite, &postgres] {
        run_at(home, hours_after(MADE, 1, 59)).await.expect("adopted");
        run_at(home, hours_after(MADE, 2, 0)).await.expect("adopted");
        run_at(home, hours_after(MADE, 47, 59)).await.expect("adopted");
        run_at(home, hours_after(MADE, 48, 0)).await.expect("adopted");

        assert_eq!(home.texts(HANDOFFS).await, ["ana expired 3 vaga aberta"]);
        assert_eq!(
            home.texts(MESSAGES).await,
            ["followup 5511987654321 pendente", "followup 5511987654321 pendente", "sistema doctor pendente"]
        );
        let of_ours =
            "select 'x' from fila_mensagens f join clientes c on c.id = f.cliente_id where f.telefone is null";
        assert_eq!(home.texts(of_ours).await, ["x"]);
    }
    let mark = "select cast(expired_at as text) from external_handoffs";
    assert_eq!(postgres.texts(mark).await, ["2025-01-08 13:00:00"]);
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_statement_that_adds_it() {
    for home in Home::both().await {
        made(&home).await;
        home.execute("alter table external_handoffs drop column expired_at").await;

        let failure = run_at(&home, instant(MADE)).await.expect_err("a column is missing");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        let begin = "table external_handoffs lacks expired_at; add with: ";
        let statement = failure.message.strip_prefix(begin).unwrap_or_else(|| panic!("{}", failure.message)).to_owned();
        execute(&home, statement).await;
        run_at(&home, instant(MADE)).await.expect("the statement that was given repairs it");
    }
}

#[tokio::test]
async fn a_queue_that_refuses_who_is_no_client_is_doubtful_while_follow_ups_go() {
    for home in Home::both().await {
        home.execute("create table fila_mensagens (cliente_id text not null, conteudo text)").await;
        let lacking = &tables::FILA_MENSAGENS;
        let additions =
            lacking.columns.iter().filter(|it| !["cliente_id", "conteudo", "created_at"].contains(&it.name));
        for column in additions {
            execute(&home, format!("alter table fila_mensagens add column {} text", column.name)).await;
        }
        execute(&home, "alter table fila_mensagens add column created_at text".into()).await;
        let mut tx = (home.app().begin)().await.expect("the test's database answers");
        let adopted = team::adopt(&mut tx, &[lacking], false).await.expect("it is there");

        let doubts = handoffs(json!({}), always()).doubts(&adopted);

        assert!(doubts.len() == 1 && doubts[0].starts_with("fila_mensagens.cliente_id must not be null"), "{doubts:?}");
        assert!(handoffs(json!({ "follow_ups": false }), always()).doubts(&adopted).is_empty());
    }
}

#[tokio::test]
async fn a_queue_without_numbers_stops_follow_ups_by_name_and_no_end() {
    for home in Home::both().await {
        made(&home).await;
        hand_off_with_doctor(&home, "ends", MADE).await;
        hand_off(&home, "goes on", "2025-01-07T13:00:00Z").await;
        home.execute("alter table fila_mensagens drop column telefone").await;
        let lacks =
            "table fila_mensagens lacks telefone; add with: alter table fila_mensagens add column telefone text";

        let report = run_at(&home, hours_after(MADE, 48, 0)).await.expect("one expires");
        let failure = run_at(&home, hours_after(MADE, 48, 5)).await.expect_err("nothing can be done");
        let paused =
            run_with(&home, &handoffs(json!({ "follow_ups": false }), always()), hours_after(MADE, 48, 5)).await;

        assert_eq!(counts(&report), (Some(1), 1, Some(1)));
        assert_eq!(report.note.as_deref(), Some(lacks));
        assert_eq!(
            (failure.kind, failure.message),
            (FailureKind::Permanent, format!("nothing done, 1 failed: {lacks}"))
        );
        assert_eq!(paused.expect("paused").items_failed, 0);
        assert_eq!(home.texts(HANDOFFS).await, ["ends expired 0 vaga aberta", "goes on pending 0 vaga reservada"]);
    }
}

#[tokio::test]
async fn a_word_that_an_enumeration_lacks_is_named_with_the_statement_that_adds_it() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "create type handoff_status as enum ('pending', 'contacted', 'confirmed');
        drop index external_handoffs_abertos;
        alter table external_handoffs drop constraint external_handoffs_status_check;
        alter table external_handoffs alter column status drop default;
        alter table external_handoffs alter column status type handoff_status using status::handoff_status",
    )
    .await;

    let failure = run_at(&home, instant(MADE)).await.expect_err("a word is missing");

    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(
        failure.message,
        "column external_handoffs.status does not know \"expired\"; add with: alter type handoff_status add value 'expired'"
    );
    home.execute("alter type handoff_status add value 'expired'").await;
    run_at(&home, instant(MADE)).await.expect("the statement that was given repairs it");
}

#[tokio::test]
async fn a_missing_table_is_created_only_where_that_is_allowed() {
    for home in Home::both().await {
        let mut ctx = context_at(&home, instant(MADE));
        ctx.tools = Tools { create_team_tables: false, ..ctx.tools };

        let failure = commit(handoffs(json!({}), always()).run(ctx).await).await.expect_err("forbidden");

        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.starts_with("table external_handoffs is missing"), "{}", failure.message);
    }
}

#[test]
fn templates_and_limits_are_checked_when_jobs_toml_is_read() {
    let mistakes = |settings| checked("handoffs", settings, &Targets::new()).expect_err("a mistake");

    assert_eq!(
        mistakes(json!({ "texts": { "followup_2": "Olá {hospital}", "expired": "{nome" }, "batch": 0 })),
        [
            "texts.followup_2 has the unknown place {hospital}; there are {nome}, {vaga} and {prazo}",
            "texts.expired has a brace without its other half",
            "batch is 0, and must be between 1 and 1000",
        ]
    );
    assert!(mistakes(json!({ "texts": { "followup_4": "x" } }))[0].contains("followup_4"));
    assert!(mistakes(json!({ "text": {} }))[0].contains("unknown field"));
}
