//! The chores: audit, retention and upkeep, each small, idempotent and driven by the state it finds.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::Notify, time};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::{Engine, observe::Observer, queues};
use crate::{
    domain::{ledger::reconcile, run::Outcome},
    store::{Audit, Pruning, Result},
};

/// Room for activations: a full channel of that crate loses them (docs/decisions/0001-packages.md).
const CHANNEL_SIZE: usize = 256;
/// Rows pruned in one statement.
const PRUNE_BATCH: u32 = 1_000;
/// Batches of one job in one round; the next round goes on.
const PRUNE_ROUNDS: usize = 20;
/// A chore that takes longer is given up until it is poked again.
const CHORE_TIMEOUT: Duration = Duration::from_secs(50);

/// What the ticker pokes. Nothing depends on the poke: a chore that hears none works at twice its period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Compares due instants with rows, up to each cursor.
    Audit,
    /// Forgets finished runs by `keep`, and cancels what waits for removed jobs.
    Prune,
    /// Samples the sizes of the queues and the figures of the jobs.
    Sample,
    /// Looks at the queues in tables of the team.
    Look,
    /// Rolls finished hours up, checkpoints and optimizes the database.
    Upkeep,
}

impl Chore {
    pub const ALL: [Self; 5] = [Self::Audit, Self::Prune, Self::Sample, Self::Look, Self::Upkeep];

    pub fn period(self) -> Duration {
        match self {
            Self::Sample | Self::Look => Duration::from_secs(30),
            Self::Audit => Duration::from_secs(60),
            Self::Prune => Duration::from_secs(300),
            Self::Upkeep => Duration::from_secs(600),
        }
    }

    /// Six fields, UTC, as the ticker takes them; spread over the minute.
    pub fn cron(self) -> &'static str {
        match self {
            Self::Sample => "*/30 * * * * *",
            Self::Look => "10,40 * * * * *",
            Self::Audit => "20 * * * * *",
            Self::Prune => "40 */5 * * * *",
            Self::Upkeep => "50 */10 * * * *",
        }
    }

    /// Works once.
    pub async fn tick(self, engine: &Engine, observer: &Observer, now: DateTime<Utc>) -> Result<()> {
        match self {
            Self::Audit => audit(engine).await,
            Self::Prune => prune(engine, now).await,
            Self::Sample => observer.sample(engine, now).await,
            Self::Look => {
                queues::look(engine, observer).await;
                Ok(())
            }
            Self::Upkeep => engine.store.upkeep(now).await,
        }
    }
}

/// Starts the ticker: `tokio-cron-scheduler` in the one role where its lag and its losses do not matter.
/// It is dropped with the process: its shutdown waits for nothing anyway.
pub async fn start_ticker(duties: &[Duty]) -> Result<JobScheduler, JobSchedulerError> {
    let ticker = JobScheduler::new_with_channel_size(CHANNEL_SIZE).await?;
    // One after another: jobs added at the same time can be lost without an error.
    for duty in duties {
        let poke = Arc::clone(&duty.poke);
        let job = Job::new_async(duty.chore.cron(), move |_, _| {
            let poke = Arc::clone(&poke);
            Box::pin(async move { poke.notify_one() })
        })?;
        ticker.add(job).await?;
    }
    ticker.start().await?;
    Ok(ticker)
}

/// A chore with the bell that the ticker rings for it.
#[derive(Clone)]
pub struct Duty {
    pub chore: Chore,
    pub poke: Arc<Notify>,
    /// It works after this long without a poke, too.
    pub patience: Duration,
}

impl Duty {
    pub fn new(chore: Chore) -> Self {
        Self { chore, poke: Arc::default(), patience: chore.period() * 2 }
    }
}

/// Waits for the poke, or for as long as its patience lasts, and works; one chore, one task.
pub async fn supervise(engine: Arc<Engine>, observer: Arc<Observer>, duty: Duty, stop: CancellationToken) {
    let chore = duty.chore;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = duty.poke.notified() => {}
            () = time::sleep(duty.patience) => debug!(?chore, "no poke came: working all the same"),
        }
        match time::timeout(CHORE_TIMEOUT, chore.tick(&engine, &observer, engine.clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_passing() => engine.database_failed(&error),
            Ok(Err(error)) => error!(component = "scheduler", ?chore, "chore failed: {error}"),
            Err(_) => {
                error!(component = "scheduler", ?chore, "chore took over {} s: given up", CHORE_TIMEOUT.as_secs())
            }
        }
    }
}

/// Audits `(audited_until, planned_until]` of every job into its stored counters. Audited time is never computed
/// again; when another replica was quicker, its numbers stand.
pub async fn audit(engine: &Engine) -> Result<()> {
    for window in engine.store.audit_windows().await? {
        let entries = engine.store.ledger_entries(&window.job, window.from, window.until).await?;
        match reconcile(&window.epochs, &entries, window.from, window.until) {
            Ok(account) => {
                if account.unexplained() != 0 {
                    error!(
                        component = "scheduler", job_name = %window.job, missing = account.missing, doubled = account.doubled,
                        extra = account.extra, "unexplained instants between {} and {}", window.from, window.until
                    );
                }
                engine
                    .store
                    .store_audit(&Audit { job: window.job, from: window.from, until: window.until, account })
                    .await?;
            }
            Err(error) => error!(component = "scheduler", job_name = %window.job, "cannot audit: {error}"),
        }
    }
    Ok(())
}

async fn prune(engine: &Engine, now: DateTime<Utc>) -> Result<()> {
    for entry in engine.table().jobs.values() {
        let which = Pruning { job: entry.job.name.clone(), keep: entry.job.policy.keep, outcome: None };
        for _ in 0..PRUNE_ROUNDS {
            let pruned = engine.store.prune(&which, now, PRUNE_BATCH).await?;
            if pruned < u64::from(PRUNE_BATCH) {
                break;
            }
        }
    }
    for job in engine.store.cancel_removed(now).await? {
        engine.ended_unstarted(&job, Outcome::Cancelled);
    }
    Ok(())
}
