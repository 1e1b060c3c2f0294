//! The job table beside the open store, for commands that read and change the ledger without the service.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use crate::{
    cli::output::{Exit, Stop},
    clock::Clock,
    domain::job::{Job, JobName},
    job_table::JobTable,
    store::{DatabaseConfig, Store},
};

pub struct Books {
    pub table: Arc<JobTable>,
    pub store: Store,
    /// The database's time where it has one, else the host's.
    pub now: DateTime<Utc>,
}

impl Books {
    /// Opens the database; its tables must be there and no newer than this binary. Changes nothing.
    pub async fn open(table: Arc<JobTable>, database: &DatabaseConfig) -> anyhow::Result<Self> {
        let store = Store::open(database).await?;
        let status = store.migration_status().await?;
        if !status.pending.is_empty() {
            let pending = status.pending.join(", ");
            let message = format!("the database lacks {pending}: start the service, or run `workers migrate up`");
            return Err(Stop::new(Exit::Conflict, message).into());
        }
        let now = store.database_time().await.context("cannot ask the database for its time")?;
        Ok(Self { table, store, now: now.unwrap_or_else(|| Clock::system().now()) })
    }

    /// The job of this name in the table; the error names the nearest.
    pub fn job(&self, name: &str) -> Result<&Arc<Job>, Stop> {
        let wanted = JobName::from_store(name);
        self.table.job(&wanted).ok_or_else(|| {
            let nearest = self.table.jobs.keys().max_by(|a, b| {
                let likeness = |known: &JobName| strsim::jaro_winkler(known.as_str(), name);
                likeness(a).total_cmp(&likeness(b))
            });
            let hint = nearest.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            Stop::new(Exit::NotFound, format!("no job {name:?} in the job table{hint}"))
        })
    }
}
