//! `briefing` on real tables of both databases, against a server whose document changes.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Reason, Report},
        schedule::Zone,
    },
    handlers::{Context, Outbound, Scope, Targets, Tools, Work, http::Target},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    attempt::{Home, checked, commit, context, job, noon, work, work_telling},
    server::{Server, Step, raw, send},
};

const FIRST: &str = "# Briefing da semana\n\n## Foco\nPlantões de sábado\n\n## Tom de voz\nLeve\n";
const SECOND: &str = "# Briefing da semana\n\n## Foco\nPlantões de domingo\n\n## Vagas\nHospital Central\n";

/// A document behind an address, with an etag that changes with it.
#[derive(Clone, Default)]
struct Drive {
    now: Arc<Mutex<(String, Option<String>)>>,
    /// The `If-None-Match` of each call, and the status of its answer.
    calls: Arc<Mutex<Vec<(Option<String>, u16)>>>,
    url: String,
}

impl Drive {
    async fn holding(text: &str, etag: Option<&str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}/briefing.md", listener.local_addr().expect("a bound address"));
        let drive = Self { url, ..Self::default() };
        drive.put(text, etag);
        let app = Router::new().fallback(answer).with_state(drive.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        drive
    }

    fn put(&self, text: &str, etag: Option<&str>) {
        *self.now.lock().expect("nobody panicked") = (text.to_owned(), etag.map(str::to_owned));
    }

    fn calls(&self) -> Vec<(Option<String>, u16)> {
        self.calls.lock().expect("nobody panicked").clone()
    }

    fn settings(&self) -> Value {
        json!({ "url": self.url })
    }
}

async fn answer(State(drive): State<Drive>, request: Request) -> Response {
    let (text, etag) = drive.now.lock().expect("nobody panicked").clone();
    let known = request.headers().get(header::IF_NONE_MATCH).map(|value| value.to_str().expect("text").to_owned());
    let is_known = etag.is_some() && known == etag;
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    drive.calls.lock().expect("nobody panicked").push((known, status.as_u16()));
    if text.contains("velho") {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    }
    let body = if is_known { Body::empty() } else { Body::from(text) };
    let mut answer = (status, [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], body).into_response();
    if let Some(etag) = etag {
        answer.headers_mut().insert(header::ETAG, etag.parse().expect("a header"));
    }
    answer
}

fn at(home: &Home, now: DateTime<Utc>) -> Context {
    let mut ctx = context(home.app());
    let mut job = job();
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    (ctx.now, ctx.job) = (now, Arc::new(job));
    ctx
}

async fn sync(home: &Home, settings: Value, hour: i64) -> Result<Report, Failure> {
    commit(work("briefing", settings).run(at(home, noon() + TimeDelta::hours(hour))).await).await
}

fn status(report: &Report) -> &str {
    report.result.as_ref().and_then(|result| result["status"].as_str()).expect("a status")
}

const DIRECTIVES: &str = "select tipo || ': ' || conteudo from diretrizes order by tipo";
const LOG: &str = "select conteudo_raw from briefing_sync_log order by created_at";
const COUNT: &str = "select cast(count(*) as text) from briefing_sync_log";

#[tokio::test]
async fn without_an_address_the_job_idles() {
    for settings in [json!({}), json!({ "url": "" }), json!({ "url": "  " })] {
        let failure = commit(work("briefing", settings).run(context(crate::attempt::no_database())).await).await;

        let failure = failure.expect_err("nothing to do");
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Skipped(Reason::NotConfigured), true));
    }
}

#[tokio::test]
async fn a_new_document_is_stored_with_its_sections_and_an_unchanged_one_is_not() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;

        let first = sync(&home, drive.settings(), 0).await.expect("stored");
        let second = sync(&home, drive.settings(), 1).await.expect("unchanged");

        assert_eq!((status(&first), first.items), ("stored", Some(2)));
        let result = first.result.as_ref().expect("a result");
        assert_eq!(result["title"], json!("Briefing da semana"));
        assert_eq!(
            result["sections"],
            json!({ "new": ["foco", "tom_de_voz"], "changed": [], "unchanged": 0, "gone": [], "deleted": 0 })
        );
        assert_eq!((status(&second), second.items, second.items_failed), ("unchanged", Some(0), 0));
        assert_eq!(home.texts(DIRECTIVES).await, ["foco: Plantões de sábado", "tom_de_voz: Leve"]);
        assert_eq!(home.texts(LOG).await, [FIRST.trim_end()]);
        let hash = result["hash"].as_str().expect("a hash").to_owned();
        assert_eq!(home.texts("select doc_hash from briefing_sync_log").await, [hash]);
    }
}

