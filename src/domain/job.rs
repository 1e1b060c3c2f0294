//! The rules of one job: when it is due, and what may happen around its runs.

use std::{fmt, sync::Arc, time::Duration};

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schedule::{Schedule, Zone};

/// Keys that `/health/workers` uses for itself; a job of such a name would overwrite one.
pub const RESERVED_NAMES: [&str; 13] = [
    "scheduler",
    "last_job_at",
    "queue_size",
    "status",
    "lag_seconds",
    "replicas",
    "version",
    "timestamp",
    "jobs",
    "queues",
    "alerts",
    "database",
    "replica",
];

/// The name of a job: `[a-z][a-z0-9_.-]{0,63}` and no reserved key of `/health/workers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct JobName(Arc<str>);

impl JobName {
    /// Checks the name; the error says what is wrong with it, without naming the job.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut letters = text.chars();
        let starts_well = letters.next().is_some_and(|first| first.is_ascii_lowercase());
        let goes_on_well = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c));
        if !starts_well || !goes_on_well || 64 < text.len() {
            return Err(
                "a job name starts with a-z, goes on with a-z, 0-9, _ . -, and has at most 64 characters".into()
            );
        }
        if RESERVED_NAMES.contains(&text) {
            return Err(format!("{text:?} is a key of /health/workers"));
        }
        Ok(Self(text.into()))
    }

    /// A name that the database holds; it was checked when it was written.
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One job: a row of the job table without its work, which `job_table` pairs with it.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: JobName,
    /// `None` = a queue: its runs come from producers.
    pub schedule: Option<Schedule>,
    /// The business zone: where its handler's days and weeks begin, also when its schedule counts elapsed time.
    pub zone: Zone,
    /// Name of the handler, for people and labels (`http`, `sql`, ...).
    pub handler: &'static str,
    /// Why the job is switched off here, in words; `None` = it is on.
    pub disabled: Option<String>,
    pub gate: Option<Gate>,
    pub policy: Policy,
    /// Default payload of the runs; `Null` when the table gives none.
    pub payload: Value,
    pub about: About,
    /// Names this job had before; their history and cursor are taken over.
    pub previous_names: Vec<JobName>,
    /// SHA-256 (hex) over everything of the job that is not its schedule: what a claim must agree on.
    pub work_hash: String,
}

impl Job {
    /// One running at a time: every overlap rule but `allow`. A queue has no overlap rule.
    pub fn is_exclusive(&self) -> bool {
        self.schedule.is_some() && self.policy.overlap != Overlap::Allow
    }

    /// Most runs of this job at once over all replicas; `None` = no bound of its own.
    pub fn max_running(&self) -> Option<u32> {
        if self.is_exclusive() { Some(1) } else { self.policy.concurrency }
    }

    /// Its runs are processes, of which only so many may run at once.
    pub fn is_command(&self) -> bool {
        self.handler == "command"
    }

    /// Whether a run may be born `running` inside the planning transaction (spec 4, Plan).
    pub fn may_start_at_once(&self) -> bool {
        self.gate.is_none() && !self.is_command() && (self.policy.concurrency.is_none() || self.is_exclusive())
    }
}

/// For people: shown by commands and health, never decided upon.
#[derive(Debug, Clone, Default, Serialize)]
pub struct About {
    pub description: String,
    pub owner: String,
    pub runbook: String,
    pub tags: Vec<String>,
}

/// The rules of a job beside its schedule (spec 3, "Keys of a job"), all defaults resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Bound of one attempt, from its start.
    pub timeout: Duration,
    /// A success that took longer makes the job `degraded: slow`.
    pub slow_after: Duration,
    pub retry: Retry,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    /// Older owed instants are `skipped: too_late`. One period, at least 24 h, at most 7 d, unless given.
    pub catch_up_within: TimeDelta,
    pub delivery: Delivery,
    pub critical: bool,
    /// `None` = derived from the schedule.
    pub stale_after: Option<Duration>,
    pub expect_items: ExpectItems,
    /// -10 ..= 10, higher first.
    pub priority: i16,
    /// Runs of this job at once over all replicas.
    pub concurrency: Option<u32>,
    pub keep: Keep,
}

/// How often and how soon a failed run is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts ended by the handler, the first included; at least 1.
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// Spread each wait by up to +-25 %.
    pub jitter: bool,
}

/// The wait before attempt n + 1, where n counts ended attempts from 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// `"5s..5min"`: 5 s, 10 s, 20 s, ... never over 5 min.
    Exponential { first: Duration, most: Duration },
    /// `"linear 30s"`: 60 s after the first attempt, 90 s after the second: (n + 1) x 30 s.
    Linear { step: Duration },
    /// One wait per retry; the last repeats.
    List(Vec<Duration>),
}

impl Backoff {
    /// The wait after `ended` attempts (1 = the first one has ended), without jitter.
    pub fn after(&self, ended: u32) -> Duration {
        let ended = ended.max(1);
        match self {
            Self::Exponential { first, most } => {
                // 2^20 times any first wait is beyond every upper bound a file can give.
                first.saturating_mul(1 << (ended - 1).min(20)).min(*most)
            }
            Self::Linear { step } => step.saturating_mul(ended.saturating_add(1)),
            Self::List(waits) => {
                let index = (ended as usize - 1).min(waits.len().saturating_sub(1));
                waits.get(index).copied().unwrap_or_default()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Overlap {
    Skip,
    Queue,
    Allow,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CatchUp {
    Latest,
    All,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Delivery {
    AtLeastOnce,
    AtMostOnce,
}

/// Whether a success without items is as good as any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ExpectItems {
    Any,
    /// Three successes in a row without an item are suspicious.
    Some,
}

/// How long finished runs stay. `done` zero = a success is deleted instead of updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    pub done: Duration,
    pub failed: Duration,
}

/// Asked when the job fires; closed = `skipped: gate`.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    /// Open when the variable, read once at start and resolved here, had the wanted value.
    Environment { variable: String, open: bool },
    /// Open when the first column of the first row is true, or a number other than 0.
    Sql { text: String },
}
