//! What a run did, counted as it goes.

use serde_json::{Value, json};

use super::{Due, Way, expire::Expiry, follow_up::FollowUp};
use crate::domain::run::{Failure, FailureKind, Report};

/// Errors that the result names; all are counted.
const MOST_ERRORS: usize = 20;

/// Counts of one run.
pub(super) struct Tally {
    way: Way,
    due: u64,
    undated: u64,
    /// Of what was due, that which is due no more, or waits for nobody.
    dealt_with: u64,
    expired: u64,
    reopened: u64,
    /// By number.
    followed_up: [u64; 3],
    opted_out: u64,
    without_number: u64,
    slack: &'static str,
    failures: Vec<(Value, Failure)>,
}

impl Tally {
    pub fn of(due: &Due, way: Way) -> Self {
        Self {
            way,
            due: due.total,
            undated: due.undated,
            dealt_with: 0,
            expired: 0,
            reopened: 0,
            followed_up: [0; 3],
            opted_out: due.opted_out,
            without_number: due.without_number,
            slack: "nothing_to_tell",
            failures: Vec::new(),
        }
    }

    /// How many expired so far.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    pub fn expiry(&mut self, id: &str, done: Result<Expiry, Failure>) {
        match done {
            Ok(Expiry::Expired { has_reopened, untold }) => {
                self.expired += 1;
                self.reopened += u64::from(has_reopened);
                let about = json!({ "handoff": id, "message": "expired" });
                self.failures.extend(untold.map(|failure| (about, failure)));
            }
            Ok(Expiry::Gone) => {}
            Err(failure) => return self.failures.push((json!({ "handoff": id }), failure)),
        }
        self.dealt_with += 1;
    }

    pub fn follow_up(&mut self, (id, stage): (&str, i64), done: Result<FollowUp, Failure>) {
        match done {
            Ok(FollowUp::Queued) => {
                // Only stages that are due are listed: 1 to 3.
                if let Some(place) = usize::try_from(stage - 1).ok().and_then(|at| self.followed_up.get_mut(at)) {
                    *place += 1;
                }
            }
            Ok(FollowUp::OptedOut) => self.opted_out += 1,
            Ok(FollowUp::WithoutNumber) => self.without_number += 1,
            Ok(FollowUp::Known | FollowUp::Gone) => {}
            Err(failure) => return self.failures.push((json!({ "handoff": id, "followup": stage }), failure)),
        }
        self.dealt_with += 1;
    }

    pub fn slack(&mut self, told: Result<Option<bool>, Failure>) {
        self.slack = match told {
            Ok(None) => "nothing_to_tell",
            Ok(Some(true)) => "told",
            Ok(Some(false)) => "not_configured",
            Err(failure) => {
                let message = format!("slack: {}", failure.message);
                self.failures.push((json!({ "slack": "expired handoffs" }), Failure { message, ..failure }));
                "failed"
            }
        };
    }

    /// Nothing done and something failed is a failure; it is final when none of it can pass by itself.
    pub fn ending(self) -> Result<Report, Failure> {
        let done = self.expired + self.followed_up.iter().sum::<u64>();
        let failed = u64::try_from(self.failures.len()).expect("a run has no more failures than rows");
        let report = Report {
            items: Some(done),
            items_failed: failed,
            left: Some(self.due.saturating_sub(self.dealt_with)),
            note: self.failures.first().map(|(_, failure)| failure.message.clone()),
            result: Some(self.result()),
            response_code: None,
        };
        let Some((_, first)) = self.failures.first().filter(|_| done == 0) else { return Ok(report) };
        let lasts = self.failures.iter().all(|(_, failure)| failure.kind == FailureKind::Permanent);
        let message = format!("nothing done, {failed} failed: {}", first.message);
        let failure = if lasts { Failure::permanent(message) } else { Failure::retry(message) };
        Err(failure.with_report(report))
    }

    fn result(&self) -> Value {
        let [first, second, third] = self.followed_up;
        let error = |(about, failure): &(Value, Failure)| {
            let mut error = about.clone();
            error["error"] = failure.message.clone().into();
            error
        };
        json!({
            "expired": self.expired,
            "reopened": self.reopened,
            "followed_up": { "1": first, "2": second, "3": third },
            "follow_ups": match self.way {
                Way::Open => "on",
                Way::Paused => "paused",
                Way::OutsideHours => "outside_hours",
            },
            "opted_out": self.opted_out,
            "without_number": self.without_number,
            "undated": self.undated,
            "slack": self.slack,
            "errors": self.failures.iter().take(MOST_ERRORS).map(error).collect::<Vec<_>>(),
        })
    }
}
