//! What is sent to a person, and what became of it.

use std::time::Duration;

use serde::Serialize;

/// A text for one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The row's id: the same on each try, so that a receiver can know a repeat.
    pub id: String,
    /// Digits with country code.
    pub number: String,
    pub text: String,
    /// Its kind in the team's words: `prospeccao`, `followup`, `resposta`, `campanha`, `sistema`, `lembrete`.
    pub tipo: String,
}

/// What a gateway made of one message, its own tries included.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    Sent {
        /// How the provider calls it.
        provider_message_id: Option<String>,
    },
    /// It was surely not accepted.
    Failed { outcome: SendOutcome, why: String },
    /// Time-out, reset, or another 5xx: it may have been accepted, and nobody can say.
    Doubtful { why: String },
    /// Nothing was sent: the gateway failed too often in a row and is left alone for so long.
    CircuitOpen { after: Duration },
    /// Nothing was sent, and no fault of the message: the attempt was told to stop before.
    Held,
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// The words in which the team keeps what became of a message (spec 6, Send outcomes).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SendOutcome { $($(#[$doc])* $variant),+ }

        impl SendOutcome {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the column `outcome`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

outcomes! {
    Sent = "SENT",
    /// Sent past the limits, because somebody asked for it.
    Bypass = "BYPASS",
    /// The same text went to the same number already.
    Deduped = "DEDUPED",
    /// Outside of production only listed numbers are written to.
    BlockedDevAllowlist = "BLOCKED_DEV_ALLOWLIST",
    BlockedOptedOut = "BLOCKED_OPTED_OUT",
    BlockedCoolingOff = "BLOCKED_COOLING_OFF",
    BlockedNextAllowed = "BLOCKED_NEXT_ALLOWED",
    BlockedContactCap = "BLOCKED_CONTACT_CAP",
    BlockedQuietHours = "BLOCKED_QUIET_HOURS",
    FailedProvider = "FAILED_PROVIDER",
    FailedValidation = "FAILED_VALIDATION",
    FailedRateLimit = "FAILED_RATE_LIMIT",
    FailedCircuitOpen = "FAILED_CIRCUIT_OPEN",
    FailedTimeout = "FAILED_TIMEOUT",
    FailedExpired = "FAILED_EXPIRED",
}

impl Serialize for SendOutcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
