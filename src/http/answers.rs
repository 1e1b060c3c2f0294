//! The answers: each is one look at the latest snapshot, judged at the moment of asking.

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{HttpState, access::Need};
use crate::{
    domain::health::{JobsHealth, Status, alive as is_alive, assess, readiness},
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
pub async fn health(State(state): State<HttpState>) -> Response {
    let now = state.clock.now();
    let status = assess(&state.jobs.load(), &state.snapshot.load(), now).status;
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    answer(StatusCode::OK, &json!({ "status": status, "timestamp": timestamp, "service": "workers" }))
}

/// How `/health/workers` and `/health/jobs` choose their code.
#[derive(Debug, Default, Deserialize)]
pub struct HealthQuery {
    /// `1` or `true`: degraded answers 503 as well.
    strict: Option<String>,
    /// `200`: always 200, for monitors that read the body.
    #[serde(rename = "as")]
    code: Option<String>,
}

impl HealthQuery {
    fn code(&self, status: Status) -> StatusCode {
        let strict = matches!(self.strict.as_deref(), Some("" | "1" | "true"));
        let always = self.code.as_deref() == Some("200");
        match status {
            _ if always => StatusCode::OK,
            Status::Critical => StatusCode::SERVICE_UNAVAILABLE,
            Status::Degraded if strict => StatusCode::SERVICE_UNAVAILABLE,
            Status::Degraded | Status::Healthy => StatusCode::OK,
        }
    }
}

/// `GET /health/workers`: the verdict on the whole and on each job.
pub async fn workers(State(state): State<HttpState>, Query(query): Query<HealthQuery>, headers: HeaderMap) -> Response {
    let health = assess(&state.jobs.load(), &state.snapshot.load(), state.clock.now());
    let health = if may_read(&state, &headers) { health } else { health.without_free_text() };
    answer(query.code(health.status), &health)
}

/// `GET /health/jobs`: the same verdict, as executions of the last 24 h.
pub async fn jobs(State(state): State<HttpState>, Query(query): Query<HealthQuery>, headers: HeaderMap) -> Response {
    let (jobs, snapshot) = (state.jobs.load(), state.snapshot.load());
    let health = assess(&jobs, &snapshot, state.clock.now());
    let answered = JobsHealth::new(&jobs, &snapshot, &health);
    let answered = if may_read(&state, &headers) { answered } else { answered.without_free_text() };
    answer(query.code(health.status), &answered)
}

/// Health is public; words from outside (errors) are for those who may read everything.
fn may_read(state: &HttpState, headers: &HeaderMap) -> bool {
    state.access.check(Need::Read, headers).is_ok()
}

/// `GET /metrics`, in the Prometheus text format.
pub async fn metrics(State(state): State<HttpState>) -> Response {
    let text = state.metrics.render(&state.jobs.load(), &state.snapshot.load(), state.clock.now());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn answer(code: StatusCode, body: &impl Serialize) -> Response {
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
