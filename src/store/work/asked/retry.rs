//! Retry by a person: a new run with `retry_of`. The old row is a fact and stays.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::enqueue::{NewRun, enqueue};
use crate::{
    domain::{
        job::JobName,
        run::{BACKLOG_PRIORITY, Outcome, Run, RunId, State, Trigger},
    },
    store::{
        Result, Store, StoreError,
        dialect::{Sql, statements},
        row::{Param, params, run},
        session::{LONG, QUICK, Session, count},
    },
};

/// Whether a finished run that nobody has retried is meant, of a job that the active table has. `r` is the run.
macro_rules! meant {
    () => {
        "r.state = 'finished' and r.retried_at is null
        and ({text($1)} is null or r.job = $1)
        and ({text($2)} is null or r.outcome = $2)
        and ({instant($3)} is null or r.created_at >= $3)
        and exists (select 1 from {jobs} j where j.name = r.job and j.retired_at is null)"
    };
}

/// Failures: word for word what the index `runs_retryable` holds.
macro_rules! failed {
    () => {
        "r.outcome in ('error', 'timeout', 'panic', 'lost', 'unknown') and "
    };
}

/// The first of those found, locked until the end of the transaction.
macro_rules! first {
    () => {
        " order by r.id limit $4 {for_update_of(r)}"
    };
}

statements! {
    LOCK = Sql::both("select {run_columns} from {runs} where id = $1 {for_update}");
    RETRIED_BY = Sql::both("select id from {runs} where retry_of = $1 order by id desc limit 1");
    COUNT = Sql::both(concat!("select count(*) from {runs} r where ", failed!(), meant!()));
    CANDIDATES = Sql::both(concat!("select r.id from {runs} r where ", failed!(), meant!(), first!()));
    /// What did not fail is seldom wanted again: it has no index of its own, and is looked for in the order of the ids.
    COUNT_OTHERS = Sql::both(concat!("select count(*) from {runs} r where ", meant!()));
    OTHER_CANDIDATES = Sql::both(concat!("select r.id from {runs} r where ", meant!(), first!()));
    /// The fact outlives the row of the retry, so that nothing is repeated because that row was pruned.
    TAKE = Sql::both(
        "update {runs} set retried_at = $2 where id {in($1)} and retried_at is null returning {run_columns}"
    );
}

/// Which finished runs to retry together; every field narrows.
#[derive(Debug, Clone, Default)]
pub struct Retrying {
    pub job: Option<JobName>,
    /// `None` = every failure.
    pub outcome: Option<Outcome>,
    /// Created at this instant or later.
    pub since: Option<DateTime<Utc>>,
}

/// A run and the one that repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    pub job: JobName,
    pub retry_of: RunId,
    pub run: RunId,
}

impl Retrying {
    /// Whether the index of the failures knows all that is meant.
    fn only_failures(&self) -> bool {
        self.outcome.is_none_or(Outcome::is_failure)
    }

    fn values(&self) -> Vec<Param> {
        params![self.job.as_ref().map(JobName::as_str), self.outcome.map(Outcome::word), self.since]
    }
}

impl Store {
    /// Makes a new run of what a finished one was to do, due now, with its payload unless another is given.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, or a job that the active table does not have; `Conflict` when the run has not
    /// finished, or was retried before: its retry can be retried; `Refused` for a payload that cannot be stored.
    pub async fn retry(&self, of: RunId, payload: Option<Value>, now: DateTime<Utc>) -> Result<RunId> {
        let payload = Arc::new(payload);
        self.write(QUICK, move |session| Box::pin(retry(session, of, Arc::clone(&payload), now))).await
    }

    /// Retries failures, the oldest first, at most `limit`. A run that was retried before is left alone, so that a
    /// second call does nothing twice.
    pub async fn retry_many(&self, which: &Retrying, now: DateTime<Utc>, limit: u32) -> Result<Vec<Retried>> {
        let candidates = if which.only_failures() { &CANDIDATES } else { &OTHER_CANDIDATES };
        let mut values = which.values();
        values.push(limit.into());
        self.write(LONG, move |session| Box::pin(retry_many(session, (candidates, values.clone()), now))).await
    }

    /// How many runs `retry_many` would find without a limit.
    pub async fn count_retryable(&self, which: &Retrying) -> Result<u64> {
        let (statement, values) = (if which.only_failures() { &COUNT } else { &COUNT_OTHERS }, which.values());
        self.read(move |session| {
            let values = values.clone();
            Box::pin(async move { count(session, statement, values).await })
        })
        .await
    }
}

async fn retry(session: &mut Session<'_>, of: RunId, payload: Arc<Option<Value>>, now: DateTime<Utc>) -> Result<RunId> {
    let Some(row) = session.maybe_row(&LOCK, params![of]).await? else {
        return Err(StoreError::NotFound(format!("no run {of}")));
    };
    let old = run(&row)?;
    if old.state != State::Finished {
        return Err(StoreError::Conflict(format!("run {of} has not finished: it is {}", old.state)));
    }
    if session.rows(&TAKE, params![vec![of.0], now]).await?.is_empty() {
        let by = session.maybe_row(&RETRIED_BY, params![of]).await?;
        let by = by.map(|row| row.columns().uuid()).transpose()?;
        let by = by.map_or_else(|| "a run whose row is gone".into(), |id| format!("run {id}"));
        return Err(StoreError::Conflict(format!("run {of} was retried before, by {by}")));
    }
    let payload = payload.as_ref().clone().unwrap_or_else(|| old.payload.clone());
    let enqueued = enqueue(session, [repeat(&old, payload, now)].into(), now).await?;
    Ok(enqueued.first().expect("one request has one answer").run)
}

async fn retry_many(
    session: &mut Session<'_>,
    (candidates, values): (&'static Sql, Vec<Param>),
    now: DateTime<Utc>,
) -> Result<Vec<Retried>> {
    let candidates = session.rows(candidates, values).await?;
    let candidates = candidates.iter().map(|row| row.columns().uuid()).collect::<Result<Vec<_>>>()?;
    let rows = session.rows(&TAKE, params![candidates, now]).await?;
    let mut old = rows.iter().map(run).collect::<Result<Vec<Run>>>()?;
    old.sort_by_key(|run| run.id);
    let new: Vec<NewRun> = old.iter().map(|old| repeat(old, old.payload.clone(), now)).collect();
    let enqueued = enqueue(session, new.into(), now).await?;
    let pair = |(old, new): (Run, super::Enqueued)| Retried { job: old.job, retry_of: old.id, run: new.run };
    Ok(old.into_iter().zip(enqueued).map(pair).collect())
}

/// A person decides that it is done again, so no dedupe key of a producer keeps it out.
fn repeat(old: &Run, payload: Value, now: DateTime<Utc>) -> NewRun {
    NewRun {
        job: old.job.clone(),
        trigger: Trigger::Retry,
        payload,
        due_at: now,
        // A backlog's row stands below every job; the retry is live work.
        priority: (BACKLOG_PRIORITY < old.priority).then_some(old.priority),
        key: old.key.clone(),
        dedupe_key: None,
        max_attempts: None,
        retry_of: Some(old.id),
    }
}