#[tokio::test]
async fn a_change_touches_the_sections_that_changed_and_names_those_that_are_gone() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        sync(&home, drive.settings(), 0).await.expect("stored");
        home.execute("insert into diretrizes (tipo, conteudo) values ('escrita_a_mao', 'fica')").await;
        drive.put(SECOND, None);

        let report = sync(&home, drive.settings(), 1).await.expect("stored");

        assert_eq!(
            report.result.as_ref().expect("a result")["sections"],
            json!({ "new": ["vagas"], "changed": ["foco"], "unchanged": 0, "gone": ["tom_de_voz"], "deleted": 0 })
        );
        assert_eq!(report.items, Some(2));
        let kept = ["escrita_a_mao: fica", "foco: Plantões de domingo", "tom_de_voz: Leve", "vagas: Hospital Central"];
        assert_eq!(home.texts(DIRECTIVES).await, kept);
    }
}

#[tokio::test]
async fn sections_that_are_gone_are_deleted_where_that_is_wanted_and_nothing_else_is() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        let settings = json!({ "url": drive.url, "gone": "delete" });
        sync(&home, settings.clone(), 0).await.expect("stored");
        home.execute("insert into diretrizes (tipo, conteudo) values ('escrita_a_mao', 'fica')").await;
        drive.put(SECOND, None);

        let report = sync(&home, settings, 1).await.expect("stored");

        assert_eq!(report.result.expect("a result")["sections"]["deleted"], json!(1));
        let left = ["escrita_a_mao: fica", "foco: Plantões de domingo", "vagas: Hospital Central"];
        assert_eq!(home.texts(DIRECTIVES).await, left);
    }
}

#[tokio::test]
async fn a_document_that_goes_back_to_an_earlier_text_is_stored_again() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        for (hour, text) in [(0, FIRST), (1, SECOND), (2, FIRST), (3, FIRST)] {
            drive.put(text, None);
            sync(&home, drive.settings(), hour).await.expect("a run");
        }

        assert_eq!(home.texts(LOG).await, [FIRST, SECOND, FIRST].map(str::trim_end));
        assert!(home.texts(DIRECTIVES).await.contains(&"foco: Plantões de sábado".to_owned()));
    }
}

#[tokio::test]
async fn a_server_is_asked_by_the_etag_of_what_is_stored() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, Some("\"one\"")).await;
        let run = |hour| sync(&home, drive.settings(), hour);
        run(0).await.expect("stored");
        let not_modified = run(1).await.expect("not modified");
        // The same text under another name: it is remembered, and nothing is stored.
        drive.put(FIRST, Some("W/\"two\""));
        let renamed = run(2).await.expect("the same text");
        run(3).await.expect("not modified");
        drive.put(SECOND, Some("\"three\""));
        let changed = run(4).await.expect("stored");

        let known = |etag: &str, status| (Some(etag.to_owned()), status);
        assert_eq!(
            drive.calls(),
            [
                (None, 200),
                known("\"one\"", 304),
                known("\"one\"", 200),
                known("W/\"two\"", 304),
                known("W/\"two\"", 200)
            ]
        );
        assert_eq!([&not_modified, &renamed, &changed].map(status), ["unchanged", "unchanged", "stored"]);
        assert_eq!(home.texts(COUNT).await, ["2"]);
    }
}

#[tokio::test]
async fn an_etag_of_another_address_is_not_used() {
    let home = Home::sqlite().await;
    let (one, other) = (Drive::holding(FIRST, Some("\"1\"")).await, Drive::holding(SECOND, Some("\"1\"")).await);
    sync(&home, one.settings(), 0).await.expect("stored");

    let report = sync(&home, other.settings(), 1).await.expect("stored");

    assert_eq!(other.calls(), [(None, 200)]);
    assert_eq!(status(&report), "stored");
}

