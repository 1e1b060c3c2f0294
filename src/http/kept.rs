//! Answers that are costly to make: made away from the HTTP thread, one of a kind at a time, and good for a second.
//!
//! A thousand jobs make a long answer, and anybody may ask for it: whoever asks while it is being made waits for that one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::body::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{runtime::Handle, sync::Mutex};

use super::{HttpState, problem::Problem};
use crate::domain::{
    health::{Snapshot, Status},
    job::Job,
};

/// An answer is not used for longer than this.
const FRESH: TimeDelta = TimeDelta::seconds(1);

/// All kept answers of one listener.
pub struct Shelf {
    /// Where they are made: not on the thread of the clients.
    runtime: Handle,
    /// Without and with free text.
    pub workers: [Kept; 2],
    /// The same.
    pub jobs: [Kept; 2],
    /// The same.
    pub fila: [Kept; 2],
    pub metrics: Kept,
}

impl Shelf {
    pub fn new(runtime: Handle) -> Self {
        let of_snapshot = || Kept::new(true);
        Self {
            runtime,
            workers: [of_snapshot(), of_snapshot()],
            jobs: [of_snapshot(), of_snapshot()],
            fila: [of_snapshot(), of_snapshot()],
            metrics: Kept::new(false),
        }
    }
}

/// What an answer is made of.
pub struct Look {
    pub jobs: Arc<Vec<Arc<Job>>>,
    pub snapshot: Arc<Snapshot>,
    pub now: DateTime<Utc>,
}

impl Look {
    fn of(state: &HttpState) -> Self {
        Self { jobs: state.jobs.load_full(), snapshot: state.snapshot.load_full(), now: state.clock.now() }
    }

    /// Whether an answer made of this look still serves one who has the other. A clock that was set back makes it old.
    fn serves(&self, other: &Self) -> bool {
        let age = other.now - self.now;
        let is_fresh = TimeDelta::zero() <= age && age < FRESH;
        is_fresh && Arc::ptr_eq(&self.jobs, &other.jobs) && Arc::ptr_eq(&self.snapshot, &other.snapshot)
    }
}

/// An answer, but for its code.
#[derive(Clone)]
pub struct Made {
    pub status: Status,
    pub body: Bytes,
}

/// The last answer of one kind.
pub struct Kept {
    /// It depends on the look alone: the same look makes the same answer.
    of_look: bool,
    /// Answers made so far.
    made: Arc<AtomicU64>,
    last: Arc<Mutex<Option<(Look, Made)>>>,
}

impl Kept {
    fn new(of_look: bool) -> Self {
        Self { of_look, made: Arc::default(), last: Arc::default() }
    }

    /// The kept answer while it is good, else a new one. The error: the process is about to end.
    pub async fn get(
        &self,
        state: &HttpState,
        shelf: &Shelf,
        make: impl FnOnce(&Look) -> Made + Send + 'static,
    ) -> Result<Made, Problem> {
        let made_before = self.made.load(Ordering::Acquire);
        let mut last = Arc::clone(&self.last).lock_owned().await;
        let made_meanwhile = made_before < self.made.load(Ordering::Acquire);
        let look = Look::of(state);
        if let Some((old, made)) = &*last
            && (made_meanwhile || self.of_look && old.serves(&look))
        {
            return Ok(made.clone());
        }
        let count = Arc::clone(&self.made);
        // The lock goes along: a client that leaves does not make room for a second one at work.
        let work = shelf.runtime.spawn_blocking(move || {
            let made = make(&look);
            *last = Some((look, made.clone()));
            count.fetch_add(1, Ordering::Release);
            made
        });
        match work.await {
            Ok(made) => Ok(made),
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(Problem::busy("the process ends")),
        }
    }
}
