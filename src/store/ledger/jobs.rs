//! The `jobs` rows as others see them.

use chrono::{DateTime, Utc};

use super::audit::account;
use crate::{
    domain::{job::Job, run::Trigger},
    store::{
        JobRow, Result, Store, StoreError,
        dialect::{Sql, statements},
        row::{Row, params},
        session::Session,
    },
};

statements! {
    ALL = Sql::both(
        "select name, spec_hash, work_hash, epoch, first_seen, planned_until, audited_until, paused_at, paused_until,
            paused_reason, retired_at, pruned_until, audit
        from {jobs}
        order by name"
    );
    PAUSED = Sql::both(
        "select paused_reason from {jobs}
        where name = $1 and paused_at is not null and (paused_until is null or paused_until > $2)"
    );
}

impl Store {
    /// Every job the ledger knows, retired ones too.
    pub async fn job_rows(&self) -> Result<Vec<JobRow>> {
        self.read(|session| Box::pin(all(session))).await
    }

    /// Refuses a run of `job` that nobody would begin. What a person wants now is refused while the job is paused; what
    /// is enqueued waits for the end of the pause, as a queue must. A job that the active table does not have is refused
    /// by `enqueue` itself.
    ///
    /// # Errors
    /// `Conflict` with the reason.
    pub async fn refuse_unable(&self, job: &Job, trigger: Trigger, now: DateTime<Utc>) -> Result<()> {
        let name = job.name.as_str();
        if let Some(reason) = &job.disabled {
            return Err(StoreError::Conflict(format!("job {name:?} is disabled here: {reason}")));
        }
        if trigger != Trigger::Manual {
            return Ok(());
        }
        let paused = params![&job.name, now];
        let paused = self.read(move |session| {
            let paused = paused.clone();
            Box::pin(async move { session.maybe_row(&PAUSED, paused).await })
        });
        let Some(row) = paused.await? else { return Ok(()) };
        let reason = row.columns().maybe_text()?.unwrap_or_default();
        let advice = format!("`workers jobs resume {name}` first");
        Err(StoreError::Conflict(format!("job {name:?} is paused ({reason}): {advice}")))
    }
}

async fn all(session: &mut Session<'_>) -> Result<Vec<JobRow>> {
    let rows = session.rows(&ALL, params![]).await?;
    rows.iter().map(job).collect()
}

fn job(row: &Row) -> Result<JobRow> {
    let mut columns = row.columns();
    let c = &mut columns;
    let (name, spec_hash, work_hash) = (c.job()?, c.text()?, c.text()?);
    // A queue has no instants, so it has no cursor.
    let scheduled = !spec_hash.is_empty();
    Ok(JobRow {
        name,
        spec_hash,
        work_hash,
        epoch: c.int()?,
        first_seen: c.instant()?,
        planned_until: c.maybe_instant()?.filter(|_| scheduled),
        audited_until: c.maybe_instant()?.filter(|_| scheduled),
        paused_at: c.maybe_instant()?,
        paused_until: c.maybe_instant()?,
        paused_reason: c.maybe_text()?,
        retired_at: c.maybe_instant()?,
        pruned_until: c.maybe_instant()?,
        audit: account(c.maybe_json()?.unwrap_or_default()),
    })
}
