//! One of many calls of a run: its body and its key are those of what it carries.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Settings, call, ending, send};
use crate::{
    domain::run::{Failure, Report},
    handlers::Context,
    outbound::call::Unheard,
};

/// Bound of a call whose settings and target give none: one that hangs must not hold up the others for the whole run.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What one call carries.
#[derive(Debug, Clone)]
pub(in crate::handlers) struct Parcel {
    /// JSON.
    pub body: Vec<u8>,
    /// The idempotency key, the same on each attempt; plain ASCII.
    pub key: String,
    /// Of this parcel, from 1.
    pub attempt: u32,
    pub now: DateTime<Utc>,
    /// The call may not take longer.
    pub limit: Duration,
}

/// Why a parcel was not taken.
pub(in crate::handlers) enum Undelivered {
    /// Nothing was sent: the target is left alone for so long.
    LeftAlone {
        after: Duration,
        message: String,
    },
    /// Nothing was sent: the run was told to stop.
    Stopped,
    Failed(Failure),
}

/// Delivers one parcel and judges the answer as `http` does. An answer of 202 is one that took it.
pub(in crate::handlers) async fn deliver(
    settings: &Settings,
    ctx: &Context,
    parcel: Parcel,
) -> Result<Report, Undelivered> {
    let limit = parcel.limit;
    let unsent = |error: String| Undelivered::Failed(Failure::permanent(error).before_effect());
    let mut call = call::carrying(parcel, settings, ctx).map_err(unsent)?;
    call.timeout = Some(call.timeout.unwrap_or(CALL_LIMIT).min(limit));
    let heard = send(&call, ctx).await.map_err(|unheard| match unheard {
        Unheard::LeftAlone { after, message } => Undelivered::LeftAlone { after, message },
        Unheard::Stopped => Undelivered::Stopped,
        Unheard::Failed(failure) => Undelivered::Failed(failure),
    })?;
    ending::ending(settings, &heard.answer, &call.shown()).map_err(Undelivered::Failed)
}
