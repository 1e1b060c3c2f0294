//! Pools of databases that are not the daemon's own.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::Url;
use sqlx::{
    ConnectOptions, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::handlers::Dialect;

/// Connections per database: a team's server has few to give away.
const MAX_CONNECTIONS: u32 = 2;
/// How long a run waits for one of them, connecting included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused one is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long SQLite waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Where poolers in transaction mode listen by custom; named statements do not survive there.
const POOLER_PORT: u16 = 6543;

/// Small pools, one per URL, opened at first use and kept for the life of the process.
#[derive(Debug, Default)]
pub struct OtherDatabases {
    pools: Mutex<BTreeMap<String, Pool>>,
}

#[derive(Debug, Clone)]
pub(super) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl OtherDatabases {
    /// The pool of a database; nothing is connected yet. The error does not quote the URL, which is a secret.
    pub(super) fn pool(&self, url: &str) -> Result<Pool, String> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(url) {
            return Ok(pool.clone());
        }
        let pool = match dialect(url)? {
            Dialect::Postgres => Pool::Postgres(postgres(url)?),
            Dialect::Sqlite => Pool::Sqlite(sqlite(url)?),
        };
        pools.insert(url.to_owned(), pool.clone());
        Ok(pool)
    }
}

/// What the database behind a URL speaks.
pub(super) fn dialect(url: &str) -> Result<Dialect, String> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Ok(Dialect::Postgres),
        Some("sqlite") => Ok(Dialect::Sqlite),
        _ => Err("the URL of the database begins neither with postgres:// nor with sqlite://".into()),
    }
}

/// Finds a mistake in a URL without connecting.
pub(super) fn check(url: &str) -> Result<Dialect, String> {
    let dialect = dialect(url)?;
    match dialect {
        Dialect::Postgres => postgres_options(url).map(drop)?,
        Dialect::Sqlite => sqlite_options(url).map(drop)?,
    }
    Ok(dialect)
}

fn postgres(url: &str) -> Result<PgPool, String> {
    let options = PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT);
    Ok(options.connect_lazy_with(postgres_options(url)?))
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, String> {
    let wrong = || "the URL of the database is not one of PostgreSQL".to_owned();
    let mut parsed = Url::parse(url).map_err(|_| wrong())?;
    // `pooler` is ours; the driver does not know it.
    let asked = parsed.query_pairs().any(|(name, value)| name == "pooler" && value == "transaction");
    let kept: Vec<_> = parsed.query_pairs().filter(|(name, _)| name != "pooler").map(own).collect();
    parsed.query_pairs_mut().clear().extend_pairs(kept);
    if parsed.query() == Some("") {
        parsed.set_query(None);
    }
    let options = PgConnectOptions::from_str(parsed.as_str()).map_err(|_| wrong())?;
    let pooled =
        asked || parsed.port() == Some(POOLER_PORT) || parsed.host_str().is_some_and(|host| host.contains("pooler."));
    let options = options.application_name("workers sql").disable_statement_logging();
    Ok(if pooled { options.statement_cache_capacity(0) } else { options })
}

fn own<'a>((name, value): (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)) -> (String, String) {
    (name.into_owned(), value.into_owned())
}

fn sqlite(url: &str) -> Result<SqlitePool, String> {
    // One connection: SQLite has one writer.
    let options =
        SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(IDLE_TIMEOUT);
    Ok(options.connect_lazy_with(sqlite_options(url)?))
}

fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, String> {
    let options =
        SqliteConnectOptions::from_str(url).map_err(|_| "the URL of the database is not one of SQLite".to_owned())?;
    // A missing file is a mistake in the URL: an empty database would hide it.
    Ok(options.create_if_missing(false).busy_timeout(BUSY_TIMEOUT).disable_statement_logging())
}
