//! Ways in: where the database is, and the connections to it.

mod app;
mod lock;
mod migrate;
mod postgres;
mod sqlite;
mod writer;

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};

pub use app::AppConnection;
pub use lock::DaemonLock;
pub use migrate::{Migrated, MigrationStatus};

pub(super) use postgres::Postgres;
pub(super) use sqlite::Sqlite;

use super::{
    DatabaseConfig, Inner, Result, Store, StoreError,
    dialect::{Book, Kind, is_schema_name},
    statements,
};

/// Where the ledger is, in words that may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub kind: Kind,
    /// The password is masked.
    pub url: String,
    /// Database name, or the path of the file.
    pub database: String,
    /// Empty on SQLite.
    pub schema: String,
    /// Behind a transaction pooler: no named statements.
    pub pooled: bool,
}

pub(super) enum Database {
    Postgres(Box<Postgres>),
    Sqlite(Sqlite),
}

/// The absolute path of the SQLite file, when the URL names one.
pub(super) fn file(config: &DatabaseConfig) -> Option<PathBuf> {
    match kind_of(&config.url).ok()? {
        Kind::Postgres => None,
        Kind::Sqlite => sqlite::place(config).ok().map(|(path, _)| path),
    }
}

impl Store {
    /// Opens the database and sees that it answers.
    ///
    /// # Errors
    /// `Config` for settings that cannot work, with the next step; `Unreachable` when nobody answers yet.
    pub async fn open(config: &DatabaseConfig) -> Result<Self> {
        let kind = kind_of(&config.url)?;
        if !is_schema_name(&config.schema) {
            return Err(StoreError::Config(format!("schema {:?} must be like [a-z_][a-z0-9_]*", config.schema)));
        }
        let book = Arc::new(Book::new(kind, &config.schema, statements()));
        let database = match kind {
            Kind::Postgres => Database::Postgres(Box::new(Postgres::open(config).await?)),
            Kind::Sqlite => Database::Sqlite(Sqlite::open(config, Arc::clone(&book)).await?),
        };
        Ok(Self { inner: Arc::new(Inner { book, database }) })
    }

    pub fn kind(&self) -> Kind {
        self.inner.book.kind
    }

    /// Where the ledger is, for the banner: a wrong database must be visible.
    pub fn describe(&self) -> Described {
        match &self.inner.database {
            Database::Postgres(database) => database.describe(&self.inner.book.schema),
            Database::Sqlite(database) => database.describe(),
        }
    }

    /// The server's clock, to the millisecond; `None` on SQLite, which has only the host's.
    pub async fn database_time(&self) -> Result<Option<DateTime<Utc>>> {
        match &self.inner.database {
            Database::Postgres(database) => database.time().await.map(Some),
            Database::Sqlite(_) => Ok(None),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.inner.database {
            Database::Postgres(database) => database.close().await,
            Database::Sqlite(database) => database.close().await,
        }
    }

    /// Name and text of every statement of this store, as it is sent.
    pub fn statements(&self) -> Vec<(&'static str, String)> {
        self.inner.book.texts().map(|(name, text)| (name, text.to_owned())).collect()
    }
}

fn kind_of(url: &str) -> Result<Kind> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Ok(Kind::Postgres),
        Some("sqlite") => Ok(Kind::Sqlite),
        scheme => Err(StoreError::Config(format!(
            "database URL begins with {:?}: it must begin with postgres:// or sqlite://",
            scheme.unwrap_or_default()
        ))),
    }
}
