//! PostgreSQL: pools, limits, poolers.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Row, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::Mutex, time::timeout};
use url::Url;

use super::Described;
use crate::store::{
    DatabaseConfig, Result, StoreError,
    dialect::{Book, Kind},
    session::{Body, Limits, Session},
};

/// The engine never waits longer for a connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);
/// First contact, with name look-up and TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A renewal that takes longer is worth nothing (spec 4, Lease).
const RENEW_LIMIT: Duration = Duration::from_secs(3);
/// Idle connections beyond the least are closed after this.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// PgBouncer's and Supavisor's port for transaction pooling.
const POOLER_PORT: u16 = 6543;

pub(in crate::store) struct Postgres {
    pub pool: PgPool,
    /// Handlers' transactions: plan, renew and settle never wait for a connection that handlers hold.
    app_pool: PgPool,
    /// One connection for those who only look, made when the first of them comes.
    look_pool: PgPool,
    renewal: Mutex<Option<PgConnection>>,
    options: PgConnectOptions,
    pub direct: PgConnectOptions,
    masked_url: String,
    pub pooled: bool,
}

impl Postgres {
    pub async fn open(config: &DatabaseConfig) -> Result<Self> {
        let (options, pooled) = options_of(&config.url, config)?;
        let direct = match &config.direct_url {
            Some(url) => options_of(url, config)?.0,
            None => options.clone(),
        };
        let most = config.max_connections.max(2);
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(config.min_connections.min(most))
            .acquire_timeout(ACQUIRE_LIMIT)
            .idle_timeout(IDLE_LIMIT)
            // Beginning a transaction tells as much, and `transact` tries the next connection then.
            .test_before_acquire(false);
        let app_pool = pool.clone().min_connections(0).connect_lazy_with(options.clone());
        let look_pool = pool.clone().min_connections(0).max_connections(1).connect_lazy_with(options.clone());
        let pool = pool.connect_lazy_with(options.clone());
        let masked_url = masked(&config.url)?;
        let database =
            Self { pool, app_pool, look_pool, renewal: Mutex::new(None), options, direct, masked_url, pooled };
        database.refuse_standby().await?;
        Ok(database)
    }

    async fn refuse_standby(&self) -> Result<()> {
        // A connection of its own first: the pool would keep trying for its whole time-out and then not say why.
        let mut connection = within(CONNECT_LIMIT, self.options.connect()).await?;
        let recovering = sqlx::raw_sql("select pg_is_in_recovery()").fetch_one(&mut connection).await?;
        // Closing politely is not worth an error.
        let _ = connection.close().await;
        if recovering.try_get(0)? {
            return Err(StoreError::Config(format!(
                "{} is a standby and takes no writes: use the URL of the primary server",
                self.masked_url
            )));
        }
        Ok(())
    }

    pub fn describe(&self, schema: &str) -> Described {
        Described {
            kind: Kind::Postgres,
            url: self.masked_url.clone(),
            database: self.options.get_database().unwrap_or(self.options.get_username()).into(),
            schema: schema.into(),
            pooled: self.pooled,
        }
    }

    /// Runs a body in one transaction and commits it.
    pub async fn transact<T>(&self, pool: &PgPool, limits: Limits, book: &Book, body: &impl Body<T>) -> Result<T> {
        let mut lent = self.begun(pool, limits).await?;
        let answer = timeout(limits.client, async {
            let connection = lent.connection();
            let answer = body(&mut Session::postgres(connection, book, !self.pooled)).await;
            let end = if answer.is_ok() { "commit" } else { "rollback" };
            let ended = sqlx::raw_sql(end).execute(connection).await;
            answer.and_then(|value| ended.map(|_| value).map_err(StoreError::from))
        });
        let answer = answer.await.unwrap_or_else(|_| Err(no_answer(limits.client)));
        if !matches!(answer, Err(StoreError::Unreachable(_))) {
            lent.give_back();
        }
        answer
    }

