//! The job table beside the open store, for commands that read and change the ledger without the service.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use tokio::time;

use crate::{
    cli::exit::{Exit, Stop},
    clock::Clock,
    domain::job::{Job, JobName},
    job_table::{JobTable, nearest},
    serve::database_is_there,
    store::{DatabaseConfig, Store},
};

/// For tidying a SQLite file at the end of a command.
const CLOSING_TIME: Duration = Duration::from_secs(3);

pub struct Books {
    pub table: Arc<JobTable>,
    pub store: Store,
    /// The database's time where it has one, else the host's.
    pub now: DateTime<Utc>,
}

impl Books {
    /// Opens the database; its tables must be there and no newer than this binary. Changes nothing.
    pub async fn open(table: Arc<JobTable>, database: &DatabaseConfig) -> anyhow::Result<Self> {
        if !database_is_there(database) {
            let message = format!(
                "there is no database at {} in {}: start the service, or run `workers migrate up`",
                database.url,
                database.data_dir.display()
            );
            return Err(Stop::new(Exit::Conflict, message).into());
        }
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
        self.table.job(&JobName::from_store(name)).ok_or_else(|| unknown(name, &self.table))
    }

    /// A job that the table has, or that the ledger still knows.
    pub async fn known(&self, name: &str) -> anyhow::Result<JobName> {
        let wanted = JobName::from_store(name);
        let of_table = self.table.job(&wanted).is_some();
        if of_table || self.store.job_rows().await?.iter().any(|row| row.name == wanted) {
            return Ok(wanted);
        }
        Err(unknown(name, &self.table).into())
    }

    /// Lets go of the database; a SQLite file is left in one piece where nobody else has it open.
    pub async fn close(self) {
        // Another process may keep the file busy: it will do this itself.
        time::timeout(CLOSING_TIME, self.store.close()).await.unwrap_or_default();
    }
}

/// The error of a name that no job has, with the nearest name that one has.
pub fn unknown(name: &str, table: &JobTable) -> Stop {
    let hint = meant(name, table.jobs.keys().map(JobName::as_str));
    let hint = hint.unwrap_or_else(|| "`workers jobs list` shows them all".into());
    Stop::new(Exit::NotFound, format!("no job {name:?} in the job table; {hint}"))
}

/// The question that helps who wrote a name almost right.
pub fn meant<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(name, names).map(|near| format!("did you mean {near}?"))
}
