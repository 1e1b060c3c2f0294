//! The loops around the ticks: each waits, looks at the clock, ticks, and goes on whatever came of it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Engine, attempt, lease, lease::Keeper, news::Minute, observe::Observer, planner::Planner, runner::Runner};

/// Longest sleep of the planner, so that suspended time and clock steps are seen.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// After a tick that failed on the database, or that was not allowed.
const FAILED_SLEEP: Duration = Duration::from_millis(200);
/// Between two looks for runs that nobody announced: retries of others, producers in other processes.
const POLL: Duration = Duration::from_millis(4_000);
/// Spread of `POLL`, so that replicas do not ask in step.
const POLL_SPREAD: Duration = Duration::from_millis(1_000);
/// Between two readings of the cursors, which people and other replicas move.
const REREAD: Duration = Duration::from_secs(15);
const LEASE_TICK: Duration = Duration::from_millis(500);
const RESCUE_TICK: Duration = Duration::from_secs(2);
const OBSERVE_TICK: Duration = Duration::from_millis(500);
/// Between two samples of the database while runs keep ending.
const FOLLOW: Duration = Duration::from_secs(5);
const CLOCK_TICK: Duration = Duration::from_secs(10);

/// Plans until told to stop.
pub async fn plan(engine: Arc<Engine>, stop: CancellationToken) {
    let mut planner = Planner::new(Arc::clone(&engine));
    let mut reread_at = Duration::ZERO;
    while !stop.is_cancelled() {
        if planner.is_outdated() {
            planner = Planner::new(Arc::clone(&engine));
            engine.status.change(|condition| condition.foreign.clear());
            reread_at = Duration::ZERO;
        }
        if reread_at <= engine.clock.boot() {
            match engine.store.job_rows().await {
                Ok(rows) => {
                    planner.read_cursors(&rows);
                    reread_at = engine.clock.boot() + REREAD;
                }
                Err(error) => engine.store_failed(&error),
            }
        }
        let sleep = plan_once(&engine, &mut planner).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.wake.planner.notified() => {}
            () = time::sleep(sleep) => {}
        }
    }
}

/// One turn; returns how long to sleep.
async fn plan_once(engine: &Arc<Engine>, planner: &mut Planner) -> Duration {
    let may_plan = !engine.clock.is_held() && !engine.running.is_expired(engine.clock.boot());
    // What is due must not make a loop spin that may not plan it.
    let sleep = if may_plan { tick(engine, planner).await } else { FAILED_SLEEP };
    let now = engine.clock.now();
    let oldest_owed = planner.oldest_owed();
    engine.status.change(|condition| {
        condition.planner_turned_at = Some(now);
        condition.oldest_owed = oldest_owed;
    });
    sleep
}

async fn tick(engine: &Arc<Engine>, planner: &mut Planner) -> Duration {
    match planner.tick(engine.clock.now()).await {
        Ok(tick) => {
            if 0 < tick.planned_jobs {
                engine.database_answered();
                engine.wake.runner.notify_one();
            }
            tick.started.into_iter().for_each(|claimed| attempt::start(engine, claimed));
            LONGEST_SLEEP.min(until(planner.next_look(), engine.clock.now()))
        }
        Err(error) => {
            engine.store_failed(&error);
            FAILED_SLEEP.min(until(planner.next_look(), engine.clock.now()))
        }
    }
}

/// Claims and starts until told to stop.
pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    let runner = Runner::new(Arc::clone(&engine));
    let (scheduled, queues) = (engine.settings.scheduled_slots, engine.settings.queue_slots);
    info!(component = "scheduler", "claim loop started: {scheduled} slots for schedules, {queues} for queues");
    while !stop.is_cancelled() {
        let sleep = claim(&engine, &runner).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.wake.runner.notified() => {}
            () = time::sleep(sleep) => {}
        }
    }
}

/// One claiming tick; how long there is nothing to do afterwards.
async fn claim(engine: &Arc<Engine>, runner: &Runner) -> Duration {
    let sleep = POLL + POLL_SPREAD.mul_f64(fastrand::f64());
    if engine.running.is_expired(engine.clock.boot()) {
        return sleep;
    }
    match runner.tick(engine.clock.now()).await {
        Ok(claims) => {
            engine.database_answered();
            let full_pass = !claims.claimed.is_empty();
            for claimed in claims.claimed {
                engine.news.claimed(&claimed.run, engine.clock.now());
                attempt::start(engine, claimed);
            }
            if full_pass { Duration::ZERO } else { sleep.min(until(claims.next_due, engine.clock.now())) }
        }
        Err(error) => {
            engine.store_failed(&error);
            FAILED_SLEEP
        }
    }
}

/// Renews the lease and watches its deadline, on to the very end.
pub async fn keep(engine: Arc<Engine>, mut keeper: Keeper, stop: CancellationToken) {
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            () = engine.wake.lease.notified() => true,
            () = time::sleep(LEASE_TICK) => false,
        };
        keeper.tick(asked).await;
    }
}

/// Watches the deadline of the lease. Renewing does so too, but may wait for the database just then.
pub async fn watch_deadline(engine: Arc<Engine>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        lease::stop_when_expired(&engine);
        pause(LEASE_TICK, &stop).await;
    }
}

/// Frees the runs of dead replicas.
pub async fn rescue(engine: Arc<Engine>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = lease::rescue(&engine).await {
            engine.store_failed(&error);
        }
        pause(RESCUE_TICK, &stop).await;
    }
}

/// Samples the database's clock.
pub async fn watch_clock(engine: Arc<Engine>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = lease::sample_clock(&engine).await {
            engine.store_failed(&error);
        }
        pause(CLOCK_TICK, &stop).await;
    }
}

/// Keeps the snapshot fresh: memory each second, the database when runs have ended.
pub async fn observe(engine: Arc<Engine>, observer: Arc<Observer>, stop: CancellationToken) {
    let (mut follow_at, mut minute, snapshot) = (Duration::ZERO, Minute::default(), observer.reader());
    while !stop.is_cancelled() {
        let (boot, now) = (engine.clock.boot(), engine.clock.now());
        if follow_at <= boot {
            follow_at = boot + FOLLOW;
            if let Err(error) = observer.follow(&engine, now).await {
                engine.store_failed(&error);
            }
        }
        observer.refresh(&engine);
        minute.tick(&engine, &snapshot.load());
        pause(OBSERVE_TICK, &stop).await;
    }
}

async fn pause(length: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = time::sleep(length) => {}
    }
}

fn until(moment: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let wait = moment.map_or(TimeDelta::MAX, |moment| moment - now);
    wait.to_std().unwrap_or(Duration::ZERO)
}
