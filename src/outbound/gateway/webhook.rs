//! The gateway `webhook`: an endpoint of the team's own that carries messages.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::json;

use crate::outbound::{
    Message, Webhook,
    call::{Call, checked_headers, connect_limit},
    settings::digits,
};

/// `POST {to, text, id, tipo}` to the target, with its headers and signature. `Idempotency-Key` and `webhook-id` are the
/// id of the message: the same on each try and in each run, so that the endpoint can know a repeat.
pub(super) fn call(
    webhook: &Webhook,
    message: &Message,
    timeout: Duration,
    now: DateTime<Utc>,
) -> Result<Call, String> {
    let Webhook { target: name, post, to } = webhook;
    let url = to.url(post).map_err(|error| format!("target {name:?}: {error}"))?;
    let Message { id, number, text, tipo } = message;
    let body = json!({ "to": digits(number), "text": text, "id": id, "tipo": tipo }).to_string().into_bytes();
    let mut headers =
        checked_headers(&to.headers).map_err(|errors| format!("target {name:?}: {}", errors.join("; ")))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(headers_of_message(webhook, (id, &body), now)?);
    Ok(Call {
        method: Method::POST,
        url,
        known_as: Some(format!("the gateway webhook (target {name:?})")),
        has_secret_path: true,
        headers,
        body: Some(body),
        target: Some(name.clone()),
        network: to.network,
        connect_timeout: connect_limit(to.connect_timeout.map(|length| length.0), Some(timeout)),
        timeout: Some(timeout),
    })
}

fn headers_of_message(webhook: &Webhook, (id, body): (&str, &[u8]), now: DateTime<Utc>) -> Result<HeaderMap, String> {
    let name = |name: &'static str| HeaderName::from_static(name);
    let id_value = HeaderValue::try_from(id).map_err(|_| "the id of the message fits into no header")?;
    let mut headers =
        HeaderMap::from_iter([(name("idempotency-key"), id_value.clone()), (name("webhook-id"), id_value)]);
    let timestamp = now.timestamp();
    if let Some(signature) = webhook.to.secret.sign(id, timestamp, body)? {
        let signature = HeaderValue::try_from(signature).expect("base64 is plain ASCII");
        headers.insert(name("webhook-timestamp"), HeaderValue::from(timestamp));
        headers.insert(name("webhook-signature"), signature);
    }
    Ok(headers)
}
