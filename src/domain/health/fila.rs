//! What `GET /health/fila` says: the message queue alone, judged by the rules of the one table.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    assess::worst,
    queue::QueueFigures,
    rules::{
        FILA_BACKLOG_LIMIT, FILA_ERRORS_LIMIT, FILA_OLDEST_LIMIT, FILA_STUCK_MANY, FIRST_STUCK, QUEUE_LIMIT, is_fila,
    },
    snapshot::Snapshot,
    verdict::{Alert, AlertName, Health, Status, instant},
};
use crate::domain::job::Job;

/// The answer of `GET /health/fila`.
#[derive(Debug, Clone, Serialize)]
pub struct FilaHealth {
    /// `healthy`, `degraded`, `critical`, or `not_configured` when no job of the table drains the message queue.
    pub status: &'static str,
    /// The rules of this queue that hold, and those of the database it stands in.
    pub alerts: Vec<Alert>,
    pub metrics: FilaMetrics,
    pub thresholds: Thresholds,
    #[serde(serialize_with = "instant")]
    pub timestamp: DateTime<Utc>,
    /// What decides over the code of the answer.
    #[serde(skip)]
    pub verdict: Status,
}

/// Messages by their state; null until the queue was first seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FilaMetrics {
    /// `pendente` and due: the number that `queue_size` shows.
    pub pendentes: Option<i64>,
    pub processando: Option<i64>,
    pub enviadas_ultima_hora: Option<i64>,
    /// Given up within an hour.
    pub erros_ultima_hora: Option<i64>,
    /// How long the oldest of `pendentes` has been due, in whole minutes.
    pub mensagem_mais_antiga_min: Option<i64>,
    /// `processando` for longer than the job's `stuck_after`, an hour unless it says otherwise.
    pub travadas: Option<i64>,
}

/// From where on the rules of the queue hold.
#[derive(Debug, Clone, Serialize)]
pub struct Thresholds {
    /// More `pendentes` than this.
    pub backlog: Pair,
    /// So many `travadas`, or more.
    pub stuck: Pair,
    /// More `erros_ultima_hora` than this.
    pub errors_per_hour: Single,
    /// A larger `mensagem_mais_antiga_min` than this.
    pub oldest_min: Single,
}

#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    pub warning: i64,
    pub critical: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Single {
    pub warning: i64,
}

const THRESHOLDS: Thresholds = Thresholds {
    backlog: Pair { warning: QUEUE_LIMIT, critical: FILA_BACKLOG_LIMIT },
    stuck: Pair { warning: FIRST_STUCK, critical: FILA_STUCK_MANY },
    errors_per_hour: Single { warning: FILA_ERRORS_LIMIT },
    oldest_min: Single { warning: FILA_OLDEST_LIMIT.num_minutes() },
};

impl FilaHealth {
    /// The queue's part of a verdict; `health` is what `assess` made of these jobs and this snapshot. Several jobs that
    /// drain the queue work on one table: the first of them that was seen speaks.
    pub fn new(jobs: &[Arc<Job>], snapshot: &Snapshot, health: &Health) -> Self {
        let draining: Vec<&Job> = jobs.iter().map(AsRef::as_ref).filter(|job| drains(job)).collect();
        let figures = draining.iter().find_map(|job| snapshot.queue_of(&job.name));
        let alerts = match draining.first() {
            Some(_) => health.alerts.iter().filter(|alert| concerns(alert, &draining)).cloned().collect(),
            None => Vec::new(),
        };
        let verdict = worst(&alerts);
        Self {
            status: if draining.is_empty() { "not_configured" } else { verdict.word() },
            alerts,
            metrics: figures.map_or_else(FilaMetrics::default, |figures| metrics(figures, health.timestamp)),
            thresholds: THRESHOLDS,
            timestamp: health.timestamp,
            verdict,
        }
    }

    /// Takes the words from outside away, for those who have no token.
    pub fn without_free_text(mut self) -> Self {
        self.alerts.iter_mut().for_each(|alert| alert.detail = None);
        self
    }
}

/// A job that was switched off in the table drains nothing.
fn drains(job: &Job) -> bool {
    is_fila(job) && job.disabled.is_none()
}

/// Its own rules; and without the database no message goes out and no number here is true any more.
fn concerns(alert: &Alert, draining: &[&Job]) -> bool {
    match &alert.job {
        Some(name) => alert.name.is_of_queue() && draining.iter().any(|job| job.name == *name),
        None => matches!(alert.name, AlertName::DatabaseAway | AlertName::DatabaseLost),
    }
}

fn metrics(figures: &QueueFigures, now: DateTime<Utc>) -> FilaMetrics {
    FilaMetrics {
        pendentes: Some(figures.left),
        processando: figures.running,
        enviadas_ultima_hora: figures.done_1h,
        erros_ultima_hora: figures.errors_1h,
        mensagem_mais_antiga_min: Some(figures.oldest_age(now).num_minutes()),
        travadas: figures.stuck,
    }
}
