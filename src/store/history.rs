//! What became of each job's runs in a stretch of time, for reports.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, Store,
    dialect::{Sql, statements},
    ledger::account,
    row::params,
    session::Session,
};
use crate::domain::{job::JobName, ledger::JobPeriod, run::Outcome};

/// One row of the hourly counts is about so much time.
const HOUR: TimeDelta = TimeDelta::hours(1);

statements! {
    /// By job and outcome, from the rows that are still there.
    ENDED = Sql::both(
        "select r.job, r.outcome, count(*)
        from {jobs} j
        join {runs} r on r.job = j.name and r.state = 'finished' and r.finished_at >= $1 and r.finished_at < $2
        group by r.job, r.outcome"
    );
    /// The same from the hourly counts, which outlive the rows: of whole hours.
    ROLLED_UP = Sql::both(
        "select job, outcome, cast(sum(runs) as bigint) from {hourly}
        where hour >= $1 and hour < $2
        group by job, outcome"
    );
    /// How long the runs of each job took that were started.
    DURATIONS = Sql::both(
        "select job, min(duration_ms) filter (where place * 100 >= places * 95), max(duration_ms)
        from (
            select r.job, r.duration_ms,
                row_number() over (partition by r.job order by r.duration_ms) as place,
                count(*) over (partition by r.job) as places
            from {jobs} j
            join {runs} r on r.job = j.name and r.state = 'finished' and r.finished_at >= $1 and r.finished_at < $2
            where 0 < r.attempt and r.duration_ms is not null
        ) as timed
        group by job"
    );
    AUDITED = Sql::both("select name, audit from {jobs} where retired_at is null");
}

impl Store {
    /// What became of the runs that ended in `[from, until)`: every job of the table, and those that left it and ran
    /// then, by name. Rows that were removed by age meanwhile are counted by the hour, in the whole hours of UTC within.
    pub async fn history(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<JobPeriod>> {
        self.read(move |session| Box::pin(history(session, from, until))).await
    }
}

type Counts = BTreeMap<(JobName, Outcome), u64>;

async fn history(session: &mut Session<'_>, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<JobPeriod>> {
    let mut jobs: BTreeMap<JobName, JobPeriod> = BTreeMap::new();
    for row in session.rows(&AUDITED, params![]).await? {
        let mut columns = row.columns();
        let (name, audit) = (columns.job()?, columns.maybe_json()?);
        let job = jobs.entry(name.clone()).or_insert_with(|| JobPeriod::of(name));
        job.unexplained = whole(account(audit.unwrap_or_default()).unexplained());
    }
    let mut counts = counted(session, &ENDED, from, until).await?;
    let first_hour = hour_of(from + HOUR - TimeDelta::milliseconds(1));
    for (of, runs) in counted(session, &ROLLED_UP, first_hour, hour_of(until)).await? {
        // Two counts of the same runs: each may have seen fewer than there were, none saw more.
        let known = counts.entry(of).or_default();
        *known = runs.max(*known);
    }
    for ((name, outcome), runs) in counts {
        add(jobs.entry(name.clone()).or_insert_with(|| JobPeriod::of(name)), outcome, runs);
    }
    for row in session.rows(&DURATIONS, params![from, until]).await? {
        let mut columns = row.columns();
        let Some(job) = jobs.get_mut(&columns.job()?) else { continue };
        job.p95_duration_ms = columns.maybe_int()?.map(whole);
        job.max_duration_ms = columns.maybe_int()?.map(whole);
    }
    Ok(jobs.into_values().collect())
}

async fn counted(session: &mut Session<'_>, sql: &Sql, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Counts> {
    let mut counts = Counts::new();
    for row in session.rows(sql, params![from, until]).await? {
        let mut columns = row.columns();
        counts.insert((columns.job()?, columns.word()?), whole(columns.int()?));
    }
    Ok(counts)
}

fn add(job: &mut JobPeriod, outcome: Outcome, runs: u64) {
    job.runs += runs;
    match outcome {
        outcome if outcome.is_success() => job.successes += runs,
        outcome if outcome.is_failure() => job.failures += runs,
        _ => job.skipped += runs,
    }
    if outcome == Outcome::Timeout {
        job.timeouts += runs;
    }
}

fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at - TimeDelta::milliseconds(at.timestamp_millis().rem_euclid(HOUR.num_milliseconds()))
}

/// Counts and lengths of time are never below zero.
fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
