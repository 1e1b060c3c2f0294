//! The route table, and the guard that is made from it: what is not in the table is closed.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, MatchedPath, Request, State},
    http::{
        HeaderValue, Method, StatusCode,
        header::{CONNECTION, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use tokio::sync::Semaphore;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{
    HttpState,
    access::{Need, Refusal},
    answers, api, browser,
    kept::Shelf,
    problem::{self, Problem},
};

/// Longest time from head to answer, whatever happens; every part of a request has a shorter limit of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Anyone, on any listener.
    Public,
    /// Holders of a token that may read, when the listener asks for tokens.
    Read,
    /// The same, but open when the metrics are public.
    Metrics,
    /// Holders of a token that may operate, when the listener asks for tokens.
    Operate,
}

/// One row of the route table.
struct Route {
    method: Method,
    path: &'static str,
    door: Door,
    answer: fn() -> MethodRouter<App>,
}

const fn row(method: Method, path: &'static str, door: Door, answer: fn() -> MethodRouter<App>) -> Route {
    Route { method, path, door, answer }
}

/// Every route there is; the router and the guard are both made from this table.
const ROUTES: &[Route] = &[
    row(Method::GET, "/healthz", Door::Public, || get(answers::alive)),
    row(Method::GET, "/livez", Door::Public, || get(answers::alive)),
    row(Method::GET, "/readyz", Door::Public, || get(answers::ready)),
    row(Method::GET, "/health", Door::Public, || get(answers::health)),
    row(Method::GET, "/health/workers", Door::Public, || get(answers::workers)),
    row(Method::GET, "/health/jobs", Door::Public, || get(answers::jobs)),
    row(Method::GET, "/health/fila", Door::Public, || get(answers::fila)),
    row(Method::GET, "/metrics", Door::Metrics, || get(answers::metrics)),
    row(Method::POST, "/api/v1/jobs/{name}/runs", Door::Operate, || post(api::enqueue)),
    row(Method::GET, "/api/v1/runs/{id}", Door::Read, || get(api::show)),
    row(Method::POST, "/api/v1/runs/{id}/cancel", Door::Operate, || post(api::cancel)),
    row(Method::POST, "/api/v1/runs/{id}/retry", Door::Operate, || post(api::retry)),
];

/// Method, path and door of every route, for tests and documents.
pub fn route_table() -> impl Iterator<Item = (&'static str, &'static str, Door)> {
    ROUTES.iter().map(|route| (route.method.as_str(), route.path, route.door))
}

/// What the routes share.
#[derive(Clone)]
pub struct App {
    pub http: HttpState,
    pub desk: Arc<api::Desk>,
    pub shelf: Arc<Shelf>,
    /// Of the listener.
    pub port: u16,
    /// Requests at once on all routes that are not public. Fewer than there are connections: health finds a place.
    pub places: Arc<Semaphore>,
}

impl FromRef<App> for HttpState {
    fn from_ref(app: &App) -> Self {
        app.http.clone()
    }
}

/// All routes behind the guard.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.answer)());
    }
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn_with_state(app.http.clone(), count))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(CatchPanicLayer::custom(|_| problem::panicked()))
        .layer(middleware::from_fn(finish))
        .with_state(app)
}

/// Deny by default: what is not in the table needs a token too, so nobody learns what exists.
fn door(method: &Method, path: Option<&str>) -> Door {
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    let mut of_path = ROUTES.iter().filter(|route| Some(route.path) == path).peekable();
    let is_public = of_path.peek().is_some() && of_path.clone().all(|route| route.door == Door::Public);
    match of_path.find(|route| route.method == asked) {
        Some(route) => route.door,
        // It is answered with the methods that there are.
        None if is_public => Door::Public,
        None if method.is_safe() => Door::Read,
        None => Door::Operate,
    }
}

async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let access = &app.http.access;
    let need = match door(request.method(), path) {
        Door::Public => return next.run(request).await,
        Door::Metrics if access.metrics_public() => None,
        // Prometheus may know this machine by any name; figures are no secret to its own users.
        Door::Metrics if access.is_open() => None,
        Door::Metrics | Door::Read => Some(Need::Read),
        Door::Operate => Some(Need::Operate),
    };
    if let Some(need) = need {
        let meant_for_us = if access.is_open() {
            browser::check(request.method(), request.uri(), request.headers(), app.port).map_err(Refusal::Forbidden)
        } else {
            Ok(())
        };
        match meant_for_us.and_then(|()| access.check(need, request.headers())) {
            Ok(()) => {}
            Err(Refusal::Unauthorized(refusal)) => return problem::unauthorized(refusal),
            Err(Refusal::Forbidden(refusal)) => return Problem::new(StatusCode::FORBIDDEN, refusal).into_response(),
        }
    }
    let Ok(_place) = app.places.try_acquire() else {
        return Problem::busy("too many requests at once").into_response();
    };
    next.run(request).await
}

async fn count(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    // The pattern of the route, never the path: a label must not come from outside.
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    state.metrics.answered(path.as_deref().unwrap_or("other"), response.status().as_u16());
    response
}

/// What every answer gets.
async fn finish(request: Request, next: Next) -> Response {
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_chunked {
        // Whoever stands before us may have read another length in this head (RFC 9112, 6.1): what follows on the
        // connection is not believed to be a request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_closed() {
        for (method, path, wanted) in [
            (Method::GET, Some("/healthz"), Door::Public),
            (Method::HEAD, Some("/healthz"), Door::Public),
            (Method::POST, Some("/healthz"), Door::Public),
            (Method::GET, Some("/metrics"), Door::Metrics),
            (Method::HEAD, Some("/metrics"), Door::Metrics),
            (Method::OPTIONS, Some("/metrics"), Door::Read),
            (Method::POST, Some("/metrics"), Door::Operate),
            (Method::GET, Some("/api/v1/runs/{id}"), Door::Read),
            (Method::DELETE, Some("/api/v1/runs/{id}"), Door::Operate),
            (Method::GET, Some("/api/v1/jobs/{name}/runs"), Door::Read),
            (Method::POST, Some("/api/v1/jobs/{name}/runs"), Door::Operate),
            (Method::GET, None, Door::Read),
            (Method::TRACE, None, Door::Read),
            (Method::PUT, None, Door::Operate),
            (Method::from_bytes(b"BREW").unwrap(), None, Door::Operate),
        ] {
            assert_eq!(door(&method, path), wanted, "{method} {path:?}");
        }
    }
}
