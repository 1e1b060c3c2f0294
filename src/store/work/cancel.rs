//! Cancel: what waits ends at once, what runs is asked to end.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::run::{RunId, State},
    store::{
        Result, Store, StoreError,
        dialect::{Sql, statements},
        row::params,
        session::{QUICK, Session},
    },
};

/// A removed job may come back within this time and find its waiting runs (spec 4, Replicas and configuration).
const ABSENCE: TimeDelta = TimeDelta::hours(1);
/// Jobs removed before this were dealt with; what was missed (the daemon was down) cannot be claimed anyway.
const LOOK_BACK: TimeDelta = TimeDelta::days(30);
/// Rows of one transaction.
const BATCH: i64 = 1_000;
/// Transactions of one call; the next call goes on.
const MOST_BATCHES: usize = 20;

statements! {
    LOCK = Sql::both("select state from {runs} where id = $1 {for_update}");
    END = Sql::both(
        "update {runs} set state = 'finished', outcome = 'cancelled', reason = 'operator', finished_at = $2,
            cancel_requested_at = $2
        where id = $1"
    );
    ASK = Sql::both(
        "update {runs} set cancel_requested_at = $2, reason = 'operator' where id = $1 and cancel_requested_at is null"
    );
    END_REMOVED = Sql::both(
        "update {runs} set state = 'finished', outcome = 'cancelled', reason = 'removed', finished_at = $1
        where id in (
            select r.id from {runs} r
            join {jobs} j on j.name = r.job
            where j.retired_at <= $2 and j.retired_at > $4 and r.state in ('waiting', 'due')
            limit $3
            {for_update_of(r)}
        )"
    );
}

impl Store {
    /// Cancels a run: a waiting one ends now, a running one is asked to. Returns the state it was in.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has finished.
    pub async fn request_cancel(&self, run: RunId, now: DateTime<Utc>) -> Result<State> {
        self.write(QUICK, move |session| Box::pin(cancel(session, run, now))).await
    }

    /// Ends what waits for jobs that left the job table an hour ago: `cancelled: removed`. Returns how many.
    pub async fn cancel_removed(&self, now: DateTime<Utc>) -> Result<u64> {
        let mut cancelled = 0;
        for _ in 0..MOST_BATCHES {
            let batch = self.write(QUICK, move |session| {
                Box::pin(async move {
                    session.execute(&END_REMOVED, params![now, now - ABSENCE, BATCH, now - LOOK_BACK]).await
                })
            });
            let batch = batch.await?;
            cancelled += batch;
            if batch < BATCH.unsigned_abs() {
                break;
            }
        }
        Ok(cancelled)
    }
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
