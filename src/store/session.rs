//! One body per query: a session speaks to either database inside one transaction.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use sqlx::{PgConnection, SqliteConnection};

use super::{
    Result, Store, StoreError,
    connect::Database,
    dialect::{Book, Kind, Sql},
    row::{Param, Row, bind_array},
};

/// How long a transaction may take; enforced by the server and, a little later, by us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Begins the transaction on PostgreSQL: everything a pooled session may not remember.
    pub begin: &'static str,
    /// Ours, over the whole transaction: past it the connection is thrown away.
    pub client: Duration,
}

/// Every statement of ours finds its rows by an index. A planner with old statistics, or none, must not think otherwise
/// (a sequential scan or a hash of the whole ledger per claim), nor compile what runs for a millisecond, nor plan anew
/// what it planned before.
macro_rules! by_index {
    ($limits:literal) => {
        concat!(
            "begin isolation level read committed; set local enable_seqscan = off; set local enable_hashjoin = off; \
             set local enable_mergejoin = off; set local jit = off; set local plan_cache_mode = force_generic_plan; ",
            $limits
        )
    };
}

/// Planning, claiming, settling: what the engine waits for.
pub(super) const QUICK: Limits = Limits {
    begin: by_index!(
        "set local lock_timeout = 2000; set local statement_timeout = 5000; \
         set local idle_in_transaction_session_timeout = 10000"
    ),
    client: Duration::from_secs(8),
};
/// Activation, renaming, pruning: rare, and over many rows.
pub(super) const LONG: Limits = Limits {
    begin: by_index!(
        "set local lock_timeout = 10000; set local statement_timeout = 120000; \
         set local idle_in_transaction_session_timeout = 30000"
    ),
    client: Duration::from_secs(150),
};
/// Reading, in one snapshot.
pub(super) const READ: Limits = Limits {
    begin: "begin isolation level repeatable read read only; set local jit = off; set local lock_timeout = 2000; \
            set local statement_timeout = 30000; set local idle_in_transaction_session_timeout = 30000",
    client: Duration::from_secs(35),
};

/// Transactions that failed because of others are begun anew this often.
const ATTEMPTS: u32 = 6;
/// The first wait before such a new attempt; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// What a verb does inside its transaction. It may be called again when the transaction failed because of others.
pub(super) trait Body<T>:
    for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T>> + Send + Sync + 'static
{
}

impl<T, F> Body<T> for F where F: for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T>> + Send + Sync + 'static
{}

enum Link<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
}

/// An open transaction, and the statements in the words of its database.
pub(super) struct Session<'c> {
    link: Link<'c>,
    book: &'c Book,
    /// Named statements; not behind a transaction pooler.
    persistent: bool,
}

impl<'c> Session<'c> {
    pub fn postgres(connection: &'c mut PgConnection, book: &'c Book, persistent: bool) -> Self {
        Self { link: Link::Postgres(connection), book, persistent }
    }

    pub fn sqlite(connection: &'c mut SqliteConnection, book: &'c Book) -> Self {
        Self { link: Link::Sqlite(connection), book, persistent: true }
    }

    pub fn kind(&self) -> Kind {
        self.book.kind
    }

