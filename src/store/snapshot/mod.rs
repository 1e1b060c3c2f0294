//! What the database knows of the jobs, for health and metrics: sampled, never asked per request.
//!
//! The cost is bounded whatever the ledger holds: the newest rows of each job by index, a budget of rows for the counts
//! of a day, and the hourly counts for what lies before.

mod day;

pub(super) use day::STATEMENTS as DAY_STATEMENTS;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    Result, Store,
    dialect::{Kind, Sql, statements},
    row::{Columns, Row, params},
    session::Session,
};
use crate::domain::{
    health::{Ended, JobStats, NEWEST_RUNS},
    job::JobName,
};

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

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The newest rows and what runs: cheap enough for every few seconds. Counts of the day, queue sizes, and whatever
    /// happened before those rows are left out.
    Newest,
    /// Queues and the day as well, and the attempts of runs that wait for the next one.
    Day,
    /// The last success of each job as well, however long ago: a search that may be long for a job that only fails.
    Whole,
}

/// The newest finished rows of each job, newest first: what happened last, and how often in a row it failed. The error
/// of the newest failure only, and as much of it as the view `job_executions` shows: texts are long.
macro_rules! newest {
    ($from:literal) => {
        concat!(
            "select r.job, r.outcome, r.reason, r.attempt, r.scheduled_for, r.started_at, r.finished_at, r.lag_ms,
                r.duration_ms, r.items, r.items_left,
                case when r.outcome in ('error', 'timeout', 'panic', 'lost', 'unknown') and 1 = row_number() over (
                    partition by r.job, r.outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')
                    order by r.finished_at desc
                ) then substr(r.error, 1, 500) end
            from {jobs} as j ",
            $from,
            " where j.retired_at is null
            order by r.job, r.finished_at desc"
        )
    };
}

/// Of the runs that were started and go on: the newest start, and what the newest failed attempt said. Due rows are
/// looked at where there are few, those of a schedule; the rows of a queue were seen while they waited.
macro_rules! retried {
    ($failed_at:literal, $error:literal) => {
        concat!(
            "select job, newest_start, failed_at, error
            from (
                select job, max(started_at) over (partition by job) as newest_start, ",
            $failed_at,
            " as failed_at, substr(",
            $error,
            ", 1, 500) as error,
                    row_number() over (partition by job order by coalesce(",
            $failed_at,
            ", '') desc) as nth
                from (
                    select job, attempt, resume, started_at, errors from {runs} where state = 'waiting'
                    union all
                    select job, attempt, resume, started_at, errors from {runs} where state = 'running'
                    union all
                    select job, attempt, resume, started_at, errors from {runs}
                    where state = 'due' and state <> 'finished' and scheduled_for is not null
                ) as unfinished
                where 0 < attempt or resume is not null
            ) as retried
            where nth = 1"
        )
    };
}

statements! {
    /// The jobs and the start of their active epoch.
    JOBS = Sql::both(
        "select j.name, j.first_seen, j.planned_until, j.paused_at, j.paused_until, j.audit,
            (select s.valid_from from {schedules} as s where s.job = j.name and s.epoch = j.epoch)
        from {jobs} as j
        where j.retired_at is null",
    );
    /// The last success of each job.
    SUCCESSES = Sql::both(
        "select r.job, r.started_at, r.finished_at
        from {jobs} as j
        join {runs} as r on r.id = (
            select s.id from {runs} as s
            where s.job = j.name and s.state = 'finished' and s.outcome in ('success', 'partial')
            order by s.finished_at desc
            limit 1
        )
        where j.retired_at is null",
    );
    NEWEST = Sql::each(
        newest!(
            "cross join lateral (
                select * from {runs} where job = j.name and state = 'finished' order by finished_at desc limit $1
            ) as r"
        ),
        newest!(
            "join {runs} as r on r.id in (
                select id from {runs} where job = j.name and state = 'finished' order by finished_at desc limit $1
            )"
        ),
    );
    /// What runs, and what goes on elsewhere. The start of a run that is followed elsewhere is that of its first attempt.
    UNFINISHED = Sql::both(
        "select job, count(*), max(started_at), min(case when resume is null then started_at end), {instant(null)}
        from {runs}
        where state = 'running'
        group by job
        union all
        select job, 0, {instant(null)}, {instant(null)}, min(started_at)
        from {runs}
        where state <> 'finished' and scheduled_for is not null and resume is not null
        group by job",
    );
    RETRIED = Sql::each(
        retried!("(errors -> -1 ->> 'at')", "(errors -> -1 ->> 'error')"),
        retried!("json_extract(errors, '$[#-1].at')", "json_extract(errors, '$[#-1].error')"),
    );
    REPLICAS = Sql::both("select count(*) from {replicas} where state = 'live' and lease_until > $1");
}

