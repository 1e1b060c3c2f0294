//! Opens the database, as long as it takes, and gives handlers their way to it.

/// An open store, and the proof that no other daemon holds its file.
struct Opened {
    store: Store,
    lock: DaemonLock,
}

/// Opens and migrates, as long as it takes: only what waiting cannot mend is an error.
async fn open(config: &DatabaseConfig) -> Result<Opened, StoreError> {
    let mut wait = OPEN_RETRY;
    loop {
        match try_open(config).await {
            Err(error) if lease::is_passing(&error) => {
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

fn handlers_runtime() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(LEAST_HANDLER_THREADS, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(LEAST_HANDLER_THREADS))
        .thread_name("handler")
        .enable_all()
        .build()
        .context("cannot start the threads of the handlers")
}

/// The handlers' way to the daemon's own database.
fn app_database(store: &Store) -> AppDatabase {
    let store = store.clone();
    AppDatabase {
        begin: Arc::new(move || {
            let store = store.clone();
            Box::pin(async move {
                match store.begin_app().await {
                    Ok(AppConnection::Postgres(tx)) => Ok(AppTx::Postgres(tx)),
                    Ok(AppConnection::Sqlite(guard)) => Ok(AppTx::Sqlite(guard)),
                    Err(error) => Err(Failure::retry(format!("cannot begin a transaction: {error}")).before_effect()),
                }
            })
        }),
    }
}

