//! The settler: gathers the ends of attempts and writes them together. It forgets none while the database is away.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    time,
};
use tracing::{debug, error, warn};

use super::Engine;
use crate::{
    domain::{
        run::{Lease, Reason, Run},
        settle::{Next, Settlement},
    },
    store::Settled,
};

/// Ends that come within this time are written in one statement.
const GATHER: Duration = Duration::from_millis(2);
/// Most settlements of one statement.
const BATCH: usize = 1_000;
/// Between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(500);
/// Between two tries of an end that the database refuses.
const ASIDE: Duration = Duration::from_secs(30);

/// The end of an attempt, judged and not yet written.
pub struct Finished {
    pub lease: Lease,
    pub settlement: Settlement,
    pub run: Arc<Run>,
}

/// Reads the channel until it is closed and empty. Shared, so that a settler that died leaves it to the next one.
pub async fn run(engine: Arc<Engine>, finished: Arc<Mutex<mpsc::UnboundedReceiver<Finished>>>) {
    let mut finished = finished.lock().await;
    while let Some(first) = finished.recv().await {
        let batch = gather(first, &mut finished).await;
        write(&engine, batch).await;
    }
}

async fn gather(first: Finished, finished: &mut mpsc::UnboundedReceiver<Finished>) -> Vec<Finished> {
    let mut batch = vec![first];
    let mut window = std::pin::pin!(time::sleep(GATHER));
    while batch.len() < BATCH {
        let next = tokio::select! {
            biased;
            next = finished.recv() => next,
            () = &mut window => None,
        };
        let Some(next) = next else { break };
        batch.push(next);
    }
    batch
}

/// Writes a batch, however long the database stays away: the fence decides whether it still counts. A batch that the
/// database refuses is written one by one, and an end that it refuses alone waits aside: it must hold up no other.
pub async fn write(engine: &Arc<Engine>, batch: Vec<Finished>) {
    for refused in insist(engine, batch).await {
        for alone in insist(engine, vec![refused]).await {
            tokio::spawn(write_aside(Arc::clone(engine), alone));
        }
    }
}

/// The run stays ours and keeps its slot: nobody may run it again before somebody has mended the database.
async fn write_aside(engine: Arc<Engine>, alone: Finished) {
    let mut refused = vec![alone];
    while !refused.is_empty() {
        time::sleep(ASIDE).await;
        refused = insist(&engine, refused).await;
    }
}

/// Writes a batch; gives it back when the database is there and refuses it.
async fn insist(engine: &Engine, batch: Vec<Finished>) -> Vec<Finished> {
    let split = |end: Finished| (end.run, (end.lease, end.settlement));
    let (runs, settlements): (Vec<_>, Vec<_>) = batch.into_iter().map(split).unzip();
    let settled = loop {
        match engine.store.settle(&settlements, engine.clock.now()).await {
            Ok(settled) => break settled,
            Err(error) if error.is_passing() => engine.database_failed(&error),
            Err(error) => {
                error!(component = "scheduler", runs = runs.len(), "cannot settle: {error}");
                let join = |(run, (lease, settlement))| Finished { lease, settlement, run };
                return runs.into_iter().zip(settlements).map(join).collect();
            }
        }
        time::sleep(RETRY).await;
    };
    engine.database_answered();
    for ((run, (lease, settlement)), settled) in runs.iter().zip(&settlements).zip(&settled) {
        engine.running.leave(lease);
        note(engine, run, settlement, settled);
    }
    Vec::new()
}

/// Counts and logs an end: once, where it is settled and its slot is free again.
pub fn note(engine: &Engine, run: &Run, settlement: &Settlement, settled: &Settled) {
    engine.wake.runner.notify_one();
    let instead;
    let settlement = match settled {
        Settled::Late => {
            warn!(component = "scheduler", job_name = %run.job, run_id = %run.id, "result came late: its lease was gone");
            return;
        }
        Settled::Undone => {
            warn!(component = "scheduler", job_name = %run.job, run_id = %run.id, "transaction did not commit: it runs again");
            return;
        }
        Settled::NotStorable(refusal) => {
            instead = Settlement::not_storable(refusal);
            &instead
        }
        Settled::EndedInstead(outcome) => {
            instead = Settlement::finish(*outcome, Some(Reason::Operator));
            &instead
        }
        Settled::Applied => settlement,
    };
    let now = engine.clock.now();
    let gated = matches!(settlement.next, Next::Finish { reason: Some(Reason::Gate), .. });
    let took = run.started_at.filter(|_| !gated).and_then(|started| (now - started).to_std().ok());
    if let Next::Again { at, reason: Some(Reason::Accepted) } = &settlement.next {
        debug!(component = "scheduler", job_name = %run.job, run_id = %run.id, "accepted, looking again at {}", at.to_rfc3339());
        return;
    }
    engine.metrics.settled(run, settlement, took, now);
    engine.status.settled();
    engine.news.ended(run, settlement, took);
}
