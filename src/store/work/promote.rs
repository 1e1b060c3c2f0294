//! Promote: runs whose time has come stop waiting.

use chrono::{DateTime, Utc};

use crate::store::{
    Result, Store,
    dialect::{Sql, statements},
    row::params,
    session::{QUICK, Session},
};

/// Rows of one transaction.
const BATCH: i64 = 1_000;
/// Transactions of one call; the next call goes on.
const MOST_BATCHES: usize = 100;

statements! {
    EARLIEST = Sql::both("select min(due_at) from {runs} where state = 'waiting'");
    PROMOTE = Sql::both(
        "update {runs} set state = 'due'
        where id in (
            select id from {runs}
            where state = 'waiting' and due_at <= $1
            order by due_at
            limit $2
            {skip_locked}
        )"
    );
}

impl Store {
    /// Makes every waiting run due whose `due_at` has come; returns the earliest that still waits.
    pub async fn promote(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        for _ in 0..MOST_BATCHES {
            let earliest = self.glance(|session| Box::pin(earliest(session))).await?;
            if earliest.is_none_or(|earliest| now < earliest) {
                return Ok(earliest);
            }
            let promoted = self.write(QUICK, move |session| Box::pin(promote_within(session, now))).await?;
            if promoted == 0 {
                // Others hold the rows that are left.
                return Ok(earliest);
            }
        }
        Ok(Some(now))
    }
}

async fn earliest(session: &mut Session<'_>) -> Result<Option<DateTime<Utc>>> {
    let rows = session.rows(&EARLIEST, params![]).await?;
    rows.first().map_or(Ok(None), |row| row.columns().maybe_instant())
}

async fn promote_within(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<u64> {
    session.execute(&PROMOTE, params![now, BATCH]).await
}
