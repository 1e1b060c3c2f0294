//! Handlers' transactions in the daemon's own database.

use sqlx::{Postgres, SqliteConnection, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::Database;
use crate::store::{Result, Store};

/// An open transaction for a handler. Dropped = rolled back.
pub enum AppConnection {
    Postgres(Transaction<'static, Postgres>),
    /// The only writer, inside `begin immediate`: everybody else waits, so it must be short (spec 4: 5 s).
    Sqlite(OwnedMutexGuard<SqliteConnection>),
}

impl Store {
    /// Begins a transaction that only reads, on a connection that neither the engine nor a handler waits for. At most one at a
    /// time on PostgreSQL; on SQLite a reader of its own, which no writer waits for either.
    pub async fn begin_look(&self) -> Result<AppConnection> {
        match &self.inner.database {
            Database::Postgres(database) => Ok(AppConnection::Postgres(database.begin_look().await?)),
            Database::Sqlite(database) => Ok(AppConnection::Sqlite(database.begin_look().await?)),
        }
    }

    /// Begins a transaction for a handler that changes nothing: on PostgreSQL among those of the other handlers, on SQLite
    /// on a reader of its own, which no writer waits for.
    pub async fn begin_reading(&self) -> Result<AppConnection> {
        match &self.inner.database {
            Database::Postgres(database) => {
                let mut tx = database.begin_app().await?;
                sqlx::raw_sql("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
                Ok(AppConnection::Postgres(tx))
            }
            Database::Sqlite(database) => Ok(AppConnection::Sqlite(database.begin_look().await?)),
        }
    }

    /// Begins a transaction for a handler, from a pool of its own on PostgreSQL.
    pub async fn begin_app(&self) -> Result<AppConnection> {
        match &self.inner.database {
            Database::Postgres(database) => Ok(AppConnection::Postgres(database.begin_app().await?)),
            Database::Sqlite(database) => {
                let mut connection = database.lock_for_handler().await?;
                sqlx::raw_sql("begin immediate").execute(&mut *connection).await?;
                Ok(AppConnection::Sqlite(connection))
            }
        }
    }
}
