//! Sends one call and reads its answer, within limits.

use std::error::Error;

use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response,
    header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::Value;

use super::{call::Call, retry_after};
use crate::domain::{
    clean,
    run::{Failure, MAX_RESULT_BYTES},
};

/// Most of an answer that is read.
pub(super) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    /// `Retry-After`, when the server sent one that can be read.
    pub retry_after: Option<std::time::Duration>,
    /// `Location`, as it came.
    pub location: Option<HeaderValue>,
    pub content: Content,
}

/// The body of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Json(Value),
    /// Not JSON, or not readable as such; cleaned.
    Text(String),
    /// More than `MAX_ANSWER_BYTES`: its beginning, cleaned.
    Cut {
        beginning: String,
        is_json: bool,
    },
}

impl Content {
    /// What is kept in the run's row; nothing of an empty answer.
    pub fn kept(&self) -> Option<Value> {
        match self {
            Self::Json(value) => Some(clean::capped(value.clone(), MAX_RESULT_BYTES)),
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) | Self::Cut { beginning: text, .. } => Some(clean::as_json(text, MAX_RESULT_BYTES)),
        }
    }
}

/// One call and its answer. `now` is what an HTTP date is measured from when the server does not tell its own time.
pub(super) async fn exchange(client: &Client, call: &Call, now: DateTime<Utc>) -> Result<Answer, Failure> {
    let mut request = client.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
    if let Some(body) = &call.body {
        request = request.body(body.clone());
    }
    let response = request.send().await.map_err(|error| not_sent(call, &error))?;
    let now = header(&response, DATE).and_then(retry_after::http_date).unwrap_or(now);
    let retry_after = header(&response, RETRY_AFTER).and_then(|text| retry_after::parse(text, now));
    let location = response.headers().get(LOCATION).cloned();
    let status = response.status().as_u16();
    let content = read(response).await.map_err(|error| {
        let message = format!("{} answered {status} and broke off: {}", call.shown(), innermost(&error));
        Failure::retry(message).with_code(status)
    })?;
    Ok(Answer { status, retry_after, location, content })
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

async fn read(mut response: Response) -> Result<Content, reqwest::Error> {
    let says_json = header(&response, CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        if room < chunk.len() {
            let is_json = says_json || body.trim_ascii_start().starts_with(b"{");
            // More than is kept is not needed; the rest of the answer is not read, and its connection closed.
            return Ok(Content::Cut { beginning: clean::bytes(&body, MAX_RESULT_BYTES), is_json });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(match clean::parse_json(&body) {
        Some(value) => Content::Json(value),
        None => Content::Text(clean::bytes(&body, MAX_ANSWER_BYTES)),
    })
}

/// A call that got no answer. Only what failed before there was a connection surely had no effect.
fn not_sent(call: &Call, error: &reqwest::Error) -> Failure {
    let (shown, cause) = (call.shown(), innermost(error));
    if error.is_builder() {
        return Failure::permanent(format!("{shown}: the request cannot be built: {cause}")).before_effect();
    }
    if error.is_connect() {
        return Failure::retry(format!("{shown}: cannot connect: {cause}")).before_effect();
    }
    Failure::retry(format!("{shown}: no answer: {cause}"))
}

/// The first cause, without the URL, which outer layers repeat with its query.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) { "the request failed".into() } else { cause.to_string() }
}
