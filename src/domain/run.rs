//! A run: the obligation made by an occurrence, a trigger or an enqueue, and how it can stand.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::job::JobName;

/// Attempts lost to crashes after which a run ends as `lost` (spec 4, Claim).
pub const MAX_CRASHES: i32 = 3;
/// Longest error text kept in a row, in characters.
pub const MAX_ERROR_CHARS: usize = 2_000;
/// Most entries kept of a run's earlier errors.
pub const MAX_ERRORS: usize = 20;
/// Largest result kept in a row, in bytes of JSON.
pub const MAX_RESULT_BYTES: usize = 64 * 1024;
/// Priority of `catch_up = "all"` rows: one below the lowest a job can have, so live work goes first.
pub const BACKLOG_PRIORITY: i16 = -11;

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word used in the database, in JSON, in labels and in commands.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)+
                    other => Err(format!(concat!("unknown ", stringify!($name), " {:?}"), other)),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}

pub(super) use words;

words! {
    /// Where a run stands.
    State {
        /// `due_at` is in the future.
        Waiting = "waiting",
        Due = "due",
        Running = "running",
        Finished = "finished",
    }
}

words! {
    /// How a finished run ended.
    Outcome {
        Success = "success",
        /// Some items failed, some were done.
        Partial = "partial",
        /// By a rule (attempt 0) or by the handler's own word (attempt 1 or more).
        Skipped = "skipped",
        Error = "error",
        Timeout = "timeout",
        Panic = "panic",
        /// Its process died under it `MAX_CRASHES` times.
        Lost = "lost",
        /// `at_most_once`, and nobody can say whether it took effect.
        Unknown = "unknown",
        Cancelled = "cancelled",
    }
}

impl Outcome {
    /// Counts towards `consecutive_failures` and failure metrics.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Timeout | Self::Panic | Self::Lost | Self::Unknown)
    }

    /// Counts as work done for `last_success` and staleness.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Success | Self::Partial)
    }
}

words! {
    /// Why a run ended as it did, or why an instant did not run; a closed list.
    Reason {
        Overlap = "overlap",
        Missed = "missed",
        TooLate = "too_late",
        Edited = "edited",
        Paused = "paused",
        Disabled = "disabled",
        Gate = "gate",
        /// A newer instant took its place (`overlap = "replace"`).
        Replaced = "replaced",
        /// Its job left the job table.
        Removed = "removed",
        /// The handler skipped; its own words are in `error`.
        Handler = "handler",
        NotConfigured = "not_configured",
        Placeholder = "placeholder",
        /// Every attempt failed, or a snooze went on too long.
        Exhausted = "exhausted",
        /// The handler said that another try cannot help.
        Permanent = "permanent",
        /// Shutdown, lost lease or database outage ended the attempt; nobody's fault.
        Interrupted = "interrupted",
        /// The other side has accepted the work and is asked again (`http` 202).
        Accepted = "accepted",
        Crashed = "crashed",
        /// A person asked for it.
        Operator = "operator",
        NotStorable = "not_storable",
    }
}

words! {
    /// What made the run.
    Trigger {
        Schedule = "schedule",
        CatchUp = "catch_up",
        Manual = "manual",
        Enqueue = "enqueue",
        Retry = "retry",
    }
}

/// A run's identity: a time-ordered UUID (v7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ReplicaId(pub Uuid);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value that must still stand in the row when its holder settles. Chosen before the claim is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence(pub Uuid);

/// The right to settle one run. Made by a claim, not `Clone`, used up by settling.
#[derive(Debug)]
pub struct Lease {
    run: RunId,
    fence: Fence,
}

impl Lease {
    /// For `store` alone: the row said `running` with this fence when it was written.
    pub(crate) fn granted(run: RunId, fence: Fence) -> Self {
        Self { run, fence }
    }

    pub fn run(&self) -> RunId {
        self.run
    }

