//! One run of one job, asked for and waited for.

use std::{future, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time;

use super::Goodbye;
use crate::{
    clock::Clock,
    domain::{
        job::{Job, JobName},
        run::{Outcome, RunId, State, Trigger},
    },
    engine::Engine,
    store::{DatabaseConfig, NewRun, Store, StoreError},
};

/// Between two looks at the run.
const LOOK: Duration = Duration::from_millis(50);
/// A database that is away for longer than this is not waited for: whoever asked must know. Health calls it critical then.
const OUTAGE: Duration = Duration::from_secs(60);

/// The run that a process is started for.
#[derive(Debug, Clone)]
pub struct Once {
    pub job: JobName,
    /// `None` = the job's own.
    pub payload: Option<Value>,
    /// The longest wait for its end.
    pub patience: Duration,
}

/// Asks for a run and waits for its end while this process works on it; without one, waits for ever.
pub async fn here(engine: &Engine, once: Option<&Once>) -> Result<Goodbye, StoreError> {
    let found = once.and_then(|once| Some((once, engine.table().job(&once.job).cloned()?)));
    let Some((once, job)) = found else { return future::pending().await };
    let run = ask(&engine.store, (&job, once), engine.clock.now()).await?;
    engine.wake.runner.notify_one();
    wait(&engine.store, run, once.patience, &engine.clock).await
}

/// Asks for a run and waits until another process, which holds the database, has done it.
pub async fn once_elsewhere(database: &DatabaseConfig, job: &Job, once: &Once) -> Result<Goodbye, StoreError> {
    let (store, clock) = (Store::open(database).await?, Clock::system());
    let run = ask(&store, (job, once), clock.now()).await?;
    wait(&store, run, once.patience, &clock).await
}

async fn ask(store: &Store, (job, once): (&Job, &Once), now: DateTime<Utc>) -> Result<RunId, StoreError> {
    store.refuse_unable(job, Trigger::Manual, now).await?;
    let run = NewRun {
        job: job.name.clone(),
        trigger: Trigger::Manual,
        payload: once.payload.clone().unwrap_or_else(|| job.payload.clone()),
        due_at: now,
        priority: None,
        key: None,
        dedupe_key: None,
        max_attempts: None,
        retry_of: None,
    };
    store.enqueue(&run, now).await
}

async fn wait(store: &Store, run: RunId, patience: Duration, clock: &Clock) -> Result<Goodbye, StoreError> {
    let deadline = clock.boot() + patience;
    let mut answered = clock.boot();
    while clock.boot() < deadline {
        match store.run(run).await {
            // `keep.done = "0s"`: a success leaves no row.
            Ok(None) => return Ok(Goodbye::Ran(Outcome::Success)),
            Ok(Some(run)) if run.state == State::Finished => {
                return Ok(Goodbye::Ran(run.outcome.unwrap_or(Outcome::Unknown)));
            }
            Ok(Some(_)) => answered = clock.boot(),
            Err(error) if !error.is_passing() || answered + OUTAGE < clock.boot() => return Err(error),
            // The attempt goes on, and is settled when the database is back.
            Err(_) => {}
        }
        time::sleep(LOOK).await;
    }
    Ok(Goodbye::TookTooLong(patience))
}
