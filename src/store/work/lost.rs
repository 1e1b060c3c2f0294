//! Rescue: the runs of replicas that died go on, or end, and only who may be guilty is counted.

use std::collections::HashSet;

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        job::JobName,
        run::{MAX_CRASHES, Outcome, Reason, ReplicaId, RunId, State},
    },
    store::{
        Result, Store,
        dialect::{Of, Sql, statements},
        row::{Param, Row, params},
        session::{QUICK, Session},
    },
};

statements! {
    /// Locks the row that a renewal would need: who is dead here cannot renew after us, who renewed before us is not.
    BURY = Sql::both(
        "update {replicas} set state = 'dead' where state = 'live' and lease_until <= $2 and id <> $1"
    );
    /// One look that locks nothing: on a quiet day it is all that a rescue costs.
    NEEDED = Sql::both(
        "select exists (select 1 from {replicas} where state = 'live' and lease_until <= $2 and id <> $1)
        or exists (
            select 1 from {runs} r
            where r.state = 'running' and r.replica <> $1
            and not exists (select 1 from {replicas} p where p.id = r.replica and p.state = 'live')
        )"
    );
    /// By the absence of a living holder, not by a list of the dead: a claim that was on its way when its replica
    /// died is found the next time.
    ORPHANS = Sql::both(
        "select r.id, r.job, r.lease, r.replica, r.crashes, r.at_most_once, r.resume is not null, r.cancel_requested_at is not null
        from {runs} r
        where r.state = 'running' and r.replica <> $1
        and not exists (select 1 from {replicas} p where p.id = r.replica and p.state = 'live')
        order by r.id
        {for_update_of(r)}"
    );
    RUNNING = Sql::both(
        "select id, job, lease, replica, crashes, at_most_once, resume is not null, cancel_requested_at is not null
        from {runs}
        where state = 'running'
        order by id
        {for_update}"
    );
    FREE = Sql::bulk(
        &[
            ("id", Of::Uuid), ("lease", Of::Uuid), ("state", Of::Text), ("outcome", Of::Text), ("reason", Of::Text),
            ("crashes", Of::Int), ("unspent", Of::Int),
        ],
        "update {runs}
        set state = given_state, outcome = given_outcome, reason = coalesce(given_reason, reason),
            crashes = given_crashes, attempt = attempt - given_unspent, lease = null,
            replica = case when given_outcome is null then null else replica end,
            finished_at = case when given_outcome is null then null else {instant($8)} end,
            error = 'its process died', errors = {noted(errors, attempt, $9, 'its process died')}
        from {given}
        where id = given_id and lease = given_lease and {still_running(state)}
        returning id, job, outcome"
    );
}

/// A run that its process left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    pub run: RunId,
    pub job: JobName,
    /// How it ended without its process; `None` = it goes on.
    pub outcome: Option<Outcome>,
}

impl Store {
    /// Frees what runs in the name of replicas whose lease has expired, or that are gone; never our own. Checked and
    /// changed in one transaction. Returns what was freed.
    pub async fn free_lost(&self, me: ReplicaId, now: DateTime<Utc>) -> Result<Vec<Freed>> {
        if !self.glance(move |session| Box::pin(is_needed(session, me, now))).await? {
            return Ok(Vec::new());
        }
        self.write(QUICK, move |session| Box::pin(free_lost(session, me, now))).await
    }

    /// Frees everything that runs: for SQLite at start, when the file lock proves that nobody is alive.
    pub async fn free_all(&self, now: DateTime<Utc>) -> Result<Vec<Freed>> {
        self.write(QUICK, move |session| Box::pin(free_all(session, now))).await
    }
}

async fn is_needed(session: &mut Session<'_>, me: ReplicaId, now: DateTime<Utc>) -> Result<bool> {
    let rows = session.rows(&NEEDED, params![me, now]).await?;
    rows.first().map_or(Ok(false), |row| row.columns().flag())
}

async fn free_lost(session: &mut Session<'_>, me: ReplicaId, now: DateTime<Utc>) -> Result<Vec<Freed>> {
    session.execute(&BURY, params![me, now]).await?;
    let orphans = session.rows(&ORPHANS, params![me]).await?;
    free(session, &orphans, now).await
}

