//! `settle`: what the end of an attempt makes of its run (spec 4, Settle).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    clean,
    job::{Delivery, Policy},
    run::{Failure, FailureKind, MAX_ERROR_CHARS, MAX_RESULT_BYTES, Outcome, Reason, Report, Run},
};

/// Backoff is spread by this share of itself, up and down.
const JITTER_SHARE: f64 = 0.25;

/// How an attempt ended, before anyone judged it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    Answered(Result<Report, Failure>),
    TimedOut,
    Panicked(String),
    /// Shutdown by force, deadline of the lease, database outage: not the handler's doing.
    Interrupted,
    /// The same, before the handler began: nothing is in doubt.
    Unstarted,
    /// The handler failed after it was told that the process stops.
    Stopped(Failure),
    Cancelled(Reason),
    /// The gate was closed before anything started.
    GateClosed,
}

/// What becomes of the row.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub next: Next,
    /// `false` gives the attempt back (`attempt - 1`): snooze, interruption, closed gate.
    pub attempt_spent: bool,
    pub items: Option<i64>,
    pub items_failed: Option<i64>,
    pub left: Option<i64>,
    pub response_code: Option<i32>,
    pub result: Option<Value>,
    /// Cleaned and capped text; also appended to `errors` when the run goes on.
    pub error: Option<String>,
    /// `None` keeps what the row has.
    pub resume: Option<Value>,
    /// HTTP 410 and its like: the job is paused with this reason in the same transaction.
    pub pause_job: bool,
    /// `keep.done` is zero and it went well: delete the row instead of updating it.
    pub delete: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Finish {
        outcome: Outcome,
        reason: Option<Reason>,
    },
    /// Back to `waiting` (or `due`, when `at` has come).
    Again {
        at: DateTime<Utc>,
        reason: Option<Reason>,
    },
}

/// The one judge of outcomes.
pub fn settle(run: &Run, policy: &Policy, ended: Ended, now: DateTime<Utc>) -> Settlement {
    let settlement = Judge { run, policy, now }.judge(ended);
    // The attempt that brought the work to where it was accepted counts; a look that saw its end does not.
    let was_look = run.resume.is_some() && matches!(settlement.next, Next::Finish { .. });
    Settlement { attempt_spent: settlement.attempt_spent && !was_look, ..settlement }
}

struct Judge<'a> {
    run: &'a Run,
    policy: &'a Policy,
    now: DateTime<Utc>,
}

fn policy_wait(judge: &Judge) -> Duration {
    let wait = judge.policy.retry.backoff.after(judge.attempts_ended());
    if judge.policy.retry.jitter { spread(wait, judge.run) } else { wait }
}