    pub fn fence(&self) -> Fence {
        self.fence
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub id: RunId,
    pub job: JobName,
    pub epoch: i64,
    pub trigger: Trigger,
    /// The newest instant this row accounts for; `None` for triggered and enqueued runs.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Instants accounted for, `covers_from ..= scheduled_for`; 0 when not scheduled.
    pub covers: i64,
    pub covers_from: Option<DateTime<Utc>>,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    /// No attempt starts before; lag counts from here.
    pub due_at: DateTime<Utc>,
    pub priority: i16,
    pub key: Option<String>,
    pub dedupe_key: Option<String>,
    pub payload: Value,
    /// Attempts claimed so far, the running one included; 0 = never started.
    pub attempt: i32,
    /// Attempts the handler may end before the run is exhausted.
    pub max_attempts: i32,
    /// Attempts lost with their process.
    pub crashes: i32,
    /// At most one exclusive run of a job is running.
    pub exclusive: bool,
    pub replica: Option<ReplicaId>,
    /// What a later attempt goes on from (`http` 202 polling). Once there it stays, whatever ends an attempt.
    pub resume: Option<Value>,
    pub retry_of: Option<RunId>,
    pub cancel_requested_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub lag_ms: Option<i64>,
    pub duration_ms: Option<i64>,
    pub items: Option<i64>,
    pub items_failed: Option<i64>,
    pub response_code: Option<i32>,
    pub result: Option<Value>,
    pub error: Option<String>,
    /// Earlier failures, oldest first: objects with `attempt`, `at`, `error`.
    pub errors: Value,
}

/// What a handler did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Items done; `None` = this work does not count items.
    pub items: Option<u64>,
    pub items_failed: u64,
    /// Items still waiting afterwards: the job's queue size.
    pub left: Option<u64>,
    /// A sentence for people.
    pub note: Option<String>,
    pub result: Option<Value>,
    /// HTTP status, when there was one.
    pub response_code: Option<u16>,
}

impl Report {
    pub fn items(items: u64) -> Self {
        Self { items: Some(items), ..Self::default() }
    }
}

/// Why a handler did not do its work; chosen where it is understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    pub response_code: Option<u16>,
    /// The effect cannot have happened (DNS, connect, TLS, spawn, 429, ...): `at_most_once` may retry.
    pub before_effect: bool,
    /// Kept for the next attempt.
    pub resume: Option<Value>,
    /// What was done before it failed.
    pub report: Option<Box<Report>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The world may change: try again after the job's backoff.
    Retry,
    /// Try again after this long; an attempt is spent.
    RetryAfter(Duration),
    /// Try again after this long; no attempt is spent.
    Snooze(Duration),
    /// The other side has taken the work and goes on with it: look again after this long. It is no failure, what `resume`
    /// holds is kept, and looking spends no attempt.
    Pending(Duration),
    /// Another try cannot help.
    Permanent,
    /// Nothing to do, and that is neither success nor failure.
    Skipped(Reason),
    /// Another try cannot help, and the job must be paused until a person looks (HTTP 410).
    Pause,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), response_code: None, before_effect: false, resume: None, report: None }
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Retry, message)
    }

    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, message)
    }

    pub fn snooze(after: Duration, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Snooze(after), message)
    }

    /// Accepted elsewhere; a later attempt goes on from `resume` and looks again.
    pub fn pending(after: Duration, resume: Value) -> Self {
        Self { resume: Some(resume), ..Self::new(FailureKind::Pending(after), "accepted, not done yet") }
    }

    pub fn skipped(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Skipped(reason), message)
    }

    /// The work was surely not begun.
    pub fn before_effect(mut self) -> Self {
        self.before_effect = true;
        self
    }

    pub fn with_code(mut self, code: u16) -> Self {
        self.response_code = Some(code);
        self
    }

    pub fn with_report(mut self, report: Report) -> Self {
        self.report = Some(Box::new(report));
        self
    }
}
