//! `reconcile`: due instants against ledger rows, as sets (spec 4, Conservation).

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{
    job::JobName,
    plan::LATE_AFTER,
    run::{Outcome, Reason, State, Trigger},
    schedule::{Schedule, ScheduleSpec},
};

/// A schedule and the time during which it was the job's active one: `(valid_from, valid_until]`.
#[derive(Debug, Clone)]
pub struct Epoch {
    pub epoch: i64,
    /// `None` = the job was a queue or gone: nothing was due.
    pub schedule: Option<ScheduleSpec>,
    pub valid_from: DateTime<Utc>,
    pub valid_until: Option<DateTime<Utc>>,
}

/// What the account needs of a row with an instant.
#[derive(Debug, Clone)]
pub struct Entry {
    pub epoch: i64,
    pub trigger: Trigger,
    pub scheduled_for: DateTime<Utc>,
    pub covers_from: DateTime<Utc>,
    pub covers: i64,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub attempt: i32,
    pub lag_ms: Option<i64>,
}

/// The account of a stretch of time: `expected + doubled + extra = ran + late + open + sum(skipped) + missing`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    pub expected: i64,
    pub ran: i64,
    /// Ran, but started more than `LATE_AFTER` after it was due, or caught up.
    pub late: i64,
    /// In the ledger, not finished yet.
    pub open: i64,
    /// Never started, by reason.
    pub skipped: BTreeMap<String, i64>,
    pub missing: i64,
    pub doubled: i64,
    pub extra: i64,
}

impl Account {
    /// Must be 0.
    pub fn unexplained(&self) -> i64 {
        self.missing + self.doubled + self.extra
    }

    /// Adds another stretch of time, or another job.
    pub fn add(&mut self, other: &Account) {
        self.expected += other.expected;
        self.ran += other.ran;
        self.late += other.late;
        self.open += other.open;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.extra += other.extra;
        for (reason, instants) in &other.skipped {
            *self.skipped.entry(reason.clone()).or_default() += instants;
        }
    }
}

/// What became of a job's runs that ended within a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPeriod {
    pub job: JobName,
    /// `successes + failures + skipped`.
    pub runs: u64,
    /// Success and partial.
    pub successes: u64,
    /// Error, time-out, panic, lost, unknown.
    pub failures: u64,
    /// Of the failures.
    pub timeouts: u64,
    /// Skipped and cancelled.
    pub skipped: u64,
    /// Of the runs whose rows are still kept; `None` = of none.
    pub p95_duration_ms: Option<u64>,
    pub max_duration_ms: Option<u64>,
    /// Instants of the job, since it was first seen, that no row explains; must be 0.
    pub unexplained: u64,
}

impl JobPeriod {
    /// A job of which nothing ended.
    pub fn of(job: JobName) -> Self {
        Self {
            job,
            runs: 0,
            successes: 0,
            failures: 0,
            timeouts: 0,
            skipped: 0,
            p95_duration_ms: None,
            max_duration_ms: None,
            unexplained: 0,
        }
    }
}

/// Compares the due instants of `(from, until]` with the rows that touch it. The error names a schedule that the
/// ledger holds and this binary cannot read.
///
/// A row claims the stretch `covers_from ..= scheduled_for` and says how many instants lie in it; stretches of
/// different rows never meet, since a fold only ever moves a job's newest row. Instants of a stretch that reaches
/// beyond the window are counted inside the window only.
pub fn reconcile(
    epochs: &[Epoch],
    entries: &[Entry],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Account, String> {
    let mut rows: Vec<&Entry> =
        entries.iter().filter(|row| from < row.scheduled_for && row.covers_from <= until).collect();
    rows.sort_by_key(|row| (row.covers_from, row.scheduled_for));
    let calendar = Calendar::new(epochs)?;
    let mut account = Account { expected: calendar.due(from, until), ..Account::default() };
    let mut covered_until = from;
    let mut explained = 0;
    for row in rows {
        let begin = before(row.covers_from).max(from);
        let end = row.scheduled_for.min(until);
        let due = calendar.due_in(row.epoch, begin, end);
        account.extra += extra(row, calendar.due_in(row.epoch, before(row.covers_from), row.scheduled_for));
        account.doubled += calendar.due_in(row.epoch, begin, end.min(covered_until));
        explained += calendar.due_in(row.epoch, begin.max(covered_until), end);
        covered_until = covered_until.max(end);
        account.count(row, due);
    }
    account.missing += account.expected - explained;
    Ok(account)
}

/// Instants a row claims beyond those that were due in its stretch. A row that claims too few hides instants:
/// they are just as unexplained.
fn extra(row: &Entry, due: i64) -> i64 {
    (row.covers - due).abs()
}

impl Account {
    fn count(&mut self, row: &Entry, due: i64) {
        let late_ms = LATE_AFTER.num_milliseconds();
        let never_started =
            row.attempt == 0 || row.outcome == Some(Outcome::Skipped) && row.reason == Some(Reason::Gate);
        match (row.state, row.reason) {
            (State::Waiting | State::Due | State::Running, _) => self.open += due,
            (State::Finished, Some(reason)) if never_started => {
                *self.skipped.entry(reason.word().into()).or_default() += due
            }
            (State::Finished, _) if row.trigger == Trigger::CatchUp => self.late += due,
            (State::Finished, _) if row.lag_ms.is_some_and(|lag| late_ms < lag) => self.late += due,
            (State::Finished, _) => self.ran += due,
        }
    }
}

/// The schedules of a job over time.
struct Calendar {
    epochs: Vec<(i64, Schedule, DateTime<Utc>, Option<DateTime<Utc>>)>,
}

impl Calendar {
    fn new(epochs: &[Epoch]) -> Result<Self, String> {
        let mut read = Vec::new();
        for epoch in epochs {
            if let Some(spec) = &epoch.schedule {
                read.push((epoch.epoch, Schedule::from_spec(spec)?, epoch.valid_from, epoch.valid_until));
            }
        }
        Ok(Self { epochs: read })
    }

    fn due(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
        self.epochs.iter().map(|(epoch, ..)| self.due_in(*epoch, from, until)).sum()
    }

    fn due_in(&self, epoch: i64, from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
        let Some((_, schedule, valid_from, valid_until)) = self.epochs.iter().find(|(number, ..)| *number == epoch)
        else {
            return 0;
        };
        let from = from.max(*valid_from);
        let until = valid_until.map_or(until, |end| end.min(until));
        if until <= from {
            return 0;
        }
        schedule.span(from, until).map_or(0, |span| span.count)
    }
}

fn before(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment - TimeDelta::milliseconds(1)
}

#[cfg(test)]
mod tests;
