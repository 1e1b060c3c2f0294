//! What the daemon says over HTTP: health and metrics, from memory, whether or not the database is there.

mod access;
mod answers;
mod problem;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get},
};
use tokio::sync::Notify;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use crate::{
    clock::Clock,
    domain::{health::Snapshot, job::Job},
    metrics::Metrics,
    store::Store,
};

pub use access::Access;
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

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Anyone, on any listener.
    Public,
    /// Holders of a read token, when the listener asks for tokens.
    Read,
    /// The same, but open when the metrics are public.
    Metrics,
}

/// The route table; the router and the guard are both made from it.
fn routes() -> [(&'static str, Door, MethodRouter<HttpState>); 6] {
    [
        ("/healthz", Door::Public, get(answers::alive)),
        ("/livez", Door::Public, get(answers::alive)),
        ("/readyz", Door::Public, get(answers::ready)),
        ("/health", Door::Public, get(answers::health)),
        ("/health/workers", Door::Public, get(answers::workers)),
        ("/metrics", Door::Metrics, get(answers::metrics)),
    ]
}

/// All routes behind the guard.
fn router(state: &HttpState) -> Router {
    let mut router = Router::new();
    for (path, _, methods) in routes() {
        router = router.route(path, methods);
    }
    behind_the_guard(router.fallback(problem::not_found), state)
}

/// The routes that stay open when connections run out.
fn reserved_router(state: &HttpState) -> Router {
    let mut router = Router::new();
    for (path, _, methods) in routes().into_iter().filter(|(_, door, _)| *door == Door::Public) {
        router = router.route(path, methods);
    }
    behind_the_guard(router.fallback(problem::too_many_connections), state)
}

fn behind_the_guard(router: Router<HttpState>, state: &HttpState) -> Router {
    router
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .layer(middleware::from_fn_with_state(state.clone(), count))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, server::REQUEST_TIMEOUT))
        .layer(RequestBodyLimitLayer::new(server::MAX_BODY_BYTES))
        .layer(CatchPanicLayer::new())
        .with_state(state.clone())
}

/// Deny by default: what is not in the route table needs a token too, so nobody learns what exists.
async fn guard(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let door = routes().into_iter().find(|(known, ..)| Some(*known) == path).map_or(Door::Read, |(_, door, _)| door);
    let is_open = door == Door::Public || door == Door::Metrics && state.access.metrics_public();
    if is_open {
        return next.run(request).await;
    }
    match state.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => problem::unauthorized(&refusal),
    }
}

async fn count(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    // The pattern of the route, never the path: a label must not come from outside.
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    state.metrics.answered(path.as_deref().unwrap_or("other"), response.status().as_u16());
    response
}
