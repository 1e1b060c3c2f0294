//! Reads the body of a request: JSON or nothing, within a size and a time.

use std::time::Duration;

use axum::{
    body::{self, Body},
    extract::Request,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    },
};
use serde_json::{Map, Value};
use tokio::time;

use super::json;
use crate::http::problem::Problem;

/// Largest body.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Longest time from the head to the last byte of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of the body; empty when there is none. A body says that it is JSON, or it is refused: a foreign form in a
/// browser cannot say so without asking us first.
pub async fn read(request: Request) -> Result<Vec<u8>, Problem> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key("idempotency-key") {
        let detail = "the header Idempotency-Key is not supported yet, and is not ignored: use dedupe_key in the body";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let declared = declared_bytes(&head.headers);
    if declared.is_some_and(|bytes| (MAX_BODY_BYTES as u64) < bytes) {
        return Err(too_large());
    }
    // A body of no declared length is chunked, and may be empty.
    if declared != Some(0) && !body_is_over(&body) && !is_json(&head.headers) {
        let detail = "the body must be JSON: send Content-Type: application/json, and no Content-Encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let read = time::timeout(BODY_TIMEOUT, body::to_bytes(body, MAX_BODY_BYTES)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body could not be read to its end")),
        Err(_) => {
            let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// The members of a body, none when it is empty.
pub fn members(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    match json::parse(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(bad("the body is JSON, and no object".into())),
        Err(why) => Err(bad(format!("the body is not the JSON we take: {why}"))),
    }
}

/// The refusal of a member that nobody took.
pub fn refuse_others(members: &Map<String, Value>, known: &str) -> Result<(), Problem> {
    match members.keys().next() {
        None => Ok(()),
        Some(name) => Err(Problem::field(name, format!("there is no such member; known: {known}"))),
    }
}

fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn body_is_over(body: &Body) -> bool {
    axum::body::HttpBody::is_end_stream(body)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") && !headers.contains_key(CONTENT_ENCODING)
}

/// axum tells a body over the limit by the source of its error only.
fn is_over_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.to_string().contains("length limit exceeded") {
            return true;
        }
        source = cause.source();
    }
    false
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MAX_BODY_BYTES} bytes"))
}
