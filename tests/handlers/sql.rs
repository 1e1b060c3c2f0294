//! `sql` in the daemon's own database and in others, on both kinds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use emponto::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{Dialect, Done, Targets},
};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::attempt::{Home, checked, commit, context, no_database, work};

async fn run(home: &Home, settings: Value) -> Result<Report, Failure> {
    commit(work("sql", settings).run(context(home.app())).await).await
}

#[tokio::test]
async fn items_are_rows_changed_or_the_number_that_was_asked_for() {
    for home in Home::both().await {
        home.execute("create table t (id integer, name text); insert into t values (1, 'a'), (2, 'b'), (3, 'c')").await;
        for (text, items) in [
            ("update t set name = 'x' where id < 3", 2),
            ("update t set name = 'x'; delete from t where id = 99", 3),
            ("update t set name = 'y' where id = 1; update t set name = 'y' where id = 2;", 2),
            ("update t set name = 'z' where id < 3 returning id", 2),
            ("select 41", 41),
            ("update t set name = 'x'; select count(*) from t where id < 3", 2),
            ("select id from t where id = 99", 0),
            ("select name from t", 0),
            ("select -1", 0),
            ("create table u (id integer)", 0),
            ("insert into u select id from t", 3),
        ] {
            assert_eq!(run(&home, json!({ "text": text })).await, Ok(Report::items(items)), "{text}");
        }
    }
}

#[tokio::test]
async fn parameters_are_bound_and_never_pasted() {
    let [sqlite, postgres] = Home::both().await;
    sqlite.execute("create table t (run text, due text, at text, who text)").await;
    postgres.execute("create table t (run uuid, due timestamptz, at timestamptz, who text)").await;
    for (home, text) in [
        (&sqlite, "insert into t values (:run_id, :scheduled_for, :now, json_extract(:payload, '$.who')) -- :now"),
        (&postgres, "insert into t select :run_id, :scheduled_for, :now, :payload::jsonb->>'who' /* :now */"),
    ] {
        let mut ctx = context(home.app());
        let mut run = crate::attempt::run();
        run.payload = json!({ "who": "'; drop table t; --" });
        let id = run.id.to_string();
        ctx.run = Arc::new(run);

        let report = commit(work("sql", json!({ "text": text })).run(ctx).await).await;

        assert_eq!(report, Ok(Report::items(1)));
        assert_eq!(home.texts("select who from t").await, ["'; drop table t; --"]);
        assert_eq!(home.texts("select cast(run as text) from t").await, [id]);
    }
    assert_eq!(
        sqlite.texts("select due || ' ' || at from t").await,
        ["2025-01-08T11:59:58.000Z 2025-01-08T12:00:00.000Z"]
    );
    let times =
        "select to_char(due at time zone 'UTC', 'HH24:MI:SS') || to_char(at at time zone 'UTC', ' HH24:MI:SS') from t";
    assert_eq!(postgres.texts(times).await, ["11:59:58 12:00:00"]);
}

#[tokio::test]
async fn an_unplanned_run_binds_the_instant_it_was_asked_for() {
    let home = Home::sqlite().await;
    home.execute("create table t (due text)").await;
    let mut ctx = context(home.app());
    let mut run = crate::attempt::run();
    run.scheduled_for = None;
    ctx.run = Arc::new(run);

    commit(work("sql", json!({ "text": "insert into t values (:scheduled_for)" })).run(ctx).await)
        .await
        .expect("inserted");

    assert_eq!(home.texts("select due from t").await, ["2025-01-08T11:59:59.000Z"]);
}

#[tokio::test]
async fn the_effect_waits_for_the_settlement_and_vanishes_without_it() {
    for home in Home::both().await {
        home.execute("create table t (id integer)").await;
        let insert = work("sql", json!({ "text": "insert into t values (1)" }));

        let Ok(Done::InTransaction(report, tx)) = insert.run(context(home.app())).await else {
            panic!("work in the daemon's own database ends in its transaction");
        };
        assert_eq!(report, Report::items(1));
        drop(tx);

        assert!(home.texts("select cast(id as text) from t").await.is_empty());
        commit(insert.run(context(home.app())).await).await.expect("settled");
        assert_eq!(home.texts("select cast(id as text) from t").await, ["1"]);
    }
}

