//! What the audit reads and what it leaves behind (spec 4, Conservation).

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::epochs;
use crate::{
    domain::{
        job::JobName,
        ledger::{Account, Entry, Epoch},
    },
    store::{
        Result, Store,
        dialect::{Sql, statements},
        row::{Row, params},
        session::{QUICK, Session},
    },
};

/// Jobs of one round; the next round goes on.
const MOST_WINDOWS: i64 = 1_000;

statements! {
    WINDOWS = Sql::both(
        "select name, audited_until, planned_until from {jobs}
        where audited_until < planned_until
        order by audited_until, name
        limit $1"
    );
    ENTRIES = Sql::both(
        "select epoch, trigger, scheduled_for, covers_from, covers, state, outcome, reason, attempt, lag_ms from {runs}
        where job = $1 and scheduled_for > $2 and covers_from <= $3
        order by scheduled_for"
    );
    COUNTERS = Sql::both("select audit from {jobs} where name = $1 and audited_until = $2 {for_update}");
    STORE = Sql::both("update {jobs} set audit = $2, audited_until = $3 where name = $1");
}

/// A stretch of time that is planned and not audited yet: `(from, until]`.
#[derive(Debug, Clone)]
pub struct AuditWindow {
    pub job: JobName,
    /// All epochs of the job, oldest first.
    pub epochs: Vec<Epoch>,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// The account of a window, to be added to the job's counters.
#[derive(Debug, Clone)]
pub struct Audit {
    pub job: JobName,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub account: Account,
}

impl Store {
    /// What waits for its audit, the oldest first; at most 1,000 jobs.
    pub async fn audit_windows(&self) -> Result<Vec<AuditWindow>> {
        self.read(|session| Box::pin(windows(session))).await
    }

    /// The rows of a job that touch `(from, until]`.
    pub async fn ledger_entries(&self, job: &JobName, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<Entry>> {
        let job = job.to_string();
        self.read(move |session| Box::pin(entries(session, job.clone(), from, until))).await
    }

    /// Adds an account to the job's counters, if nobody audited the window meanwhile; `false` = somebody did.
    pub async fn store_audit(&self, audit: &Audit) -> Result<bool> {
        let audit = Arc::new(audit.clone());
        self.write(QUICK, move |session| Box::pin(store(session, Arc::clone(&audit)))).await
    }
}

async fn windows(session: &mut Session<'_>) -> Result<Vec<AuditWindow>> {
    let rows = session.rows(&WINDOWS, params![MOST_WINDOWS]).await?;
    let window = |row: &Row| {
        let mut columns = row.columns();
        Ok((columns.job()?, columns.instant()?, columns.instant()?))
    };
    let windows: Vec<_> = rows.iter().map(window).collect::<Result<_>>()?;
    let jobs = windows.iter().map(|(job, ..)| job.to_string()).collect();
    let mut epochs: HashMap<JobName, Vec<Epoch>> = epochs::all(session, jobs).await?;
    let window = |(job, from, until)| AuditWindow { epochs: epochs.remove(&job).unwrap_or_default(), job, from, until };
    Ok(windows.into_iter().map(window).collect())
}

async fn entries(
    session: &mut Session<'_>,
    job: String,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Entry>> {
    let rows = session.rows(&ENTRIES, params![job, from, until]).await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<Entry> {
    let mut columns = row.columns();
    let c = &mut columns;
    Ok(Entry {
        epoch: c.int()?,
        trigger: c.word()?,
        scheduled_for: c.instant()?,
        covers_from: c.instant()?,
        covers: c.int()?,
        state: c.word()?,
        outcome: c.maybe_word()?,
        reason: c.maybe_word()?,
        attempt: c.small()?,
        lag_ms: c.maybe_int()?,
    })
}

async fn store(session: &mut Session<'_>, audit: Arc<Audit>) -> Result<bool> {
    let Some(row) = session.maybe_row(&COUNTERS, params![&audit.job, audit.from]).await? else { return Ok(false) };
    let mut counters = account(row.columns().maybe_json()?.unwrap_or_default());
    counters.add(&audit.account);
    let counters = serde_json::to_value(&counters).expect("an account is plain numbers");
    session.execute(&STORE, params![&audit.job, counters, audit.until]).await?;
    Ok(true)
}

/// Stored counters as an account; what is not there counts 0.
pub(in crate::store) fn account(stored: Value) -> Account {
    let number = |key: &str| stored.get(key).and_then(Value::as_i64).unwrap_or_default();
    let skipped = stored.get("skipped").and_then(Value::as_object);
    let skipped = skipped.into_iter().flatten().filter_map(|(reason, n)| Some((reason.clone(), n.as_i64()?)));
    Account {
        expected: number("expected"),
        ran: number("ran"),
        late: number("late"),
        open: number("open"),
        skipped: skipped.collect(),
        missing: number("missing"),
        doubled: number("doubled"),
        extra: number("extra"),
    }
}
