//! `assess`: what a snapshot of the jobs says about their health (spec 7, Health).
//!
//! Health, metrics and every view of the daemon are computed from one [`Snapshot`], so they cannot disagree. Nothing
//! here steers: a verdict is only ever shown.

mod assess;
mod snapshot;
mod stale;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

pub use assess::{
    CRITICAL_FAILURES, DATABASE_PATIENCE, LAG_LIMIT, PLANNER_PATIENCE, QUEUE_LIMIT, alive, assess, is_ahead, readiness,
    scheduler_lag,
};
pub use snapshot::{Database, JobStats, Planner, Slots, Snapshot};
pub use stale::{STALE_SLACK, stale_at};
pub use verdict::{
    Alert, AlertName, DatabaseHealth, Health, JobHealth, JobStatus, JobVerdict, NotReady, PlannerState, QueueHealth,
    Severity, Status, Why,
};
