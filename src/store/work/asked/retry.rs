//! Retry by a person: a new run with `retry_of`. The old row is a fact and stays.

use std::{collections::HashSet, sync::Arc};

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

/// Failures that nobody has retried yet, of jobs that the active table has. `r` is the run.
macro_rules! retryable {
    () => {
        "r.state = 'finished'
        and ({text($1)} is null or r.job = $1)
        and (r.outcome = $2 or {text($2)} is null and r.outcome in ('error', 'timeout', 'panic', 'lost', 'unknown'))
        and ({instant($3)} is null or r.created_at >= $3)
        and not exists (select 1 from {runs} n where n.retry_of = r.id)
        and exists (select 1 from {jobs} j where j.name = r.job and j.retired_at is null)"
    };
}

statements! {
    LOCK = Sql::both("select {run_columns} from {runs} where id = $1 {for_update}");
    UNFINISHED_RETRY = Sql::both("select id from {runs} where retry_of = $1 and state <> 'finished'");
    COUNT = Sql::both(concat!("select count(*) from {runs} r where ", retryable!()));
    CANDIDATES = Sql::both(concat!(
        "select r.id from {runs} r where ", retryable!(), " order by r.id limit $4 {for_update_of(r)}"
    ));
    /// In a statement of its own, which sees what another retry has committed while this one waited for the rows.
    STILL = Sql::both(
        "select {run_columns} from {runs} where id {in($1)}
        and not exists (select 1 from {runs} n where n.retry_of = {runs}.id)
        order by id"
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
    fn values(&self) -> Vec<Param> {
        params![self.job.as_ref().map(JobName::as_str), self.outcome.map(Outcome::word), self.since]
    }
}

impl Store {
    /// Makes a new run of what a finished one was to do, due now, with its payload unless another is given.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, or a job that the active table does not have; `Conflict` when the run has not
    /// finished, or a retry of it has not; `Refused` for a payload that cannot be stored.
    pub async fn retry(&self, of: RunId, payload: Option<Value>, now: DateTime<Utc>) -> Result<RunId> {
        let payload = Arc::new(payload);
        self.write(QUICK, move |session| Box::pin(retry(session, of, Arc::clone(&payload), now))).await
    }

    /// Retries failures, the oldest first, at most `limit`. A run that was retried before is left alone, so that a
    /// second call does nothing twice.
    pub async fn retry_many(&self, which: &Retrying, now: DateTime<Utc>, limit: u32) -> Result<Vec<Retried>> {
        let mut values = which.values();
        values.push(limit.into());
        self.write(LONG, move |session| Box::pin(retry_many(session, values.clone(), now))).await
    }

    /// How many runs `retry_many` would find without a limit.
    pub async fn count_retryable(&self, which: &Retrying) -> Result<u64> {
        let values = which.values();
        self.read(move |session| {
            let values = values.clone();
            Box::pin(async move { count(session, &COUNT, values).await })
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
    if let Some(row) = session.maybe_row(&UNFINISHED_RETRY, params![of]).await? {
        let other = RunId(row.columns().uuid()?);
        return Err(StoreError::Conflict(format!("run {of} is being retried already, by run {other}")));
    }
    let payload = payload.as_ref().clone().unwrap_or_else(|| old.payload.clone());
    let enqueued = enqueue(session, [repeat(&old, payload, now)].into(), now).await?;
    Ok(enqueued.first().expect("one request has one answer").run)
}

async fn retry_many(session: &mut Session<'_>, values: Vec<Param>, now: DateTime<Utc>) -> Result<Vec<Retried>> {
    let candidates = session.rows(&CANDIDATES, values).await?;
    let candidates = candidates.iter().map(|row| row.columns().uuid()).collect::<Result<HashSet<_>>>()?;
    let rows = session.rows(&STILL, params![candidates.into_iter().collect::<Vec<_>>()]).await?;
    let old = rows.iter().map(run).collect::<Result<Vec<Run>>>()?;
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