impl Judge<'_> {
    fn judge(&self, ended: Ended) -> Settlement {
        match ended {
            Ended::Answered(Ok(report)) => self.report(&report),
            Ended::Answered(Err(failure)) => self.failure(failure),
            Ended::TimedOut => {
                let error = format!("no end within {} s", self.policy.timeout.as_secs_f64());
                self.in_doubt_or_again(Outcome::Timeout, policy_wait(self)).with_error(&error)
            }
            Ended::Panicked(message) => {
                let error = format!("the handler panicked: {message}");
                self.in_doubt_or_again(Outcome::Panic, policy_wait(self)).with_error(&error)
            }
            Ended::Interrupted => self.interrupted(false),
            Ended::Unstarted => self.interrupted(true),
            Ended::Stopped(failure) => self.stopped(failure),
            Ended::Cancelled(reason) => {
                let outcome = if self.at_most_once() { Outcome::Unknown } else { Outcome::Cancelled };
                Settlement::finish(outcome, Some(reason))
            }
            Ended::GateClosed => {
                Settlement { attempt_spent: false, ..Settlement::finish(Outcome::Skipped, Some(Reason::Gate)) }
            }
        }
    }

    fn report(&self, report: &Report) -> Settlement {
        let done = report.items.unwrap_or(0);
        let settlement = match (report.items_failed, done) {
            (0, _) => {
                // A row with an instant is an account: it stays until the audit has seen it.
                let delete = self.policy.keep.done.is_zero() && self.run.scheduled_for.is_none();
                Settlement { delete, ..Settlement::finish(Outcome::Success, None) }
            }
            (_, 1..) => Settlement::finish(Outcome::Partial, None),
            (failed, 0) => self
                .in_doubt_or_again(Outcome::Error, policy_wait(self))
                .with_error(&format!("all {failed} items failed")),
        };
        settlement.with_report(report)
    }

    fn failure(&self, failure: Failure) -> Settlement {
        let settlement = match failure.kind {
            FailureKind::Skipped(reason) => Settlement::finish(Outcome::Skipped, Some(reason)),
            FailureKind::Permanent => Settlement::finish(Outcome::Error, Some(Reason::Permanent)),
            FailureKind::Pause => {
                Settlement { pause_job: true, ..Settlement::finish(Outcome::Error, Some(Reason::Permanent)) }
            }
            FailureKind::Snooze(wait) => self.snooze(wait, failure.before_effect),
            FailureKind::Pending(wait) => return self.pending(wait, failure),
            FailureKind::Retry if failure.before_effect => self.again(Outcome::Error, policy_wait(self)),
            FailureKind::Retry => self.in_doubt_or_again(Outcome::Error, policy_wait(self)),
            FailureKind::RetryAfter(wait) if failure.before_effect => self.again(Outcome::Error, wait),
            FailureKind::RetryAfter(wait) => self.in_doubt_or_again(Outcome::Error, wait),
        };
        settlement.with_failure(failure)
    }

    /// A failure that another try may mend is the stop's doing; any other is the handler's own verdict.
    fn stopped(&self, failure: Failure) -> Settlement {
        match failure.kind {
            FailureKind::Retry | FailureKind::RetryAfter(_) => {
                self.interrupted(failure.before_effect).with_failure(failure)
            }
            _ => self.failure(failure),
        }
    }

    /// `at_most_once` never repeats what may have taken effect.
    fn in_doubt_or_again(&self, last: Outcome, wait: Duration) -> Settlement {
        if self.must_not_repeat() { Settlement::finish(Outcome::Unknown, None) } else { self.again(last, wait) }
    }

    fn again(&self, last: Outcome, wait: Duration) -> Settlement {
        if self.attempts_ended() < self.run.max_attempts.max(1).unsigned_abs() {
            Settlement::again(self.now + time_delta(wait), None)
        } else {
            Settlement::finish(last, Some(Reason::Exhausted))
        }
    }

    fn snooze(&self, wait: Duration, before_effect: bool) -> Settlement {
        if self.must_not_repeat() && !before_effect {
            return Settlement::finish(Outcome::Unknown, None);
        }
        let at = self.now + time_delta(wait);
        if self.first_ended_at() + self.policy.catch_up_within < at {
            return Settlement::finish(Outcome::Error, Some(Reason::Exhausted));
        }
        Settlement { attempt_spent: false, ..Settlement::again(at, None) }
    }

    /// How long it may go on is the handler's to say: it knows when it was accepted. The attempt that brought the work
    /// to where it goes on is spent, so that the run is known as begun; those that only look are not.
    fn pending(&self, wait: Duration, failure: Failure) -> Settlement {
        let again = Settlement::again(self.now + time_delta(wait), Some(Reason::Accepted));
        let waiting = Settlement { attempt_spent: self.run.resume.is_none(), resume: failure.resume, ..again };
        Settlement { response_code: failure.response_code.map(i32::from), ..waiting }
    }

    fn interrupted(&self, before_effect: bool) -> Settlement {
        if self.must_not_repeat() && !before_effect {
            return Settlement::finish(Outcome::Unknown, Some(Reason::Interrupted));
        }
        Settlement { attempt_spent: false, ..Settlement::again(self.now, Some(Reason::Interrupted)) }
    }

    /// Crashed attempts are counted apart: `max_attempts` bounds those that the handler ended.
    fn attempts_ended(&self) -> u32 {
        (self.run.attempt - self.run.crashes).max(1).unsigned_abs()
    }

    /// A run with `resume` goes on from there: nothing is done twice.
    fn must_not_repeat(&self) -> bool {
        self.at_most_once() && self.run.resume.is_none()
    }

    fn at_most_once(&self) -> bool {
        self.policy.delivery == Delivery::AtMostOnce
    }

    /// When the first attempt of this run ended: the oldest of its kept errors, or now.
    fn first_ended_at(&self) -> DateTime<Utc> {
        let first = self.run.errors.get(0).and_then(|error| error.get("at")).and_then(Value::as_str);
        first.and_then(|at| DateTime::parse_from_rfc3339(at).ok()).map_or(self.now, |at| at.with_timezone(&Utc))
    }
}

