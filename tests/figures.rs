//! What the database says of the jobs, on both databases: the rows of a story, and the figures they make.

mod support;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, Utc};
use emponto::{
    domain::{
        health::{Day, JobStats},
        job::JobName,
        run::{Outcome, Reason},
    },
    store::{DatabaseConfig, Depth, Figures, Kind, Store},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use support::postgres::Database;
use tokio::sync::Mutex;

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

/// Many finished rows of a job, one every so often, the newest just before `NOW`.
struct Many {
    job: &'static str,
    outcome: &'static str,
    from: i64,
    until: i64,
    every_ms: i64,
}

impl Pen {
    fn many(&self, many: &Many) -> String {
        let Many { job, outcome, from, until, every_ms } = many;
        let (runs, no, now) = (self.table("runs"), self.flag(false), self.instant(NOW));
        let attempt = if *outcome == "skipped" { 0 } else { 1 };
        let (numbers, id, at) = match self.0 {
            Kind::Postgres => (
                format!("(select n from generate_series({from}, {until}) as n) as numbers"),
                "gen_random_uuid()",
                format!("{now}::timestamptz - n * interval '{every_ms} milliseconds'"),
            ),
            Kind::Sqlite => (
                format!(
                    "(with recursive numbers(n) as (select {from} union all select n + 1 from numbers where n < {until}) \
                     select n from numbers)"
                ),
                "lower(hex(randomblob(16)))",
                format!("{now} - n * {every_ms}"),
            ),
        };
        format!(
            "insert into {runs} (id, job, epoch, trigger, covers, state, outcome, finished_at, duration_ms, due_at, \
             priority, attempt, max_attempts, crashes, exclusive, at_most_once, created_at, started_at, lag_ms, errors, \
             items, error) select {id}, '{job}', 1, 'enqueue', 0, 'finished', '{outcome}', at, 10, at, 0, {attempt}, 3, \
             0, {no}, {no}, at, at, 7, '[]', 2, 'no answer' from (select {at} as at from {numbers}) as rows;"
        )
    }

    /// A row of the hourly counts.
    fn hour(&self, job: &str, at: &str, (outcome, runs): (&str, i64)) -> String {
        let (hourly, at) = (self.table("hourly"), self.instant(at));
        let (items, duration_ms) = (runs * 2, runs * 10);
        format!(
            "insert into {hourly} (job, hour, outcome, runs, items, duration_ms, max_lag_ms) \
             values ('{job}', {at}, '{outcome}', {runs}, {items}, {duration_ms}, 90);"
        )
    }

    /// An unfinished row: a running attempt, or a run that goes on elsewhere and is looked at again.
    fn unfinished(&self, id: u32, job: &str, at: &str, elsewhere: bool) -> String {
        let (runs, yes, no) = (self.table("runs"), self.flag(true), self.flag(false));
        let (at, uuid) = (self.instant(at), "'00000000-0000-7000-8000-00000000000f'");
        let (state, resume) = if elsewhere { ("waiting", "'{}'") } else { ("running", "null") };
        let noted = r#"[{"at":"2026-11-18T12:41:00.000Z"},{"at":"2026-11-18T12:42:00.000Z","error":"busy"}]"#;
        let errors = if elsewhere { noted } else { "[]" };
        format!(
            "insert into {runs} (id, job, epoch, trigger, scheduled_for, covers, covers_from, state, due_at, priority, \
             attempt, max_attempts, crashes, exclusive, at_most_once, replica, lease, created_at, started_at, errors, \
             resume) values ('00000000-0000-7000-8000-{id:012}', '{job}', 1, 'schedule', {at}, 1, {at}, '{state}', {at}, \
             0, 1, 3, 0, {yes}, {no}, {uuid}, {uuid}, {at}, {at}, '{errors}', {resume});"
        )
    }

    /// A job with more rows than are read: one every 4 s for 100 minutes, and its hours.
    fn crowd(&self) -> String {
        let hours = [
            ("2026-11-17T13:00:00Z", ("success", 1_000)),
            ("2026-11-18T03:00:00Z", ("success", 500)),
            ("2026-11-18T03:00:00Z", ("timeout", 3)),
            ("2026-11-18T03:00:00Z", ("skipped", 700)),
            ("2026-11-18T11:00:00Z", ("success", 149)),
            ("2026-11-18T12:00:00Z", ("success", 900)),
            ("2026-11-18T13:00:00Z", ("success", 400)),
        ];
        let many = Many { job: "busy", outcome: "success", from: 1, until: 1_500, every_ms: 4_000 };
        let hours = hours.map(|(at, counts)| self.hour("busy", at, counts)).concat();
        let rows = [
            self.unfinished(1, "busy", "2026-11-18T13:20:00Z", false),
            self.unfinished(2, "busy", "2026-11-18T12:40:00Z", true),
        ];
        self.job("busy", "", "{}") + &self.many(&many) + &hours + &rows.concat()
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

#[track_caller]
fn assert_crowd(figures: &Figures) {
    let busy = &figures.jobs[&JobName::from_store("busy")];
    // The hour in which the window begins is left out; of the open hours the larger count is believed.
    let (successes, timeouts) = (500 + 149 + 900 + 400, 3);
    let day = Day {
        runs: successes + timeouts,
        successes,
        errors: 0,
        timeouts,
        items: 2 * (successes + timeouts),
        avg_duration_ms: Some(10),
        p95_duration_ms: Some(10),
        max_lag_ms: Some(90),
        // One every 4 s.
        judged_1h: 899,
        failures_1h: 0,
    };
    assert_eq!(busy.day, day);
    assert_eq!((busy.running, busy.oldest_attempt), (1, Some(at("2026-11-18T13:20:00Z"))));
    assert_eq!(busy.polling_since, Some(at("2026-11-18T12:40:00Z")));
    assert_eq!(busy.last_run, Some(at("2026-11-18T13:30:06Z")));
    assert_eq!((busy.last_failure, busy.last_error.as_deref()), (Some(at("2026-11-18T12:42:00Z")), Some("busy")));
}

/// Rows of the large ledger: enough to tell an index from a scan, few enough for every commit.
const LARGE: i64 = 100_000;

/// The cheapest of five looks.
async fn cost(store: &Store, depth: Depth) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        store.figures_of(depth, at(NOW)).await.unwrap();
        best = best.min(begun.elapsed());
    }
    best
}

/// Three jobs that hold almost all rows: one that works, one that only fails, one that only skips.
fn crowds(pen: &Pen, from: i64, until: i64) -> String {
    let many = |job, outcome| pen.many(&Many { job, outcome, from, until: until / 3, every_ms: 500 });
    many("works", "success") + &many("fails", "error") + &many("skips", "skipped")
}

/// Looks at a small ledger and at a large one.
async fn measure(store: &Store, pen: &Pen, write: impl AsyncFn(String)) {
    let rows = std::env::var("FIGURES_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(LARGE);
    let jobs: String = ["works", "fails", "skips"].iter().map(|job| pen.job(job, "", "{}")).collect();
    write(jobs + &crowds(pen, 1, 3_000)).await;
    let small = [cost(store, Depth::Newest).await, cost(store, Depth::Day).await];
    write(crowds(pen, 1_001, rows)).await;

    let large = [cost(store, Depth::Newest).await, cost(store, Depth::Day).await];

    eprintln!("{:?}: 3,000 rows {small:?}, {rows} rows {large:?}", pen.0);
    for (small, large) in small.iter().zip(&large) {
        // Thirty times the rows: a scan would show, a busy machine must not.
        assert!(*large < *small * 6 + Duration::from_millis(60), "{small:?} became {large:?}");
    }
}

async fn sqlite(folder: &Path) -> (Store, SqliteConnection) {
    let store = Store::open(&config("sqlite://workers.db", folder.into())).await.unwrap();
    store.migrate().await.unwrap();
    let url = format!("sqlite://{}", folder.join("workers.db").display());
    (store, SqliteConnection::connect(&url).await.unwrap())
}

async fn postgres(database: &Database) -> (Store, PgConnection) {
    let store = Store::open(&config(&database.url, PathBuf::new())).await.unwrap();
    store.migrate().await.unwrap();
    (store, database.connect().await)
}

#[tokio::test]
async fn sqlite_counts_a_crowd_by_its_hours() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut connection) = sqlite(folder.path()).await;
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Sqlite).crowd())).execute(&mut connection).await.unwrap();

    assert_crowd(&store.figures(at(NOW)).await.unwrap());
}

