//! Cancel: what waits ends at once, what runs is asked to end; one run, or all that a filter names.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{
        job::JobName,
        run::{RunId, State},
    },
    store::{
        Result, Store, StoreError,
        dialect::{Sql, statements},
        row::params,
        session::{LONG, QUICK, Session, count},
    },
};

/// A removed job may come back within this time and find its waiting runs (spec 4, Replicas and configuration).
const ABSENCE: TimeDelta = TimeDelta::hours(1);
/// Jobs removed before this were dealt with; what was missed (the daemon was down) cannot be claimed anyway.
const LOOK_BACK: TimeDelta = TimeDelta::days(30);
/// Rows of one transaction.
const BATCH: usize = 1_000;
/// Transactions of one call; the next call goes on.
const MOST_BATCHES: usize = 20;

/// Work that was accepted elsewhere goes on there: whether it took effect, nobody here can say.
macro_rules! ended {
    () => {
        "case when at_most_once and resume is not null then 'unknown' else 'cancelled' end"
    };
}

/// Which unfinished runs; the part that counting and cancelling share.
macro_rules! unfinished {
    ($states:literal) => {
        concat!(
            "r.state in (",
            $states,
            ") and r.cancel_requested_at is null
            and ({text($1)} is null or r.job = $1) and ({text($2)} is null or r.state = $2)"
        )
    };
}

statements! {
    COUNT = Sql::both(concat!("select count(*) from {runs} r where ", unfinished!("'waiting', 'due', 'running'")));
    END_MANY = Sql::both(concat!(
        "update {runs} set state = 'finished', outcome = ", ended!(), ", reason = 'operator', finished_at = $4,
            cancel_requested_at = $4
        where id in (select r.id from {runs} r where ", unfinished!("'waiting', 'due'"), "
            limit $3
            {for_update_of(r)}
        )"
    ));
    ASK_MANY = Sql::both(concat!(
        "update {runs} set cancel_requested_at = $4, reason = 'operator'
        where id in (select r.id from {runs} r where ", unfinished!("'running'"), "
            limit $3
            {for_update_of(r)}
        )"
    ));
    LOCK = Sql::both("select state from {runs} where id = $1 {for_update}");
    END = Sql::both(concat!(
        "update {runs} set state = 'finished', outcome = ", ended!(), ", reason = 'operator', finished_at = $2,
            cancel_requested_at = $2
        where id = $1"
    ));
    ASK = Sql::both(
        "update {runs} set cancel_requested_at = $2, reason = 'operator' where id = $1 and cancel_requested_at is null"
    );
    END_REMOVED = Sql::both(concat!(
        "update {runs} set state = 'finished', outcome = ", ended!(), ", reason = 'removed', finished_at = $1
        where id in (
            select r.id from {runs} r
            join {jobs} j on j.name = r.job
            where j.retired_at <= $2 and j.retired_at > $4 and r.state in ('waiting', 'due')
            limit $3
            {for_update_of(r)}
        )
        returning job"
    ));
}

/// Runs that have not finished and that nobody asked to end; every field narrows, `None` does not.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    pub job: Option<JobName>,
    pub state: Option<State>,
}

/// What became of runs that were cancelled together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// They waited and have ended.
    pub ended: u64,
    /// They run and were asked to end.
    pub asked: u64,
}

impl Unfinished {
    fn values(&self) -> [Option<String>; 2] {
        [self.job.as_ref().map(JobName::to_string), self.state.map(|state| state.word().to_owned())]
    }
}

impl Store {
    /// How many runs `cancel_many` would find.
    pub async fn count_unfinished(&self, which: &Unfinished) -> Result<u64> {
        let [job, state] = which.values();
        self.read(move |session| {
            let values = params![job.clone(), state.clone()];
            Box::pin(async move { count(session, &COUNT, values).await })
        })
        .await
    }

    /// Cancels runs as `request_cancel` does, at most `limit` of those that wait and of those that run. Nothing left =
    /// both numbers are 0.
    pub async fn cancel_many(&self, which: &Unfinished, now: DateTime<Utc>, limit: u32) -> Result<Cancelled> {
        let [job, state] = which.values();
        self.write(LONG, move |session| {
            let values = params![job.clone(), state.clone(), limit, now];
            Box::pin(async move {
                let ended = session.execute(&END_MANY, values.clone()).await?;
                let asked = session.execute(&ASK_MANY, values).await?;
                Ok(Cancelled { ended, asked })
            })
        })
        .await
    }

    /// Cancels a run: a waiting one ends now, a running one is asked to. Returns the state it was in.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has finished.
    pub async fn request_cancel(&self, run: RunId, now: DateTime<Utc>) -> Result<State> {
        self.write(QUICK, move |session| Box::pin(cancel(session, run, now))).await
    }

    /// Ends what waits for jobs that left the job table an hour ago: `cancelled: removed`. Returns the job of each run.
    pub async fn cancel_removed(&self, now: DateTime<Utc>) -> Result<Vec<JobName>> {
        let mut cancelled = Vec::new();
        for _ in 0..MOST_BATCHES {
            let batch = self.write(QUICK, move |session| Box::pin(cancel_batch(session, now))).await?;
            let is_last = batch.len() < BATCH;
            cancelled.extend(batch);
            if is_last {
                break;
            }
        }
        Ok(cancelled)
    }
}

async fn cancel_batch(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<Vec<JobName>> {
    let rows = session.rows(&END_REMOVED, params![now, now - ABSENCE, BATCH as i64, now - LOOK_BACK]).await?;
    rows.iter().map(|row| row.columns().job()).collect()
}

async fn cancel(session: &mut Session<'_>, run: RunId, now: DateTime<Utc>) -> Result<State> {
    let Some(row) = session.maybe_row(&LOCK, params![run]).await? else {
        return Err(StoreError::NotFound(format!("no run {run}")));
    };
    let state = row.columns().word()?;
    match state {
        State::Finished => return Err(StoreError::Conflict(format!("run {run} has finished"))),
        State::Running => session.execute(&ASK, params![run, now]).await?,
        State::Waiting | State::Due => session.execute(&END, params![run, now]).await?,
    };
    Ok(state)
}
