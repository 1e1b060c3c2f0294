//! `retomada` on real tables of both databases: nights, weekends, holidays and tables of a team's own making.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Reason, Report, RunId},
        schedule::Zone,
    },
    handlers::{Context, OutboundTable, Scope, Targets, Tools, Work},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::attempt::{Home, checked, commit, context, instant, job, run};

/// What is queued, as text that reads the same on both databases.
pub const QUEUED: &str = "\
    select coalesce(cast(cliente_id as text), '-') || ' ' || tipo || ' ' || status || ' ' || conteudo
    from fila_mensagens order by cast(cliente_id as text), conteudo";

/// What became of the messages.
pub const MESSAGES: &str = "\
    select mensagem || ': ' || case when cast(processada as text) in ('true', '1') then 'processed' else 'waits' end
        || ' ' || coalesce(processada_resultado, '-')
    from mensagens_fora_horario order by recebida_em, mensagem";

const ANA: &str = "00000000-0000-0000-0000-00000000000a";
const BIA: &str = "00000000-0000-0000-0000-00000000000b";

/// Monday, 2025-01-13, 08:00 in São Paulo.
pub fn monday() -> DateTime<Utc> {
    instant("2025-01-13T11:00:00Z")
}

/// A context of a new run at a moment, in São Paulo.
pub fn at(home: &Home, now: DateTime<Utc>, targets: Targets) -> Context {
    let mut ctx = context(home.app());
    let (mut job, mut run) = (job(), run());
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    run.id = RunId(Uuid::now_v7());
    ctx.tools = Tools::new(targets);
    (ctx.now, ctx.deadline) = (now, now + TimeDelta::minutes(5));
    (ctx.job, ctx.run) = (Arc::new(job), Arc::new(run));
    ctx
}

/// A work with its part of the surroundings: targets, `[outbound]`, variables.
pub fn read(name: &str, settings: Value, (targets, outbound, variables): (&Targets, Value, &[(&str, &str)])) -> Work {
    let outbound: OutboundTable = serde_json::from_value(outbound).expect("an [outbound]");
    let variables: BTreeMap<String, String> = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let outbound = outbound.resolve(&variables, targets).expect("settings that go together");
    let mut work = Work::parse(name, settings).expect("settings that can be read");
    let scope = Scope { targets, outbound: &outbound, folder: Path::new("."), variables: &variables };
    assert_eq!(work.check(&scope), Vec::<String>::new());
    work
}

async fn greet_at(home: &Home, now: DateTime<Utc>) -> Result<Report, Failure> {
    greet_with(home, json!({}), now).await
}

async fn greet_with(home: &Home, settings: Value, now: DateTime<Utc>) -> Result<Report, Failure> {
    let holidays = json!({ "hours": { "holidays": ["2025-01-20"] } });
    let work = read("retomada", settings, (&Targets::new(), holidays, &[]));
    commit(work.run(at(home, now, Targets::new())).await).await
}

/// The tables as the handler makes them, empty.
pub async fn made(home: &Home) {
    greet_at(home, monday()).await.expect("tables are made");
}

const WEEKEND: &str = "\
    insert into mensagens_fora_horario (cliente_id, conversa_id, mensagem, recebida_em)
    values
      ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-0000000000ca', 'friday 21:00',
        '2025-01-11T00:00:00Z'),
      ('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-0000000000cb', 'saturday noon',
        '2025-01-11T15:00:00Z'),
      ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-0000000000ca', 'sunday 23:59',
        '2025-01-13T02:59:00Z')";

fn skipped_reason(ended: Result<Report, Failure>) -> String {
    let failure = ended.expect_err("nothing is done out of hours");
    assert_eq!(failure.kind, FailureKind::Skipped(Reason::Handler));
    failure.message
}

#[tokio::test]
async fn what_came_in_from_friday_night_on_waits_for_monday_morning() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(WEEKEND).await;

        for closed in ["2025-01-11T00:00:01Z", "2025-01-11T15:00:01Z", "2025-01-13T10:59:59.999Z"] {
            let words = skipped_reason(greet_at(&home, instant(closed)).await);
            assert_eq!(words, "fora_horario; business hours begin at 2025-01-13T11:00:00Z");
        }
        assert_eq!(home.texts(QUEUED).await, Vec::<String>::new());
        let report = greet_at(&home, monday()).await.expect("business has begun");

        assert_eq!((report.items, report.items_failed, report.left), (Some(3), 0, Some(0)));
        let greeting = "Oi! Recebi sua mensagem fora do horário de atendimento.\nJá estou por aqui: podemos continuar?";
        let queued = [ANA, BIA].map(|client| format!("{client} resposta pendente {greeting}"));
        assert_eq!(home.texts(QUEUED).await, queued);
        let first =
            home.texts("select cast(id as text) from mensagens_fora_horario where mensagem = 'friday 21:00'").await;
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "friday 21:00: processed retomada".to_owned(),
                "saturday noon: processed retomada".to_owned(),
                format!("sunday 23:59: processed retomada_junto:{}", first[0]),
            ]
        );
        let again = greet_at(&home, monday() + TimeDelta::minutes(1)).await.expect("nothing is left");
        assert_eq!((again.items, home.texts(QUEUED).await.len()), (Some(0), 2));
    }
}

