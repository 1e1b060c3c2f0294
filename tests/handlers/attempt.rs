//! One attempt without an engine: a context over a real database, and what the engine does with the ending.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        job::{About, Backoff, CatchUp, Delivery, ExpectItems, Job, JobName, Keep, Overlap, Policy, Retry},
        run::{Failure, Report, Run, RunId, State, Trigger},
        schedule::Zone,
    },
    handlers::{AppDatabase, AppTx, Context, Done, Ending, History, Outbound, Scope, Targets, Tools, Work},
    outbound::Confidential,
};
use serde_json::{Value, json};
use sqlx::{Connection, PgPool, SqliteConnection, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::postgres::Database;

/// The instant at which attempts start unless a test says otherwise: a Wednesday.
pub fn noon() -> DateTime<Utc> {
    instant("2025-01-08T12:00:00Z")
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant in RFC 3339")
}

/// A work read from settings as `jobs.toml` gives them, and checked.
pub fn work(name: &str, settings: Value) -> Work {
    checked(name, settings, &Targets::new()).expect("settings that can run")
}

/// As `work`; or what a reader of the job table would be told.
pub fn checked(name: &str, settings: Value, targets: &Targets) -> Result<Work, Vec<String>> {
    let mut work = Work::parse(name, settings).map_err(|error| vec![error.to_string()])?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handlers");
    let errors = work.check(&Scope {
        targets,
        outbound: &Outbound::default(),
        folder: &folder,
        variables: &std::env::vars().collect(),
    });
    if errors.is_empty() { Ok(work) } else { Err(errors) }
}

/// As `work`, with the team told at this address of Slack's.
pub fn work_telling(name: &str, settings: Value, webhook: &str) -> Work {
    let mut work = Work::parse(name, settings).expect("settings that parse");
    let outbound = Outbound { slack: Some(Confidential::new(webhook)), ..Outbound::default() };
    let (targets, variables) = (Targets::new(), std::collections::BTreeMap::new());
    let scope = Scope { targets: &targets, outbound: &outbound, folder: Path::new("."), variables: &variables };
    assert_eq!(work.check(&scope), Vec::<String>::new());
    work
}

/// The daemon's own database, real and empty.
pub enum Home {
    Sqlite { connection: Arc<Mutex<SqliteConnection>>, path: String, _folder: TempDir },
    Postgres { pool: PgPool, _database: Database },
}

impl Home {
    pub async fn sqlite() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("home.db").display().to_string();
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let connection = SqliteConnection::connect_with(&options).await.expect("a new file");
        Self::Sqlite { connection: Arc::new(Mutex::new(connection)), path, _folder: folder }
    }

    pub async fn postgres() -> Self {
        let database = Database::new().await;
        // A server in another zone must not move what handlers do.
        let options: PgConnectOptions = database.url.parse().expect("the URL of the test's database");
        let options = options.options([("timezone", "America/Sao_Paulo")]);
        let pool = PgPool::connect_with(options).await.expect("the test's database answers");
        Self::Postgres { pool, _database: database }
    }

    pub async fn both() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => format!("sqlite://{path}"),
            Self::Postgres { _database, .. } => _database.url.clone(),
        }
    }

    /// Runs statements of the test itself.
    pub async fn execute(&self, statements: &'static str) {
        let done = match self {
            Self::Sqlite { connection, .. } => {
                let mut connection = taken(connection).await;
                sqlx::raw_sql(statements).execute(&mut *connection).await.map(drop)
            }
            Self::Postgres { pool, .. } => sqlx::raw_sql(statements).execute(pool).await.map(drop),
        };
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The rows of a query whose first column is text.
    pub async fn texts(&self, query: &'static str) -> Vec<String> {
        let rows = match self {
            Self::Sqlite { connection, .. } => {
                let mut connection = taken(connection).await;
                sqlx::query_scalar(query).fetch_all(&mut *connection).await
            }
            Self::Postgres { pool, .. } => sqlx::query_scalar(query).fetch_all(pool).await,
        };
        rows.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub fn app(&self) -> AppDatabase {
        match self {
            Self::Sqlite { connection, path, .. } => {
                let connection = Arc::clone(connection);
                let begin = move || -> futures_util::future::BoxFuture<'static, _> {
                    let connection = Arc::clone(&connection);
                    Box::pin(async move {
                        let mut guard = taken(&connection).await;
                        let begun = sqlx::raw_sql("begin immediate").execute(&mut *guard).await;
                        begun.map_err(|error| Failure::retry(error.to_string()))?;
                        Ok(AppTx::Sqlite(guard))
                    })
                };
                let reading = SqliteConnectOptions::new().filename(path).read_only(true);
                let begin_reading = move || -> futures_util::future::BoxFuture<'static, _> {
                    let reading = reading.clone();
                    Box::pin(async move {
                        let mut connection = SqliteConnection::connect_with(&reading).await.expect("the file is there");
                        sqlx::raw_sql("begin").execute(&mut connection).await.expect("a reader begins");
                        Ok(AppTx::Sqlite(Arc::new(Mutex::new(connection)).lock_owned().await))
                    })
                };
                AppDatabase { begin: Arc::new(begin), begin_reading: Arc::new(begin_reading), history: no_ledger() }
            }
            Self::Postgres { pool, .. } => {
                let pool = pool.clone();
                let begin = |how: &'static str| {
                    let pool = pool.clone();
                    move || -> futures_util::future::BoxFuture<'static, _> {
                        let pool = pool.clone();
                        Box::pin(async move {
                            let tx = pool.begin_with(how).await.map_err(|error| Failure::retry(error.to_string()))?;
                            Ok(AppTx::Postgres(tx))
                        })
                    }
                };
                AppDatabase {
                    begin: Arc::new(begin("begin")),
                    begin_reading: Arc::new(begin("begin isolation level repeatable read read only")),
                    history: no_ledger(),
                }
            }
        }
    }
}

