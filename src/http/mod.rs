//! What the daemon says over HTTP: health and metrics from memory, whether or not the database is there, and an API that
//! asks for runs. It never runs a handler, and no request can define a command, a URL or SQL.

mod server;
mod places;
mod routes;
mod access;
mod browser;
mod answers;
mod kept;
mod api;
mod problem;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    domain::{health::Snapshot, job::Job},
    metrics::Metrics,
    store::Store,
};

pub use access::{Access, Tokens};
pub use routes::{Door, route_table};
pub use server::{ListenError, listen, serve};

/// Everything an answer is made of.
#[derive(Clone)]
pub struct HttpState {
    /// The jobs of the table, in its order; a reload replaces them.
    pub jobs: Arc<ArcSwap<Vec<Arc<Job>>>>,
    /// Empty until the database is open.
    pub store: Arc<OnceLock<Store>>,
    /// Wakes the runner after an enqueue.
    pub bell: Arc<Notify>,
    /// The latest look at the daemon; the engine replaces it each second.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub access: Arc<Access>,
}