#[tokio::test]
async fn two_briefings_leave_each_other_s_sections_alone() {
    for home in Home::both().await {
        let (one, other) = (Drive::holding(FIRST, Some("\"1\"")).await, Drive::holding("# Aviso\nx", None).await);
        let delete = |drive: &Drive| json!({ "url": drive.url, "gone": "delete" });
        sync(&home, delete(&one), 0).await.expect("stored");
        sync(&home, delete(&other), 1).await.expect("stored");

        let again = [sync(&home, delete(&one), 2).await, sync(&home, delete(&other), 3).await];
        one.put(SECOND, None);
        let changed = sync(&home, delete(&one), 4).await.expect("stored");
        let last = sync(&home, delete(&other), 5).await.expect("unchanged");

        assert_eq!(again.map(|report| status(&report.expect("unchanged")).to_owned()), ["unchanged", "unchanged"]);
        assert_eq!(one.calls()[1], (Some("\"1\"".into()), 304), "the other's etag is not in between");
        assert_eq!([&changed, &last].map(status), ["stored", "unchanged"]);
        assert_eq!(changed.result.expect("a result")["sections"]["gone"], json!(["tom_de_voz"]));
        assert_eq!(home.texts(DIRECTIVES).await, ["aviso: x", "foco: Plantões de domingo", "vagas: Hospital Central"]);
    }
}

#[tokio::test]
async fn a_rule_or_key_that_does_not_fit_is_refused_and_named() {
    let home = Home::postgres().await;
    home.execute("create type kind as enum ('foco', 'a')").await;
    for (columns, document, words) in [
        (
            "tipo varchar(10), conteudo text",
            FIRST,
            "section \"tom_de_voz_e_estilo\": column diretrizes.tipo takes 10 characters, and its text has 19",
        ),
        (
            "tipo text, conteudo varchar(3)",
            FIRST,
            "section \"foco\": column diretrizes.conteudo takes 3 characters, and its text has 18",
        ),
        (
            "tipo kind, conteudo text",
            FIRST,
            "column diretrizes.tipo does not know \"tom_de_voz_e_estilo\"; add with: alter type kind add value 'tom_de_voz_e_estilo'",
        ),
    ] {
        let document = document.replace("Tom de voz", "Tom de voz e estilo");
        let drive = Drive::holding(&document, None).await;
        home.execute("drop table if exists diretrizes").await;
        match &home {
            Home::Postgres { pool, .. } => {
                let made = sqlx::AssertSqlSafe(format!("create table diretrizes ({columns})"));
                sqlx::raw_sql(made).execute(pool).await.expect("a table");
            }
            Home::Sqlite { .. } => unreachable!("it is a PostgreSQL"),
        }

        let failure = sync(&home, drive.settings(), 0).await.expect_err("it does not fit");

        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Permanent, words));
        assert_eq!(home.texts(COUNT).await, ["0"], "nothing is stored");
        drive.put("## Foco\nabc", None);
        assert_eq!(status(&sync(&home, drive.settings(), 1).await.expect("it fits")), "stored");
        assert_eq!(home.texts("select cast(tipo as text) || conteudo from diretrizes").await, ["focoabc"]);
        home.execute("delete from briefing_sync_log").await;
    }
}

#[tokio::test]
async fn two_replicas_store_one_change_once() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        sync(&home, drive.settings(), 0).await.expect("stored");
        for round in 1..=5 {
            drive.put(&format!("## Foco\nrodada {round}"), None);

            let runs = (0..4).map(|_| sync(&home, drive.settings(), round));
            let reports = futures_util::future::join_all(runs).await;

            let reports: Vec<_> = reports.into_iter().map(|report| report.expect("each run ends well")).collect();
            let stored = reports.iter().filter(|report| status(report) == "stored").count();
            assert_eq!(stored, 1, "{reports:?}");
            assert_eq!(home.texts(COUNT).await, [(round + 1).to_string()]);
        }
    }
}