#[tokio::test]
async fn a_failed_statement_undoes_those_before_it() {
    for home in Home::both().await {
        home.execute("create table t (id integer unique)").await;
        for (text, kind, line) in [
            ("insert into t values (1);\ninsert into t values (1)", FailureKind::Retry, "line 2: "),
            ("insert into t values (1);\n\ninsert into absent values (1)", FailureKind::Permanent, "line 3: "),
            ("insert into t values (1); selekt", FailureKind::Permanent, "line 1: "),
        ] {
            let failure = run(&home, json!({ "text": text })).await.expect_err("a failed statement");

            assert_eq!((failure.kind, failure.before_effect), (kind, true), "{}", failure.message);
            assert!(failure.message.starts_with(line), "{}", failure.message);
            assert!(home.texts("select cast(id as text) from t").await.is_empty(), "{text}");
        }
    }
}

#[tokio::test]
async fn a_slow_statement_is_stopped_by_the_limit_of_its_run() {
    let home = Home::postgres().await;
    let mut ctx = context(home.app());
    let mut job = crate::attempt::job();
    job.policy.timeout = Duration::from_millis(200);
    ctx.job = Arc::new(job);
    let begun = Instant::now();

    let failure =
        commit(work("sql", json!({ "text": "select pg_sleep(60)" })).run(ctx).await).await.expect_err("too slow");

    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
    assert!(failure.message.contains("statement timeout"), "{}", failure.message);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

const LONG: &str = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 300000) select cast(count(*) as text) from n";
const ENDLESS: &str = "with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n";

#[tokio::test]
async fn nobody_holds_the_only_writer_of_sqlite_for_long() {
    let home = Home::sqlite().await;

    let failure = run(&home, json!({ "text": ENDLESS })).await.expect_err("too slow");

    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
    assert!(failure.message.contains("longer than 5 s"), "{}", failure.message);
    assert_eq!(run(&home, json!({ "text": "select 7" })).await, Ok(Report::items(7)));
}

#[tokio::test]
async fn the_writer_of_sqlite_is_given_back_without_a_watch() {
    let home = Home::sqlite().await;
    for _ in 0..2 {
        run(&home, json!({ "text": "select 1" })).await.expect("a run");

        // Long enough to be interrupted, if the run that is over could still do so.
        assert_eq!(home.texts(LONG).await, ["300000"]);
    }
}

