//! Looks at the queues in tables of the team, so that a drain that hangs cannot freeze its number.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{Engine, observe::Observer};
use crate::{
    domain::{health::QueueFigures, run::Failure},
    handlers::{AppDatabase, AppTx, QueueLook},
    job_table::Entry,
    store::{AppConnection, Store},
};

/// How long one look may take, with the way to the database.
pub const LOOK_LIMIT: Duration = Duration::from_secs(8);

/// Looks at the queue of each job, one after another. What cannot be seen is told in health by the age of its figures.
pub async fn look(engine: &Engine, observer: &Observer) {
    let desk = engine.desk();
    observer.watch_only(|job| desk.table.jobs.get(job).is_some_and(is_on));
    for entry in desk.table.jobs.values().filter(|entry| is_on(entry)) {
        let look = QueueLook {
            job: Arc::clone(&entry.job),
            now: engine.clock.now(),
            tools: desk.tools.clone(),
            database: looking(&engine.store, engine.database.clone()),
        };
        match seen(engine, entry, look).await {
            Some(seen) => observer.saw_queue(&entry.job.name, seen, engine.clock.now()),
            // It may have drained a table until the job table was edited.
            None => observer.has_no_queue(&entry.job.name),
        }
    }
    observer.has_looked();
}

/// Switched off in the table = nobody here drains it, and its table need not be there.
pub fn is_on(entry: &Entry) -> bool {
    entry.job.disabled.is_none()
}

/// On the handlers' threads: a look that panics or blocks is a look that failed.
async fn seen(engine: &Engine, entry: &Entry, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
    let work = Arc::clone(&entry.work);
    let mut task = engine.handlers.spawn(async move { work.look(look).await });
    match time::timeout(LOOK_LIMIT, &mut task).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(death)) => Some(Err(Failure::retry(format!("the look ended early: {death}")))),
        Err(_) => {
            task.abort();
            Some(Err(too_slow()))
        }
    }
}

/// A transaction of the store as handlers get it.
pub fn as_tx(connection: AppConnection) -> AppTx {
    match connection {
        AppConnection::Postgres(tx) => AppTx::Postgres(tx),
        AppConnection::Sqlite(connection) => AppTx::Sqlite(connection),
    }
}

/// Why a look that took longer than [`LOOK_LIMIT`] saw nothing.
pub fn too_slow() -> Failure {
    Failure::retry(format!("no answer within {} s", LOOK_LIMIT.as_secs()))
}

/// The way to the daemon's own database for those who only look: `database`, with other transactions.
pub fn looking(store: &Store, database: AppDatabase) -> AppDatabase {
    let store = store.clone();
    AppDatabase {
        begin: Arc::new(move || {
            let store = store.clone();
            Box::pin(async move {
                let begun = store.begin_look().await.map(as_tx);
                begun.map_err(|error| Failure::retry(format!("cannot look: {error}")))
            })
        }),
        ..database
    }
}
