//! How the rules of a job are decided.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Finding, JobLook,
    daemon::is_ahead,
    table::{
        CRITICAL_FAILURES, EMPTY_SUCCESSES, ERROR_RATE, FEWEST_JUDGED, FIRST_FAILURE, RECENT_FAILURES, STUCK_SLACK,
    },
};
use crate::domain::{
    health::snapshot::JobStats,
    job::{ExpectItems, Job},
    run::Reason,
};

impl JobLook<'_> {
    /// Its silence is held against it: it is meant to do something here, and we know when.
    pub fn is_watched(&self) -> bool {
        let is_idle = self.stats.last_reason == Some(Reason::NotConfigured);
        !is_idle && !self.stats.foreign && self.job.handler != "noop"
    }

    /// Since when it is silent for too long.
    fn silent_since(&self) -> Option<DateTime<Utc>> {
        let until = self.patience.filter(|_| self.is_watched())?.until;
        (until < self.now).then_some(until)
    }

    pub(super) fn found(&self, since: Option<DateTime<Utc>>, what: impl std::fmt::Display) -> Finding {
        Finding::new(since, format!("job {} {what}", self.job.name))
    }

    /// The same, with the words of the newest failure.
    fn failed(&self, what: impl std::fmt::Display) -> Finding {
        Finding { detail: self.stats.last_error.clone(), ..self.found(self.stats.last_failure, what) }
    }
}

/// Attempts that go on although their time is over: those of this replica that ignored their abort, or one of another
/// replica.
pub fn attempts_stuck(job: &Job, stats: &JobStats, now: DateTime<Utc>) -> i64 {
    let timeout = TimeDelta::from_std(job.policy.timeout).unwrap_or(TimeDelta::MAX);
    let overdue = stats.oldest_attempt.is_some_and(|started| timeout < now - started - STUCK_SLACK);
    stats.stuck.max(overdue.into())
}

pub fn ahead(look: &JobLook<'_>) -> Option<Finding> {
    let until = look.stats.planned_until.filter(|until| is_ahead(*until, look.now))?;
    let seconds = (until - look.now).num_seconds();
    Some(look.found(None, format_args!("has a cursor {seconds} s ahead of the clock: rewind it")))
}

pub fn stuck(look: &JobLook<'_>) -> Option<Finding> {
    let stuck = attempts_stuck(look.job, look.stats, look.now);
    let since = look.stats.oldest_attempt.or(look.stats.last_run);
    (0 < stuck).then(|| look.found(since, format_args!("has {stuck} attempts that go on after their time-out")))
}

pub fn never_ran(look: &JobLook<'_>) -> Option<Finding> {
    let since = look.silent_since().filter(|_| look.stats.last_run.is_none())?;
    Some(look.found(Some(since), "has never run"))
}

pub fn stale(look: &JobLook<'_>) -> Option<Finding> {
    let since = look.silent_since().filter(|_| look.stats.last_run.is_some())?;
    Some(look.found(Some(since), "has had no success since one was due"))
}

pub fn failing_in_a_row(look: &JobLook<'_>) -> Option<Finding> {
    let failures = look.stats.consecutive_failures;
    (CRITICAL_FAILURES <= failures).then(|| look.failed(format_args!("failed {failures} times in a row")))
}

pub fn failing(look: &JobLook<'_>) -> Option<Finding> {
    (FIRST_FAILURE <= look.stats.consecutive_failures).then(|| look.failed("failed and has not succeeded since"))
}

pub fn failing_often(look: &JobLook<'_>) -> Option<Finding> {
    let failures = look.stats.recent_failures;
    (RECENT_FAILURES < failures).then(|| look.failed(format_args!("failed {failures} times in 5 minutes")))
}

pub fn failing_share(look: &JobLook<'_>) -> Option<Finding> {
    let (judged, failures) = (look.stats.day.judged_1h, look.stats.day.failures_1h);
    let holds = FEWEST_JUDGED <= judged && ERROR_RATE < failures as f64 / judged as f64;
    holds.then(|| look.failed(format_args!("failed in {failures} of {judged} runs of the last hour")))
}

pub fn slow(look: &JobLook<'_>) -> Option<Finding> {
    let took = look.stats.last_duration_ms.filter(|_| look.stats.consecutive_failures == 0)?;
    let slow_after = i64::try_from(look.job.policy.slow_after.as_millis()).unwrap_or(i64::MAX);
    let message = || format!("took {took} ms, longer than its slow_after of {slow_after} ms");
    (slow_after < took).then(|| look.found(look.stats.last_success, message()))
}

pub fn suspicious(look: &JobLook<'_>) -> Option<Finding> {
    let empty = look.stats.empty_successes;
    let holds = look.job.policy.expect_items == ExpectItems::Some && EMPTY_SUCCESSES <= empty;
    holds.then(|| {
        let message = format!("succeeded {empty} times in a row without an item, and is expected to have some");
        look.found(look.stats.last_success, message)
    })
}
