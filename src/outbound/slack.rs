//! Tells the team things in Slack, through an incoming webhook.

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value;

use super::{
    Confidential,
    call::{Answer, Call, Caller, Content, Heard, Network, Unheard, connect_limit, send},
    gateway::Way,
};
use crate::domain::run::Failure;

/// Bound of one notice (spec 6, `report`).
const LIMIT: Duration = Duration::from_secs(10);
/// Most characters of a word in which Slack says why it refuses, such as `invalid_blocks`.
const MAX_WORD_CHARS: usize = 40;

/// Posts one notice. The error names Slack and its status, and never the address, which lets in whoever knows it.
pub async fn tell(webhook: &Confidential, notice: &Value, way: &Way<'_>) -> Result<(), Failure> {
    let call = call(webhook, notice)?;
    let lane = way.traffic.lane(None, &call.url);
    let now = way.gateways.now();
    let caller = Caller { clients: way.clients, lane: &lane, run: way.run, now, cancelled: way.cancelled };
    let told = send(&call, &caller).await;
    match told {
        Ok(Heard { answer, .. }) => judged(&answer),
        Err(Unheard::LeftAlone { after, .. }) => {
            Err(Failure::snooze(after, "Slack asked to be left alone").before_effect())
        }
        Err(Unheard::Stopped) => Err(Failure::retry("told to stop before Slack was told").before_effect()),
        Err(Unheard::Failed(failure)) => {
            let host = call.url.host_str().unwrap_or_default();
            let message = if host.is_empty() { failure.message } else { failure.message.replace(host, "its host") };
            Err(Failure { message, ..failure })
        }
    }
}

fn call(webhook: &Confidential, notice: &Value) -> Result<Call, Failure> {
    let url = Url::parse(webhook.reveal());
    let url = url.map_err(|_| Failure::permanent("the address of Slack's webhook is not a URL").before_effect())?;
    Ok(Call {
        method: Method::POST,
        url,
        known_as: Some("Slack".into()),
        has_secret_path: true,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        body: Some(notice.to_string().into_bytes()),
        target: None,
        network: Network::Any,
        connect_timeout: connect_limit(None, Some(LIMIT)),
        timeout: Some(LIMIT),
    })
}

fn judged(answer: &Answer) -> Result<(), Failure> {
    let status = answer.status;
    let message = format!("Slack answered {status}{}", word(&answer.content));
    let failure = match (status, answer.retry_after) {
        (200..=299, _) => return Ok(()),
        (429 | 503, Some(wait)) => Failure::snooze(wait, message).before_effect(),
        (429, None) => Failure::retry(message).before_effect(),
        (408 | 425 | 500..=599, _) => Failure::retry(message),
        _ => Failure::permanent(message),
    };
    Err(failure.with_code(status))
}

/// Slack answers with one word; whatever else stands there is not repeated.
fn word(content: &Content) -> String {
    let is_word = |text: &str| {
        (1..=MAX_WORD_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    match content {
        Content::Text(text) if is_word(text.trim()) => format!(": {}", text.trim()),
        _ => String::new(),
    }
}
