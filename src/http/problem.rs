//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    http::{
        HeaderValue, Method, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::domain::clean;

/// Longest explanation, in characters: it may quote what was sent.
const MAX_DETAIL_CHARS: usize = 300;
/// When to come back, where nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 5;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    /// A sentence for people.
    detail: String,
    /// The member of the body, or the parameter, that is wrong.
    field: Option<String>,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl AsRef<str>) -> Self {
        let detail = clean::text(detail.as_ref(), MAX_DETAIL_CHARS);
        Self { status, detail, field: None, retry_after_seconds: None }
    }

    /// 422: the body could be read, and this member of it cannot be used.
    pub fn field(name: &str, why: impl AsRef<str>) -> Self {
        let field = clean::text(name, MAX_DETAIL_CHARS);
        Self { field: Some(field), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, why) }
    }

    /// 503: the same request may succeed a little later.
    pub fn busy(detail: impl AsRef<str>) -> Self {
        let retry_after_seconds = Some(RETRY_AFTER_SECONDS);
        Self { retry_after_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), json!(self.status.as_u16()));
        body.insert("detail".into(), self.detail.into());
        body.extend(self.field.map(|field| ("field".to_owned(), field.into())));
        let headers = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, Value::Object(body).to_string()).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub fn unauthorized(detail: String) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

pub async fn method_not_allowed(method: Method, _: Uri) -> Problem {
    let method = method.as_str();
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path does not answer {method}; see the header Allow"))
}

/// A panic is ours, and its words are for the log.
pub fn panicked() -> Response<Body> {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this request met a mistake of ours; the log says more")
        .into_response()
}
