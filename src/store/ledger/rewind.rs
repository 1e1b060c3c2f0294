//! Rewind: mends a cursor that a wrong clock has moved ahead of now.
//!
//! Afterwards no row accounts for an instant after now, so that each of them can be recorded when it really comes:
//! - skipped and unstarted rows that lie wholly ahead are removed: nothing was done for them;
//! - rows that reach from the past beyond now are cut at the last instant that has come;
//! - runs that were started for an instant ahead stay as what they are, runs that happened, but without an instant.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::epochs;
use crate::{
    domain::{health::is_ahead, job::JobName, run::RunId, schedule::Schedule},
    store::{
        Result, Store, StoreError,
        dialect::{Sql, statements},
        row::params,
        session::{LONG, Session},
    },
};

statements! {
    LOCK = Sql::both("select planned_until from {jobs} where name = $1 and retired_at is null {for_update}");
    REMOVE = Sql::both(
        "delete from {runs} where job = $1 and scheduled_for > $2 and covers_from > $2 and attempt = 0"
    );
    DETACH = Sql::both(
        "update {runs} set scheduled_for = null, covers_from = null, covers = 0
        where job = $1 and scheduled_for > $2 and covers_from > $2"
    );
    REACHING = Sql::both("select id, epoch, covers_from from {runs} where job = $1 and scheduled_for > $2 {for_update}");
    CUT = Sql::both("update {runs} set scheduled_for = $2, covers = $3 where id = $1");
    MOVE = Sql::both(
        "update {jobs} set planned_until = $2,
            audited_until = case when audited_until > $2 then $2 else audited_until end
        where name = $1"
    );
    BEGIN_EARLIER = Sql::both("update {schedules} set valid_from = $2 where job = $1 and valid_from > $2");
    END_EARLIER = Sql::both("update {schedules} set valid_until = $2 where job = $1 and valid_until > $2");
}

/// What a rewind did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// Where the cursor stood.
    pub from: DateTime<Utc>,
    /// Rows removed.
    pub removed: u64,
    /// Rows cut at the last instant that has come.
    pub cut: u64,
    /// Runs that lost their instant.
    pub detached: u64,
}

impl Store {
    /// Moves a cursor that is ahead of `now` back to `now`. One that is ahead by less than health calls ahead may only be
    /// younger than `now`: the daemon has planned meanwhile, and setting it back would take out live rows.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the cursor is not ahead.
    pub async fn rewind(&self, job: &JobName, now: DateTime<Utc>) -> Result<Rewound> {
        let job = job.clone();
        self.write(LONG, move |session| Box::pin(rewind(session, job.clone(), now))).await
    }
}

async fn rewind(session: &mut Session<'_>, job: JobName, now: DateTime<Utc>) -> Result<Rewound> {
    let Some(row) = session.maybe_row(&LOCK, params![&job]).await? else {
        return Err(StoreError::NotFound(format!("no job {:?} in the active job table", job.as_str())));
    };
    let from = row.columns().instant()?;
    if !is_ahead(from, now) {
        let cursor = from.to_rfc3339_opts(SecondsFormat::Secs, true);
        let why = format!("job {:?}: its cursor, {cursor}, is not ahead of the clock", job.as_str());
        return Err(StoreError::Conflict(why));
    }
    let removed = session.execute(&REMOVE, params![&job, now]).await?;
    let detached = session.execute(&DETACH, params![&job, now]).await?;
    let cut = cut(session, &job, now).await?;
    for sql in [&MOVE, &BEGIN_EARLIER, &END_EARLIER] {
        session.execute(sql, params![&job, now]).await?;
    }
    Ok(Rewound { from, removed, cut, detached })
}

async fn cut(session: &mut Session<'_>, job: &JobName, now: DateTime<Utc>) -> Result<u64> {
    let reaching = session.rows(&REACHING, params![job, now]).await?;
    let epochs = epochs::of_job(session, job.to_string()).await?;
    for row in &reaching {
        let mut columns = row.columns();
        let (id, epoch, since) = (RunId(columns.uuid()?), columns.int()?, columns.instant()?);
        let spec = epochs.iter().find(|known| known.epoch == epoch).and_then(|known| known.schedule.as_ref());
        let schedule = spec.map(Schedule::from_spec).transpose().map_err(StoreError::Other)?;
        let came = schedule.and_then(|schedule| schedule.span(since - TimeDelta::milliseconds(1), now));
        let came = came.ok_or_else(|| StoreError::Other(format!("run {id} accounts for no instant of its epoch")))?;
        session.execute(&CUT, params![id, came.last, came.count]).await?;
    }
    Ok(reaching.len() as u64)
}
