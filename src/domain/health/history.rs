//! What the newest runs of a job say of it, and what is remembered of older ones.

use chrono::{DateTime, Utc};

use super::snapshot::JobStats;
use crate::domain::run::{Outcome, Reason};

/// Finished rows of a job that are looked at one by one, newest first: streaks are counted up to here.
pub const NEWEST_RUNS: usize = 20;

/// A finished row of the ledger, as far as health asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    /// 0 = never started.
    pub attempt: i64,
    pub scheduled_for: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    pub lag_ms: Option<i64>,
    pub duration_ms: Option<i64>,
    pub items: Option<i64>,
    pub left: Option<i64>,
    pub error: Option<String>,
}

impl Ended {
    /// Something was started, or kept back by the job's gate: other skips say nothing of the job's work.
    fn counts(&self) -> bool {
        0 < self.attempt || self.reason == Some(Reason::Gate)
    }

    /// The job was told not to work here: what failed before is over.
    fn is_idle(&self) -> bool {
        self.outcome == Outcome::Skipped && matches!(self.reason, Some(Reason::Gate | Reason::NotConfigured))
    }

    fn is_judged(&self) -> bool {
        self.outcome.is_success() || self.outcome.is_failure()
    }

    fn is_empty(&self) -> bool {
        self.outcome.is_success() && self.items.unwrap_or(0) == 0
    }

    /// Nobody may hold this instant against the job.
    fn is_excused(&self) -> bool {
        use Reason::{Disabled, Edited, Gate, Paused, Removed};
        self.outcome == Outcome::Skipped && matches!(self.reason, Some(Paused | Disabled | Edited | Removed | Gate))
    }

    /// The handler was asked and said that there is nothing to do.
    fn is_answered(&self) -> bool {
        self.outcome == Outcome::Skipped && 0 < self.attempt
    }
}

impl JobStats {
    /// Takes over what a job's newest finished rows say, newest first.
    pub fn look_back(&mut self, runs: &[Ended]) {
        let counted = || runs.iter().filter(|run| run.counts());
        if let Some(newest) = counted().next() {
            (self.last_outcome, self.last_reason) = (Some(newest.outcome), newest.reason);
            self.last_lag_ms = newest.lag_ms;
        }
        let judged = || counted().take_while(|run| !run.is_idle()).filter(|run| run.is_judged());
        self.last_duration_ms = judged().next().and_then(|run| run.duration_ms);
        self.consecutive_failures = count(judged().take_while(|run| run.outcome.is_failure()));
        self.empty_successes = count(judged().take_while(|run| run.is_empty()));
        self.last_run = self.last_run.max(runs.iter().filter_map(|run| run.started_at).max());
        self.last_success = self.last_success.max(ended(runs, Outcome::is_success));
        self.note_failure(ended(runs, Outcome::is_failure), || {
            runs.iter().find(|run| run.outcome.is_failure()).and_then(|run| run.error.clone())
        });
        self.excused_until = instant_of(runs, Ended::is_excused);
        self.answered_until = instant_of(runs, Ended::is_answered);
        self.left = runs.iter().find_map(|run| run.left);
    }

    /// A failure was found; the newest one's words stay.
    pub fn note_failure(&mut self, at: Option<DateTime<Utc>>, error: impl FnOnce() -> Option<String>) {
        if self.last_failure < at {
            (self.last_failure, self.last_error) = (at, error());
        }
    }

    /// Keeps what an earlier look had found and this one had no reason to look for. Facts do not grow old; instants that
    /// lie in the future by now were planned under a wrong clock, and may have been taken back since.
    pub fn remember(&mut self, old: &Self, now: DateTime<Utc>) {
        let known = |at: Option<DateTime<Utc>>| at.filter(|at| *at <= now);
        self.last_run = self.last_run.max(known(old.last_run));
        self.last_success = self.last_success.max(known(old.last_success));
        self.note_failure(known(old.last_failure), || old.last_error.clone());
        self.excused_until = self.excused_until.max(known(old.excused_until));
        self.answered_until = self.answered_until.max(known(old.answered_until));
    }

    /// Keeps the counts of an earlier look.
    pub fn keep_counts(&mut self, old: &Self) {
        (self.waiting, self.oldest_due, self.day) = (old.waiting, old.oldest_due, old.day.clone());
    }
}

fn count<'a>(runs: impl Iterator<Item = &'a Ended>) -> i64 {
    i64::try_from(runs.count()).unwrap_or(i64::MAX)
}

fn ended(runs: &[Ended], which: fn(Outcome) -> bool) -> Option<DateTime<Utc>> {
    runs.iter().filter(|run| which(run.outcome)).map(|run| run.finished_at).max()
}

fn instant_of(runs: &[Ended], which: fn(&Ended) -> bool) -> Option<DateTime<Utc>> {
    runs.iter().filter(|run| which(run)).filter_map(|run| run.scheduled_for).max()
}
