//! The answers: each is one look at the latest snapshot; the long ones are kept for a second.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;

use super::{
    HttpState,
    access::Need,
    browser,
    kept::{Look, Made},
    problem::Problem,
    routes::App,
};
use crate::{
    domain::health::{FilaHealth, JobsHealth, Status, alive as is_alive, assess, readiness},
    metrics,
};

/// `GET /healthz`, `GET /livez`: the process answers, and its planner turns.
pub async fn alive(State(state): State<HttpState>) -> Response {
    if is_alive(&state.snapshot.load(), state.clock.now()) {
        return answer(StatusCode::OK, &json!({ "status": "ok" }));
    }
    answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "status": "stalled" }))
}

/// `GET /readyz`: table loaded, database reachable, migrations applied, not draining.
pub async fn ready(State(state): State<HttpState>) -> Response {
    let reasons = readiness(&state.snapshot.load());
    if reasons.is_empty() {
        return answer(StatusCode::OK, &json!({ "status": "ready" }));
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "reasons": reasons }))
}

/// `GET /health`: the verdict in one word, always 200.
pub async fn health(State(app): State<App>) -> Result<Response, Problem> {
    let status = judged(&app, false).await?.status;
    let timestamp = app.http.clock.now().to_rfc3339_opts(SecondsFormat::Millis, true);
    Ok(answer(StatusCode::OK, &json!({ "status": status, "timestamp": timestamp, "service": "workers" })))
}

/// How `/health/workers`, `/health/jobs` and `/health/fila` choose their code. What cannot be understood is passed over: a monitor that asks
/// in odd words is still told how things are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    /// `strict`, `strict=1` or `strict=true`: degraded answers 503 as well.
    strict: bool,
    /// `as=200`: always 200, for monitors that read the body.
    always: bool,
}

impl Wish {
    fn read(uri: &Uri) -> Self {
        let mut wish = Self::default();
        for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match (&*key, &*value) {
                ("strict", "" | "1" | "true") => wish.strict = true,
                ("as", "200") => wish.always = true,
                _ => {}
            }
        }
        wish
    }

    fn code(&self, status: Status) -> StatusCode {
        match status {
            _ if self.always => StatusCode::OK,
            Status::Critical => StatusCode::SERVICE_UNAVAILABLE,
            Status::Degraded if self.strict => StatusCode::SERVICE_UNAVAILABLE,
            Status::Degraded | Status::Healthy => StatusCode::OK,
        }
    }
}

/// `GET /health/workers`: the verdict on the whole and on each job.
pub async fn workers(State(app): State<App>, asked: Parts) -> Result<Response, Problem> {
    let made = judged(&app, may_read(&app, &asked)).await?;
    Ok(whole(Wish::read(&asked.uri).code(made.status), made))
}

async fn judged(app: &App, may_read: bool) -> Result<Made, Problem> {
    let make = move |look: &Look| {
        let health = assess(&look.jobs, &look.snapshot, look.now);
        let health = if may_read { health } else { health.without_free_text() };
        Made { status: health.status, body: bytes(&health) }
    };
    app.shelf.workers[usize::from(may_read)].get(&app.http, &app.shelf, make).await
}

/// `GET /health/jobs`: the same verdict, as executions of the last 24 h.
pub async fn jobs(State(app): State<App>, asked: Parts) -> Result<Response, Problem> {
    let may_read = may_read(&app, &asked);
    let make = move |look: &Look| {
        let health = assess(&look.jobs, &look.snapshot, look.now);
        let answered = JobsHealth::new(&look.jobs, &look.snapshot, &health);
        let answered = if may_read { answered } else { answered.without_free_text() };
        Made { status: health.status, body: bytes(&answered) }
    };
    let made = app.shelf.jobs[usize::from(may_read)].get(&app.http, &app.shelf, make).await?;
    Ok(whole(Wish::read(&asked.uri).code(made.status), made))
}

/// `GET /health/fila`: the message queue alone.
pub async fn fila(State(app): State<App>, asked: Parts) -> Result<Response, Problem> {
    let may_read = may_read(&app, &asked);
    let make = move |look: &Look| {
        let health = assess(&look.jobs, &look.snapshot, look.now);
        let fila = FilaHealth::new(&look.jobs, &look.snapshot, &health);
        let fila = if may_read { fila } else { fila.without_free_text() };
        Made { status: fila.verdict, body: bytes(&fila) }
    };
    let made = app.shelf.fila[usize::from(may_read)].get(&app.http, &app.shelf, make).await?;
    Ok(whole(Wish::read(&asked.uri).code(made.status), made))
}

/// Health is public; words from outside (errors) are for those who may read everything, by the rules of the API.
fn may_read(app: &App, asked: &Parts) -> bool {
    let access = &app.http.access;
    let meant_for_us = !access.is_open() || browser::check(&asked.method, &asked.uri, &asked.headers, app.port).is_ok();
    meant_for_us && access.check(Need::Read, &asked.headers).is_ok()
}

/// `GET /metrics`, in the Prometheus text format.
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let metrics = Arc::clone(&app.http.metrics);
    let make = move |look: &Look| {
        let text = metrics.render(&look.snapshot, look.now);
        Made { status: Status::Healthy, body: text.into() }
    };
    let made = app.shelf.metrics.get(&app.http, &app.shelf, make).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], made.body).into_response())
}

fn bytes(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("health has text keys and numbers only").into()
}

fn whole(code: StatusCode, made: Made) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "application/json")];
    (code, headers, made.body).into_response()
}

fn answer(code: StatusCode, body: &impl Serialize) -> Response {
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
