//! What the database knows of the jobs, for health and metrics: sampled, never asked per request.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    Result, Store,
    dialect::{Kind, Sql, statements},
    row::{Columns, Row, params},
    session::Session,
};
use crate::domain::{
    health::JobStats,
    job::JobName,
    run::{Outcome, Reason},
};

/// The stretch of time the counts are about.
const WINDOW: TimeDelta = TimeDelta::hours(24);

/// What the database says of all jobs at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Replicas with a living lease.
    pub replicas: u32,
    /// Missing, doubled and extra instants of the stored audit, over all jobs.
    pub unexplained: i64,
    /// Every job that was not retired.
    pub jobs: BTreeMap<JobName, JobStats>,
}

statements! {
    /// The jobs, the start of their active epoch and their last success.
    JOBS = Sql::both(
        "select j.name, j.first_seen, j.planned_until, j.paused_at, j.paused_until, j.audit,
            (select s.valid_from from {schedules} as s where s.job = j.name and s.epoch = j.epoch),
            (select r.finished_at from {runs} as r
                where r.job = j.name and r.state = 'finished' and r.outcome in ('success', 'partial')
                order by r.finished_at desc limit 1)
        from {jobs} as j
        where j.retired_at is null",
    );
    /// The newest finished rows of each job, newest first: what happened last, and how often in a row it failed.
    NEWEST_POSTGRES = Sql::postgres(
        "select r.job, r.outcome, r.reason, r.attempt, r.scheduled_for, r.started_at, r.lag_ms, r.duration_ms, r.items_left
        from {jobs} as j
        cross join lateral (
            select * from {runs} where job = j.name and state = 'finished' order by finished_at desc limit 20
        ) as r
        where j.retired_at is null
        order by r.job, r.finished_at desc",
    );
    NEWEST_SQLITE = Sql::sqlite(
        "select r.job, r.outcome, r.reason, r.attempt, r.scheduled_for, r.started_at, r.lag_ms, r.duration_ms, r.items_left
        from {jobs} as j
        join {runs} as r on r.id in (
            select id from {runs} where job = j.name and state = 'finished' order by finished_at desc limit 20
        )
        where j.retired_at is null
        order by r.job, r.finished_at desc",
    );
    /// Counts of the window, over at most 10,000 runs of each job: a busy queue must not make health slow.
    WINDOW_POSTGRES = Sql::postgres(
        "with recent as (
            select r.job, r.outcome, r.duration_ms, r.lag_ms, r.finished_at,
                row_number() over (partition by r.job order by coalesce(r.duration_ms, 0)) as place,
                count(*) over (partition by r.job) as total
            from {jobs} as j
            cross join lateral (
                select * from {runs}
                where job = j.name and state = 'finished' and finished_at > $1 and attempt > 0
                order by finished_at desc limit 10000
            ) as r
            where j.retired_at is null
        )
        select job, count(*), count(*) filter (where outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')),
            max(finished_at) filter (where outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')),
            max(lag_ms), min(duration_ms) filter (where place * 100 >= total * 95)
        from recent group by job",
    );
    WINDOW_SQLITE = Sql::sqlite(
        "with recent as (
            select r.job, r.outcome, r.duration_ms, r.lag_ms, r.finished_at,
                row_number() over (partition by r.job order by coalesce(r.duration_ms, 0)) as place,
                count(*) over (partition by r.job) as total
            from {jobs} as j
            join {runs} as r on r.id in (
                select id from {runs}
                where job = j.name and state = 'finished' and finished_at > $1 and attempt > 0
                order by finished_at desc limit 10000
            )
            where j.retired_at is null
        )
        select job, count(*), count(*) filter (where outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')),
            max(finished_at) filter (where outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')),
            max(lag_ms), min(duration_ms) filter (where place * 100 >= total * 95)
        from recent group by job",
    );
    RUNNING = Sql::both("select job, count(*), max(started_at) from {runs} where state = 'running' group by job");
    WAITING = Sql::both("select job, count(*) from {runs} where state = 'waiting' group by job");
    DUE = Sql::both("select job, count(*), min(due_at) from {runs} where state = 'due' group by job");
    REPLICAS = Sql::both("select count(*) from {replicas} where state = 'live' and lease_until > $1");
}

impl Store {
    /// One look at all jobs, in one snapshot of the database.
    pub async fn figures(&self, now: DateTime<Utc>) -> Result<Figures> {
        self.read(move |session| Box::pin(figures(session, now))).await
    }
}

async fn figures(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<Figures> {
    let (newest, window) = match session.kind() {
        Kind::Postgres => (&NEWEST_POSTGRES, &WINDOW_POSTGRES),
        Kind::Sqlite => (&NEWEST_SQLITE, &WINDOW_SQLITE),
    };
    let mut figures = Figures { replicas: replicas(session, now).await?, unexplained: 0, jobs: BTreeMap::new() };
    for row in session.rows(&JOBS, params![]).await? {
        let (name, stats, unexplained) = job(&row, now)?;
        figures.unexplained += unexplained;
        figures.jobs.insert(name, stats);
    }
    for (name, runs) in by_job(&session.rows(newest, params![]).await?)? {
        if let Some(stats) = figures.jobs.get_mut(&name) {
            look_back(stats, &runs);
        }
    }
    for row in session.rows(window, params![now - WINDOW]).await? {
        figures.add(&row, counts)?;
    }
    for (sql, read) in [(&RUNNING, running as Read), (&WAITING, waiting), (&DUE, due)] {
        for row in session.rows(sql, params![]).await? {
            figures.add(&row, read)?;
        }
    }
    Ok(figures)
}

/// SQLite has one daemon, which is the one that asks.
async fn replicas(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<u32> {
    if session.kind() == Kind::Sqlite {
        return Ok(1);
    }
    match session.maybe_row(&REPLICAS, params![now]).await? {
        Some(row) => row.columns().small(),
        None => Ok(0),
    }
}

/// Reads the columns after the job's name into its figures.
type Read = fn(&mut Columns<'_>, &mut JobStats) -> Result<()>;

impl Figures {
    /// A row of a job that has left the table says nothing here.
    fn add(&mut self, row: &Row, read: Read) -> Result<()> {
        let mut columns = row.columns();
        let job = columns.job()?;
        match self.jobs.get_mut(&job) {
            Some(stats) => read(&mut columns, stats),
            None => Ok(()),
        }
    }
}

fn job(row: &Row, now: DateTime<Utc>) -> Result<(JobName, JobStats, i64)> {
    let mut columns = row.columns();
    let c = &mut columns;
    let name = c.job()?;
    let mut stats = JobStats::new(c.instant()?);
    stats.planned_until = c.maybe_instant()?;
    let (paused_at, paused_until) = (c.maybe_instant()?, c.maybe_instant()?);
    stats.paused = paused_at.is_some() && paused_until.is_none_or(|until| now < until);
    let audit = c.maybe_json()?.unwrap_or_default();
    stats.epoch_since = c.maybe_instant()?;
    stats.last_success = c.maybe_instant()?;
    let count = |key: &str| audit.get(key).and_then(Value::as_i64).unwrap_or(0);
    Ok((name, stats, count("missing") + count("doubled") + count("extra")))
}

/// One of a job's newest finished rows.
struct Ended {
    outcome: Outcome,
    reason: Option<Reason>,
    attempt: i64,
    scheduled_for: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    lag_ms: Option<i64>,
    duration_ms: Option<i64>,
    left: Option<i64>,
}

impl Ended {
    /// Something was started, or kept back by the job's gate: other skips say nothing of the job's work.
    fn counts(&self) -> bool {
        0 < self.attempt || self.reason == Some(Reason::Gate)
    }

    /// Nobody may hold this instant against the job.
    fn is_excused(&self) -> bool {
        use Reason::{Disabled, Edited, Gate, Paused, Removed};
        self.outcome == Outcome::Skipped && matches!(self.reason, Some(Paused | Disabled | Edited | Removed | Gate))
    }
}

fn by_job(rows: &[Row]) -> Result<BTreeMap<JobName, Vec<Ended>>> {
    let mut jobs: BTreeMap<JobName, Vec<Ended>> = BTreeMap::new();
    for row in rows {
        let mut columns = row.columns();
        let c = &mut columns;
        jobs.entry(c.job()?).or_default().push(Ended {
            outcome: c.word()?,
            reason: c.maybe_word()?,
            attempt: c.int()?,
            scheduled_for: c.maybe_instant()?,
            started_at: c.maybe_instant()?,
            lag_ms: c.maybe_int()?,
            duration_ms: c.maybe_int()?,
            left: c.maybe_int()?,
        });
    }
    Ok(jobs)
}

/// What a job's newest rows, newest first, say of it.
fn look_back(stats: &mut JobStats, runs: &[Ended]) {
    let counted = || runs.iter().filter(|run| run.counts());
    if let Some(newest) = counted().next() {
        (stats.last_outcome, stats.last_reason) = (Some(newest.outcome), newest.reason);
        (stats.last_lag_ms, stats.last_duration_ms) = (newest.lag_ms, newest.duration_ms);
    }
    let streak = counted().take_while(|run| !run.outcome.is_success()).filter(|run| run.outcome.is_failure());
    stats.consecutive_failures = streak.count() as i64;
    stats.last_run = runs.iter().filter_map(|run| run.started_at).max();
    stats.excused_until = runs.iter().filter(|run| run.is_excused()).filter_map(|run| run.scheduled_for).max();
    stats.left = runs.iter().find_map(|run| run.left);
}

fn counts(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.runs_24h = c.int()?;
    stats.failures_24h = c.int()?;
    stats.last_failure = c.maybe_instant()?;
    stats.max_lag_ms_24h = c.maybe_int()?;
    stats.p95_duration_ms = c.maybe_int()?;
    Ok(())
}

fn running(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.running = c.int()?;
    stats.last_run = stats.last_run.max(c.maybe_instant()?);
    Ok(())
}

fn waiting(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.waiting += c.int()?;
    Ok(())
}

fn due(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.waiting += c.int()?;
    stats.oldest_due = c.maybe_instant()?;
    Ok(())
}
