//! One run of one job, asked for and waited for.

use std::{future, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time;

use crate::{
    domain::{
        job::{Job, JobName},
        run::{Outcome, RunId, State, Trigger},
    },
    engine::Engine,
    store::{DatabaseConfig, NewRun, Store, StoreError},
};

/// Between two looks at the run.
const LOOK: Duration = Duration::from_millis(50);

/// Asks for a run and waits for its end while this process works on it; without a job, waits for ever.
pub async fn here(engine: &Engine, job: Option<&JobName>) -> Result<Outcome, StoreError> {
    let Some(job) = job.and_then(|name| engine.table().job(name).cloned()) else { return future::pending().await };
    let run = ask(&engine.store, &job, engine.clock.now()).await?;
    engine.wake.runner.notify_one();
    wait(&engine.store, run).await
}

/// Asks for a run and waits until another process, which holds the database, has done it.
pub async fn once_elsewhere(database: &DatabaseConfig, job: &Job, now: DateTime<Utc>) -> Result<Outcome, StoreError> {
    let store = Store::open(database).await?;
    let run = ask(&store, job, now).await?;
    wait(&store, run).await
}

async fn ask(store: &Store, job: &Job, now: DateTime<Utc>) -> Result<RunId, StoreError> {
    let run = NewRun {
        job: job.name.clone(),
        trigger: Trigger::Manual,
        payload: job.payload.clone(),
        due_at: now,
        priority: None,
        key: None,
        dedupe_key: None,
        max_attempts: None,
        retry_of: None,
    };
    store.enqueue(&run, now).await
}

async fn wait(store: &Store, run: RunId) -> Result<Outcome, StoreError> {
    loop {
        match store.run(run).await? {
            // `keep.done = "0s"`: a success leaves no row.
            None => return Ok(Outcome::Success),
            Some(run) if run.state == State::Finished => return Ok(run.outcome.unwrap_or(Outcome::Unknown)),
            Some(_) => time::sleep(LOOK).await,
        }
    }
}
