//! `report` on real tables of both databases, and once through the real binary.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use emponto::{
    domain::{
        job::JobName,
        ledger::JobPeriod,
        run::{Failure, FailureKind, Report},
        schedule::Zone,
    },
    handlers::{AppDatabase, Context},
};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, checked, commit, context, instant, job, run, work, work_telling},
    server::{Server, Step, raw},
    support::daemon::Setup,
};

/// Wednesday, 08:00 in Sao Paulo.
const MORNING: &str = "2025-01-08T11:00:00Z";

/// The tables as the project makes them.
async fn made(home: &Home) {
    match home {
        Home::Sqlite { .. } => {
            home.execute(include_str!("../../migrations/sqlite/team/fila_mensagens.sql")).await;
            home.execute(include_str!("../../migrations/sqlite/team/external_handoffs.sql")).await;
        }
        Home::Postgres { .. } => {
            home.execute(include_str!("../../migrations/postgres/team/fila_mensagens.sql")).await;
            home.execute(include_str!("../../migrations/postgres/team/external_handoffs.sql")).await;
        }
    }
}

/// Yesterday was 2025-01-07T03:00Z until before 2025-01-08T03:00Z.
const MESSAGES: &str = "\
    insert into fila_mensagens (conversa_id, conteudo, status, created_at, enviada_em, outcome_at) values
      ('00000000-0000-4000-8000-000000000001', 'first instant', 'enviada', '2025-01-06T12:00:00Z', '2025-01-07T03:00:00Z', null),
      ('00000000-0000-4000-8000-000000000001', 'last instant', 'enviada', '2025-01-07T10:00:00Z', '2025-01-08T02:59:59.999Z', null),
      ('00000000-0000-4000-8000-000000000002', 'sent today', 'enviada', '2025-01-07T10:00:00Z', '2025-01-08T03:00:00Z', null),
      ('00000000-0000-4000-8000-000000000003', 'sent before', 'enviada', '2025-01-06T12:00:00Z', '2025-01-07T02:59:59.999Z', null),
      ('00000000-0000-4000-8000-000000000004', 'failed', 'erro', '2025-01-07T04:00:00Z', null, '2025-01-07T05:00:00Z'),
      (null, 'no outcome_at', 'bloqueada', '2025-01-07T03:00:00Z', null, null),
      (null, 'made this morning', 'pendente', '2025-01-08T10:00:00Z', null, null),
      ('00000000-0000-4000-8000-000000000005', 'put off', 'pendente', '2025-01-07T12:00:00Z', null, '2025-01-07T13:00:00Z'),
      ('00000000-0000-4000-8000-000000000006', 'stuck', 'processando', '2025-01-01T00:00:00Z', null, null)";

const HANDOFFS: &str = "\
    insert into external_handoffs (status, created_at, updated_at, expired_at) values
      ('pending', '2025-01-07T04:00:00Z', null, null),
      ('contacted', '2025-01-05T12:00:00Z', '2025-01-07T12:00:00Z', null),
      ('confirmed', '2025-01-05T12:00:00Z', '2025-01-07T12:00:00Z', null),
      ('not_confirmed', '2025-01-05T12:00:00Z', '2025-01-08T03:00:00Z', null),
      ('expired', '2025-01-05T12:00:00Z', null, '2025-01-07T03:00:00Z'),
      ('expired', '2025-01-05T12:00:00Z', null, '2025-01-07T02:59:59Z')";

fn planned_for(database: AppDatabase, moment: DateTime<Utc>) -> Context {
    let mut ctx = context(database);
    let (mut job, mut run) = (job(), run());
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    run.scheduled_for = Some(moment);
    (ctx.now, ctx.job, ctx.run) = (moment, Arc::new(job), Arc::new(run));
    ctx
}

async fn report(home: &Home, settings: Value) -> Result<Report, Failure> {
    commit(work("report", settings).run(planned_for(home.app(), instant(MORNING))).await).await
}

fn result(report: &Report) -> Value {
    report.result.clone().expect("the report is the result")
}

#[tokio::test]
async fn every_count_is_that_of_yesterday_on_the_clocks_of_the_zone() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(MESSAGES).await;
        home.execute(HANDOFFS).await;

        let report = report(&home, json!({})).await.expect("a report");

        let result = result(&report);
        assert_eq!(
            result["period"],
            json!({
                "name": "yesterday", "first_day": "2025-01-07", "last_day": "2025-01-07",
                "from": "2025-01-07T03:00:00Z", "until": "2025-01-08T03:00:00Z", "timezone": "America/Sao_Paulo",
            })
        );
        assert_eq!(
            result["messages"],
            json!({
                "created": 5, "ended": { "enviada": 2, "erro": 1, "bloqueada": 1 },
                "open": { "pendente": 2, "processando": 1 },
            })
        );
        assert_eq!(result["conversations"], json!(4));
        assert_eq!(
            result["handoffs"],
            json!({
                "created": 1, "ended": { "confirmed": 1, "not_confirmed": 0, "expired": 1 },
                "open": { "pending": 1, "contacted": 1 },
            })
        );
        assert_eq!((report.items, report.items_failed), (Some(1), 0));
        assert!(report.note.expect("a note").contains("[outbound] names no Slack webhook"));
    }
}

