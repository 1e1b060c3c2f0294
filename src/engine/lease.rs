//! The lease: keeps this replica alive in the eyes of the others, stops everything when it cannot, frees the dead.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{Engine, running::ABORT_GRACE};
use crate::{
    clock::{Observation, Sample},
    domain::{run::ReplicaId, settle::Ended},
    store::{Freed, Replica, Result},
};

/// How long a lease lasts.
pub const LEASE: Duration = Duration::from_secs(30);
/// Between two renewals.
pub const RENEWAL: Duration = Duration::from_secs(10);
/// The local deadline comes this much before the lease ends, plus the time that stopping takes.
const MARGIN: Duration = Duration::from_secs(2);
/// Between two tries to renew while the database is away.
const RENEWAL_RETRY: Duration = Duration::from_secs(1);

/// Renews, and watches the deadline.
pub struct Keeper {
    engine: Arc<Engine>,
    /// On the boot clock.
    renew_at: Duration,
    started_at: DateTime<Utc>,
}

impl Keeper {
    pub fn new(engine: Arc<Engine>) -> Self {
        let (renew_at, started_at) = (engine.clock.boot(), engine.clock.now());
        Self { engine, renew_at, started_at }
    }

    /// Puts this replica on the list; its lease starts now.
    pub async fn register(&mut self) -> Result<()> {
        let sent = self.engine.clock.boot();
        let now = self.engine.clock.now();
        let settings = &self.engine.settings;
        let replica = Replica {
            id: self.engine.running.replica(),
            host: settings.host.clone(),
            version: settings.version.clone(),
            // Who works on a part only holds no table in the eyes of the others.
            table_hash: if settings.scope.is_whole() { self.engine.table().hash.clone() } else { String::new() },
            state: "running".into(),
            started_at: self.started_at,
            lease_until: lease_until(now),
        };
        self.engine.store.register(&replica).await?;
        self.renewed(sent);
        Ok(())
    }

    /// Checks the deadline first, whatever woke us; then renews when it is time, or when asked to.
    pub async fn tick(&mut self, asked: bool) {
        let boot = self.engine.clock.boot();
        stop_when_expired(&self.engine);
        if !asked && boot < self.renew_at {
            return;
        }
        match self.renew().await {
            Ok(()) => self.engine.database_answered(),
            Err(error) => {
                self.engine.store_failed(&error);
                self.renew_at = self.engine.clock.boot() + RENEWAL_RETRY;
            }
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let (sent, now) = (engine.clock.boot(), engine.clock.now());
        let held = engine.store.renew(engine.running.replica(), now, lease_until(now)).await?;
        let Some(held) = held else { return self.start_over().await };
        self.renewed(sent);
        let unknown = engine.running.compare(&held);
        if !unknown.is_empty() {
            warn!(component = "scheduler", runs = unknown.len(), "putting back runs whose claim was never answered");
            engine.store.give_back(&unknown).await?;
            engine.wake.runner.notify_one();
        }
        Ok(())
    }

    /// The lease expired: everything under it stops, and the process goes on as a new replica.
    async fn start_over(&mut self) -> Result<()> {
        error!(component = "scheduler", replica = %self.engine.running.replica(), "lease lost: starting over as a new replica");
        self.engine.metrics.lease_lost();
        self.engine.running.stop_all(&Ended::Interrupted);
        self.engine.running.rename(ReplicaId(Uuid::now_v7()));
        self.register().await
    }

    fn renewed(&mut self, sent: Duration) {
        self.renew_at = sent + RENEWAL;
        if self.engine.store.needs_lease() {
            self.engine.running.set_deadline(sent + LEASE - MARGIN - ABORT_GRACE);
        }
    }
}

/// Stops every attempt when the lease cannot be trusted any more; asks nobody.
pub fn stop_when_expired(engine: &Engine) {
    if engine.running.is_expired(engine.clock.boot()) {
        engine.running.stop_all(&Ended::Interrupted);
    }
}

/// Frees the runs of replicas whose lease has expired. After an outage of the database everybody's lease may look
/// expired, so it waits one lease first.
pub async fn rescue(engine: &Engine) -> Result<()> {
    if !engine.store.needs_lease() {
        return Ok(());
    }
    let condition = engine.status.get();
    let settled_down = condition.database_back_at.is_none_or(|back| back + LEASE <= engine.clock.boot());
    if !condition.database_up || !settled_down {
        return Ok(());
    }
    let freed = engine.store.free_lost(engine.running.replica(), engine.clock.now()).await?;
    note_freed(engine, &freed);
    if !freed.is_empty() {
        engine.wake.runner.notify_one();
    }
    Ok(())
}

/// Logs runs that were freed, and counts those that ended without their process.
pub fn note_freed(engine: &Engine, freed: &[Freed]) {
    for Freed { run, job, outcome } in freed {
        let Some(outcome) = *outcome else {
            info!(component = "scheduler", job_name = %job, run_id = %run, "freed from a process that is gone: it runs again");
            continue;
        };
        error!(
            component = "scheduler", job_name = %job, run_id = %run, outcome = %outcome, "job finished: its process is gone"
        );
        engine.ended_unstarted(job, outcome);
    }
}

/// Samples the database's clock; SQLite has none of its own, so there the host's is sampled the same way.
pub async fn sample_clock(engine: &Engine) -> Result<Observation> {
    let clock = &engine.clock;
    let sent = clock.boot();
    let database = engine.store.database_time().await?.unwrap_or_else(|| clock.host());
    let was_held = clock.is_held();
    let observation = clock.observe(Sample { database, sent, received: clock.boot() });
    match (was_held, observation) {
        (false, Observation::Held) => {
            error!(
                component = "scheduler",
                "the clock jumped to {}: planning holds until it is confirmed",
                database.to_rfc3339()
            );
        }
        (true, Observation::Adopted) => warn!(component = "scheduler", "the clock is believed again: planning goes on"),
        _ => {}
    }
    Ok(observation)
}

fn lease_until(now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::from_std(LEASE).unwrap_or(TimeDelta::zero())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::handlers::Work;

    #[test]
    fn every_handler_has_ended_by_itself_before_the_lease_does() {
        for name in Work::NAMES {
            let settings = match *name {
                // Nothing of it has a default: every name and condition is the team's.
                "drain" => json!({
                    "table": "queue", "where": "true", "claim": "taken = true", "done": "done = true", "retry": "taken = false",
                    "dead": "done = true", "deliver": { "post": "/" },
                }),
                _ => json!({}),
            };
            let work = Work::parse(name, settings).unwrap_or_else(|error| panic!("{name}: {error}"));

            assert!(work.stop_grace() < ABORT_GRACE + MARGIN, "{name} may take {:?}", work.stop_grace());
        }
    }
}
