//! The observer: keeps the one `Snapshot` that health, metrics and commands look at.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::Engine;
use crate::{
    domain::health::{Database, Planner, Slots, Snapshot},
    store::{Lane, Result},
};

/// Writes the snapshot; everybody else only reads it.
pub struct Observer {
    snapshot: Arc<ArcSwap<Snapshot>>,
    sampled_runs: AtomicBool,
}

impl Observer {
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { snapshot, sampled_runs: AtomicBool::new(false) }
    }

    /// For those who only look.
    pub fn reader(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// Takes over what the engine has in memory. Asks nobody, so it works while the database is away.
    pub fn refresh(&self, engine: &Engine) {
        let mut next = (*self.snapshot.load_full()).clone();
        let condition = engine.status.get();
        next.replica = engine.running.replica();
        next.planner = Planner {
            started_at: next.planner.started_at,
            last_turn: condition.planner_turned_at,
            oldest_owed: condition.oldest_owed.filter(|_| !condition.draining),
            draining: condition.draining,
            clock_hold: engine.clock.is_held(),
        };
        next.database = Database {
            up: condition.database_up,
            since: condition.database_since.unwrap_or(next.planner.started_at),
            migrated: condition.migrated,
            clock_skew_ms: Some(engine.clock.skew().num_milliseconds()),
        };
        next.slots = slots(engine);
        let running = engine.running.by_job();
        for (name, stats) in &mut next.jobs {
            stats.stuck = running.get(name).map_or(0, |(_, stuck)| i64::try_from(*stuck).unwrap_or(i64::MAX));
        }
        self.snapshot.store(Arc::new(next));
    }

    /// Asks the database for what it knows of the jobs; when it does not answer, the old figures stay with their age.
    pub async fn sample(&self, engine: &Engine, now: DateTime<Utc>) -> Result<()> {
        let figures = engine.store.figures(now).await?;
        let mut next = (*self.snapshot.load_full()).clone();
        next.sampled_at = Some(now);
        next.replicas = figures.replicas;
        next.unexplained = figures.unexplained;
        next.jobs = figures.jobs;
        self.snapshot.store(Arc::new(next));
        self.refresh(engine);
        Ok(())
    }

    /// Samples when runs have ended since the last sample, so that health follows within seconds and an idle daemon
    /// stays quiet.
    pub async fn follow(&self, engine: &Engine, now: DateTime<Utc>) -> Result<()> {
        if engine.status.take_settled() || !self.sampled_runs.swap(true, Ordering::Relaxed) {
            self.sample(engine, now).await?;
        }
        Ok(())
    }
}

fn slots(engine: &Engine) -> Slots {
    let total = engine.settings.scheduled_slots + engine.settings.queue_slots;
    let busy = engine.running.count(Lane::Scheduled) + engine.running.count(Lane::Queue);
    let count = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
    Slots { total: count(total), busy: count(busy) }
}