#[tokio::test]
async fn a_period_is_that_of_the_planned_instant_however_late_the_attempt() {
    for home in Home::both().await {
        let mut ctx = planned_for(home.app(), instant(MORNING));
        ctx.now = instant("2025-01-09T04:00:00Z");

        let report = commit(work("report", json!({})).run(ctx).await).await.expect("a report");

        assert_eq!(result(&report)["period"]["first_day"], json!("2025-01-07"));
    }
}

#[tokio::test]
async fn other_periods_count_other_days() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(MESSAGES).await;
        for (period, created, sent) in [
            ("today", 1, 1),
            ("yesterday", 5, 2),
            ("last_7_days", 7, 3),
            ("since_last_business_day", 5, 2),
            ("last_week", 1, 0),
        ] {
            let result = result(&report(&home, json!({ "period": period })).await.expect("a report"));

            assert_eq!(result["messages"]["created"], json!(created), "{period}");
            assert_eq!(result["messages"]["ended"]["enviada"], json!(sent), "{period}");
        }
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_said_so_and_never_counted_as_nothing() {
    for home in Home::both().await {
        let report = report(&home, json!({})).await.expect("a report");

        let result = result(&report);
        assert_eq!([&result["messages"], &result["conversations"], &result["handoffs"]], [&Value::Null; 3]);
        let text = result["text"].as_str().expect("a text");
        assert!(text.contains("a tabela fila_mensagens não existe neste banco"), "{text}");
        assert!(text.contains("a tabela external_handoffs não existe neste banco"), "{text}");
    }
}

#[tokio::test]
async fn an_empty_table_counts_nothing() {
    for home in Home::both().await {
        made(&home).await;

        let result = result(&report(&home, json!({})).await.expect("a report"));

        let nothing = json!({ "created": 0, "ended": {}, "open": { "pendente": 0, "processando": 0 } });
        assert_eq!((&result["messages"], &result["conversations"]), (&nothing, &json!(0)));
    }
}

#[tokio::test]
async fn a_query_that_fails_is_an_error_that_names_its_table() {
    let [sqlite, postgres] = Home::both().await;
    for home in [&sqlite, &postgres] {
        home.execute("create table fila_mensagens (id integer primary key, created_at text)").await;
        let failure = report(home, json!({})).await.expect_err("a column is missing");
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        assert!(failure.message.starts_with("table fila_mensagens lacks status; add with: alter table"), "{failure:?}");
    }
    postgres.execute("alter table fila_mensagens add column status text").await;
    postgres.execute("insert into fila_mensagens values (1, 'never', 'enviada')").await;
    let failure = report(&postgres, json!({})).await.expect_err("a text that is no instant");
    assert!(failure.message.starts_with("counting fila_mensagens: invalid input syntax"), "{failure:?}");
}

#[tokio::test]
async fn a_team_s_own_tables_are_counted_as_they_are() {
    let [sqlite, postgres] = Home::both().await;
    postgres
        .execute(
            "create type message_status as enum ('enviada', 'pendente', 'na_geladeira');
            create table fila_mensagens (status message_status, created_at timestamp, notes text);
            create table external_handoffs (status varchar(20), expired_at timestamp)",
        )
        .await;
    sqlite
        .execute(
            "create table fila_mensagens (status text, created_at text, notes text);
            create table external_handoffs (status text, expired_at text)",
        )
        .await;
    for home in [&sqlite, &postgres] {
        home.execute(
            "insert into fila_mensagens (status, created_at) values
              ('enviada', '2025-01-07 12:00:00'), ('na_geladeira', '2025-01-07 12:00:00'), (null, '2025-01-01 12:00:00');
            insert into external_handoffs values ('confirmed', null), ('pending', null)",
        )
        .await;

        let report = report(home, json!({ "language": "en" })).await.expect("a report");

        let result = result(&report);
        assert_eq!(
            result["messages"],
            json!({
                "created": 2, "ended": { "?": 0, "enviada": 1, "na_geladeira": 1 },
                "open": { "pendente": 0, "processando": 0 },
            })
        );
        assert_eq!(result["conversations"], Value::Null);
        // Nothing says when a handoff was made or confirmed: that is not known, and not 0.
        assert_eq!(
            result["handoffs"],
            json!({ "created": null, "ended": null, "open": { "pending": 1, "contacted": 0 } })
        );
        let text = result["text"].as_str().expect("a text");
        assert!(text.contains("Ended in the period: not known"), "{text}");
        assert!(text.contains("sent 1 · failed 0 · blocked 0 · cancelled 0 · na_geladeira 1"), "{text}");
    }
}