#[tokio::test]
async fn a_holiday_monday_is_no_day_of_business() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(WEEKEND).await;

        let words = skipped_reason(greet_at(&home, monday() + TimeDelta::days(7)).await);
        let report = greet_at(&home, monday() + TimeDelta::days(8)).await.expect("Tuesday is a day of business");

        assert_eq!(words, "fora_horario; business hours begin at 2025-01-21T11:00:00Z");
        assert_eq!((report.items, home.texts(QUEUED).await.len()), (Some(3), 2));
    }
}

#[tokio::test]
async fn a_row_of_the_queue_says_where_it_came_from_and_goes_before_what_nobody_waits_for() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(WEEKEND).await;

        greet_with(&home, json!({ "greeting": "Bom dia!", "resume": "" }), monday()).await.expect("greeted");

        let rows = home
            .texts(
                "select conteudo || ' ' || cast(prioridade as text) || ' ' || cast(conversa_id as text) \
                 from fila_mensagens order by conversa_id",
            )
            .await;
        assert_eq!(rows[0], "Bom dia! 7 00000000-0000-0000-0000-0000000000ca");
        let metadata = home.texts("select cast(metadata as text) from fila_mensagens order by conversa_id").await;
        let metadata: Value = serde_json::from_str(&metadata[0]).expect("an object");
        let first =
            home.texts("select cast(id as text) from mensagens_fora_horario where mensagem = 'friday 21:00'").await;
        let in_order = "select mensagem from mensagens_fora_horario m join fila_mensagens f \
             on f.conversa_id = m.conversa_id and m.processada_resultado = 'retomada' order by f.created_at";
        assert_eq!(home.texts(in_order).await, ["friday 21:00", "saturday noon"]);
        assert_eq!(metadata["origem"], "retomada");
        assert_eq!(metadata["mensagem_fora_horario_id"], first[0]);
    }
}

#[tokio::test]
async fn a_message_of_nobody_is_tried_three_times_and_keeps_no_other_from_its_answer() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into mensagens_fora_horario (mensagem, recebida_em) values ('of nobody', '2025-01-11T00:00:00Z')",
        )
        .await;
        home.execute(WEEKEND).await;

        let first = greet_at(&home, monday()).await.expect("others are answered");
        let second = greet_at(&home, monday() + TimeDelta::days(1)).await.expect_err("nobody is left to answer");
        let third = greet_at(&home, monday() + TimeDelta::days(2)).await.expect_err("nor then");
        let fourth = greet_at(&home, monday() + TimeDelta::days(3)).await.expect("it was given up");

        assert_eq!((first.items, first.items_failed, first.left), (Some(3), 1, Some(1)));
        let error = "the message has no cliente_id, so there is nobody to write to";
        assert_eq!(first.result.expect("a result")["errors"][0]["error"], error);
        assert_eq!(second.kind, FailureKind::Retry);
        let (second, third) = (second.report.expect("counts"), third.report.expect("counts"));
        assert_eq!((second.items, second.items_failed, second.left), (Some(0), 1, Some(1)));
        assert_eq!((third.items, third.items_failed, third.left), (Some(0), 1, Some(0)));
        assert_eq!(third.note.as_deref(), Some("1 messages were given up after 3 tries"));
        assert_eq!((fourth.items, fourth.items_failed, fourth.left), (Some(0), 0, Some(0)));
        assert!(home.texts(MESSAGES).await.contains(&format!("of nobody: processed erro:{error}")));
    }
}

/// As a team made it long ago: whole numbers for ids and for truth, columns of its own.
const OF_A_TEAM: [&str; 2] = [
    "create table mensagens_fora_horario (
       id bigint primary key, cliente_id bigint not null, conversa_id bigint, mensagem text, recebida_em timestamp,
       processada integer, processada_em timestamp, processada_resultado varchar(40), canal text default 'whatsapp')",
    "create table fila_mensagens (
       id integer primary key, cliente_id bigint not null, conversa_id bigint, conteudo varchar(500) not null,
       tipo varchar(20), prioridade smallint, status varchar(20), agendar_para timestamp, enviada_em timestamp,
       metadata text, created_at timestamp, max_tentativas integer default 3, tentativas integer default 0, erro text,
       processando_desde timestamp, outcome text, outcome_reason_code text, outcome_at timestamp,
       provider_message_id text, loja text default 'sul')",
];

