//! `[outbound]` of jobs.toml in force: how, when and how often people are written to.

mod allowlist;
mod confidential;
mod limits;
mod table;

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

pub use allowlist::Allowlist;
pub(super) use allowlist::digits;
pub use confidential::Confidential;
pub use limits::Limits;
pub use table::OutboundTable;

use super::{
    Hours,
    call::{BreakerSettings, Target, Targets},
    gateway::{LONGEST_WAIT, MOST_TRIES},
};

/// Bound of one try to hand a message over, unless told otherwise. An answer of a gateway that looks a number up and
/// sends takes a few seconds; whoever waits longer only keeps the queue.
const TRY_LIMIT: Duration = Duration::from_secs(15);

/// The settings that all jobs share which write to people: what the file says, then what the team's own variables say,
/// then what is built in. Serialized it tells what decides about messages, for the hash of a job: no secret, and nothing
/// of the host that a job runs on, so that replicas with other variables claim the same runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outbound {
    /// When proactive messages may go, on the clocks of the job's zone.
    pub hours: Hours,
    pub limits: Limits,
    /// Whom messages may go to; ask [`Outbound::allows`].
    #[serde(skip)]
    pub allowlist: Allowlist,
    pub gateway: GatewayChoice,
    /// Bound of one try to hand a message over.
    pub timeout: Duration,
    /// When the gateway is left alone.
    pub breaker: BreakerSettings,
    /// Where the team is told things; `None` = nowhere.
    #[serde(skip)]
    pub slack: Option<Confidential>,
    /// `APP_ENV` is `production`.
    #[serde(skip)]
    pub is_production: bool,
}

/// Who carries messages to people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayChoice {
    /// Nobody: messages are written to the log as sent, without number and text.
    Log,
    Evolution(Evolution),
    Webhook(Webhook),
}

/// An account of the Evolution API, which carries messages to WhatsApp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evolution {
    pub url: Confidential,
    pub instance: String,
    pub key: Confidential,
}

/// An endpoint of the team's own that carries messages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Webhook {
    /// A table under `[targets]`.
    pub target: String,
    /// A path below its base URL.
    pub post: String,
    /// That target.
    #[serde(skip)]
    pub to: Target,
}

/// For the hash of a job that asks `[outbound]` for the hours of business and for nothing else that decides.
pub fn hours_alone<S: Serializer>(outbound: &Outbound, serializer: S) -> Result<S::Ok, S::Error> {
    outbound.hours.serialize(serializer)
}

impl Outbound {
    /// What is doubtful, for the warnings of a handler that writes to people.
    pub fn warnings(&self) -> Vec<String> {
        let is_mute = self.is_production && self.gateway == GatewayChoice::Log;
        let warning = "the gateway is log: messages will count as sent, and reach nobody; \
                       set EVOLUTION_API_URL, or gateway of [outbound]";
        is_mute.then(|| warning.to_owned()).into_iter().collect()
    }

    /// The longest that one send may take: all its tries, the waits between them, and the turns of a target's rate.
    pub fn longest_send(&self) -> Duration {
        (self.timeout + LONGEST_WAIT) * MOST_TRIES
    }

    /// Whether a number may be written to at all: in production everybody, elsewhere those who are listed (spec 6,
    /// Allowlist). Numbers are compared by their digits.
    pub fn allows(&self, number: &str) -> bool {
        self.allowlist.allows(number)
    }
}

/// As with an empty table and without variables: messages are logged and carried nowhere.
impl Default for Outbound {
    fn default() -> Self {
        OutboundTable::default().resolve(&BTreeMap::new(), &Targets::new()).expect("what is built in has no mistake")
    }
}

#[cfg(test)]
mod tests;
