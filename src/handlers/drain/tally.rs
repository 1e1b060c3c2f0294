//! What became of the rows of a run, and what that makes of the run.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{deliver::Taking, table::cell::Taken};
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
    /// Delivered. `elsewhere` = somebody else has changed the row since it was claimed, so it was left as it is.
    Done { taking: Taking, elsewhere: bool },
    /// Not delivered; `dead` = given up.
    Failed { error: String, dead: bool },
    /// What became of it, or that it was claimed, could not be written down: it stands as it was.
    Unwritten { error: String },
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
    /// Of those done: the application said that some of it went wrong.
    in_part: u64,
    retried: u64,
    dead: u64,
    unwritten: u64,
    blocked: u64,
    /// Rows that cannot be claimed; a run may meet one in each of its batches.
    unclaimed: BTreeSet<String>,
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
        self.retried + self.dead + self.unwritten
    }

    pub fn is_empty(&self) -> bool {
        self.done + self.failed() + self.blocked + self.released + self.elsewhere + self.rescued == 0
    }

    pub fn count(&mut self, row: &Taken, fate: Fate) {
        match fate {
            Fate::Done { taking, elsewhere } => {
                self.done += 1;
                self.skipped += u64::from(taking == Taking::Skipped);
                self.in_part += u64::from(taking == Taking::InPart);
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
            Fate::Unwritten { error } => self.unwritten(row, &error),
            Fate::Released => self.released += 1,
            Fate::Elsewhere => self.elsewhere += 1,
        }
    }

    fn unwritten(&mut self, row: &Taken, error: &str) {
        self.unwritten += 1;
        self.tell(row, error, false);
    }

    /// Rows that wait for another one, which a unique index allows alone.
    pub fn blocked(&mut self, rows: u64) {
        self.blocked += rows;
    }

    /// A row that the table refuses to have claimed.
    pub fn unclaimed(&mut self, row: &Taken, reason: &str) {
        if self.unclaimed.insert(row.id.shown()) {
            self.unwritten(row, &format!("the table refuses `claim`: {reason}"));
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
            Fate::Unwritten { error } => self.unwritten(row, &error),
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
            "done": self.done, "skipped": self.skipped, "done_in_part": self.in_part, "retried": self.retried,
            "dead": self.dead, "unwritten": self.unwritten, "blocked": self.blocked, "released": self.released, "changed_elsewhere": self.elsewhere, "rescued": self.rescued, "errors": self.told,
        });
        let items_failed = self.failed() + self.in_part;
        Report {
            items: Some(self.done),
            items_failed,
            left,
            note: self.note(),
            result: Some(result),
            ..Report::default()
        }
    }

    fn note(&self) -> Option<String> {
        let rows = self.in_part;
        (0 < rows).then(|| format!("the application said of {rows} of the rows done that some of it went wrong"))
    }

    /// What the run comes to.
    pub fn ending(self, left: Result<u64, Failure>, stop: Option<Stop>, is_told_to_stop: bool) -> Ending {
        let uncounted = left.as_ref().err().map(|failure| format!("what waits was not counted: {}", failure.message));
        let report = self.report(left.ok());
        let report = Report { note: joined(report.note, uncounted), ..report };
        let did_something = 0 < self.done + self.failed();
        match stop {
            Some(Stop::Failed(failure)) => return Err(failure.with_report(report)),
            Some(Stop::LeftAlone { after, message }) if !did_something => {
                return Err(Failure::snooze(after, message).before_effect().with_report(report));
            }
            Some(Stop::LeftAlone { message, .. }) if self.failed() == 0 => {
                return Ok(Done::Report(Report { note: joined(report.note, Some(message)), ..report }));
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

fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    let notes = Vec::from_iter(one.into_iter().chain(other));
    (!notes.is_empty()).then(|| notes.join("; "))
}
