//! The observer: keeps the one `Snapshot` that health, metrics and commands look at.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::Engine;
use crate::{
    domain::{
        health::{Database, Planner, QueueFigures, Slots, Snapshot, WatchedQueue},
        job::JobName,
        run::Failure,
    },
    store::{self, Depth, Figures, Lane},
};

/// Writes the snapshot; everybody else only reads it.
pub struct Observer {
    snapshot: Arc<ArcSwap<Snapshot>>,
    sampled_runs: AtomicBool,
    looked: AtomicBool,
}

impl Observer {
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { snapshot, sampled_runs: AtomicBool::new(false), looked: AtomicBool::new(false) }
    }

    /// For those who only look.
    pub fn reader(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// Takes over what the engine has in memory. Asks nobody, so it works while the database is away.
    pub fn refresh(&self, engine: &Engine) {
        self.change(|next| remember(next, engine));
    }

    /// Asks the database for what it knows of the jobs; when it does not answer, the old figures stay with their age.
    pub async fn sample(&self, engine: &Engine, now: DateTime<Utc>) -> store::Result<()> {
        self.look(engine, Depth::Day, now).await
    }

    /// Looks at the newest runs when some have ended since the last sample, so that health follows within seconds and
    /// an idle daemon stays quiet.
    pub async fn follow(&self, engine: &Engine, now: DateTime<Utc>) -> store::Result<()> {
        if engine.status.take_settled() || !self.sampled_runs.swap(true, Ordering::Relaxed) {
            self.look(engine, Depth::Newest, now).await?;
        }
        Ok(())
    }

    /// Forgets the queues of jobs that are gone.
    pub fn watch_only(&self, is_there: impl Fn(&JobName) -> bool) {
        self.change(|next| next.queues.retain(|job, _| is_there(job)));
    }

    /// Forgets the queue of a job that drains none.
    pub fn has_no_queue(&self, job: &JobName) {
        if self.snapshot.load().queues.contains_key(job) {
            self.change(|next| drop(next.queues.remove(job)));
        }
    }

    /// Every queue was looked at once, well or not.
    pub fn has_looked(&self) {
        self.looked.store(true, Ordering::Relaxed);
    }

    pub fn is_first_look_over(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    /// Takes over what was seen of a job's queue; when nothing was, the old figures stay with their age.
    pub fn saw_queue(&self, job: &JobName, seen: Result<QueueFigures, Failure>, now: DateTime<Utc>) {
        self.change(|next| {
            let watched = next.queues.entry(job.clone()).or_insert_with(|| WatchedQueue::new(now));
            match &seen {
                Ok(figures) => (watched.figures, watched.failure) = (Some(figures.clone()), None),
                Err(failure) => watched.failure = Some(failure.message.clone()),
            }
        });
    }

    async fn look(&self, engine: &Engine, depth: Depth, now: DateTime<Utc>) -> store::Result<()> {
        // A job that nobody has looked at may have succeeded long ago; of the others that is known.
        let known = self.snapshot.load_full();
        let depth = if known.sampled_at.is_none() { Depth::Whole } else { depth };
        let mut figures = engine.store.figures_of(depth, now).await?;
        let mut depth = depth;
        if depth < Depth::Whole && figures.jobs.keys().any(|job| !known.jobs.contains_key(job)) {
            depth = Depth::Whole;
            figures = engine.store.figures_of(depth, now).await?;
        }
        self.change(|next| {
            absorb(next, &figures, depth, now);
            remember(next, engine);
        });
        Ok(())
    }

    /// Several tasks write: none may undo what another one saw meanwhile.
    fn change(&self, change: impl Fn(&mut Snapshot)) {
        self.snapshot.rcu(|old| {
            let mut next = Snapshot::clone(old);
            change(&mut next);
            next
        });
    }
}

/// Takes over the answers of the database; what was not asked this time stays.
fn absorb(next: &mut Snapshot, figures: &Figures, depth: Depth, now: DateTime<Utc>) {
    next.sampled_at = Some(now);
    if Depth::Newest < depth {
        next.counted_at = Some(now);
    }
    next.replicas = figures.replicas;
    next.unexplained = figures.unexplained;
    let known = std::mem::replace(&mut next.jobs, figures.jobs.clone());
    for (name, stats) in &mut next.jobs {
        let Some(old) = known.get(name) else { continue };
        stats.remember(old, now);
        if depth == Depth::Newest {
            stats.keep_counts(old);
        }
    }
}

fn remember(next: &mut Snapshot, engine: &Engine) {
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
    next.reload = condition.reload;
    next.slots = slots(engine);
    let (running, now) = (engine.running.by_job(), engine.clock.now());
    for (name, stats) in &mut next.jobs {
        stats.stuck = running.get(name).map_or(0, |(_, stuck)| i64::try_from(*stuck).unwrap_or(i64::MAX));
        stats.foreign = condition.foreign.contains(name);
        stats.recent_failures = engine.metrics.recent_failures(name, now);
    }
}

fn slots(engine: &Engine) -> Slots {
    let total = engine.settings.scheduled_slots + engine.settings.queue_slots;
    let busy = engine.running.count(Lane::Scheduled) + engine.running.count(Lane::Queue);
    let count = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
    Slots { total: count(total), busy: count(busy) }
}