/// A ledger that says this of the jobs.
fn with_jobs(mut database: AppDatabase, jobs: Vec<JobPeriod>) -> AppDatabase {
    database.history = Arc::new(move |from, until| {
        assert_eq!((from, until), (instant("2025-01-07T03:00:00Z"), instant("2025-01-08T03:00:00Z")));
        let jobs = jobs.clone();
        Box::pin(async move { Ok(jobs) })
    });
    database
}

fn period(name: &str, runs: u64, failures: u64, p95_ms: u64) -> JobPeriod {
    let durations = (0 < p95_ms).then_some(p95_ms);
    JobPeriod {
        runs,
        successes: runs - failures,
        failures,
        timeouts: failures / 2,
        p95_duration_ms: durations,
        max_duration_ms: durations.map(|ms| 2 * ms),
        ..JobPeriod::of(JobName::from_store(name))
    }
}

const PORTUGUESE: &str = "\
*Relatório de terça-feira, 07/01/2025*

*Mensagens*
Novas no período: 5
Encerradas no período: enviadas 2 · com erro 1 · bloqueadas 1 · canceladas 0
Em aberto agora: pendentes 2 · em envio 1
Conversas com movimento: 4

*Handoffs*
Novas no período: 1
Encerradas no período: confirmados 1 · não confirmados 0 · expirados 1
Em aberto agora: contatados 1 · aguardando contato 1

*Jobs*
Execuções: 3.030
Falhas: 4
• fila_worker: 3 de 2.880 (1 por tempo esgotado)
• sync_briefing: 1 de 24
Mais lentos:
• grupos_worker: p95 41,2 s, no máximo 1 min 22 s
• fila_worker: p95 850 ms, no máximo 1,7 s
Horários sem explicação desde o início: 2";

#[tokio::test]
async fn people_read_what_happened_in_their_words() {
    let home = Home::sqlite().await;
    made(&home).await;
    home.execute(MESSAGES).await;
    home.execute(HANDOFFS).await;
    let unexplained = JobPeriod { unexplained: 2, ..period("grupos_worker", 126, 0, 41_200) };
    let jobs = vec![period("fila_worker", 2_880, 3, 850), unexplained, period("sync_briefing", 24, 1, 0)];
    let ctx = planned_for(with_jobs(home.app(), jobs), instant(MORNING));

    let report = commit(work("report", json!({})).run(ctx).await).await.expect("a report");

    let result = result(&report);
    assert_eq!(result["text"], json!(PORTUGUESE));
    assert_eq!(
        result["jobs"],
        json!({
            "runs": 3_030, "failures": 4, "unexplained": 2,
            "failing": [
                { "job": "fila_worker", "runs": 2_880, "failures": 3, "timeouts": 1 },
                { "job": "sync_briefing", "runs": 24, "failures": 1, "timeouts": 0 },
            ],
            "slowest": [
                { "job": "grupos_worker", "p95_duration_ms": 41_200, "max_duration_ms": 82_400 },
                { "job": "fila_worker", "p95_duration_ms": 850, "max_duration_ms": 1_700 },
            ],
        })
    );
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_an_error() {
    let home = Home::sqlite().await;
    let mut database = home.app();
    database.history = Arc::new(|_, _| Box::pin(async { Err(Failure::retry("cannot read the ledger: away")) }));

    let ending = work("report", json!({})).run(planned_for(database, instant(MORNING))).await;

    let failure = commit(ending).await.expect_err("no ledger");
    assert_eq!((failure.message.as_str(), failure.before_effect), ("cannot read the ledger: away", true));
}

#[test]
fn an_unknown_period_or_language_is_refused() {
    for settings in [json!({ "period": "last_year" }), json!({ "language": "fr" }), json!({ "days": 3 })] {
        let errors = checked("report", settings.clone(), &Default::default()).expect_err("refused");
        assert!(errors[0].contains("unknown"), "{settings}: {errors:?}");
    }
}

async fn told(home: &Home, webhook: &str) -> Result<Report, Failure> {
    let ctx = planned_for(home.app(), instant(MORNING));
    commit(work_telling("report", json!({}), webhook).run(ctx).await).await
}

#[tokio::test]
async fn slack_is_given_the_text_and_blocks_once() {
    for home in Home::both().await {
        made(&home).await;
        let slack = Server::answering(200, &[], "ok").await;

        let report = told(&home, &format!("{}/services/secret", slack.url)).await.expect("told");

        let asked = slack.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].method.as_str(), asked[0].place.as_str()), ("POST", "/services/secret"));
        let body: Value = serde_json::from_str(&asked[0].body).expect("JSON");
        assert_eq!(body["text"], result(&report)["text"]);
        let kinds: Vec<_> = body["blocks"].as_array().expect("blocks").iter().map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["header", "section", "section", "section"]);
        assert_eq!(body["blocks"][0]["text"]["text"], json!("Relatório de terça-feira, 07/01/2025"));
        assert_eq!((report.note, report.items), (None, Some(1)));
    }
}

