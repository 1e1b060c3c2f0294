//! `parse`: jobs.toml to the job table. Pure: the text, its name and the environment come in as values.

mod file;
mod job;
mod policy;
pub mod problem;
pub mod raw;
mod reading;
pub mod schema;
mod site;
mod values;
mod warnings;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value as Json;

pub use file::parse;
pub use problem::{Code, Problem};
pub use raw::{DatabaseTable, ExecutorTable, ServerTable};
pub use reading::suggest::nearest;

use crate::{
    domain::job::{Job, JobName},
    handlers::{Outbound, Targets, Work},
};

/// Most jobs a file may have.
pub const MAX_JOBS: usize = 10_000;
/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// What the team wants, checked and with all defaults resolved.
#[derive(Debug, Clone)]
pub struct JobTable {
    pub jobs: BTreeMap<JobName, Entry>,
    /// SHA-256 (hex) over name, schedule and work hash of every job, and the revision: what activation compares.
    pub hash: String,
    /// A table with a higher revision than the active one is activated at once.
    pub revision: Option<i64>,
    pub server: ServerTable,
    pub database: DatabaseTable,
    pub executor: ExecutorTable,
    pub targets: Targets,
    pub outbound: Outbound,
    /// The file as JSON, variables filled in, for showing: what came from variables under a secret key is masked.
    pub shown: Json,
    /// What is doubtful, sorted by line.
    pub warnings: Vec<Problem>,
    /// The process settings that the file gives: name such as `server.listen`, text, line.
    pub process_settings: BTreeMap<String, (String, usize)>,
}

impl JobTable {
    /// The rules of a job.
    pub fn job(&self, name: &JobName) -> Option<&Arc<Job>> {
        self.jobs.get(name).map(|entry| &entry.job)
    }
}

/// A job and what it does.
#[derive(Debug, Clone)]
pub struct Entry {
    pub job: Arc<Job>,
    pub work: Arc<Work>,
    /// The line of the file on which the job begins.
    pub line: usize,
}

/// The surroundings a table is read in, as values.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// All variables of the process.
    pub variables: BTreeMap<String, String>,
    pub team: TeamDefaults,
}

/// Job settings that the team's own variables give. They stand behind `[defaults]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TeamDefaults {
    /// `JOB_TIMEOUT` and its kin.
    pub timeout: Option<Duration>,
    /// `ARQ_KEEP_RESULT`: `keep.done` of queues.
    pub queue_keep_done: Option<Duration>,
    /// `N_WORKERS`: runs at once of each queue.
    pub queue_concurrency: Option<u32>,
}

impl Environment {
    /// An environment with these variables and no defaults of the team.
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self { variables, team: TeamDefaults::default() }
    }

    /// `APP_ENV`; `None` when it is unset or empty.
    pub fn app_env(&self) -> Option<&str> {
        self.value_of("APP_ENV").map(str::trim).filter(|name| !name.is_empty())
    }

    /// The value of a variable.
    pub fn value_of(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}
