//! What the database says of the jobs, on both databases: the rows of a story, and the figures they make.

mod support;

use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use emponto::{
    domain::{
        health::{Day, JobStats},
        job::JobName,
        run::{Outcome, Reason},
    },
    store::{DatabaseConfig, Figures, Kind, Store},
};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use support::postgres::Database;

const NOW: &str = "2026-11-18T13:30:10Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn config(url: &str, folder: PathBuf) -> DatabaseConfig {
    DatabaseConfig {
        url: url.into(),
        direct_url: None,
        schema: "workers".into(),
        max_connections: 2,
        min_connections: 0,
        data_dir: folder,
        application_name: "figures".into(),
    }
}

/// Rows in the words of one database.
struct Pen(Kind);

impl Pen {
    fn instant(&self, text: &str) -> String {
        match self.0 {
            _ if text.is_empty() => "null".into(),
            Kind::Postgres => format!("'{}'", at(text).to_rfc3339_opts(SecondsFormat::Millis, true)),
            Kind::Sqlite => at(text).timestamp_millis().to_string(),
        }
    }

    fn table(&self, name: &str) -> String {
        if self.0 == Kind::Postgres { format!("workers.{name}") } else { format!("workers_{name}") }
    }

    fn flag(&self, value: bool) -> &'static str {
        match (self.0, value) {
            (Kind::Postgres, true) => "true",
            (Kind::Postgres, false) => "false",
            (Kind::Sqlite, true) => "1",
            (Kind::Sqlite, false) => "0",
        }
    }

    /// A job that was paused for the 10th, and its schedule since the 2nd.
    fn job(&self, name: &str, retired_at: &str, audit: &str) -> String {
        let [seen, until] = ["2026-11-01T00:00:00Z", "2026-11-18T13:30:00Z"].map(|text| self.instant(text));
        let [paused, resumed] = ["2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z"].map(|text| self.instant(text));
        let (retired, since) = (self.instant(retired_at), self.instant("2026-11-02T00:00:00Z"));
        let (jobs, schedules, yes, no) =
            (self.table("jobs"), self.table("schedules"), self.flag(true), self.flag(false));
        format!(
            "insert into {jobs} (name, spec_hash, work_hash, epoch, first_seen, planned_until, audited_until, audit, \
             paused_at, paused_until, retired_at, priority, max_attempts, exclusive, at_most_once) values \
             ('{name}', '', '', 1, {seen}, {until}, {until}, '{audit}', {paused}, {resumed}, {retired}, 0, 3, {yes}, {no});\
             insert into {schedules} (job, epoch, schedule, timezone, dst, zone_data_version, valid_from) values \
             ('{name}', 1, 'every 30s', 'UTC', '', '', {since});"
        )
    }

    /// A row whose instants are all the same.
    fn run(&self, row: &Row) -> String {
        let Row { id, job, outcome, reason, attempt, duration_ms, left, .. } = row;
        let (at, runs, yes, no) = (self.instant(row.at), self.table("runs"), self.flag(true), self.flag(false));
        let ended = match *outcome {
            "" => "'due', null, null, null, null".to_owned(),
            _ => format!("'finished', '{outcome}', {reason}, {at}, {duration_ms}"),
        };
        let started = if *attempt == 0 { "null" } else { &at };
        format!(
            "insert into {runs} (id, job, epoch, trigger, scheduled_for, covers, covers_from, state, outcome, reason, \
             finished_at, duration_ms, due_at, priority, attempt, max_attempts, crashes, exclusive, at_most_once, created_at, \
             started_at, lag_ms, items_left, errors, items, error) values ('00000000-0000-7000-8000-{id:012}', '{job}', 1, 'schedule', \
             {at}, 1, {at}, {ended}, {at}, 0, {attempt}, 3, 0, {yes}, {no}, {at}, {started}, 7, {left}, '[]', 3, 'no answer from http://api/');"
        )
    }

    fn story(&self) -> String {
        let row = Row {
            id: 1,
            job: "busy",
            outcome: "success",
            reason: "null",
            at: "",
            attempt: 1,
            duration_ms: 12,
            left: "null",
        };
        let rows = [
            Row { id: 1, at: "2026-11-17T13:00:00Z", ..row },
            Row { id: 2, at: "2026-11-18T12:00:00Z", ..row },
            Row { id: 3, at: "2026-11-18T12:10:00Z", outcome: "error", ..row },
            Row { id: 4, at: "2026-11-18T12:15:00Z", outcome: "skipped", reason: "'paused'", attempt: 0, ..row },
            Row { id: 5, at: "2026-11-18T12:20:00Z", outcome: "timeout", duration_ms: 90_000, left: "40", ..row },
            Row { id: 6, at: "2026-11-18T12:20:00Z", job: "gone", outcome: "error", ..row },
            Row { id: 7, at: "2026-11-18T13:29:00Z", outcome: "", attempt: 0, ..row },
        ];
        let busy = self.job("busy", "", r#"{"missing":1,"doubled":0,"extra":2}"#);
        let gone = self.job("gone", "2026-11-12T00:00:00Z", r#"{"missing":7}"#);
        busy + &gone + &rows.iter().map(|row| self.run(row)).collect::<String>()
    }
}

/// An empty outcome is a row that is still due.
#[derive(Clone, Copy)]
struct Row {
    id: u32,
    job: &'static str,
    outcome: &'static str,
    reason: &'static str,
    at: &'static str,
    attempt: i32,
    duration_ms: i64,
    left: &'static str,
}

#[track_caller]
fn assert_figures(figures: &Figures, replicas: u32) {
    let busy = JobStats {
        epoch_since: Some(at("2026-11-02T00:00:00Z")),
        planned_until: Some(at("2026-11-18T13:30:00Z")),
        excused_until: Some(at("2026-11-18T12:15:00Z")),
        last_run: Some(at("2026-11-18T12:20:00Z")),
        last_outcome: Some(Outcome::Timeout),
        last_reason: None::<Reason>,
        last_success: Some(at("2026-11-18T12:00:00Z")),
        last_failure: Some(at("2026-11-18T12:20:00Z")),
        last_duration_ms: Some(90_000),
        last_lag_ms: Some(7),
        last_error: Some("no answer from http://api/".into()),
        consecutive_failures: 2,
        day: Day {
            runs: 3,
            successes: 1,
            errors: 1,
            timeouts: 1,
            items: 9,
            avg_duration_ms: Some(30_008),
            p95_duration_ms: Some(90_000),
            max_lag_ms: Some(7),
            judged_1h: 0,
            failures_1h: 0,
        },
        waiting: 1,
        oldest_due: Some(at("2026-11-18T13:29:00Z")),
        left: Some(40),
        ..JobStats::new(at("2026-11-01T00:00:00Z"))
    };
    let jobs = [(JobName::from_store("busy"), busy)].into();
    assert_eq!(*figures, Figures { replicas, unexplained: 3, jobs });
}

#[tokio::test]
async fn sqlite_tells_the_figures_of_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&config("sqlite://workers.db", folder.path().into())).await.unwrap();
    store.migrate().await.unwrap();
    let url = format!("sqlite://{}", folder.path().join("workers.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Sqlite).story())).execute(&mut connection).await.unwrap();

    let figures = store.figures(at(NOW)).await.unwrap();

    assert_figures(&figures, 1);
}

#[tokio::test]
async fn postgresql_tells_the_same_figures_of_the_same_rows() {
    let database = Database::new().await;
    let store = Store::open(&config(&database.url, PathBuf::new())).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Postgres).story())).execute(&mut connection).await.unwrap();

    let figures = store.figures(at(NOW)).await.unwrap();

    assert_figures(&figures, 0);
}