async fn free_all(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<Vec<Freed>> {
    let running = session.rows(&RUNNING, params![]).await?;
    free(session, &running, now).await
}

async fn free(session: &mut Session<'_>, rows: &[Row], now: DateTime<Utc>) -> Result<Vec<Freed>> {
    let doomed: Vec<Doomed> = rows.iter().map(Doomed::read).collect::<Result<_>>()?;
    let suspicious: HashSet<Uuid> = doomed.iter().filter(|run| 1 <= run.crashes).map(|run| run.replica).collect();
    let given = doomed.iter().map(|run| run.columns(run.fate(suspicious.contains(&run.replica))));
    let at = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    let rows = session.bulk(&FREE, given.collect(), params![now, at]).await?;
    let freed = |row: &Row| {
        let mut columns = row.columns();
        Ok(Freed { run: RunId(columns.uuid()?), job: columns.job()?, outcome: columns.maybe_word()? })
    };
    rows.iter().map(freed).collect()
}

/// A run whose process died.
#[derive(Debug)]
struct Doomed {
    run: RunId,
    lease: Uuid,
    replica: Uuid,
    crashes: i32,
    at_most_once: bool,
    /// It has something to go on from, so nothing is done twice.
    resumes: bool,
    cancel_requested: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Runs again; `counted` = this death is held against it.
    Again {
        counted: bool,
    },
    Ended(Outcome, Option<Reason>),
}

impl Doomed {
    fn read(row: &Row) -> Result<Self> {
        let mut c = row.columns();
        let run = RunId(c.uuid()?);
        let _job = c.job()?;
        let (lease, replica, crashes) = (c.uuid()?, c.uuid()?, c.small()?);
        Ok(Self {
            run,
            lease,
            replica,
            crashes,
            at_most_once: c.flag()?,
            resumes: c.flag()?,
            cancel_requested: c.flag()?,
        })
    }

    /// When a run aboard had crashes on its record before, it is the culprit, and its neighbours are innocent.
    fn fate(&self, suspect_aboard: bool) -> Fate {
        let counted = !suspect_aboard || 1 <= self.crashes;
        if self.at_most_once && (!self.resumes || self.cancel_requested) {
            Fate::Ended(Outcome::Unknown, Some(Reason::Crashed))
        } else if self.cancel_requested {
            Fate::Ended(Outcome::Cancelled, None)
        } else if counted && MAX_CRASHES <= self.crashes + 1 {
            Fate::Ended(Outcome::Lost, Some(Reason::Crashed))
        } else {
            Fate::Again { counted }
        }
    }

    /// The columns of `FREE`.
    fn columns(&self, fate: Fate) -> Vec<Param> {
        let (state, outcome, reason, counted) = match fate {
            Fate::Again { counted } => (State::Due, None, Some(Reason::Crashed), counted),
            Fate::Ended(outcome, reason) => (State::Finished, Some(outcome), reason, true),
        };
        params![
            self.run,
            self.lease,
            state.word(),
            outcome.map(Outcome::word),
            reason.map(Reason::word),
            self.crashes + i32::from(counted),
            i64::from(!counted),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doomed(crashes: i32) -> Doomed {
        let (run, lease, replica) = (RunId(Uuid::nil()), Uuid::nil(), Uuid::nil());
        Doomed { run, lease, replica, crashes, at_most_once: false, resumes: false, cancel_requested: false }
    }

    #[test]
    fn the_third_crash_ends_a_run() {
        let fates = [0, 1, 2].map(|crashes| doomed(crashes).fate(1 <= crashes));

        let lost = Fate::Ended(Outcome::Lost, Some(Reason::Crashed));
        assert_eq!(fates, [Fate::Again { counted: true }, Fate::Again { counted: true }, lost]);
    }

    #[test]
    fn neighbours_of_a_known_suspect_are_innocent() {
        assert_eq!(doomed(0).fate(true), Fate::Again { counted: false });
    }

    #[test]
    fn at_most_once_is_never_repeated() {
        let run = Doomed { at_most_once: true, ..doomed(0) };

        assert_eq!(run.fate(true), Fate::Ended(Outcome::Unknown, Some(Reason::Crashed)));
    }
}
