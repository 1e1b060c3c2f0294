//! The engine: plans, claims, runs and settles. Each part is a `tick(now)`; the loop around it only waits.

pub mod running;
pub mod planner;
pub mod runner;
pub mod attempt;
pub mod settler;
pub mod lease;
pub mod chores;
pub mod observe;
pub mod loops;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{
        job::{Job, JobName},
        run::{Outcome, ReplicaId},
    },
    handlers::{AppDatabase, Tools},
    job_table::JobTable,
    metrics::Metrics,
    store::{ClaimRequest, Lane, Store, StoreError},
};

use running::Running;
use settler::Finished;

/// What this process was asked to do with the table.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// `--only`: empty = every job.
    pub only: BTreeSet<String>,
    pub except: BTreeSet<String>,
    pub no_schedule: bool,
    pub no_queues: bool,
}

impl Scope {
    /// Whether this process claims runs of the job.
    pub fn claims(&self, job: &Job) -> bool {
        let name = job.name.as_str();
        let listed = self.only.is_empty() || self.only.contains(name);
        let lane_open = if job.schedule.is_some() { !self.no_schedule } else { !self.no_queues };
        listed && lane_open && !self.except.contains(name)
    }

    /// A process that was told to leave something out registers nothing: its table may be half of the truth.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.except.is_empty() && !self.no_schedule && !self.no_queues
    }
}

/// The settings of the engine, all resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    pub scope: Scope,
    /// Slots of scheduled, caught-up and triggered runs.
    pub scheduled_slots: usize,
    /// Slots of queue runs (`WORKER_CONCURRENCY`).
    pub queue_slots: usize,
    pub shutdown_grace: Duration,
    pub host: String,
    pub version: String,
}

/// What all parts of the engine share.
pub struct Engine {
    pub store: Store,
    pub clock: Clock,
    pub table: Arc<JobTable>,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub running: Running,
    pub status: Status,
    pub wake: Wake,
    /// Fires when the process is told to stop: handlers that listen may end early, the others have the grace.
    pub draining: CancellationToken,
    /// Attempts hand their ends to the settler.
    pub settlements: mpsc::UnboundedSender<Finished>,
    /// Handlers have a runtime of their own: one that blocks its thread stops no planner and no health.
    pub handlers: tokio::runtime::Handle,
    pub tools: Tools,
    pub database: AppDatabase,
    lanes: Lanes,
}

/// What every `Engine` is made of; the rest it makes itself.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub table: Arc<JobTable>,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub handlers: tokio::runtime::Handle,
    pub tools: Tools,
    pub database: AppDatabase,
}

/// The jobs this process may claim, by lane; shared with every claim, so they are listed once.
struct Lanes {
    scheduled: Arc<Vec<Arc<Job>>>,
    queues: Arc<Vec<Arc<Job>>>,
}

/// Bells of the loops.
#[derive(Default)]
pub struct Wake {
    pub planner: Notify,
    pub runner: Notify,
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

impl Engine {
    /// The engine, and the end of the channel that its settler reads.
    pub fn new(parts: Parts, replica: ReplicaId) -> (Arc<Self>, mpsc::UnboundedReceiver<Finished>) {
        let (settlements, finished) = mpsc::unbounded_channel();
        let lanes = Lanes::new(&parts.table, &parts.settings.scope);
        let engine = Self {
            store: parts.store,
            clock: parts.clock,
            table: parts.table,
            metrics: parts.metrics,
            settings: parts.settings,
            running: Running::new(replica),
            status: Status::default(),
            wake: Wake::default(),
            draining: CancellationToken::new(),
            settlements,
            handlers: parts.handlers,
            tools: parts.tools,
            database: parts.database,
            lanes,
        };
        (Arc::new(engine), finished)
    }

    /// Remembers that the database did not answer; said once per outage.
    pub fn database_failed(&self, error: &StoreError) {
        let now = self.clock.now();
        self.status.change(|condition| {
            condition.database_error = Some(error.to_string());
            if condition.database_up || condition.database_since.is_none() {
                tracing::error!(component = "scheduler", "database does not answer: {error}");
                condition.database_up = false;
                condition.database_since = Some(now);
            }
            condition.database_back_at = None;
        });
    }

    /// Remembers that the database answered.
    pub fn database_answered(&self) {
        let (now, boot) = (self.clock.now(), self.clock.boot());
        self.status.change(|condition| {
            if !condition.database_up {
                if condition.database_since.is_some() {
                    tracing::warn!(component = "scheduler", "database answers again");
                    condition.database_back_at = Some(boot);
                }
                condition.database_up = true;
                condition.database_since = Some(now);
                condition.database_error = None;
            }
        });
    }

    /// Ends the process non-zero, after what can be settled is settled.
    pub fn fail_for_good(&self, why: String) {
        self.status.change(|condition| condition.fatal = Some(why));
        self.wake.fatal.notify_one();
    }

    /// Counts a run that ended without a process of its own. Jobs of other tables are not ours to count: labels come from
    /// our job table only.
    pub fn ended_unstarted(&self, job: &JobName, outcome: Outcome) {
        if self.table.job(job).is_some() {
            self.metrics.finished_unstarted(job, outcome, self.clock.now());
            self.status.settled();
        }
    }

    pub fn table_hash(&self) -> &str {
        &self.table.hash
    }

    /// Slots of the lane that are free now.
    pub fn free_slots(&self, lane: Lane) -> usize {
        let slots = match lane {
            Lane::Scheduled => self.settings.scheduled_slots,
            Lane::Queue => self.settings.queue_slots,
        };
        slots.saturating_sub(self.running.count(lane))
    }

    fn lane_jobs(&self, lane: Lane) -> &Arc<Vec<Arc<Job>>> {
        match lane {
            Lane::Scheduled => &self.lanes.scheduled,
            Lane::Queue => &self.lanes.queues,
        }
    }

    /// A claim for the free slots of a lane; `None` when there is nothing to fill or nothing to ask for.
    fn claim_request(&self, lane: Lane, suspects: bool, now: DateTime<Utc>) -> Option<ClaimRequest> {
        let jobs = self.lane_jobs(lane);
        let free = self.free_slots(lane);
        if free == 0 || jobs.is_empty() {
            return None;
        }
        Some(ClaimRequest {
            replica: self.running.replica(),
            fence: self.running.new_fence(),
            now,
            jobs: Arc::clone(jobs),
            limit: u32::try_from(free).unwrap_or(u32::MAX),
            suspects,
        })
    }
}

impl Lanes {
    fn new(table: &JobTable, scope: &Scope) -> Self {
        let mine = table.jobs.values().map(|entry| &entry.job).filter(|job| scope.claims(job));
        let (scheduled, queues) = mine.cloned().partition(|job| job.schedule.is_some());
        Self { scheduled: Arc::new(scheduled), queues: Arc::new(queues) }
    }
}
