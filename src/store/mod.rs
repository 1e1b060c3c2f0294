//! The only room that knows our tables: verbs over SQLite and PostgreSQL.

mod connect;
mod dialect;
mod error;
mod history;
mod ledger;
mod reads;
mod row;
mod session;
mod snapshot;
mod work;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};

pub use connect::{AppConnection, DaemonLock, Described, Migrated, MigrationStatus};
pub use dialect::Kind;
pub use ledger::{ActivateRequest, Activation, Audit, AuditWindow, PlanRequest, Rewound};
pub use reads::RunFilter;
pub use snapshot::{Depth, Figures};
pub use work::{Cancelled, Enqueued, Freed, NewRun, Pruning, Retried, Retrying, Unfinished};

use crate::domain::{
    job::{Job, JobName},
    ledger::Account,
    run::{Fence, Lease, Outcome, Reason, ReplicaId, Run, RunId, Trigger},
};

/// The ledger: every verb is one transaction. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    book: Arc<dialect::Book>,
    database: connect::Database,
}

/// Every statement of ours, file by file; a test prepares each of them on both databases.
fn statements() -> impl Iterator<Item = &'static dialect::Sql> {
    let own: &[&[dialect::Sql]] =
        &[reads::STATEMENTS, history::STATEMENTS, snapshot::STATEMENTS, snapshot::DAY_STATEMENTS];
    own.iter().chain(ledger::STATEMENTS).chain(work::STATEMENTS).copied().flatten()
}

/// Why a verb did not do its work. A variant only where somebody branches on it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No answer: connect, time-out, connection lost, server shutting down. Nothing is known about the last write.
    #[error("database unreachable: {0}")]
    Unreachable(String),
    /// The schema was written by a newer release than this binary.
    #[error("{0}")]
    NewerSchema(String),
    /// Another daemon holds this SQLite file.
    #[error("{0}")]
    Locked(String),
    #[error("{0}")]
    NotFound(String),
    /// The state of the thing does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A setting cannot work: bad URL, bad schema name, a standby server, an unwritable folder.
    #[error("{0}")]
    Config(String),
    /// The database refused the data of one row.
    #[error("{0}")]
    Refused(String),
    /// Another transaction came in between and nothing was done. Verbs try again; it never leaves them.
    #[error("{0}")]
    Contended(String),
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    /// Another try may mend it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Where the ledger lives.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `sqlite://path`, `sqlite::memory:` is refused; `postgres://...`.
    pub url: String,
    /// For migrations (and LISTEN later); `None` = `url`.
    pub direct_url: Option<String>,
    /// PostgreSQL schema, validated `[a-z_][a-z0-9_]{0,62}`; default `workers`.
    pub schema: String,
    /// Engine pool; at least 2.
    pub max_connections: u32,
    pub min_connections: u32,
    /// Relative SQLite paths start here.
    pub data_dir: PathBuf,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
}

impl DatabaseConfig {
    /// The absolute path of the SQLite file; `None` = PostgreSQL, or a URL that opening refuses.
    pub fn file(&self) -> Option<PathBuf> {
        connect::file(self)
    }

    /// A SQLite file that survives its process and not a power cut: what a test needs.
    pub fn sqlite_for_tests(path: impl AsRef<Path>) -> Self {
        Self {
            url: format!("sqlite://{}?synchronous=off", path.as_ref().display()),
            direct_url: None,
            schema: "workers".into(),
            max_connections: 2,
            min_connections: 0,
            data_dir: ".".into(),
            application_name: "emponto-test".into(),
        }
    }
}

/// What a planning pass did.
#[derive(Debug, Default)]
pub struct Planned {
    /// Rows born running; their attempt counts from now.
    pub started: Vec<(Lease, Run)>,
    /// Jobs whose row another transaction held: try again soon.
    pub locked: Vec<JobName>,
    /// The cursor of each job that was planned or read.
    pub cursors: Vec<(JobName, DateTime<Utc>)>,
    /// Jobs whose pass was cut at its limit: plan again at once.
    pub more: Vec<JobName>,
    /// Jobs whose active epoch is not ours.
    pub foreign: Vec<JobName>,
    /// Rows written: (job, trigger or skip reason, instants), for metrics and logs.
    pub recorded: Vec<Recorded>,
}

#[derive(Debug, Clone)]
pub struct Recorded {
    pub job: JobName,
    pub scheduled_for: DateTime<Utc>,
    pub covers: i64,
    pub trigger: Trigger,
    pub skipped: Option<Reason>,
}

/// Which slots a claim fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Jobs with a schedule, and triggered runs of them.
    Scheduled,
    /// Queues.
    Queue,
}

/// A request to claim; `fence` was chosen before the statement is sent.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub replica: ReplicaId,
    pub fence: Fence,
    pub now: DateTime<Utc>,
    /// Jobs this replica may claim now, all of one lane. The store compares `work_hash` with the active one.
    pub jobs: Arc<Vec<Arc<Job>>>,
    /// Free slots.
    pub limit: u32,
    /// `true` = claim at most one run with `crashes >= 1`; `false` = only runs with `crashes = 0`.
    pub suspects: bool,
}

/// What `settle` did with one settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    Applied,
    /// It was to go on, but somebody had asked for its end: it is finished.
    EndedInstead(Outcome),
    /// The lease is gone: kept in `errors`, changed nothing.
    Late,
    /// The database refused the result; settled as `error: not_storable` instead.
    NotStorable(String),
    /// The commit of a handler's transaction did not happen: the run is due again, or `unknown` when `at_most_once`.
    Undone,
}

/// What a renewal found running in this replica's name.
#[derive(Debug, Clone)]
pub struct Held {
    pub run: RunId,
    pub fence: Fence,
    pub cancel_requested: bool,
    /// Why it shall end: a person's word (`operator`) or a newer instant (`replaced`).
    pub cancel_reason: Option<Reason>,
}

/// A replica as others see it.
#[derive(Debug, Clone)]
pub struct Replica {
    pub id: ReplicaId,
    pub host: String,
    pub version: String,
    pub table_hash: String,
    pub state: String,
    pub started_at: DateTime<Utc>,
    pub lease_until: DateTime<Utc>,
}

/// The `jobs` row of a job.
#[derive(Debug, Clone)]
pub struct JobRow {
    pub name: JobName,
    pub spec_hash: String,
    pub work_hash: String,
    pub epoch: i64,
    pub first_seen: DateTime<Utc>,
    pub planned_until: Option<DateTime<Utc>>,
    pub audited_until: Option<DateTime<Utc>>,
    pub paused_at: Option<DateTime<Utc>>,
    pub paused_until: Option<DateTime<Utc>>,
    pub paused_reason: Option<String>,
    pub retired_at: Option<DateTime<Utc>>,
    /// The newest instant whose row was removed by age; rows up to here may be gone.
    pub pruned_until: Option<DateTime<Utc>>,
    /// Stored counters of the audit.
    pub audit: Account,
}

impl JobRow {
    /// A person paused it, and the pause has not ended.
    pub fn is_paused(&self, now: DateTime<Utc>) -> bool {
        self.paused_at.is_some() && self.paused_until.is_none_or(|until| now < until)
    }
}
