//! The tables and keys of jobs.toml, as written. Their doc comments are the documentation and the schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::values::{BackoffText, FormerName, GateRule, Texts, Whole};
use crate::domain::{
    duration::{Length, LengthOrZero},
    job::{CatchUp, Delivery, ExpectItems, Overlap},
};
use crate::handlers::{OutboundTable, http::Target};

/// What `JobName::parse` takes, for the schema.
pub const NAME_PATTERN: &str = "^[a-z][a-z0-9_.-]{0,63}$";

/// Keys of a job that later versions will know.
pub const LATER_JOB_KEYS: [&str; 3] = ["pool", "limit", "rate"];
/// Keys that a job has and `[defaults]` has not.
pub const OWN_JOB_KEYS: [&str; 9] =
    ["description", "every", "offset", "cron", "at", "days", "run", "payload", "previous_names"];
/// Tables that later versions will know.
pub const LATER_TABLES: [&str; 4] = ["pools", "notify", "heartbeat", "probes"];

/// The top of jobs.toml.
// `[jobs.*]` and `[targets.*]` are taken out before and read one by one; here they are for schema and suggestions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// Version of this format.
    #[schemars(extend("default" = 1))]
    pub version: Option<Whole<1, 1>>,
    /// A table with a higher revision than the active one is activated at once, whichever process brings it.
    pub revision: Option<Whole<0, { i64::MAX }>>,
    /// What every job inherits unless it says otherwise. Tables such as `retry` are inherited key by key.
    #[serde(default)]
    pub defaults: RawDefaults,
    /// The jobs, by name.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::of_jobs")]
    pub jobs: Option<BTreeMap<String, RawJob>>,
    /// Applications that `run.http` calls, by name.
    pub targets: Option<BTreeMap<String, Target>>,
    /// How and when jobs write to people.
    #[serde(default)]
    pub outbound: OutboundTable,
    /// Where the daemon answers.
    #[serde(default)]
    pub server: ServerTable,
    /// Where the ledger lives.
    #[serde(default)]
    pub database: DatabaseTable,
    /// How much runs at once.
    #[serde(default)]
    pub executor: ExecutorTable,
}

/// `[server]`: where the daemon answers, and to whom.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTable {
    /// Address and port to listen on, such as `127.0.0.1:8000` or `[::]:8000`. Without it: `[::]` and `PORT` when
    /// `PORT` is set or the daemon is in a container, else the loopback address.
    #[schemars(extend("default" = "127.0.0.1:8000"))]
    pub listen: Option<String>,
    /// Tokens that may do everything; two are valid at once while they are rotated.
    pub token: Option<Texts>,
    /// Tokens that may read everything.
    pub read_token: Option<Texts>,
    /// Whether `/metrics` answers without a token.
    #[schemars(extend("default" = false))]
    pub metrics_public: Option<bool>,
}

/// `[database]`: where the ledger lives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTable {
    /// `postgres://...` or `sqlite:...`.
    #[schemars(extend("default" = "sqlite:workers.db"))]
    pub url: Option<String>,
    /// A way to the same PostgreSQL past its pooler, for migrations and LISTEN.
    pub direct_url: Option<String>,
    /// Schema of our tables on PostgreSQL.
    #[schemars(extend("default" = "workers", "pattern" = "^[a-z_][a-z0-9_]{0,62}$"))]
    pub schema: Option<String>,
    /// Connections kept open.
    #[schemars(extend("default" = 1))]
    pub pool_min: Option<Whole<0, 1000>>,
    /// Most connections at once.
    #[schemars(extend("default" = 5))]
    pub pool_max: Option<Whole<2, 1000>>,
    /// Whether handlers may create the team's tables they need and do not find.
    #[schemars(extend("default" = true))]
    pub create_team_tables: Option<bool>,
}

/// `[executor]`: how much runs at once, and how the daemon stops.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutorTable {
    /// Runs of queues at once in this process.
    #[schemars(extend("default" = 4))]
    pub concurrency: Option<Whole<1, 50>>,
    /// Scheduled, caught-up and triggered runs at once in this process.
    #[schemars(extend("default" = 64))]
    pub scheduled: Option<Whole<1, 10_000>>,
    /// How long running work may go on after SIGTERM.
    #[schemars(extend("default" = "8s"))]
    pub shutdown_grace: Option<LengthOrZero>,
}