#[tokio::test]
async fn tables_of_a_team_are_used_as_they_are() {
    for home in Home::both().await {
        for statement in OF_A_TEAM {
            home.execute(statement).await;
        }
        match &home {
            Home::Postgres { .. } => {
                home.execute(
                    "create sequence fila_ids; alter table fila_mensagens alter column id set default nextval('fila_ids')",
                )
                .await;
            }
            Home::Sqlite { .. } => {}
        }
        home.execute(
            "insert into mensagens_fora_horario (id, cliente_id, conversa_id, mensagem, recebida_em, processada)
             values (1, 7, 70, 'a', '2025-01-11 00:00:00', 0), (2, 8, 80, 'b', '2025-01-12 00:00:00', null),
                    (3, 9, 90, 'c', '2025-01-10 00:00:00', 1)",
        )
        .await;

        let report = greet_with(&home, json!({ "greeting": "Oi!", "resume": "" }), monday()).await.expect("it works");

        assert_eq!((report.items, report.left), (Some(2), Some(0)));
        assert_eq!(home.texts(QUEUED).await, ["7 resposta pendente Oi!", "8 resposta pendente Oi!"]);
        assert_eq!(home.texts(MESSAGES).await, ["c: processed -", "a: processed retomada", "b: processed retomada"]);
    }
}

#[tokio::test]
async fn a_row_that_the_queue_refuses_stays_and_the_others_go() {
    for home in Home::both().await {
        for statement in OF_A_TEAM {
            home.execute(statement).await;
        }
        // Nothing gives PostgreSQL an id here, and a unique conversation gives SQLite something to refuse.
        home.execute("create unique index one_of_each on fila_mensagens (conversa_id)").await;
        home.execute("insert into fila_mensagens (id, cliente_id, conversa_id, conteudo, status) values (1, 7, 70, 'x', 'enviada')")
            .await;
        home.execute(
            "insert into mensagens_fora_horario (id, cliente_id, conversa_id, mensagem, recebida_em, processada)
             values (1, 7, 70, 'a', '2025-01-11 00:00:00', 0), (2, 8, 80, 'b', '2025-01-12 00:00:00', 0)",
        )
        .await;

        let ended = greet_with(&home, json!({ "greeting": "Oi!", "resume": "" }), monday()).await;

        let messages = home.texts(MESSAGES).await;
        assert!(messages[0].starts_with("a: waits tentativa:1:"), "{messages:?}");
        match &home {
            Home::Sqlite { .. } => {
                let report = ended.expect("one of two");
                assert_eq!((report.items, report.items_failed, report.left), (Some(1), 1, Some(1)));
                assert_eq!(messages[1], "b: processed retomada");
            }
            Home::Postgres { .. } => {
                let report = ended.expect_err("none of two").report.expect("counts");
                assert_eq!((report.items, report.items_failed, report.left), (Some(0), 2, Some(2)));
            }
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_statement_that_adds_it() {
    for home in Home::both().await {
        home.execute("create table mensagens_fora_horario (id integer primary key, mensagem text)").await;

        let failure = greet_at(&home, monday()).await.expect_err("columns are missing");

        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.starts_with("table mensagens_fora_horario lacks cliente_id, "), "{}", failure.message);
        assert!(
            failure.message.contains("alter table mensagens_fora_horario add column processada "),
            "{}",
            failure.message
        );
    }
}

#[tokio::test]
async fn no_table_is_made_where_that_is_forbidden() {
    for home in Home::both().await {
        let mut ctx = at(&home, monday(), Targets::new());
        ctx.tools.create_team_tables = false;
        let work = read("retomada", json!({}), (&Targets::new(), json!({}), &[]));

        let failure = commit(work.run(ctx).await).await.expect_err("there is no table");

        assert!(failure.message.contains("table mensagens_fora_horario is missing"), "{}", failure.message);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, words) in [
        (json!({ "batch": 0 }), "batch is 0"),
        (json!({ "greeting": " ", "resume": "" }), "nothing to say"),
        (json!({ "greeting": "a".repeat(5_000) }), "4096 at most"),
        (json!({ "field": "texto" }), "no post says which"),
        (json!({ "post": "/responder" }), "no target: set APP_URL"),
        (json!({ "post": "/responder", "target": "api" }), "unknown target \"api\""),
        (json!({ "post": "http://localhost:1/x", "field": "a..b" }), "an empty part"),
        (json!({ "saudacao": "Oi" }), "unknown field"),
    ] {
        let errors = checked("retomada", settings.clone(), &Targets::new()).expect_err("a mistake");
        assert!(errors.join("\n").contains(words), "{settings}: {errors:?}");
    }
}