#[tokio::test]
async fn whoever_has_read_an_older_document_does_not_put_it_over_a_newer_one() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        sync(&home, drive.settings(), 0).await.expect("stored");
        drive.put("## Foco\nvelho", None);
        // The first asks now and gets an answer only after the second is through.
        let (late, early) = tokio::join!(sync(&home, drive.settings(), 1), async {
            while drive.calls().len() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            drive.put("## Foco\nnovo", None);
            sync(&home, drive.settings(), 1).await
        });

        assert_eq!(status(&early.expect("stored")), "stored");
        assert_eq!(status(&late.expect("overtaken")), "overtaken");
        assert!(home.texts(DIRECTIVES).await.contains(&"foco: novo".to_owned()));
    }
}

#[tokio::test]
async fn what_is_no_document_changes_nothing_and_is_named() {
    let home = Home::sqlite().await;
    let drive = Drive::holding(FIRST, None).await;
    sync(&home, drive.settings(), 0).await.expect("stored");
    let before = home.texts(DIRECTIVES).await;
    let large = "x".repeat(1_048_577);
    let many: String = (0..101).map(|n| format!("## s{n}\nx\n")).collect();
    let long = format!("## Foco\n{}", "x".repeat(20_001));
    let (retry, permanent) = (FailureKind::Retry, FailureKind::Permanent);
    for (code, kind, body, ends_as, words) in [
        (200, "text/html", b"<!DOCTYPE html><html>login</html>".to_vec(), permanent, "a page of HTML"),
        (200, "text/plain", b"\n <HTML lang=pt>".to_vec(), permanent, "a page of HTML"),
        (200, "application/pdf", b"%PDF-1.7\n\xe2\xe3\xcf\xd3".to_vec(), permanent, "bytes that are not UTF-8"),
        (200, "text/plain", b"a\0b".to_vec(), permanent, "bytes that are not UTF-8"),
        (200, "application/json", b"{\"error\":\"no\"}".to_vec(), permanent, "JSON"),
        (200, "text/plain", b"{ not whole".to_vec(), permanent, "JSON"),
        (200, "text/markdown", Vec::new(), retry, "is empty: nothing was changed"),
        (200, "text/markdown", b" \r\n\n\t".to_vec(), retry, "is empty: nothing was changed"),
        (204, "text/markdown", Vec::new(), retry, "is empty"),
        (200, "text/markdown", b"# Only\n## headings".to_vec(), permanent, "has headings and no text"),
        (200, "text/markdown", many.into_bytes(), permanent, "has 101 sections, more than 100"),
        (200, "text/markdown", long.into_bytes(), permanent, "20001 characters in section \"foco\""),
        (200, "text/markdown", large.into_bytes(), permanent, "more than 1048576 bytes"),
        (304, "text/markdown", Vec::new(), permanent, "answered 304"),
        (307, "text/html", Vec::new(), permanent, "redirects are not followed"),
        (401, "text/plain", b"who are you".to_vec(), permanent, "answered 401: who are you"),
        (404, "text/plain", b"no such document".to_vec(), permanent, "answered 404: no such document"),
        (500, "text/plain", b"broken".to_vec(), retry, "answered 500: broken"),
        (503, "text/plain", Vec::new(), retry, "answered 503"),
    ] {
        let server = Server::answering(code, &[("content-type", kind)], body).await;
        let url = format!("{}/briefing.md?token=hidden", server.url);

        let failure = sync(&home, json!({ "url": url }), 1).await.expect_err("no document");

        assert_eq!(failure.kind, ends_as, "{code} {kind}: {}", failure.message);
        assert!(failure.message.contains(words), "{code} {kind}: {}", failure.message);
        assert!(failure.message.contains("/briefing.md") && !failure.message.contains("hidden"), "{}", failure.message);
        assert_eq!((home.texts(DIRECTIVES).await, home.texts(COUNT).await), (before.clone(), vec!["1".to_owned()]));
    }
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it_and_one_that_is_away_is_named() {
    let home = Home::sqlite().await;
    let busy = Server::answering(429, &[("retry-after", "120")], "later").await;
    let failure = sync(&home, json!({ "url": busy.url }), 0).await.expect_err("later");
    assert_eq!(failure.kind, FailureKind::Snooze(std::time::Duration::from_secs(120)));

    let port = crate::support::free_port();
    let away = sync(&home, json!({ "url": format!("http://127.0.0.1:{port}/b.md") }), 1).await.expect_err("away");
    assert_eq!((away.kind, away.before_effect), (FailureKind::Retry, true));
    assert!(away.message.contains("/b.md: cannot connect"), "{}", away.message);

    let cut = raw(vec![send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n## Foco\nhalf"), Step::Reset]).await;
    let cut = sync(&home, json!({ "url": cut }), 2).await.expect_err("half a document");
    assert!(cut.kind == FailureKind::Retry && cut.message.contains("broke off"), "{}", cut.message);
    assert_eq!(home.texts(COUNT).await, ["0"]);
}

#[tokio::test]
async fn a_path_is_asked_of_its_target_with_its_headers() {
    let home = Home::sqlite().await;
    let server = Server::answering(200, &[("content-type", "text/markdown")], FIRST).await;
    let target = Target {
        headers: [("Authorization".to_owned(), "Bearer of-the-team".to_owned())].into(),
        ..Target::at(server.url.clone())
    };
    let targets = Targets::from([("wiki".to_owned(), target)]);
    let settings = json!({ "target": "wiki", "url": "/briefing", "headers": { "X-Format": "md" } });
    let mut ctx = at(&home, noon());
    ctx.tools = Tools::new(targets.clone());

    let work = checked("briefing", settings, &targets).expect("settings that can run");
    commit(work.run(ctx).await).await.expect("stored");

    let asked = server.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.place.as_str()), ("GET", "/briefing"));
    assert_eq!(asked.headers["authorization"], "Bearer of-the-team");
    assert_eq!(asked.headers["x-format"], "md");
    assert_eq!(asked.headers["accept"], "text/markdown, text/plain, */*;q=0.1");
    assert!(!work.canonical().to_string().contains("of-the-team"), "no secret is hashed");
}

#[tokio::test]
async fn an_address_out_of_a_variable_is_not_told_and_the_document_may_name_it() {
    let home = Home::sqlite().await;
    let text = "## Foco\nVeja /d/only-for-those-who-know e siga";
    let good = Server::answering(200, &[("content-type", "text/markdown")], text).await;
    let bad = Server::answering(404, &[("content-type", "text/plain")], "no /d/only-for-those-who-know here").await;
    let sync_from = async |server: &Server| {
        let url = format!("{}/d/only-for-those-who-know", server.url);
        let variables = [("BRIEFING_URL".to_owned(), url.clone())].into();
        let mut work = Work::parse("briefing", json!({ "url": url })).expect("settings");
        let (targets, outbound) = (Targets::new(), Outbound::default());
        let scope =
            Scope { targets: &targets, outbound: &outbound, folder: std::path::Path::new("."), variables: &variables };
        assert_eq!(work.check(&scope), Vec::<String>::new());
        commit(work.run(at(&home, noon())).await).await
    };

    let failure = sync_from(&bad).await.expect_err("no document");
    sync_from(&good).await.expect("stored");

    let shown = failure.message.split(" answered ").next().expect("a beginning").to_owned();
    assert_eq!(failure.message, format!("{shown} answered 404: no /... here"));
    assert!(shown.ends_with("/..."), "{shown}");
    assert!(!format!("{failure:?}").contains("those-who-know"), "{failure:?}");
    assert_eq!(home.texts(LOG).await, [text]);
}

#[test]
fn mistakes_of_the_settings_are_told() {
    let errors = |settings: Value| checked("briefing", settings, &Targets::new()).expect_err("a mistake").join("; ");

    assert!(errors(json!({ "url": "docs/briefing.md" })).contains("begins neither with / nor with http"));
    assert!(errors(json!({ "url": "ftp://docs/briefing.md" })).contains("must begin with http:// or https://"));
    assert!(errors(json!({ "url": "http://169.254.169.254/latest" })).contains("is refused"));
    assert!(errors(json!({ "url": "/b", "target": "wiki" })).contains("unknown target \"wiki\""));
    assert!(errors(json!({ "url": "http://a/b", "headers": { "a b": "c" } })).contains("header \"a b\""));
    assert!(errors(json!({ "sections": { "Foco": " " } })).contains("must not be empty"));
    assert!(errors(json!({ "gone": "burn" })).contains("unknown variant"));
}

#[tokio::test]
async fn a_team_s_own_tables_are_adopted_as_they_are() {
    let [sqlite, postgres] = Home::both().await;
    postgres
        .execute(
            "create type directive as enum ('foco_semana', 'tom_de_voz', 'vagas');
            create table briefing_sync_log (id serial primary key, doc_hash varchar(64), conteudo_raw text,
              created_at timestamp not null default now(), secoes jsonb);
            create table diretrizes (id serial primary key, tipo directive, conteudo varchar(5000), ativo boolean default true)",
        )
        .await;
    sqlite
        .execute(
            "create table briefing_sync_log (id integer primary key, doc_hash text, conteudo_raw text,
              created_at text not null default current_timestamp, secoes text);
            create table diretrizes (id integer primary key, tipo text, conteudo text, ativo integer default 1)",
        )
        .await;
    for home in [&sqlite, &postgres] {
        home.execute("insert into briefing_sync_log (doc_hash, created_at) values ('old', '2025-01-01 00:00:00')")
            .await;
        home.execute("insert into diretrizes (tipo, conteudo) values ('foco_semana', 'antigo')").await;
        let drive = Drive::holding(FIRST, Some("\"one\"")).await;
        let settings = json!({ "url": drive.url, "sections": { "Foco": "foco_semana" } });

        let stored = sync(home, settings.clone(), 0).await.expect("stored");
        let unchanged = sync(home, settings.clone(), 1).await.expect("unchanged");

        assert_eq!([status(&stored), status(&unchanged)], ["stored", "unchanged"]);
        let directives = "select cast(tipo as text) || ': ' || conteudo from diretrizes order by id";
        assert_eq!(home.texts(directives).await, ["foco_semana: Plantões de sábado", "tom_de_voz: Leve"]);
        // No column for etags: the server is asked for everything.
        assert_eq!(drive.calls(), [(None, 200), (None, 200)]);
        let delete = json!({ "url": drive.url, "gone": "delete" });
        drive.put("## Vagas\nx", None);
        let failure = sync(home, delete, 2).await.expect_err("nothing says what came from the briefing");
        assert!(failure.message.contains("alter table diretrizes add column doc_hash text"), "{}", failure.message);
        assert_eq!(home.texts(COUNT).await, ["2"], "all of it is rolled back");
    }
}