    /// Runs a body of one reading statement outside a transaction. A dead idle connection is replaced.
    pub async fn glance<T>(&self, book: &Book, body: &impl Body<T>) -> Result<T> {
        let mut spare = self.pool.options().get_max_connections();
        loop {
            let mut connection = self.pool.acquire().await?;
            let answer = timeout(CONNECT_LIMIT, body(&mut Session::postgres(&mut connection, book, true))).await;
            match answer.unwrap_or_else(|_| Err(no_answer(CONNECT_LIMIT))) {
                Err(StoreError::Unreachable(_)) if 0 < spare => drop(connection.detach()),
                answer => return answer,
            }
            spare -= 1;
        }
    }

    /// A connection with an open transaction. A connection that died while it was idle is replaced: nothing was asked.
    async fn begun(&self, pool: &PgPool, limits: Limits) -> Result<Lent> {
        let mut spare = pool.options().get_max_connections();
        loop {
            let mut lent = Lent(Some(pool.acquire().await?));
            match within(ACQUIRE_LIMIT, sqlx::raw_sql(limits.begin).execute(lent.connection())).await {
                Ok(_) => return Ok(lent),
                Err(StoreError::Unreachable(_)) if 0 < spare => {}
                Err(error) => return Err(error),
            }
            spare -= 1;
        }
    }

    /// Runs a body on the renewal's own connection, made anew when the last use failed.
    pub async fn renew<T>(&self, limits: Limits, book: &Book, body: &impl Body<T>) -> Result<T> {
        let mut slot = self.renewal.lock().await;
        let kept = slot.take();
        let renewed = timeout(RENEW_LIMIT, async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            sqlx::raw_sql(limits.begin).execute(&mut connection).await?;
            let answer = body(&mut Session::postgres(&mut connection, book, !self.pooled)).await;
            let end = if answer.is_ok() { "commit" } else { "rollback" };
            sqlx::raw_sql(end).execute(&mut connection).await?;
            Ok::<_, StoreError>((answer, connection))
        });
        let (answer, connection) = renewed.await.unwrap_or_else(|_| Err(no_answer(RENEW_LIMIT)))?;
        *slot = Some(connection);
        answer
    }

    /// A transaction that changes nothing.
    pub async fn begin_look(&self) -> Result<Transaction<'static, sqlx::Postgres>> {
        const BEGIN: &str = "begin isolation level repeatable read read only";
        match self.look_pool.begin_with(BEGIN).await.map_err(StoreError::from) {
            // The connection died while it was idle; the next one is new.
            Err(StoreError::Unreachable(_)) if !self.look_pool.is_closed() => {
                Ok(self.look_pool.begin_with(BEGIN).await?)
            }
            answer => answer,
        }
    }

    /// A transaction for a handler; its statements are bound by the attempt's own time-out.
    pub async fn begin_app(&self) -> Result<Transaction<'static, sqlx::Postgres>> {
        let mut spare = self.app_pool.options().get_max_connections();
        loop {
            match self.app_pool.begin_with("begin isolation level read committed").await.map_err(StoreError::from) {
                Err(StoreError::Unreachable(_)) if 0 < spare && !self.app_pool.is_closed() => spare -= 1,
                answer => return answer,
            }
        }
    }

    pub async fn time(&self) -> Result<DateTime<Utc>> {
        let mut connection = self.pool.acquire().await?;
        // The simple protocol needs no session state, so a pooler may not disturb it.
        let asked = sqlx::raw_sql("select clock_timestamp()").fetch_one(&mut *connection);
        let row = match within(ACQUIRE_LIMIT, asked).await {
            Ok(row) => row,
            Err(error) => {
                drop(connection.detach());
                return Err(error);
            }
        };
        let time: DateTime<Utc> = row.try_get(0)?;
        time.duration_trunc(TimeDelta::milliseconds(1)).map_err(|error| StoreError::Other(error.to_string()))
    }

    pub async fn close(&self) {
        if let Some(connection) = self.renewal.lock().await.take() {
            // Closing politely is not worth an error.
            let _ = timeout(RENEW_LIMIT, connection.close()).await;
        }
        let both = async { tokio::join!(self.app_pool.close(), self.pool.close()) };
        let _ = timeout(RENEW_LIMIT, both).await;
    }
}

