//! What a run did, in numbers: by outcome, and the first errors one by one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::decide::{Status, Transition};
use crate::domain::run::{Failure, Report};

/// Errors that are told one by one.
const ERRORS_TOLD: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages that were given to the gateway.
    pub calls: u32,
    sent: u64,
    failed: u64,
    outcomes: BTreeMap<&'static str, u64>,
    errors: Vec<Value>,
    rescued: u64,
    /// Rows that somebody else took over meanwhile.
    lost: u64,
    note: Option<String>,
}

impl Tally {
    /// A message has left `processando`.
    pub fn count(&mut self, id: &str, end: &Transition) {
        *self.outcomes.entry(end.outcome.word()).or_default() += 1;
        if end.status == Status::Enviada {
            self.sent += 1;
        }
        if end.spends_try {
            self.fail(id, end.why.as_deref().unwrap_or(end.reason));
        }
    }

    pub fn count_rescued(&mut self, id: &str, end: &Transition) {
        self.rescued += 1;
        // What goes back into the queue is no failure of a message: its worker failed, and that was told.
        if end.is_dead() {
            self.count(id, end);
        }
    }

    pub fn count_expired(&mut self, expired: u64) {
        if 0 < expired {
            self.outcomes.insert(crate::outbound::SendOutcome::FailedExpired.word(), expired);
        }
    }

    pub fn count_lost(&mut self) {
        self.lost += 1;
    }

    pub fn fail(&mut self, id: &str, why: &str) {
        self.failed += 1;
        if self.errors.len() < ERRORS_TOLD {
            self.errors.push(json!({ "id": id, "error": why }));
        }
    }

    pub fn note(&mut self, note: String) {
        match &mut self.note {
            Some(notes) if notes.contains(&note) => {}
            Some(notes) => *notes += &format!("; {note}"),
            None => self.note = Some(note),
        }
    }

    /// `left` = what is waiting and due now. A run whose messages all failed is an error, and not tried again by itself:
    /// each message has its own next try, and a second attempt with nothing to do would turn the run into a success.
    pub fn report(self, left: Option<u64>) -> Result<Report, Failure> {
        let mut result = json!({ "outcomes": self.outcomes });
        let more = [("rescued", json!(self.rescued)), ("lost", json!(self.lost)), ("errors", json!(self.errors))];
        for (key, value) in more.into_iter().filter(|(_, value)| *value != json!(0) && *value != json!([])) {
            result[key] = value;
        }
        if let Some(note) = &self.note {
            result["note"] = json!(note);
        }
        let (sent, failed) = (self.sent, self.failed);
        let report = Report {
            items: Some(sent),
            items_failed: failed,
            left,
            note: self.note,
            result: Some(result),
            response_code: None,
        };
        if sent == 0 && 0 < failed {
            return Err(Failure::permanent(format!("no message was sent, {failed} failed")).with_report(report));
        }
        Ok(report)
    }
}