impl Settlement {
    fn new(next: Next) -> Self {
        Self {
            next,
            attempt_spent: true,
            items: None,
            items_failed: None,
            left: None,
            response_code: None,
            result: None,
            error: None,
            resume: None,
            pause_job: false,
            delete: false,
        }
    }

    /// An end that leaves nothing but its outcome.
    pub fn finish(outcome: Outcome, reason: Option<Reason>) -> Self {
        Self::new(Next::Finish { outcome, reason })
    }

    /// What is written in place of a result that the database refuses.
    pub fn not_storable(refusal: &str) -> Self {
        Self::finish(Outcome::Error, Some(Reason::NotStorable)).with_error(&format!("result not storable: {refusal}"))
    }

    fn again(at: DateTime<Utc>, reason: Option<Reason>) -> Self {
        Self::new(Next::Again { at, reason })
    }

    fn with_error(self, error: &str) -> Self {
        Self { error: Some(clean::text(error, MAX_ERROR_CHARS)), ..self }
    }

    /// What the handler said when it was ended from outside: it explains the end and does not decide it.
    pub fn with_last_words(self, failure: &Failure) -> Self {
        let error = match &self.error {
            Some(error) => format!("{error}; {}", failure.message),
            None => failure.message.clone(),
        };
        let settlement = match &failure.report {
            Some(report) => self.with_report(report),
            None => self,
        };
        Self { resume: failure.resume.clone().or_else(|| settlement.resume.clone()), ..settlement.with_error(&error) }
    }

    fn with_failure(self, failure: Failure) -> Self {
        let settlement = match &failure.report {
            Some(report) => self.with_report(report),
            None => self,
        };
        Self {
            response_code: failure.response_code.map(i32::from).or(settlement.response_code),
            resume: failure.resume,
            ..settlement.with_error(&failure.message)
        }
    }

    fn with_report(self, report: &Report) -> Self {
        let counted = report.items.is_some() || 0 < report.items_failed;
        Self {
            items: report.items.map(count),
            items_failed: counted.then_some(count(report.items_failed)),
            left: report.left.map(count),
            response_code: report.response_code.map(i32::from),
            result: stored_result(report),
            ..self
        }
    }
}

/// A result as the row holds it; one that is too large is named instead of kept.
fn stored_result(report: &Report) -> Option<Value> {
    let mut result = report.result.clone().or_else(|| report.note.clone().map(Value::String))?;
    clean::json(&mut result);
    let bytes = result.to_string().len();
    if MAX_RESULT_BYTES < bytes {
        return Some(Value::String(format!("result of {bytes} bytes not kept: over {MAX_RESULT_BYTES}")));
    }
    Some(result)
}

/// The wait, moved by up to a quarter: the same for the same run and attempt, so that `settle` stays pure.
fn spread(wait: Duration, run: &Run) -> Duration {
    let mut hasher = DefaultHasher::new();
    (run.id, run.attempt).hash(&mut hasher);
    let unit = (hasher.finish() % 2_001) as f64 / 1_000.0 - 1.0;
    wait.mul_f64(1.0 + JITTER_SHARE * unit)
}

fn time_delta(wait: Duration) -> TimeDelta {
    // Waits come from settings with upper bounds far below what a `TimeDelta` holds.
    let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 1_000_000);
    TimeDelta::milliseconds(millis)
}

fn count(items: u64) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
