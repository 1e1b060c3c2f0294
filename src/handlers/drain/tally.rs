//! What became of the rows of a run, and what that makes of the run.

use std::time::Duration;

use serde_json::{Value, json};

use super::table::cell::Taken;
use crate::{
    domain::{
        clean,
        run::{Failure, Report},
    },
    handlers::{Done, Ending},
};

/// Rows whose failure is told in the run's result, the first of them.
const MOST_TOLD: usize = 20;
/// Most of one failure that is told, in characters.
const MAX_TOLD_CHARS: usize = 300;

/// What became of one row.
pub(super) enum Fate {
    /// Delivered. `skipped` = the application said that there was nothing to do; `elsewhere` = somebody else has changed
    /// the row since it was claimed, so it was left as it is.
    Done { skipped: bool, elsewhere: bool },
    /// Not delivered, or not written down; `dead` = given up.
    Failed { error: String, dead: bool },
    /// Not begun, and as it was before.
    Released,
    /// Not delivered, and somebody else has changed it since.
    Elsewhere,
}

/// Why a run begins no further call, though rows wait.
pub(super) enum Stop {
    /// The target is to be left alone.
    LeftAlone { after: Duration, message: String },
    /// No row is at fault.
    Failed(Failure),
}

/// The rows of a run, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: u64,
    skipped: u64,
    retried: u64,
    dead: u64,
    released: u64,
    elsewhere: u64,
    rescued: u64,
    told: Vec<Value>,
    first: Option<String>,
}

impl Tally {
    pub fn done(&self) -> u64 {
        self.done
    }

    pub fn failed(&self) -> u64 {
        self.retried + self.dead
    }

    pub fn is_empty(&self) -> bool {
        self.done + self.failed() + self.released + self.elsewhere + self.rescued == 0
    }

    pub fn count(&mut self, row: &Taken, fate: Fate) {
        match fate {
            Fate::Done { skipped, elsewhere } => {
                self.done += 1;
                self.skipped += u64::from(skipped);
                self.elsewhere += u64::from(elsewhere);
            }
            Fate::Failed { error, dead } => {
                if dead {
                    self.dead += 1
                } else {
                    self.retried += 1
                }
                self.tell(row, &error, dead);
            }
            Fate::Released => self.released += 1,
            Fate::Elsewhere => self.elsewhere += 1,
        }
    }

    /// A stuck row: it failed before, and fails this run only when it was its last attempt.
    pub fn rescued(&mut self, row: &Taken, fate: Fate, error: &str) {
        match fate {
            Fate::Failed { dead: true, error } => {
                self.dead += 1;
                self.tell(row, &error, true);
            }
            Fate::Failed { dead: false, .. } => {
                self.rescued += 1;
                self.tell(row, error, false);
            }
            Fate::Done { .. } | Fate::Released | Fate::Elsewhere => {}
        }
    }

    fn tell(&mut self, row: &Taken, error: &str, dead: bool) {
        let error = clean::text(error, MAX_TOLD_CHARS);
        self.first.get_or_insert_with(|| error.clone());
        if self.told.len() < MOST_TOLD {
            self.told.push(json!({ "id": row.id.shown(), "error": error, "dead": dead }));
        }
    }

    pub fn report(&self, left: Option<u64>) -> Report {
        let result = json!({
            "done": self.done, "skipped": self.skipped, "retried": self.retried, "dead": self.dead,
            "released": self.released, "changed_elsewhere": self.elsewhere, "rescued": self.rescued, "errors": self.told,
        });
        Report { items: Some(self.done), items_failed: self.failed(), left, result: Some(result), ..Report::default() }
    }

    /// What the run comes to.
    pub fn ending(self, left: Result<u64, Failure>, stop: Option<Stop>, is_told_to_stop: bool) -> Ending {
        let report = Report {
            note: left.as_ref().err().map(|failure| format!("what waits was not counted: {}", failure.message)),
            ..self.report(left.ok())
        };
        let did_something = 0 < self.done + self.failed();
        match stop {
            Some(Stop::Failed(failure)) => return Err(failure.with_report(report)),
            Some(Stop::LeftAlone { after, message }) if !did_something => {
                return Err(Failure::snooze(after, message).before_effect().with_report(report));
            }
            Some(Stop::LeftAlone { message, .. }) if self.failed() == 0 => {
                return Ok(Done::Report(Report { note: Some(message), ..report }));
            }
            Some(Stop::LeftAlone { .. }) | None => {}
        }
        if is_told_to_stop && !did_something && 0 < self.released {
            return Err(Failure::retry("told to stop before a row was begun").before_effect().with_report(report));
        }
        if self.done == 0 && 0 < self.failed() {
            let first = self.first.unwrap_or_default();
            return Err(Failure::retry(format!("all {} rows failed, the first: {first}", report.items_failed))
                .with_report(report));
        }
        Ok(Done::Report(report))
    }
}
