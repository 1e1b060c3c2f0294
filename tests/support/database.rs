//! Throw-away stores: a SQLite file, or a database in the throw-away PostgreSQL, migrated and empty.

use emponto::store::{DatabaseConfig, Store};
use tempfile::TempDir;

use super::postgres::Database;

/// A store, and what it lives in.
pub struct Ledger {
    pub store: Store,
    pub config: DatabaseConfig,
    _folder: Option<TempDir>,
    /// `None` on SQLite.
    pub database: Option<Database>,
}

impl Ledger {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = DatabaseConfig::sqlite_for_tests(folder.path().join("workers.db"));
        Self::open(config, Some(folder), None).await
    }

    pub async fn postgres() -> Self {
        let database = Database::new().await;
        let config = postgres_config(&database.url);
        Self::open(config, None, Some(database)).await
    }

    async fn open(config: DatabaseConfig, folder: Option<TempDir>, database: Option<Database>) -> Self {
        let store = Store::open(&config).await.expect("the test's database opens");
        store.migrate().await.expect("the migrations apply");
        Self { store, config, _folder: folder, database }
    }

    /// Another process on the same database.
    pub async fn again(&self) -> Store {
        Store::open(&self.config).await.expect("the test's database opens again")
    }
}

pub fn postgres_config(url: &str) -> DatabaseConfig {
    DatabaseConfig {
        url: url.into(),
        direct_url: None,
        schema: "workers".into(),
        max_connections: 4,
        min_connections: 0,
        data_dir: ".".into(),
        application_name: "emponto-test".into(),
    }
}
