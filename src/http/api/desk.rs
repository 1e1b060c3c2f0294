//! What requests of the API share: a few turns at the database, and a watch over the runs that clients wait for.

use std::{future::Future, sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::waiting::Waiting;
use crate::{
    http::{HttpState, problem::Problem},
    store::{Store, StoreError},
};

/// Requests that hold a body, read or half read, at once.
const BODIES: usize = 64;
/// Requests at the database at once: the planner must not queue behind clients.
const TURNS: usize = 4;
/// Longest wait for a turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shared by all requests of one listener.
pub struct Desk {
    /// Where the connections of the database live: none may be born on the thread of the clients.
    pub database: Handle,
    bodies: Semaphore,
    turns: Semaphore,
    pub waiting: Arc<Waiting>,
    /// Ends waits that would outlive the process.
    pub shutdown: CancellationToken,
}

impl Desk {
    pub fn new(database: Handle, shutdown: CancellationToken) -> Self {
        Self {
            database,
            bodies: Semaphore::new(BODIES),
            turns: Semaphore::new(TURNS),
            waiting: Arc::new(Waiting::default()),
            shutdown,
        }
    }

    /// The right to hold a body.
    pub fn body(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.bodies.try_acquire().map_err(|_| Problem::busy("too many requests with a body at once"))
    }

    /// Asks the store when it is this request's turn. A client that goes away takes its question back, if it still can.
    pub async fn ask<T, F>(&self, verb: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let turn = time::timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Problem::busy("the database has too much to do: nothing was done"));
        };
        let asked = AbortOnDropHandle::new(self.database.spawn(verb));
        match time::timeout(DATABASE_TIMEOUT, asked).await {
            Ok(Ok(answer)) => answer.map_err(|error| refusal(&error)),
            Ok(Err(_)) | Err(_) => Err(in_doubt()),
        }
    }
}

/// The store, when the database is there.
pub fn store(state: &HttpState) -> Result<Store, Problem> {
    let away = || Problem::busy("the database is away: nothing was done");
    let store = state.store.get().cloned().ok_or_else(away)?;
    // The look is a second old at most: it spares the client the time-out, and the database a crowd on its return.
    if state.snapshot.load().database.up { Ok(store) } else { Err(away()) }
}

/// What the store's refusal means to a client. The words of the database may hold data of others: they stay here.
fn refusal(error: &StoreError) -> Problem {
    match error {
        StoreError::NotFound(why) => Problem::new(StatusCode::NOT_FOUND, why),
        StoreError::Conflict(why) => Problem::new(StatusCode::CONFLICT, why),
        StoreError::Unreachable(_) | StoreError::Contended(_) => in_doubt(),
        StoreError::Refused(why) => Problem::field("payload", format!("the database refuses it: {why}")),
        StoreError::NewerSchema(_) | StoreError::Locked(_) | StoreError::Config(_) | StoreError::Other(_) => {
            tracing::error!(component = "http", "the database refuses a request: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the database refuses this request; the log says more")
        }
    }
}

/// Lost on the way: the database did all of it or nothing.
fn in_doubt() -> Problem {
    Problem::busy(
        "the database did not answer: all of it was done, or nothing; with a dedupe_key it is safe to ask again",
    )
}
