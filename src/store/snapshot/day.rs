//! Counts of queues and of the last 24 h: exact for a job with few runs, from the hourly counts for one with many.

use std::{collections::BTreeMap, ops::Add};

use chrono::{DateTime, TimeDelta, Utc};

use super::Figures;
use crate::{
    domain::{
        health::{Day, JobStats},
        job::JobName,
        run::Outcome,
    },
    store::{
        Result,
        dialect::{Sql, statements},
        row::{Columns, params},
        session::Session,
    },
};

/// The stretch of time the counts are about.
const DAY: TimeDelta = TimeDelta::hours(24);
const HOUR: TimeDelta = TimeDelta::hours(1);
/// Rows read over all jobs, whatever the ledger holds: some tens of milliseconds.
const ROWS: usize = 50_000;
/// Rows read of one job.
const FEWEST_ROWS: usize = 100;
const MOST_ROWS: usize = 1_000;

/// The columns of a [`Tally`] over some of the rows.
macro_rules! tally {
    ($which:literal) => {
        concat!(
            "count(*) filter (where succeeded and ",
            $which,
            "),
            count(*) filter (where erred and ",
            $which,
            "),
            count(*) filter (where timed_out and ",
            $which,
            "),
            cast(coalesce(sum(items) filter (where started and ",
            $which,
            "), 0) as bigint),
            cast(coalesce(sum(duration_ms) filter (where (succeeded or erred or timed_out) and ",
            $which,
            "), 0) as bigint)"
        )
    };
}

/// The newest rows of the window of each job, summed up. Rows that never started count towards the number read only.
macro_rules! window {
    ($from:literal) => {
        concat!(
            "with newest as (
                select r.job, r.finished_at, r.lag_ms, r.duration_ms, r.items, r.error,
                    0 < r.attempt as started,
                    0 < r.attempt and r.outcome in ('success', 'partial') as succeeded,
                    r.outcome in ('error', 'panic', 'lost', 'unknown') as erred,
                    r.outcome = 'timeout' as timed_out,
                    row_number() over (partition by r.job, 0 < r.attempt order by coalesce(r.duration_ms, 0)) as place,
                    count(*) over (partition by r.job, 0 < r.attempt) as places,
                    row_number() over (
                        partition by r.job, r.outcome in ('error', 'timeout', 'panic', 'lost', 'unknown')
                        order by r.finished_at desc
                    ) as nth
                from {jobs} as j ",
            $from,
            " where j.retired_at is null
            )
            select job, count(*), count(*) filter (where started), ",
            tally!("true"),
            ", ",
            tally!("finished_at >= $3"),
            ", count(*) filter (where (succeeded or erred or timed_out) and finished_at > $4),
                count(*) filter (where (erred or timed_out) and finished_at > $4),
                max(lag_ms) filter (where started),
                min(duration_ms) filter (where started and place * 100 >= places * 95),
                max(finished_at) filter (where succeeded),
                max(finished_at) filter (where erred or timed_out),
                max(case when nth = 1 and (erred or timed_out) then substr(error, 1, 500) end)
            from newest
            group by job"
        )
    };
}

statements! {
    WINDOW = Sql::each(
        window!(
            "cross join lateral (
                select * from {runs}
                where job = j.name and state = 'finished' and finished_at > $1
                order by finished_at desc limit $2
            ) as r"
        ),
        window!(
            "join {runs} as r on r.id in (
                select id from {runs}
                where job = j.name and state = 'finished' and finished_at > $1
                order by finished_at desc limit $2
            )"
        ),
    );
    /// Whole hours of the window, before and since the hour that may still be rolled up again.
    HOURS = Sql::both(
        "select job, hour < $2, outcome, cast(sum(runs) as bigint), cast(sum(items) as bigint),
            cast(sum(duration_ms) as bigint), max(max_lag_ms)
        from {hourly}
        where hour >= $1 and outcome not in ('skipped', 'cancelled')
        group by 1, 2, 3",
    );
    QUEUES = Sql::both(
        "select job, count(*), {instant(null)} from {runs} where state = 'waiting' group by job
        union all
        select job, count(*), min(due_at) from {runs} where state = 'due' group by job",
    );
}

/// Sums over runs that succeeded or failed.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    successes: i64,
    errors: i64,
    timeouts: i64,
    items: i64,
    duration_ms: i64,
}

/// What the hourly counts say of a job.
#[derive(Debug, Default)]
struct Hours {
    closed: Tally,
    open: Tally,
    max_lag_ms: Option<i64>,
}

/// Counts what waits, and what ended in the window.
pub async fn count(session: &mut Session<'_>, figures: &mut Figures, now: DateTime<Utc>) -> Result<()> {
    for row in session.rows(&QUEUES, params![]).await? {
        figures.add(&row, waiting)?;
    }
    let most = (ROWS / figures.jobs.len().max(1)).clamp(FEWEST_ROWS, MOST_ROWS);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let open_since = hour_of(now - HOUR);
    let hours = hours(session, now, open_since).await?;
    for row in session.rows(&WINDOW, params![now - DAY, most, open_since, now - HOUR]).await? {
        let mut columns = row.columns();
        let (job, read) = (columns.job()?, columns.int()?);
        let Some(stats) = figures.jobs.get_mut(&job) else { continue };
        newest(&mut columns, stats, hours.get(&job).filter(|_| most <= read))?;
    }
    Ok(())
}

fn waiting(c: &mut Columns<'_>, stats: &mut JobStats) -> Result<()> {
    stats.waiting += c.int()?;
    stats.oldest_due = c.maybe_instant()?.or(stats.oldest_due);
    Ok(())
}

/// Reads what the newest rows say; with `hours`, they do not reach back through the window.
fn newest(c: &mut Columns<'_>, stats: &mut JobStats, hours: Option<&Hours>) -> Result<()> {
    let runs = c.int()?;
    let (read, open) = (tally(c)?, tally(c)?);
    let mut day = Day { runs, judged_1h: c.int()?, failures_1h: c.int()?, ..Day::default() };
    (day.max_lag_ms, day.p95_duration_ms) = (c.maybe_int()?, c.maybe_int()?);
    stats.last_success = stats.last_success.max(c.maybe_instant()?);
    let (last_failure, error) = (c.maybe_instant()?, c.maybe_text()?);
    stats.note_failure(last_failure, || error);
    let all = match hours {
        None => read,
        // The open hours were rolled up minutes ago, or hold more rows than were read.
        Some(hours) => read.or_more(hours.closed + open.or_more(hours.open)),
    };
    if let Some(hours) = hours {
        day.runs = day.runs.max(all.judged());
        day.max_lag_ms = day.max_lag_ms.max(hours.max_lag_ms);
    }
    stats.day = all.fill(day);
    Ok(())
}

fn tally(c: &mut Columns<'_>) -> Result<Tally> {
    Ok(Tally { successes: c.int()?, errors: c.int()?, timeouts: c.int()?, items: c.int()?, duration_ms: c.int()? })
}

async fn hours(session: &mut Session<'_>, now: DateTime<Utc>, open: DateTime<Utc>) -> Result<BTreeMap<JobName, Hours>> {
    let mut jobs: BTreeMap<JobName, Hours> = BTreeMap::new();
    // Whole hours only: the one in which the window begins lies half outside.
    for row in session.rows(&HOURS, params![hour_of(now - DAY + HOUR), open]).await? {
        let mut columns = row.columns();
        let c = &mut columns;
        let hours = jobs.entry(c.job()?).or_default();
        let (is_closed, outcome, runs) = (c.flag()?, c.word::<Outcome>()?, c.int()?);
        let mut counted = Tally { items: c.int()?, duration_ms: c.int()?, ..Tally::default() };
        match outcome {
            Outcome::Timeout => counted.timeouts = runs,
            outcome if outcome.is_success() => counted.successes = runs,
            _ => counted.errors = runs,
        }
        hours.max_lag_ms = hours.max_lag_ms.max(c.maybe_int()?);
        let sum = if is_closed { &mut hours.closed } else { &mut hours.open };
        *sum = *sum + counted;
    }
    Ok(jobs)
}

fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at - TimeDelta::milliseconds(at.timestamp_millis().rem_euclid(HOUR.num_milliseconds()))
}

impl Tally {
    fn judged(self) -> i64 {
        self.successes + self.errors + self.timeouts
    }

    /// Two counts of the same runs: each may have seen fewer than there were, none saw more.
    fn or_more(self, other: Self) -> Self {
        self.with(other, i64::max)
    }

    fn with(self, other: Self, join: fn(i64, i64) -> i64) -> Self {
        Self {
            successes: join(self.successes, other.successes),
            errors: join(self.errors, other.errors),
            timeouts: join(self.timeouts, other.timeouts),
            items: join(self.items, other.items),
            duration_ms: join(self.duration_ms, other.duration_ms),
        }
    }

    fn fill(self, day: Day) -> Day {
        Day {
            successes: self.successes,
            errors: self.errors,
            timeouts: self.timeouts,
            items: self.items,
            avg_duration_ms: self.duration_ms.checked_div(self.judged()),
            ..day
        }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, i64::saturating_add)
    }
}
