//! `assess`: what a snapshot of the jobs says about their health (spec 7, Health).
//!
//! Health, metrics and every view of the daemon are computed from one [`Snapshot`], so they cannot disagree. Nothing
//! here steers: a verdict is only ever shown.

mod assess;
mod rules;
mod stale;
mod snapshot;
mod queue;
mod history;
mod jobs;
mod fila;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

pub use assess::{assess, readiness};
pub use fila::FilaHealth;
pub use history::{Ended, NEWEST_RUNS};
pub use jobs::{Executions, JobLists, JobsHealth, Promises};
pub use queue::{QueueFigures, WatchedQueue};
pub use rules::{
    AHEAD_LIMIT, CRITICAL_FAILURES, DATABASE_PATIENCE, Decide, EMPTY_SUCCESSES, ERROR_RATE, FEWEST_JUDGED,
    FIGURES_PATIENCE, FILA_BACKLOG_LIMIT, FILA_ERRORS_LIMIT, FILA_OLDEST_LIMIT, FILA_STUCK_MANY, FIRST_STUCK, Finding,
    JobLook, LAG_LIMIT, Limit, Look, PLANNER_PATIENCE, QUEUE_LIMIT, RECENT_FAILURES, RULES, Rule, Weight, alive,
    figures_seen, is_ahead, last_tick, scheduler_lag,
};
pub use snapshot::{Database, Day, FailedReload, JobStats, Planner, Slots, Snapshot};
pub use stale::{Patience, STALE_SLACK, patience};
pub use verdict::{
    Alert, AlertName, DatabaseHealth, Health, JobHealth, JobStatus, JobVerdict, NotReady, PlannerState, QueueHealth,
    Severity, Status, Why,
};
