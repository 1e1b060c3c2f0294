//! Opens the database, as long as it takes, and gives handlers their way to it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{runtime::Runtime, time};
use tracing::warn;

use crate::{
    domain::run::Failure,
    engine::queues::as_tx,
    handlers::{AppDatabase, AppTx, adopt_orphans},
    store::{AppConnection, DaemonLock, DatabaseConfig, Store, StoreError},
};

/// Threads of the handlers' runtime at least: one that blocks must leave another.
const LEAST_HANDLER_THREADS: usize = 4;
/// First wait between two tries to open the database; doubles up to `LONGEST_OPEN_RETRY`.
const OPEN_RETRY: Duration = Duration::from_millis(250);
const LONGEST_OPEN_RETRY: Duration = Duration::from_secs(5);

/// An open store, and the proof that no other daemon holds its file.
pub struct Opened {
    pub store: Store,
    pub lock: DaemonLock,
}

/// Opens and migrates, as long as it takes: only what waiting cannot mend is an error.
pub async fn open(config: &DatabaseConfig) -> Result<Opened, StoreError> {
    let mut wait = OPEN_RETRY;
    loop {
        match try_open(config).await {
            Err(error) if error.is_passing() => {
                warn!(component = "scheduler", "{error}: trying again in {} ms", wait.as_millis());
                time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_OPEN_RETRY);
            }
            other => return other,
        }
    }
}

async fn try_open(config: &DatabaseConfig) -> Result<Opened, StoreError> {
    let store = Store::open(config).await?;
    let lock = store.lock_daemon()?;
    store.migrate().await?;
    Ok(Opened { store, lock })
}

/// The runtime of the handlers, which also collects what their children leave behind.
pub fn handlers_runtime() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(LEAST_HANDLER_THREADS, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(LEAST_HANDLER_THREADS))
        .thread_name("handler")
        .enable_all()
        .build()
        .context("cannot start the threads of the handlers")?;
    runtime.spawn(adopt_orphans());
    Ok(runtime)
}

/// The handlers' ways to the daemon's own database.
pub fn app_database(store: &Store) -> AppDatabase {
    let (writing, reading, ledger) = (store.clone(), store.clone(), store.clone());
    AppDatabase {
        begin: Arc::new(move || {
            let store = writing.clone();
            Box::pin(async move { begun(store.begin_app().await) })
        }),
        begin_reading: Arc::new(move || {
            let store = reading.clone();
            Box::pin(async move { begun(store.begin_reading().await) })
        }),
        history: Arc::new(move |from, until| {
            let store = ledger.clone();
            Box::pin(async move {
                let history = store.history(from, until).await;
                history.map_err(|error| Failure::retry(format!("cannot read the ledger: {error}")).before_effect())
            })
        }),
    }
}

fn begun(connection: Result<AppConnection, StoreError>) -> Result<AppTx, Failure> {
    connection
        .map(as_tx)
        .map_err(|error| Failure::retry(format!("cannot begin a transaction: {error}")).before_effect())
}
