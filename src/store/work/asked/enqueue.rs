//! Enqueue: runs that producers and people ask for.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    domain::{
        job::JobName,
        run::{RunId, State, Trigger},
    },
    store::{
        Result, Store, StoreError,
        dialect::{Of, Sql, statements},
        row::{Ids, Param, params},
        session::{LONG, QUICK, Session},
    },
};

/// Rows of one statement.
const BATCH: usize = 1_000;

statements! {
    /// The job's row says what a producer need not know.
    INSERT = Sql::bulk(
        &[
            ("id", Of::Uuid), ("job", Of::Text), ("trigger", Of::Text), ("state", Of::Text), ("due_at", Of::Instant),
            ("priority", Of::Int), ("key", Of::Text), ("dedupe_key", Of::Text), ("payload", Of::Json),
            ("max_attempts", Of::Int), ("retry_of", Of::Uuid), ("errors", Of::Json),
        ],
        "insert into {runs} (
            id, job, epoch, trigger, covers, state, due_at, priority, key, dedupe_key, payload, attempt, max_attempts,
            crashes, exclusive, at_most_once, retry_of, created_at, errors
        )
        select given_id, given_job, j.epoch, given_trigger, 0, given_state, given_due_at,
            coalesce(given_priority, j.priority), given_key, given_dedupe_key, given_payload, 0,
            coalesce(given_max_attempts, j.max_attempts), 0, j.exclusive, j.at_most_once, given_retry_of, $13,
            given_errors
        from {given}
        join {jobs} j on j.name = given_job
        where j.retired_at is null
        on conflict (job, dedupe_key) where dedupe_key is not null and state <> 'finished' do nothing
        returning id"
    );
    JOB = Sql::both("select 1 from {jobs} where name = $1 and retired_at is null");
    SAME = Sql::both("select id from {runs} where job = $1 and dedupe_key = $2 and state <> 'finished'");
}

/// A run somebody asks for.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub job: JobName,
    /// `manual`, `enqueue` or `retry`: none of them consumes an instant.
    pub trigger: Trigger,
    pub payload: Value,
    pub due_at: DateTime<Utc>,
    /// `None` = the job's.
    pub priority: Option<i16>,
    pub key: Option<String>,
    /// One unfinished run of the job per key.
    pub dedupe_key: Option<String>,
    /// `None` = the job's.
    pub max_attempts: Option<i32>,
    pub retry_of: Option<RunId>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    pub run: RunId,
    /// `false` = an unfinished run of the same dedupe key was there.
    pub fresh: bool,
}

impl Store {
    /// Enqueues a run; acknowledged after commit. Same unfinished dedupe key, same run.
    ///
    /// # Errors
    /// `NotFound` when no active job table has the job; `Refused` for a payload that cannot be stored.
    pub async fn enqueue(&self, run: &NewRun, now: DateTime<Utc>) -> Result<RunId> {
        let enqueued = self.enqueue_many(std::slice::from_ref(run), now).await?;
        Ok(enqueued.first().expect("one request has one answer").run)
    }

    /// Enqueues runs, all or none; the answers are in their order.
    ///
    /// # Errors
    /// As `enqueue`, for the first run that cannot be.
    pub async fn enqueue_many(&self, runs: &[NewRun], now: DateTime<Utc>) -> Result<Vec<Enqueued>> {
        let limits = if BATCH < runs.len() { LONG } else { QUICK };
        let runs: Arc<[NewRun]> = runs.into();
        self.write(limits, move |session| Box::pin(enqueue(session, Arc::clone(&runs), now))).await
    }
}

pub(super) async fn enqueue(
    session: &mut Session<'_>,
    runs: Arc<[NewRun]>,
    now: DateTime<Utc>,
) -> Result<Vec<Enqueued>> {
    let ids = Ids::at(now);
    let mut enqueued = Vec::with_capacity(runs.len());
    for batch in runs.chunks(BATCH) {
        let given: Vec<(RunId, &NewRun)> = batch.iter().map(|run| (ids.next(), run)).collect();
        let rows = given.iter().map(|(id, run)| columns(*id, run, now)).collect();
        let mut inserted = HashSet::new();
        for row in session.bulk(&INSERT, rows, params![now]).await? {
            inserted.insert(RunId(row.columns().uuid()?));
        }
        for (id, run) in given {
            let fresh = inserted.contains(&id);
            let run = if fresh { id } else { same(session, run).await? };
            enqueued.push(Enqueued { run, fresh });
        }
    }
    Ok(enqueued)
}

/// The unfinished run of the same key, which kept this one out.
async fn same(session: &mut Session<'_>, run: &NewRun) -> Result<RunId> {
    if session.maybe_row(&JOB, params![&run.job]).await?.is_none() {
        let advice = "start the service with this one, or run `workers config activate`";
        let message = format!("job {:?} is not in the active job table: {advice}", run.job.as_str());
        return Err(StoreError::NotFound(message));
    }
    match session.maybe_row(&SAME, params![&run.job, run.dedupe_key.clone()]).await? {
        Some(row) => Ok(RunId(row.columns().uuid()?)),
        None => Err(StoreError::Contended("the run of the same key has just finished".into())),
    }
}

/// The columns of `INSERT`.
fn columns(id: RunId, run: &NewRun, now: DateTime<Utc>) -> Vec<Param> {
    let state = if run.due_at <= now { State::Due } else { State::Waiting };
    params![
        id,
        &run.job,
        run.trigger.word(),
        state.word(),
        run.due_at,
        run.priority.map(i64::from),
        run.key.clone(),
        run.dedupe_key.clone(),
        run.payload.clone(),
        run.max_attempts,
        run.retry_of.map(|run| run.0),
        Value::Array(Vec::new()),
    ]
}
