//! What a gateway's answer makes of a message: sent, surely not accepted, or in doubt (spec 6, Gateway).

use std::time::Duration;

use serde_json::Value;

use crate::{
    domain::{
        clean,
        run::{Failure, FailureKind},
    },
    outbound::{
        Delivery, GatewayChoice, SendOutcome,
        call::{Answer, Call, Content},
    },
};

/// Most of a provider's id that is kept, in characters.
const MAX_ID_CHARS: usize = 200;
/// A shorter host is no secret, and may stand in any word.
const SHORTEST_HOST: usize = 4;
/// Where the id of a message stands in an answer: that of Evolution first.
const PLACES_OF_ID: [&str; 3] = ["/key/id", "/message_id", "/id"];

/// What one try came to.
#[derive(Debug, PartialEq)]
pub(super) enum Tried {
    Ended(Delivery),
    /// Nothing was accepted, and another try may fare better. Without one this is how it failed.
    NotAccepted {
        retry_after: Option<Duration>,
        outcome: SendOutcome,
        why: String,
    },
}

/// Judges an answer. What a provider says is not repeated: it may quote the number and the text.
pub(super) fn judged(answer: &Answer, gateway: &GatewayChoice, call: &Call) -> Tried {
    match by_status(answer.status, gateway, call) {
        Tried::Ended(Delivery::Sent { .. }) => {
            Tried::Ended(Delivery::Sent { provider_message_id: provider_message_id(&answer.content) })
        }
        Tried::Ended(Delivery::Failed { outcome, why }) if has_no_account(&answer.content) => {
            Tried::Ended(Delivery::Failed { outcome, why: format!("{why}: the number has no account there") })
        }
        Tried::NotAccepted { outcome, why, .. } => Tried::NotAccepted { retry_after: answer.retry_after, outcome, why },
        other => other,
    }
}

/// Judges a call without a whole answer.
pub(super) fn unheard(failure: &Failure, gateway: &GatewayChoice, call: &Call) -> Tried {
    if let Some(status) = failure.response_code {
        // Its status came, and only the rest broke off.
        return by_status(status, gateway, call);
    }
    let (outcome, why) = (SendOutcome::FailedProvider, without_host(&failure.message, call));
    match (&failure.kind, failure.before_effect) {
        (FailureKind::Permanent, true) => Tried::Ended(Delivery::Failed { outcome, why }),
        (_, true) => Tried::NotAccepted { retry_after: None, outcome, why },
        (_, false) => Tried::Ended(Delivery::Doubtful { why }),
    }
}

fn by_status(status: u16, gateway: &GatewayChoice, call: &Call) -> Tried {
    let why = format!("{} answered {status}", call.shown());
    let failed = |outcome, why| Tried::Ended(Delivery::Failed { outcome, why });
    let not_accepted = |outcome, why| Tried::NotAccepted { retry_after: None, outcome, why };
    match (status, gateway) {
        (200..=299, _) => Tried::Ended(Delivery::Sent { provider_message_id: None }),
        (429, _) => not_accepted(SendOutcome::FailedRateLimit, why),
        (408 | 425 | 503, _) => not_accepted(SendOutcome::FailedProvider, why),
        (500..=599, _) => Tried::Ended(Delivery::Doubtful { why }),
        // Its path holds the instance and nothing of the message.
        (404, GatewayChoice::Evolution(_)) => {
            failed(SendOutcome::FailedProvider, format!("{why}: is the instance right?"))
        }
        (401 | 403, _) => failed(SendOutcome::FailedProvider, format!("{why}: is the key right?")),
        (400 | 404 | 422, _) => failed(SendOutcome::FailedValidation, why),
        _ => failed(SendOutcome::FailedProvider, why),
    }
}

/// How the provider calls the message. An answer that cannot be read hides it; the message is sent all the same.
fn provider_message_id(content: &Content) -> Option<String> {
    let Content::Json(answer) = content else { return None };
    let id = PLACES_OF_ID.iter().find_map(|place| match answer.pointer(place)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })?;
    let id = clean::text(&id, MAX_ID_CHARS);
    (!id.is_empty()).then_some(id)
}

/// Evolution says so of a number that WhatsApp does not know: `{"response":{"message":[{"exists":false, ..}]}}`.
fn has_no_account(content: &Content) -> bool {
    let Content::Json(answer) = content else { return false };
    let said = answer.pointer("/response/message").and_then(Value::as_array);
    said.is_some_and(|numbers| numbers.iter().any(|number| number["exists"] == false))
}

/// Causes that others worded may name the host of a gateway, which is the team's own business.
fn without_host(message: &str, call: &Call) -> String {
    match call.url.host_str() {
        Some(host) if SHORTEST_HOST <= host.len() => message.replace(host, "its host"),
        _ => message.to_owned(),
    }
}
