//! The rules that turn health from `healthy`, one table: health, its alerts and the rules for Prometheus come from it.

mod daemon;
mod job;
mod queue;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    snapshot::{JobStats, Snapshot},
    stale::Patience,
    verdict::{Alert, AlertName, JobStatus, Severity, Why},
};
use crate::domain::job::Job;

pub use daemon::{alive, figures_seen, is_ahead, last_tick, scheduler_lag};
pub use job::attempts_stuck;
pub use queue::is_fila;
pub use table::{
    AHEAD_LIMIT, CRITICAL_FAILURES, DATABASE_PATIENCE, EMPTY_SUCCESSES, ERROR_RATE, FEWEST_JUDGED, FIGURES_PATIENCE,
    FILA_BACKLOG_LIMIT, FILA_ERRORS_LIMIT, FILA_OLDEST_LIMIT, FILA_STUCK_MANY, FIRST_STUCK, LAG_LIMIT,
    PLANNER_PATIENCE, QUEUE_LIMIT, RECENT_FAILURES, RULES,
};

/// A rule: what it watches, from where on it holds, and what it means.
pub struct Rule {
    pub name: AlertName,
    pub weight: Weight,
    pub limit: Limit,
    /// It must hold this long without a break before it is said.
    pub held_for: Duration,
    pub decide: Decide,
    /// What it means, one sentence for people, without names or numbers.
    pub meaning: &'static str,
    /// Over exported metrics; `{limit}` stands for the limit.
    expression: &'static str,
}

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Warning,
    Critical,
    /// Critical for a critical job, else a warning.
    OfItsJob,
}

/// From where on a rule holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A constant of this room.
    Constant { name: &'static str, value: f64, unit: &'static str },
    /// A key of the job in the job table, in seconds.
    Policy { key: &'static str },
    /// A state that is or is not.
    State,
}

/// Decides from one look; `None` = it does not hold. What it watches is the scope of the rule.
pub enum Decide {
    Daemon(fn(&Look<'_>) -> Option<Finding>),
    /// What the job becomes while it holds; of several rules that hold, the first in the table says.
    Job(JobStatus, Why, fn(&JobLook<'_>) -> Option<Finding>),
    Queue(fn(&JobLook<'_>) -> Option<Finding>),
}

/// The daemon at one moment.
pub struct Look<'a> {
    pub snapshot: &'a Snapshot,
    pub now: DateTime<Utc>,
}

/// One job at one moment.
pub struct JobLook<'a> {
    pub job: &'a Job,
    pub stats: &'a JobStats,
    pub snapshot: &'a Snapshot,
    pub patience: Option<Patience>,
    pub now: DateTime<Utc>,
}

/// A rule holds.
pub struct Finding {
    /// Since when; `None` = not known.
    pub since: Option<DateTime<Utc>>,
    /// One sentence, made of names and numbers only: anyone may read it.
    pub message: String,
    /// Words from outside, for holders of a token.
    pub detail: Option<String>,
}

impl Finding {
    fn new(since: Option<DateTime<Utc>>, message: impl Into<String>) -> Self {
        Self { since, message: message.into(), detail: None }
    }
}

impl AlertName {
    /// Its rule watches what waits, not how jobs run.
    pub fn is_of_queue(self) -> bool {
        RULES.iter().any(|rule| rule.name == self && matches!(rule.decide, Decide::Queue(_)))
    }
}

impl Rule {
    /// `daemon`, `job` or `queue`.
    pub fn scope(&self) -> &'static str {
        match self.decide {
            Decide::Daemon(_) => "daemon",
            Decide::Job(..) => "job",
            Decide::Queue(_) => "queue",
        }
    }

    /// `warning`, `critical`, or `warning, critical for a critical job`.
    pub fn severity_words(&self) -> &'static str {
        match self.weight {
            Weight::Warning => "warning",
            Weight::Critical => "critical",
            Weight::OfItsJob => "warning, critical for a critical job",
        }
    }

    /// The rule as PromQL, over metrics that every replica exports.
    pub fn expression(&self) -> String {
        match self.limit {
            Limit::Constant { value, .. } => self.expression.replace("{limit}", &value.to_string()),
            Limit::Policy { .. } | Limit::State => self.expression.into(),
        }
    }

    /// Scope, severity, limit and patience in one line, as docs/operations.md has it.
    pub fn facts(&self) -> String {
        let limit = match self.limit {
            Limit::Constant { name, value, unit } => format!("{value}{unit} (`{name}`)"),
            Limit::Policy { key } => format!("`{key}` of the job"),
            Limit::State => "none".into(),
        };
        let held_for = match self.held_for.as_secs() {
            0 => "at once".into(),
            seconds => format!("after {seconds} s"),
        };
        format!("Scope {}; {}; limit: {limit}; said {held_for}.", self.scope(), self.severity_words())
    }

    fn alert(&self, finding: Option<Finding>, job: Option<&Job>, now: DateTime<Utc>) -> Option<Alert> {
        let found = finding.filter(|found| self.has_held(found.since, now))?;
        let is_critical = match self.weight {
            Weight::Warning => false,
            Weight::Critical => true,
            Weight::OfItsJob => job.is_some_and(|job| job.policy.critical),
        };
        Some(Alert {
            name: self.name,
            severity: if is_critical { Severity::Critical } else { Severity::Warning },
            job: job.map(|job| job.name.clone()),
            since: found.since,
            message: found.message,
            detail: found.detail,
        })
    }

    fn has_held(&self, since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let patience = TimeDelta::from_std(self.held_for).unwrap_or(TimeDelta::MAX);
        patience.is_zero() || since.is_some_and(|since| patience <= now - since)
    }
}

/// The rules of the daemon that hold.
pub fn daemon_alerts(look: &Look<'_>) -> Vec<Alert> {
    let holding = RULES.iter().filter_map(|rule| match rule.decide {
        Decide::Daemon(decide) => rule.alert(decide(look), None, look.now),
        Decide::Job(..) | Decide::Queue(_) => None,
    });
    holding.collect()
}

/// The rules of a job that hold, and what the first of them makes of it.
pub fn job_alerts(look: &JobLook<'_>) -> (Vec<Alert>, Option<(JobStatus, Why)>) {
    let (mut alerts, mut verdict) = (Vec::new(), None);
    for rule in RULES {
        if let Decide::Job(status, why, decide) = rule.decide
            && let Some(alert) = rule.alert(decide(look), Some(look.job), look.now)
        {
            verdict = verdict.or(Some((status, why)));
            alerts.push(alert);
        }
    }
    (alerts, verdict)
}

/// The rules of what waits for a job that hold.
pub fn queue_alerts(look: &JobLook<'_>) -> Vec<Alert> {
    let holding = RULES.iter().filter_map(|rule| match rule.decide {
        Decide::Queue(decide) => rule.alert(decide(look), Some(look.job), look.now),
        Decide::Daemon(_) | Decide::Job(..) => None,
    });
    holding.collect()
}