#[tokio::test]
async fn when_slack_cannot_be_told_the_report_is_kept_and_tried_again_where_that_helps() {
    let home = Home::sqlite().await;
    made(&home).await;
    home.execute(MESSAGES).await;
    let port = crate::support::free_port();
    let broken = Server::answering(500, &[], "oops").await;
    let refuses = Server::answering(404, &[], "no_service").await;
    let busy = Server::answering(429, &[("retry-after", "30")], "").await;
    let reset = raw(vec![Step::Reset]).await;
    let (retry, permanent) = (FailureKind::Retry, FailureKind::Permanent);
    for (url, kind, before_effect, words) in [
        (format!("http://127.0.0.1:{port}"), retry, true, "cannot connect"),
        (broken.url, retry, false, "Slack answered 500"),
        (reset, retry, false, "no answer"),
        (refuses.url, permanent, false, "Slack answered 404: no_service"),
        (busy.url, FailureKind::Snooze(Duration::from_secs(30)), true, "Slack answered 429"),
    ] {
        let failure = told(&home, &format!("{url}/services/secret")).await.expect_err("not told");

        assert_eq!((failure.kind, failure.before_effect), (kind, before_effect), "{failure:?}");
        assert!(failure.message.contains(words) && !failure.message.contains("secret"), "{}", failure.message);
        let kept = failure.report.expect("what was counted").result.expect("a result");
        assert_eq!(kept["messages"]["created"], json!(5), "{words}");
    }
}

#[tokio::test]
async fn a_slack_that_does_not_answer_is_not_waited_for() {
    let home = Home::sqlite().await;
    let slow = raw(vec![Step::Wait(Duration::from_secs(60))]).await;
    let begun = std::time::Instant::now();

    let failure = told(&home, &slow).await.expect_err("no answer");

    // It may have been posted: with `at_most_once` it is not posted again.
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false), "{}", failure.message);
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
}

/// Jobs that work, that fail, and one that tells of today; in a zone whose day does not end while the test runs.
fn jobs_toml() -> String {
    let is_late = Utc::now().format("%H").to_string() == "23";
    let zone = if is_late { "Asia/Tokyo" } else { "UTC" };
    format!(
        "version = 1
        [jobs.works]
        run.noop = {{}}
        [jobs.fails]
        retry = {{ max_attempts = 1 }}
        run.noop = {{ fail = 1.0 }}
        [jobs.daily_report]
        at = \"08:00\"
        timezone = \"{zone}\"
        run.report = {{ period = \"today\", language = \"en\" }}"
    )
}

#[test]
fn the_daemon_reports_what_its_own_ledger_holds() {
    let setup = Setup::new(&jobs_toml());
    for (job, code) in [("works", 0), ("works", 0), ("fails", 1), ("daily_report", 0)] {
        let output = setup.run(&["run", job, "--once"]);
        assert_eq!(output.status.code(), Some(code), "{job}: {}", String::from_utf8_lossy(&output.stderr));
    }

    let output = setup.run(&["runs", "list", "--job", "daily_report", "-o", "json"]);
    let runs: Value = serde_json::from_slice(&output.stdout).expect("a list");
    let id = runs[0]["id"].as_str().expect("one run");
    let shown = setup.run(&["runs", "show", id, "-o", "json"]);
    let run: Value = serde_json::from_slice(&shown.stdout).expect("a run");

    let jobs = &run["result"]["jobs"];
    assert_eq!((&jobs["runs"], &jobs["failures"], &jobs["unexplained"]), (&json!(3), &json!(1), &json!(0)), "{run}");
    assert_eq!(jobs["failing"], json!([{ "job": "fails", "runs": 1, "failures": 1, "timeouts": 0 }]));
}