#[tokio::test]
async fn another_sqlite_is_waited_for_while_somebody_else_writes() {
    let other = Home::sqlite().await;
    other.execute("pragma journal_mode = wal; create table t (id integer)").await;
    let mut somebody = SqliteConnection::connect(&other.url()).await.expect("the same file");
    sqlx::raw_sql("begin immediate; insert into t values (1)").execute(&mut somebody).await.expect("somebody writes");
    let text = "select count(*) from t; insert into t select count(*) from t";
    let settings = json!({ "text": text, "database": other.url() });

    let waiting = tokio::spawn(async move { commit(work("sql", settings).run(context(no_database())).await).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    sqlx::raw_sql("commit").execute(&mut somebody).await.expect("somebody is done");

    assert_eq!(waiting.await.expect("no panic"), Ok(Report::items(1)));
}

#[tokio::test]
async fn an_aborted_attempt_gives_the_writer_of_sqlite_back() {
    let home = Home::sqlite().await;
    let ctx = context(home.app());
    let attempt = tokio::spawn(async move { work("sql", json!({ "text": ENDLESS })).run(ctx).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;

    attempt.abort();
    let begun = Instant::now();
    // A long one: an interrupt that came too late would hit it.
    let next = run(&home, json!({ "text": LONG })).await;

    assert_eq!(next, Ok(Report::items(0)));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn another_database_is_reached_by_its_url() {
    for other in Home::both().await {
        other.execute("create table t (id integer, due text)").await;
        let settings =
            json!({ "text": "insert into t values (1, cast(:now as text)), (2, null)", "database": other.url() });

        let report = commit(work("sql", settings).run(context(no_database())).await).await;

        assert_eq!(report, Ok(Report::items(2)));
        assert_eq!(other.texts("select cast(id as text) from t order by id").await, ["1", "2"]);
    }
}

#[tokio::test]
async fn a_failure_in_another_database_leaves_nothing_there() {
    for other in Home::both().await {
        other.execute("create table t (id integer unique)").await;
        let settings = json!({ "text": "insert into t values (1); insert into t values (1)", "database": other.url() });

        let failure =
            commit(work("sql", settings).run(context(no_database())).await).await.expect_err("twice the same");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
        assert!(other.texts("select cast(id as text) from t").await.is_empty());
    }
}

#[tokio::test]
async fn an_aborted_attempt_leaves_another_sqlite_usable() {
    let other = Home::sqlite().await;
    let endless = work("sql", json!({ "text": ENDLESS, "database": other.url() }));
    let ctx = context(no_database());
    let tools = ctx.tools.clone();
    let attempt = tokio::spawn(async move { endless.run(ctx).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;

    attempt.abort();
    let mut ctx = context(no_database());
    ctx.tools = tools;
    let next = commit(work("sql", json!({ "text": LONG, "database": other.url() })).run(ctx).await).await;

    assert_eq!(next, Ok(Report::items(0)));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_tried_again_and_keeps_its_password() {
    let missing = tempfile::TempDir::new().expect("a folder").path().join("absent.db").display().to_string();
    for url in ["postgres://user:canary@127.0.0.1:1/db".to_owned(), format!("sqlite://{missing}")] {
        let settings = json!({ "text": "select 1", "database": url });

        let failure = commit(work("sql", settings).run(context(no_database())).await).await.expect_err("not there");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true), "{}", failure.message);
        assert!(
            failure.message.starts_with("other database: ") && !failure.message.contains("canary"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn mistakes_are_found_when_the_file_is_read() {
    for (settings, message) in [
        (json!({}), "no statements: give file or text"),
        (json!({ "text": "select 1", "file": "a.sql" }), "file and text are both given; a job has one of them"),
        (json!({ "text": " " }), "text is empty"),
        (json!({ "text": "begin; select 1" }), "line 1: \"begin\" is refused"),
        (json!({ "text": "select :nwo" }), "line 1: the parameter :nwo is unknown; did you mean :now?"),
        (json!({ "text": "select ?", "database": "sqlite://x.db" }), "line 1: the parameter \"?\" is unknown"),
        (json!({ "text": "select 1", "database": "mysql://x" }), "the URL of the database begins neither with"),
        (
            json!({ "text": "select 1", "database": "postgres://u:canary@h:notaport/d" }),
            "the URL of the database is not one of",
        ),
    ] {
        let errors = checked("sql", settings.clone(), &Targets::new()).expect_err("a mistake");

        assert!(errors.len() == 1 && errors[0].starts_with(message), "{settings}: {errors:?}");
        assert!(!errors[0].contains("canary"));
    }
    let errors = checked("sql", json!({ "file": "absent.sql" }), &Targets::new()).expect_err("no such file");
    assert!(errors[0].starts_with("cannot read ") && errors[0].contains("absent.sql"), "{errors:?}");
    let errors =
        checked("sql", json!({ "text": "select 1", "source": "select 2" }), &Targets::new()).expect_err("no setting");
    assert!(errors[0].contains("unknown field `source`"), "{errors:?}");
}

#[tokio::test]
async fn a_file_is_read_from_the_folder_of_the_table() {
    let home = Home::sqlite().await;
    let from_file = work("sql", json!({ "file": "two_statements.sql" }));

    let report = commit(from_file.run(context(home.app())).await).await;

    assert_eq!(report, Ok(Report::items(2)));
    // What the file says is part of what the work is.
    assert!(from_file.canonical().to_string().contains("insert into numbers"));
    let statements = from_file.statements(Dialect::Sqlite);
    let lines: Vec<_> = statements.iter().map(|statement| (statement.line, statement.database.as_deref())).collect();
    assert_eq!(lines, [(2, None), (3, None)]);
    assert!(statements[1].text.contains("$1"));
}