#[tokio::test]
async fn a_missing_column_or_table_is_named() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        let mut ctx = at(&home, noon());
        ctx.tools.create_team_tables = false;
        let ending = commit(work("briefing", drive.settings()).run(ctx).await).await;
        let failure = ending.expect_err("no table");
        assert!(failure.message.starts_with("table briefing_sync_log is missing"), "{}", failure.message);
        assert!(drive.calls().is_empty(), "nobody was asked");

        home.execute("create table diretrizes (tipo text)").await;
        let failure = sync(&home, drive.settings(), 1).await.expect_err("a column is missing");
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        let add = "table diretrizes lacks conteudo; add with: alter table diretrizes add column conteudo text";
        assert_eq!(failure.message, add);
    }
}

#[tokio::test]
async fn the_clock_of_another_replica_may_be_ahead() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        sync(&home, drive.settings(), 5).await.expect("stored by a clock that is ahead");
        drive.put(SECOND, None);
        sync(&home, drive.settings(), 1).await.expect("stored");
        let last = sync(&home, drive.settings(), 2).await.expect("unchanged");

        assert_eq!(status(&last), "unchanged");
        assert_eq!(home.texts(LOG).await, [FIRST, SECOND].map(str::trim_end));
    }
}

/// As `sync`, so many minutes after noon, with Slack at this address.
async fn sync_telling(home: &Home, drive: &Drive, slack: &str, minute: i64) -> Result<Report, Failure> {
    let ctx = at(home, noon() + TimeDelta::minutes(minute));
    commit(work_telling("briefing", drive.settings(), slack).run(ctx).await).await
}