/// A connection of the pool with a transaction on it. Dropped in the middle of it (an answer that did not come, a
/// caller that went away), it is closed: the pool must not see it again.
struct Lent(Option<PoolConnection<sqlx::Postgres>>);

impl Lent {
    fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is given back only once, at the end")
    }

    /// The transaction has ended.
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Bounds one answer of the database.
pub(super) async fn within<T>(limit: Duration, asked: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(limit, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(no_answer(limit)),
    }
}

fn no_answer(limit: Duration) -> StoreError {
    StoreError::Unreachable(format!("no answer within {} s", limit.as_secs()))
}

fn options_of(text: &str, config: &DatabaseConfig) -> Result<(PgConnectOptions, bool)> {
    let mut url = parsed(text)?;
    let asked = take_pooler(&mut url)?;
    let pooled = asked || url.port() == Some(POOLER_PORT) || url.host_str().is_some_and(|host| host.contains("pooler"));
    let named = url.query_pairs().any(|(key, _)| key == "application_name");
    let mut options = PgConnectOptions::from_str(url.as_str()).map_err(|error| unusable(text, &error.to_string()))?;
    if !named {
        options = options.application_name(&config.application_name);
    }
    if pooled {
        // PgBouncer refuses start-up parameters it does not know, and we read no floating point numbers.
        options = options.statement_cache_capacity(0).extra_float_digits(None);
    } else {
        options = options.options([("jit", "off")]);
    }
    Ok((options.disable_statement_logging(), pooled))
}

/// Takes `pooler=transaction` out of the query, which sqlx would warn about.
fn take_pooler(url: &mut Url) -> Result<bool> {
    let (ours, theirs): (Vec<_>, Vec<_>) = url.query_pairs().into_owned().partition(|(key, _)| key == "pooler");
    if let Some((_, other)) = ours.iter().find(|(_, value)| value != "transaction") {
        return Err(StoreError::Config(format!("database URL: pooler={other:?} must be \"transaction\"")));
    }
    if theirs.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(theirs);
    }
    Ok(!ours.is_empty())
}

fn masked(text: &str) -> Result<String> {
    let mut url = parsed(text)?;
    let shown: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != "password").collect();
    url.set_query(None);
    if !shown.is_empty() {
        url.query_pairs_mut().extend_pairs(shown);
    }
    if url.password().is_some() {
        // Only a URL without a host cannot hold a password, and this one does.
        let _ = url.set_password(Some("***"));
    }
    Ok(url.into())
}

fn parsed(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| StoreError::Config(format!("the database URL cannot be read: {error}")))
}

fn unusable(text: &str, error: &str) -> StoreError {
    let shown = masked(text).unwrap_or_else(|_| "the database URL".into());
    StoreError::Config(format!("{shown}: {error}"))
}

/// A statement that a migration made from its own files and a validated schema name.
pub(super) fn trusted(text: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> DatabaseConfig {
        DatabaseConfig {
            url: url.into(),
            direct_url: None,
            schema: "workers".into(),
            max_connections: 2,
            min_connections: 0,
            data_dir: ".".into(),
            application_name: "emponto".into(),
        }
    }

    #[test]
    fn poolers_are_known_by_port_host_and_request() {
        let pooled = |url: &str| options_of(url, &config(url)).unwrap().1;

        assert!(pooled("postgres://u:p@db.example.com:6543/app"));
        assert!(pooled("postgres://u:p@aws-0.pooler.supabase.com:5432/app"));
        assert!(pooled("postgres://u:p@db.example.com/app?pooler=transaction&sslmode=require"));
        assert!(!pooled("postgres://u:p@db.example.com:5432/app?sslmode=require"));
        assert!(options_of("postgres://db/app?pooler=session", &config("")).is_err());
    }

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        let shown = masked("postgres://u:canary@h/app?password=canary&sslmode=require").unwrap();

        assert_eq!(shown, "postgres://u:***@h/app?sslmode=require");
    }
}