    /// Runs a statement and returns its rows.
    pub async fn rows(&mut self, sql: &Sql, params: Vec<Param>) -> Result<Vec<Row>> {
        let text = self.book.text(sql);
        match &mut self.link {
            Link::Postgres(connection) => {
                let query = sqlx::query(text).persistent(self.persistent);
                let query = params.into_iter().fold(query, |query, param| param.bind_postgres(query));
                Ok(query.fetch_all(&mut **connection).await?.into_iter().map(Row::Postgres).collect())
            }
            Link::Sqlite(connection) => {
                refuse_nul(&params)?;
                let query = params.into_iter().fold(sqlx::query(text), |query, param| param.bind_sqlite(query));
                Ok(query.fetch_all(&mut **connection).await?.into_iter().map(Row::Sqlite).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub async fn maybe_row(&mut self, sql: &Sql, params: Vec<Param>) -> Result<Option<Row>> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: &Sql, params: Vec<Param>) -> Result<u64> {
        let text = self.book.text(sql);
        match &mut self.link {
            Link::Postgres(connection) => {
                let query = sqlx::query(text).persistent(self.persistent);
                let query = params.into_iter().fold(query, |query, param| param.bind_postgres(query));
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
            Link::Sqlite(connection) => {
                refuse_nul(&params)?;
                let query = params.into_iter().fold(sqlx::query(text), |query, param| param.bind_sqlite(query));
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
        }
    }

    /// Runs a bulk statement over the given rows, whose columns come before `params`; returns what it returned.
    pub async fn bulk(&mut self, sql: &Sql, given: Vec<Vec<Param>>, params: Vec<Param>) -> Result<Vec<Row>> {
        if given.is_empty() {
            return Ok(Vec::new());
        }
        let Link::Postgres(connection) = &mut self.link else {
            for row in &given {
                refuse_nul(row)?;
            }
            let rows =
                Value::Array(given.into_iter().map(|row| row.into_iter().map(Param::into_json).collect()).collect());
            // The parameters keep the numbers that they have behind PostgreSQL's arrays.
            let unused = (1..sql.given.len()).map(|_| Param::Text(None));
            let all = std::iter::once(Param::Json(Some(rows))).chain(unused).chain(params).collect();
            return self.rows(sql, all).await;
        };
        let mut query = sqlx::query(self.book.text(sql)).persistent(self.persistent);
        let mut given: Vec<_> = given.into_iter().map(Vec::into_iter).collect();
        for (name, of) in sql.given {
            let column = given.iter_mut().map(|row| row.next().unwrap_or_else(|| panic!("column {name} is given")));
            query = bind_array(query, *of, column);
        }
        let query = params.into_iter().fold(query, |query, param| param.bind_postgres(query));
        Ok(query.fetch_all(&mut **connection).await?.into_iter().map(Row::Postgres).collect())
    }
}

/// The number that a `select count(*)` answers.
pub(super) async fn count(session: &mut Session<'_>, sql: &Sql, params: Vec<Param>) -> Result<u64> {
    let row = session.maybe_row(sql, params).await?;
    let counted = row.map(|row| row.columns().int()).transpose()?.unwrap_or_default();
    Ok(u64::try_from(counted).unwrap_or_default())
}

fn refuse_nul(params: &[Param]) -> Result<()> {
    if params.iter().any(Param::holds_nul) {
        return Err(StoreError::Refused("a text or JSON value holds a NUL character".into()));
    }
    Ok(())
}

impl Store {
    /// Runs a body in a writing transaction and commits it. A transaction that failed because of others is begun anew.
    pub(super) async fn write<T: Send + 'static>(&self, limits: Limits, body: impl Body<T>) -> Result<T> {
        let database = match &self.inner.database {
            Database::Sqlite(database) => return database.write(limits, body).await,
            Database::Postgres(database) => database,
        };
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match database.transact(&database.pool, limits, &self.inner.book, &body).await {
                Err(StoreError::Contended(_)) => tokio::time::sleep(wait.mul_f64(fastrand::f64() + 0.5)).await,
                answer => return answer,
            }
            wait *= 2;
        }
        let answer = database.transact(&database.pool, limits, &self.inner.book, &body).await;
        answer.map_err(|error| match error {
            StoreError::Contended(reason) => {
                StoreError::Unreachable(format!("gave up after {ATTEMPTS} attempts: {reason}"))
            }
            other => other,
        })
    }

    /// Runs a body of one reading statement, without a transaction around it where no pooler is in the way: what idle
    /// loops ask again and again must cost one round trip.
    pub(super) async fn glance<T: Send + 'static>(&self, body: impl Body<T>) -> Result<T> {
        match &self.inner.database {
            Database::Postgres(database) if !database.pooled => database.glance(&self.inner.book, &body).await,
            _ => self.read(body).await,
        }
    }

    /// Runs a body in a reading transaction: one snapshot.
    pub(super) async fn read<T: Send + 'static>(&self, body: impl Body<T>) -> Result<T> {
        match &self.inner.database {
            Database::Sqlite(database) => database.read(&self.inner.book, &body).await,
            Database::Postgres(database) => database.transact(&database.pool, READ, &self.inner.book, &body).await,
        }
    }
}