fn texts(slack: &Server) -> Vec<String> {
    let text =
        |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["text"].as_str().expect("a text").to_owned();
    slack.asked().iter().map(|asked| text(&asked.body)).collect()
}

const OWED: &str = "select cast(count(*) as text) from briefing_sync_log where avisar_em is not null";

#[tokio::test]
async fn the_team_is_told_once_of_each_change() {
    for home in Home::both().await {
        let (drive, slack) = (Drive::holding(FIRST, None).await, Server::answering(200, &[], "ok").await);
        for (minute, text) in [(0, FIRST), (60, FIRST), (120, SECOND), (180, SECOND)] {
            drive.put(text, None);
            sync_telling(&home, &drive, &slack.url, minute).await.expect("a run");
        }

        assert_eq!(
            texts(&slack),
            [
                "*Briefing atualizado: Briefing da semana*\nNovas: foco, tom_de_voz",
                "*Briefing atualizado: Briefing da semana*\nNovas: vagas\nAlteradas: foco\n\
                Saíram do documento e continuam nas diretrizes: tom_de_voz",
            ]
        );
        assert_eq!(home.texts(OWED).await, ["0"]);
    }
}

#[tokio::test]
async fn a_notice_that_slack_did_not_take_is_given_by_the_next_attempt_and_the_document_stays_stored() {
    for home in Home::both().await {
        let drive = Drive::holding(FIRST, None).await;
        let (broken, slack) = (Server::answering(500, &[], "").await, Server::answering(200, &[], "ok").await);

        let failure = sync_telling(&home, &drive, &broken.url, 0).await.expect_err("Slack is down");
        let stored = home.texts(DIRECTIVES).await;
        let second = sync_telling(&home, &drive, &slack.url, 0).await.expect("told");
        let third = sync_telling(&home, &drive, &slack.url, 60).await.expect("nothing to do");

        assert_eq!(failure.kind, FailureKind::Retry);
        assert_eq!(failure.message, "the briefing is stored, and the team was not told: Slack answered 500");
        assert_eq!(failure.report.expect("what was done").items, Some(2));
        assert_eq!(stored, ["foco: Plantões de sábado", "tom_de_voz: Leve"]);
        assert_eq!([second, third].map(|report| report.items), [Some(0), Some(0)]);
        assert_eq!(texts(&slack), ["*Briefing atualizado: Briefing da semana*"]);
        assert_eq!(home.texts(COUNT).await, ["1"]);
    }
}

