//! The engine: plans, claims, runs and settles. Each part is a `tick(now)`; the loop around it only waits.

pub mod shared;
pub mod planner;
pub mod runner;
pub mod attempt;
pub mod settler;
pub mod news;
pub mod lease;
pub mod chores;
pub mod observe;
pub mod queues;
pub mod loops;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
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

pub use shared::{desk, running, status};

use desk::{Desk, Pick};
use news::{LogSuccess, News};
use running::Running;
use settler::Finished;
use status::{Status, Wake};

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
    /// Commands that run at once, whichever slots they fill.
    pub command_slots: usize,
    pub shutdown_grace: Duration,
    pub log_success: LogSuccess,
    pub host: String,
    pub version: String,
}

/// What all parts of the engine share.
pub struct Engine {
    pub store: Store,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub running: Running,
    pub status: Status,
    pub wake: Wake,
    pub news: News,
    /// Fires when the process is told to stop: handlers that listen may end early, the others have the grace.
    pub draining: CancellationToken,
    /// Attempts hand their ends to the settler.
    pub settlements: mpsc::UnboundedSender<Finished>,
    /// Handlers have a runtime of their own: one that blocks its thread stops no planner and no health.
    pub handlers: tokio::runtime::Handle,
    pub database: AppDatabase,
    desk: ArcSwap<Desk>,
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
    /// Rings when a run was enqueued in this process.
    pub bell: Arc<Notify>,
}

impl Engine {
    /// The engine, and the end of the channel that its settler reads.
    pub fn new(parts: Parts, replica: ReplicaId) -> (Arc<Self>, mpsc::UnboundedReceiver<Finished>) {
        let (settlements, finished) = mpsc::unbounded_channel();
        let desk = Desk::new(parts.table, parts.tools, &parts.settings.scope);
        let engine = Self {
            store: parts.store,
            clock: parts.clock,
            metrics: parts.metrics,
            news: News::new(parts.settings.log_success),
            settings: parts.settings,
            running: Running::new(replica),
            status: Status::default(),
            wake: Wake { runner: parts.bell, ..Wake::default() },
            draining: CancellationToken::new(),
            settlements,
            handlers: parts.handlers,
            database: parts.database,
            desk: ArcSwap::from_pointee(desk),
        };
        (Arc::new(engine), finished)
    }

    /// The job table at work, with what follows from it.
    pub fn desk(&self) -> Arc<Desk> {
        self.desk.load_full()
    }

    pub fn table(&self) -> Arc<JobTable> {
        Arc::clone(&self.desk.load().table)
    }

    /// Works by this table from now on; what runs goes on under the old one.
    pub fn work_by(&self, table: Arc<JobTable>) {
        let jobs: Vec<_> = table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
        let tools = self.desk.load().tools.with_targets(table.targets.clone());
        self.desk.store(Arc::new(Desk::new(table, tools, &self.settings.scope)));
        self.metrics.follow(&jobs);
        // Health looks again: there may be jobs it does not know.
        self.status.settled();
        self.wake.planner.notify_one();
        self.wake.runner.notify_one();
    }

    /// Takes in an error of the store: one that may pass is an outage of the database, any other is for a person.
    pub fn store_failed(&self, error: &StoreError) {
        if error.is_passing() {
            self.database_failed(error);
        } else {
            tracing::error!(component = "scheduler", "{error}");
        }
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
        self.metrics.finished_unstarted(job, outcome, self.clock.now());
        self.status.settled();
    }

    /// Slots of the lane that are free now.
    pub fn free_slots(&self, lane: Lane) -> usize {
        let slots = match lane {
            Lane::Scheduled => self.settings.scheduled_slots,
            Lane::Queue => self.settings.queue_slots,
        };
        slots.saturating_sub(self.running.count(lane))
    }

    /// A claim of these jobs for the free slots; `None` when there is nothing to fill or nothing to ask for.
    fn claim_request(&self, desk: &Desk, (pick, suspects): (Pick, bool), now: DateTime<Utc>) -> Option<ClaimRequest> {
        let jobs = desk.list(pick);
        if jobs.is_empty() {
            return None;
        }
        let mut free = self.free_slots(pick.lane);
        if pick.commands {
            free = free.min(self.settings.command_slots.saturating_sub(self.running.commands()));
        }
        (0 < free).then(|| ClaimRequest {
            replica: self.running.replica(),
            fence: self.running.new_fence(),
            now,
            jobs: Arc::clone(jobs),
            limit: u32::try_from(free).unwrap_or(u32::MAX),
            suspects,
        })
    }
}
