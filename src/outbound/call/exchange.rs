//! Sends one call and reads its answer, within limits.

use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response,
    header::{
        CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, TRANSFER_ENCODING,
    },
};
use serde_json::Value;

use super::{Call, reach, retry_after};
use crate::domain::{
    clean,
    run::{Failure, MAX_RESULT_BYTES},
    secret::MASK,
};

/// Most of an answer that is read.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Most of the name of a coding that goes into a message, in characters.
const MAX_CODING_CHARS: usize = 40;

/// What came back.
pub(crate) struct Answer {
    pub status: u16,
    /// `Retry-After`, when the server sent one that can be read.
    pub retry_after: Option<std::time::Duration>,
    /// `Location`, as it came.
    pub location: Option<HeaderValue>,
    /// `ETag`, as it came.
    pub etag: Option<String>,
    pub content: Content,
}

/// The body of an answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Json(Value),
    /// Not JSON, and does not say it is; cleaned.
    Text(String),
    /// Says it is JSON, or begins as an object does, and cannot be read; cleaned.
    Broken(String),
    /// Compressed, by this coding, though nobody asked for it. It is not unpacked: a small one could fill the memory.
    Encoded(String),
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
            Self::Encoded(_) => None,
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) | Self::Broken(text) | Self::Cut { beginning: text, .. } => {
                Some(clean::as_json(text, MAX_RESULT_BYTES))
            }
        }
    }
}

/// One call and its answer; nothing is sent to an address out of reach. `now` is what an HTTP date is measured from when the server does not tell its own time.
pub(crate) async fn exchange(client: &Client, call: &Call, now: DateTime<Utc>) -> Result<Answer, Failure> {
    // A host that is an address never meets the resolver, which checks all others.
    reach::check_literal(&call.url, call.network).map_err(|refused| reach::out_of_reach(&call.shown(), &refused))?;
    let mut request = client.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
    if let Some(body) = &call.body {
        request = request.body(body.clone());
    }
    let response = request.send().await.map_err(|error| reach::no_answer(&call.shown(), &error))?;
    let now = header(&response, DATE).and_then(retry_after::http_date).unwrap_or(now);
    let retry_after = header(&response, RETRY_AFTER).and_then(|text| retry_after::parse(text, now));
    let location = response.headers().get(LOCATION).cloned();
    let etag = header(&response, ETAG).map(str::to_owned);
    let status = response.status().as_u16();
    let content = read(response, &call.secrets()).await.map_err(|error| {
        let message = format!("{} answered {status} and broke off: {}", call.shown(), reach::cause(&error));
        Failure::retry(message).with_code(status)
    })?;
    Ok(Answer { status, retry_after, location, etag, content })
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// What the team sends in confidence is taken out before anybody reads it.
async fn read(mut response: Response, secrets: &[String]) -> Result<Content, reqwest::Error> {
    let says_json = header(&response, CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
    let coding = coding(&response);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        if room < chunk.len() {
            let is_json = says_json || begins_as_object(&body);
            // More than is kept is not needed; the rest of the answer is not read, and its connection closed.
            return Ok(coding.map_or_else(
                || Content::Cut { beginning: clean::bytes(&without(body.clone(), secrets), MAX_RESULT_BYTES), is_json },
                Content::Encoded,
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(content(&without(body, secrets), says_json, coding))
}

fn without(body: Vec<u8>, secrets: &[String]) -> Vec<u8> {
    let text = String::from_utf8_lossy(&body);
    if !secrets.iter().any(|secret| text.contains(secret.as_str())) {
        drop(text);
        return body;
    }
    let masked = secrets.iter().fold(text.into_owned(), |text, secret| text.replace(secret.as_str(), MASK));
    masked.into_bytes()
}

fn content(body: &[u8], says_json: bool, coding: Option<String>) -> Content {
    if let Some(coding) = coding.filter(|_| !body.is_empty()) {
        return Content::Encoded(coding);
    }
    let body = without_mark(body);
    if let Some(value) = clean::parse_json(body) {
        return Content::Json(value);
    }
    let text = clean::bytes(body, MAX_ANSWER_BYTES);
    let is_broken = begins_as_object(body) || (says_json && !body.trim_ascii().is_empty());
    if is_broken { Content::Broken(text) } else { Content::Text(text) }
}

fn begins_as_object(body: &[u8]) -> bool {
    without_mark(body).trim_ascii_start().starts_with(b"{")
}

/// Some servers write a byte order mark, which is no part of JSON (RFC 8259, 8.1).
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)
}

/// What the body is packed in, by its own word: of the content, or of the transfer beside its chunks.
fn coding(response: &Response) -> Option<String> {
    let headers = response.headers();
    let values = headers.get_all(CONTENT_ENCODING).iter().chain(headers.get_all(TRANSFER_ENCODING));
    let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(|coding| String::from_utf8_lossy(coding.trim_ascii()).to_ascii_lowercase());
    let coding = codings.find(|coding| !["", "identity", "chunked"].contains(&coding.as_str()))?;
    Some(clean::text(&coding, MAX_CODING_CHARS))
}