/// The connection, as the store gives it: what an earlier holder left open is rolled back.
async fn taken(connection: &Arc<Mutex<SqliteConnection>>) -> OwnedMutexGuard<SqliteConnection> {
    let mut guard = Arc::clone(connection).lock_owned().await;
    // An error means that nothing was open.
    let _ = sqlx::raw_sql("rollback").execute(&mut *guard).await;
    guard
}

/// A database for handlers that need none.
pub fn no_database() -> AppDatabase {
    let begin = || -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(async { Err(Failure::permanent("this test has no database")) })
    };
    AppDatabase { begin: Arc::new(begin), begin_reading: Arc::new(begin), history: no_ledger() }
}

/// A ledger in which nothing ever ran.
fn no_ledger() -> Arc<History> {
    Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) }))
}

/// What one attempt gets, to be changed before it is used.
pub fn context(database: AppDatabase) -> Context {
    Context {
        run: Arc::new(run()),
        job: Arc::new(job()),
        attempt: 1,
        now: noon(),
        deadline: noon() + TimeDelta::minutes(5),
        cancelled: CancellationToken::new(),
        tools: Tools::new(Targets::new()),
        database,
    }
}

/// Ends an attempt as the engine does, without the row of the run: a transaction is committed.
pub async fn commit(ending: Ending) -> Result<Report, Failure> {
    match ending? {
        Done::Report(report) => Ok(report),
        Done::InTransaction(report, AppTx::Postgres(tx)) => {
            tx.commit().await.expect("PostgreSQL commits");
            Ok(report)
        }
        Done::InTransaction(report, AppTx::Sqlite(mut guard)) => {
            sqlx::raw_sql("commit").execute(&mut *guard).await.expect("SQLite commits");
            Ok(report)
        }
    }
}

pub fn run() -> Run {
    Run {
        id: RunId(Uuid::now_v7()),
        job: JobName::from_store("nightly"),
        epoch: 1,
        trigger: Trigger::Schedule,
        scheduled_for: Some(noon() - TimeDelta::seconds(2)),
        covers: 1,
        covers_from: Some(noon() - TimeDelta::seconds(2)),
        state: State::Running,
        outcome: None,
        reason: None,
        due_at: noon(),
        priority: 0,
        key: None,
        dedupe_key: None,
        payload: Value::Null,
        attempt: 1,
        max_attempts: 3,
        crashes: 0,
        exclusive: true,
        replica: None,
        resume: None,
        retry_of: None,
        cancel_requested_at: None,
        created_at: noon() - TimeDelta::seconds(1),
        started_at: Some(noon()),
        finished_at: None,
        lag_ms: None,
        duration_ms: None,
        items: None,
        items_failed: None,
        response_code: None,
        result: None,
        error: None,
        errors: json!([]),
    }
}

pub fn job() -> Job {
    Job {
        name: JobName::from_store("nightly"),
        schedule: None,
        zone: Zone::utc(),
        handler: "noop",
        disabled: None,
        gate: None,
        policy: Policy {
            timeout: Duration::from_secs(300),
            slow_after: Duration::from_secs(60),
            retry: Retry { max_attempts: 3, backoff: Backoff::List(vec![Duration::from_secs(5)]), jitter: false },
            overlap: Overlap::Skip,
            catch_up: CatchUp::Latest,
            catch_up_within: TimeDelta::days(1),
            delivery: Delivery::AtLeastOnce,
            critical: false,
            stale_after: None,
            expect_items: ExpectItems::Any,
            priority: 0,
            concurrency: None,
            keep: Keep { done: Duration::from_secs(60), failed: Duration::from_secs(60) },
        },
        payload: Value::Null,
        about: About::default(),
        previous_names: Vec::new(),
        work_hash: String::new(),
    }
}