#[tokio::test]
async fn a_process_that_dies_between_the_store_and_the_notice_leaves_the_notice_to_a_later_run() {
    for home in Home::both().await {
        let (drive, slack) = (Drive::holding(FIRST, None).await, Server::answering(200, &[], "ok").await);
        sync(&home, drive.settings(), 0).await.expect("stored");
        drive.put(SECOND, None);
        let silent = raw(vec![Step::Wait(std::time::Duration::from_secs(600))]).await;
        let dies = sync_telling(&home, &drive, &silent, 60);
        let is_stored = async {
            while home.texts(COUNT).await != ["2"] {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ended = dies => panic!("it ended: {ended:?}"),
            () = is_stored => {}
        }

        sync_telling(&home, &drive, &slack.url, 61).await.expect("unchanged");
        assert_eq!(texts(&slack).len(), 0, "the first one may still be telling");
        let runs = (0..4).map(|_| sync_telling(&home, &drive, &slack.url, 66));
        for report in futures_util::future::join_all(runs).await {
            assert_eq!(status(&report.expect("unchanged")), "unchanged");
        }
        sync_telling(&home, &drive, &slack.url, 120).await.expect("unchanged");

        assert_eq!(texts(&slack), ["*Briefing atualizado: Briefing da semana*"]);
        assert_eq!((home.texts(OWED).await, home.texts(COUNT).await), (vec!["0".into()], vec!["2".into()]));
    }
}

#[tokio::test]
async fn a_title_cannot_pose_as_a_mark_of_slack() {
    let home = Home::sqlite().await;
    let drive = Drive::holding("# <!channel> & co\nx", None).await;
    let slack = Server::answering(200, &[], "ok").await;

    sync_telling(&home, &drive, &slack.url, 0).await.expect("told");

    assert!(texts(&slack)[0].starts_with("*Briefing atualizado: &lt;!channel&gt; &amp; co*"), "{:?}", texts(&slack));
}
