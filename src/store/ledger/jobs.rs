//! The `jobs` rows as others see them.

use super::audit::account;
use crate::store::{
    JobRow, Result, Store,
    dialect::{Sql, statements},
    row::{Row, params},
    session::Session,
};

statements! {
    ALL = Sql::both(
        "select name, spec_hash, work_hash, epoch, first_seen, planned_until, audited_until, paused_at, paused_until,
            paused_reason, retired_at, pruned_until, audit
        from {jobs}
        order by name"
    );
}

impl Store {
    /// Every job the ledger knows, retired ones too.
    pub async fn job_rows(&self) -> Result<Vec<JobRow>> {
        self.read(|session| Box::pin(all(session))).await
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