#[tokio::test]
async fn postgresql_counts_the_same_crowd() {
    let database = Database::new().await;
    let (store, mut connection) = postgres(&database).await;
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Postgres).crowd())).execute(&mut connection).await.unwrap();

    assert_crowd(&store.figures(at(NOW)).await.unwrap());
}

#[tokio::test]
async fn a_look_at_sqlite_costs_no_more_when_the_ledger_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (store, connection) = sqlite(folder.path()).await;
    let connection = Mutex::new(connection);
    let write = async |text: String| {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection.lock().await).await.unwrap();
    };

    measure(&store, &Pen(Kind::Sqlite), write).await;
}

#[tokio::test]
async fn a_look_at_postgresql_costs_no_more_when_the_ledger_grows() {
    let database = Database::new().await;
    let (store, connection) = postgres(&database).await;
    let connection = Mutex::new(connection);
    let write = async |text: String| {
        let mut connection = connection.lock().await;
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await.unwrap();
        sqlx::raw_sql("analyze").execute(&mut *connection).await.unwrap();
    };

    measure(&store, &Pen(Kind::Postgres), write).await;
}

#[tokio::test]
async fn sqlite_tells_the_figures_of_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut connection) = sqlite(folder.path()).await;
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Sqlite).story())).execute(&mut connection).await.unwrap();

    let figures = store.figures(at(NOW)).await.unwrap();

    assert_figures(&figures, 1);
}

#[tokio::test]
async fn postgresql_tells_the_same_figures_of_the_same_rows() {
    let database = Database::new().await;
    let (store, mut connection) = postgres(&database).await;
    sqlx::raw_sql(AssertSqlSafe(Pen(Kind::Postgres).story())).execute(&mut connection).await.unwrap();

    let figures = store.figures(at(NOW)).await.unwrap();

    assert_figures(&figures, 0);
}
