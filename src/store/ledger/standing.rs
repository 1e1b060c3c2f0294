//! How jobs stand: what planning reads after it has locked their rows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        job::JobName,
        plan::{Newest, Standing},
        run::{RunId, Trigger},
    },
    store::{
        Result,
        dialect::{Sql, statements},
        row::{Columns, Row, params},
        session::Session,
    },
};

statements! {
    /// One snapshot of each job and of its rows that matter. A backlog (priority -11) that waits is nobody's overlap.
    /// Each trigger is asked for by itself: for a list of them SQLite reads all rows of the job instead of the few
    /// unfinished ones.
    READ = Sql::both(
        "select j.name, j.spec_hash, j.work_hash, j.epoch, j.planned_until, j.paused_at, j.paused_until, j.retired_at,
            exists (select 1 from {runs} r where r.job = j.name and r.state = 'running'),
            exists (
                select 1 from {runs} r
                where r.job = j.name and r.trigger = 'schedule' and r.state <> 'finished'
                and r.scheduled_for is not null
            ),
            exists (
                select 1 from {runs} r
                where r.job = j.name and r.trigger = 'schedule' and r.state <> 'finished'
                and r.scheduled_for is not null and r.state <> 'running' and r.attempt = 0 and r.priority > -11
            ) or exists (
                select 1 from {runs} r
                where r.job = j.name and r.trigger = 'catch_up' and r.state <> 'finished'
                and r.scheduled_for is not null and r.state <> 'running' and r.attempt = 0 and r.priority > -11
            ),
            n.id, n.epoch, n.trigger, n.state, n.outcome, n.reason, n.attempt, n.scheduled_for, n.covers_from
        from {jobs} j
        left join {runs} n on n.id = (
            select r.id from {runs} r
            where r.job = j.name and r.scheduled_for is not null
            order by r.scheduled_for desc
            limit 1
        )
        where j.name {in($1)}"
    );
}

/// A job's row and how its runs stand.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub name: JobName,
    pub spec_hash: String,
    pub work_hash: String,
    pub retired_at: Option<DateTime<Utc>>,
    pub paused_until: Option<DateTime<Utc>>,
    /// `paused` = it was paused at all; `at` says whether it still is.
    pub standing: Standing,
}

impl Found {
    /// The standing for planning up to `now`, and how far this pass may go: a pause that ends in between
    /// covers the instants before its end and none after it.
    pub fn at(&self, now: DateTime<Utc>) -> (Standing, DateTime<Utc>) {
        let mut standing = self.standing.clone();
        let until = match self.paused_until.filter(|_| standing.paused) {
            Some(end) if end <= standing.planned_until => {
                standing.paused = false;
                now
            }
            Some(end) => end.min(now),
            None => now,
        };
        (standing, until)
    }
}

/// Reads how these jobs stand; jobs without a row are absent.
pub(super) async fn read(session: &mut Session<'_>, jobs: Vec<String>) -> Result<HashMap<JobName, Found>> {
    let rows = session.rows(&READ, params![jobs]).await?;
    rows.iter().map(|row| found(row).map(|found| (found.name.clone(), found))).collect()
}

fn found(row: &Row) -> Result<Found> {
    let mut columns = row.columns();
    let c = &mut columns;
    let (name, spec_hash, work_hash) = (c.job()?, c.text()?, c.text()?);
    let (epoch, planned_until) = (c.int()?, c.instant()?);
    let (paused_at, paused_until, retired_at) = (c.maybe_instant()?, c.maybe_instant()?, c.maybe_instant()?);
    let (running, unfinished, unstarted) = (c.flag()?, c.flag()?, c.flag()?);
    let newest = newest(c)?;
    let paused = paused_at.is_some();
    let standing = Standing { epoch, planned_until, paused, running, unfinished, unstarted, newest };
    Ok(Found { name, spec_hash, work_hash, retired_at, paused_until, standing })
}

fn newest(c: &mut Columns<'_>) -> Result<Option<Newest>> {
    let Some(id) = c.maybe_uuid()? else { return Ok(None) };
    Ok(Some(Newest {
        id: RunId(id),
        epoch: c.int()?,
        trigger: c.word::<Trigger>()?,
        state: c.word()?,
        outcome: c.maybe_word()?,
        reason: c.maybe_word()?,
        attempt: c.small()?,
        scheduled_for: c.instant()?,
        covers_from: c.instant()?,
    }))
}
