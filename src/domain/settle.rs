//! `settle`: what the end of an attempt makes of its run (spec 4, Settle).

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    job::Policy,
    run::{Failure, Outcome, Reason, Report, Run},
};

/// How an attempt ended, before anyone judged it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    Answered(Result<Report, Failure>),
    TimedOut,
    Panicked(String),
    /// Shutdown by force, deadline of the lease, database outage: not the handler's doing.
    Interrupted,
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
    pub resume: Option<Value>,
    /// HTTP 410 and its like: the job is paused with this reason in the same transaction.
    pub pause_job: bool,
    /// `keep.done` is zero and it went well: delete the row instead of updating it.
    pub delete: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Finish { outcome: Outcome, reason: Option<Reason> },
    /// Back to `waiting` (or `due`, when `at` has come).
    Again { at: DateTime<Utc>, reason: Option<Reason> },
}

/// The one judge of outcomes.
pub fn settle(run: &Run, policy: &Policy, ended: Ended, now: DateTime<Utc>) -> Settlement {
    let _ = (run, policy, ended, now);
    Settlement {
        next: Next::Finish { outcome: Outcome::Success, reason: None },
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