impl Store {
    /// One look at all jobs, in one snapshot of the database; everything that can be known.
    pub async fn figures(&self, now: DateTime<Utc>) -> Result<Figures> {
        self.figures_of(Depth::Whole, now).await
    }

    /// The same, as deep as it is needed.
    pub async fn figures_of(&self, depth: Depth, now: DateTime<Utc>) -> Result<Figures> {
        self.read(move |session| Box::pin(figures(session, depth, now))).await
    }
}

async fn figures(session: &mut Session<'_>, depth: Depth, now: DateTime<Utc>) -> Result<Figures> {
    let mut figures = Figures { replicas: replicas(session, now).await?, unexplained: 0, jobs: BTreeMap::new() };
    for row in session.rows(&JOBS, params![]).await? {
        let (name, stats, unexplained) = job(&row, now)?;
        figures.unexplained += unexplained;
        figures.jobs.insert(name, stats);
    }
    if depth == Depth::Whole {
        for row in session.rows(&SUCCESSES, params![]).await? {
            figures.add(&row, success)?;
        }
    }
    let newest = params![u32::try_from(NEWEST_RUNS).unwrap_or(u32::MAX)];
    for (name, runs) in by_job(&session.rows(&NEWEST, newest).await?)? {
        if let Some(stats) = figures.jobs.get_mut(&name) {
            stats.look_back(&runs);
        }
    }
    for row in session.rows(&UNFINISHED, params![]).await? {
        figures.add(&row, unfinished)?;
    }
    if Depth::Newest < depth {
        for row in session.rows(&RETRIED, params![]).await? {
            figures.add(&row, retried)?;
        }
        day::count(session, &mut figures, now).await?;
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
    let count = |key: &str| audit.get(key).and_then(Value::as_i64).unwrap_or(0);
    Ok((name, stats, count("missing") + count("doubled") + count("extra")))
}

fn success(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.last_run = stats.last_run.max(c.maybe_instant()?);
    stats.last_success = c.maybe_instant()?;
    Ok(())
}

fn unfinished(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.running += c.int()?;
    stats.last_run = stats.last_run.max(c.maybe_instant()?);
    stats.oldest_attempt = c.maybe_instant()?.or(stats.oldest_attempt);
    stats.polling_since = c.maybe_instant()?.or(stats.polling_since);
    Ok(())
}

fn retried(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.last_run = stats.last_run.max(c.maybe_instant()?);
    // An entry that somebody edited by hand must not take the figures of all jobs away.
    let failed_at = c.maybe_text()?.and_then(|at| at.parse().ok());
    let error = c.maybe_text()?;
    stats.note_failure(failed_at, || error);
    Ok(())
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
            finished_at: c.instant()?,
            lag_ms: c.maybe_int()?,
            duration_ms: c.maybe_int()?,
            items: c.maybe_int()?,
            left: c.maybe_int()?,
            error: c.maybe_text()?,
        });
    }
    Ok(jobs)
}
