//! What a handler gets, and what it may give back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::Value;
use sqlx::{Postgres, SqliteConnection, Transaction};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::Tools;
use crate::domain::{
    job::Job,
    ledger::JobPeriod,
    run::{Failure, Report, Run},
};

/// Everything a handler may know and use. Never the store.
#[derive(Clone)]
pub struct Context {
    pub run: Arc<Run>,
    pub job: Arc<Job>,
    /// Counts from 1.
    pub attempt: u32,
    /// The instant the attempt started, on the daemon's clock.
    pub now: DateTime<Utc>,
    /// The attempt is aborted at this instant.
    pub deadline: DateTime<Utc>,
    /// Fires when the process is told to stop, and on cancel, time-out and lost lease. After a stop the attempt may go on
    /// for `shutdown_grace`; who cannot end by then fails early with `resume`, and no attempt is spent. In the other cases
    /// it is aborted after its `stop_grace`.
    pub cancelled: CancellationToken,
    /// Clients, pools and targets of the process.
    pub tools: Tools,
    pub database: AppDatabase,
}

impl Context {
    /// The payload of the run, or the job's own when the run has none.
    pub fn payload(&self) -> &Value {
        if self.run.payload.is_null() { &self.job.payload } else { &self.run.payload }
    }

    /// Begins a transaction in the daemon's own database. Give it back in `Done::InTransaction`, and the run is
    /// settled inside it: effect and settlement commit together.
    pub async fn begin(&self) -> Result<AppTx, Failure> {
        (self.database.begin)().await
    }

    /// Begins a transaction that only reads: on SQLite nobody waits for it, and it waits for nobody who writes.
    pub async fn begin_reading(&self) -> Result<AppTx, Failure> {
        (self.database.begin_reading)().await
    }

    /// What became of each job's runs that ended in `[from, until)`, as the ledger has it.
    pub async fn history(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<JobPeriod>, Failure> {
        (self.database.history)(from, until).await
    }
}

/// The ways to the daemon's own database.
#[derive(Clone)]
pub struct AppDatabase {
    pub begin: Arc<Begin>,
    /// For work that changes nothing.
    pub begin_reading: Arc<Begin>,
    pub history: Arc<History>,
}

/// Begins a transaction.
pub type Begin = dyn Fn() -> BoxFuture<'static, Result<AppTx, Failure>> + Send + Sync;

/// What a look at a queue may use. It changes nothing, and must not wait for what runs.
pub struct QueueLook {
    pub job: Arc<Job>,
    /// On the daemon's clock.
    pub now: DateTime<Utc>,
    pub tools: Tools,
    /// Its transactions only read, on a connection that no run waits for.
    pub database: AppDatabase,
}

/// Reads the ledger, which no handler may name, from one instant until before another.
pub type History =
    dyn Fn(DateTime<Utc>, DateTime<Utc>) -> BoxFuture<'static, Result<Vec<JobPeriod>, Failure>> + Send + Sync;

/// An open transaction in the daemon's own database. Dropped = rolled back.
pub enum AppTx {
    Postgres(Transaction<'static, Postgres>),
    /// The only writer connection, with `begin immediate` done; whoever locks it next rolls back what was left open.
    Sqlite(OwnedMutexGuard<SqliteConnection>),
}

impl AppTx {
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Makes what was done in it last, apart from the settlement of the run.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(tx) => tx.commit().await,
            Self::Sqlite(mut connection) => sqlx::raw_sql("commit").execute(&mut *connection).await.map(drop),
        }
    }
}

/// Which SQL a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// How a handler ends well.
pub enum Done {
    Report(Report),
    /// The run is settled inside this transaction, which is then committed; a lost lease rolls it back.
    InTransaction(Report, AppTx),
}

/// How a handler ends.
pub type Ending = Result<Done, Failure>;