/// Declares a table that has the keys of jobs which `[defaults]` has too, and keys of its own.
macro_rules! with_job_rules {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $key: $type,)*
            /// IANA name of the zone in which `cron`, `at` and `days` are meant.
            #[schemars(extend("default" = "UTC"))]
            pub timezone: Option<String>,
            /// What happens to fixed clock times when the clocks change.
            pub dst: Option<RawDst>,
            /// Bound of each attempt, from its start.
            #[schemars(extend("default" = "5min"))]
            pub timeout: Option<Length>,
            /// A success that took longer makes the job `degraded: slow`.
            #[schemars(extend("default" = "1min"))]
            pub slow_after: Option<Length>,
            /// How often and how soon a failed run is tried again.
            pub retry: Option<RawRetry>,
            /// What happens to an instant that comes while the run of an earlier one is not finished.
            #[schemars(extend("default" = "skip"))]
            pub overlap: Option<Overlap>,
            /// What happens to instants that were missed.
            #[schemars(extend("default" = "latest"))]
            pub catch_up: Option<CatchUp>,
            /// Older missed instants are skipped as too late. Default: one period, at least 24 h, at most 7 d.
            pub catch_up_within: Option<Length>,
            /// `at_most_once`: a run that may have taken effect is never repeated by itself.
            #[schemars(extend("default" = "at_least_once"))]
            pub delivery: Option<Delivery>,
            /// Its silence makes `/health/workers` fail with 503.
            #[schemars(extend("default" = false))]
            pub critical: Option<bool>,
            /// How long it may be silent. Default: derived from the schedule, right over nights and weekends.
            pub stale_after: Option<Length>,
            /// `some`: three successes in a row without an item make the job `degraded: suspicious`.
            #[schemars(extend("default" = "any"))]
            pub expect_items: Option<ExpectItems>,
            /// A disabled job is shown and does not run.
            #[schemars(extend("default" = true))]
            pub enabled: Option<bool>,
            /// Environments (`APP_ENV`) in which the job is on. Default: all.
            pub only_in: Option<Texts>,
            /// A gate, asked when the job fires; closed = the ledger says `skipped: gate`.
            pub when: Option<GateRule>,
            /// Higher goes first.
            #[schemars(extend("default" = 0))]
            pub priority: Option<Whole<-10, 10>>,
            /// Runs of the job at once over all replicas. Default: no bound of its own.
            pub concurrency: Option<Whole<1, 10_000>>,
            /// Spreads starts by a hash of job and instant; below the period.
            pub jitter: Option<LengthOrZero>,
            /// How long finished runs stay.
            pub keep: Option<RawKeep>,
            /// Words to group jobs by.
            pub tags: Option<Vec<String>>,
            /// Who to ask.
            pub owner: Option<String>,
            /// Where it is written what to do when it fails.
            pub runbook: Option<String>,
        }
    };
}

with_job_rules! {
    /// `[defaults]`: what every job inherits.
    RawDefaults {}
}

with_job_rules! {
    /// `[jobs.<name>]`: when something is done, what, and under which rules. A job without a schedule is a queue: its
    /// runs come from producers.
    RawJob {
        /// What it is for.
        description: Option<String>,
        /// Fixed rate, anchored to 1970-01-01T00:00Z, 100 ms to 366 d.
        every: Option<Length>,
        /// Moves the instants of `every`; below the period.
        offset: Option<LengthOrZero>,
        /// 5 fields (minute hour day month weekday), 6 with seconds first, or `@hourly` and the like.
        cron: Option<String>,
        /// Clock times such as `"08:00"`.
        at: Option<Texts>,
        /// Days of the week for `at`: `"mon-fri"`, `["mon", "thu"]`. Default: all.
        days: Option<Texts>,
        /// What is done: exactly one handler with its settings.
        #[serde(default)]
        #[schemars(schema_with = "super::schema::of_run")]
        run: Option<BTreeMap<String, Json>>,
        /// JSON payload of runs that bring none.
        payload: Option<Json>,
        /// Names the job had before; its history and place in the ledger are taken over.
        previous_names: Option<Vec<FormerName>>,
    }
}

/// `dst`: fixed clock times when the clocks change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDst {
    /// A time that the clocks jump over fires right after the gap, or not at all.
    #[schemars(extend("default" = "after"))]
    pub gap: Option<RawGap>,
    /// A time that comes twice fires the first time, or both times.
    #[schemars(extend("default" = "first"))]
    pub repeat: Option<RawRepeat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RawGap {
    After,
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RawRepeat {
    First,
    Both,
}

/// `retry`: how often and how soon a failed run is tried again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// Attempts, the first included.
    #[schemars(extend("default" = 3))]
    pub max_attempts: Option<Whole<1, 1000>>,
    /// `"5s..5min"`: 5 s, 10 s, 20 s, never over 5 min. `"linear 30s"`: 60 s, 90 s, 120 s. A list: one wait per retry.
    #[schemars(extend("default" = "5s..5min"))]
    pub backoff: Option<BackoffText>,
    /// Spreads each wait by up to 25 % to both sides.
    #[schemars(extend("default" = true))]
    pub jitter: Option<bool>,
}

/// `keep`: how long finished runs stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKeep {
    /// Of runs that went well; `0s` deletes them at once.
    #[schemars(extend("default" = "7d"))]
    pub done: Option<LengthOrZero>,
    /// Of all others.
    #[schemars(extend("default" = "30d"))]
    pub failed: Option<LengthOrZero>,
}
