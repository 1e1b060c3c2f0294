//! How the loops fare, and the bells that wake them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::domain::{health::FailedReload, job::JobName};

/// Bells of the loops.
#[derive(Default)]
pub struct Wake {
    pub planner: Notify,
    /// Shared with those who enqueue.
    pub runner: Arc<Notify>,
    pub lease: Notify,
    /// Something cannot be mended from inside: the process settles what it can and ends non-zero.
    pub fatal: Notify,
}

/// How the loops fare; health reads it, nobody decides by it.
#[derive(Default)]
pub struct Status {
    condition: Mutex<Condition>,
    settled: AtomicBool,
}

#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub planner_turned_at: Option<DateTime<Utc>>,
    /// The oldest instant that is not in the ledger yet, as the last turn left it.
    pub oldest_owed: Option<DateTime<Utc>>,
    pub database_up: bool,
    /// Since when it has been up, or away; `None` = not asked yet.
    pub database_since: Option<DateTime<Utc>>,
    /// On the boot clock: when it came back from its last outage; `None` = away, or never was.
    pub database_back_at: Option<Duration>,
    /// Last error of the database, for people.
    pub database_error: Option<String>,
    pub migrated: bool,
    pub ready: bool,
    pub draining: bool,
    pub fatal: Option<String>,
    /// The last reload brought nothing: the old table stays at work.
    pub reload: Option<FailedReload>,
    /// Jobs whose active epoch is not the one of our table.
    pub foreign: BTreeSet<JobName>,
    /// Our table is the active one.
    pub active: bool,
}

impl Status {
    pub fn get(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A run was settled: the figures of the database are old.
    pub fn settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Whether a run was settled since this was last asked.
    pub fn take_settled(&self) -> bool {
        self.settled.swap(false, Ordering::Relaxed)
    }

    pub fn change(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.condition.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
