//! Which table is active, seen from this process.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    domain::job::{Job, JobName},
    engine::{Engine, planner},
    job_table::JobTable,
    store::{ActivateRequest, StoreError},
};

/// Between two tries to become the active table.
const ACTIVATION_RETRY: Duration = Duration::from_secs(10);

/// Asks to become the active table, unless this process was told to leave something out; then only a database that
/// has no table at all is given one.
pub async fn activate(engine: &Engine, table: &JobTable) -> Result<(), StoreError> {
    let whole = engine.settings.scope.is_whole();
    if !whole && engine.store.active_table().await?.is_some() {
        return Ok(());
    }
    let request = ActivateRequest {
        table_hash: table.hash.clone(),
        revision: table.revision,
        jobs: table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect(),
        replica: engine.running.replica(),
        now: engine.clock.now(),
        force: false,
    };
    let activation = engine.store.activate(&request).await?;
    let was_active = engine.status.get().active;
    activation.bill.iter().for_each(planner::bill);
    for (job, why) in &activation.unreadable {
        error!(component = "scheduler", job_name = %job, "cannot read its old schedule, so nothing of it was recorded: {why}");
    }
    if activation.changed {
        info!(component = "scheduler", table = table.hash, "job table activated");
    } else if !activation.active && was_active {
        warn!(
            component = "scheduler",
            "another job table is active now: what differs here is neither planned nor claimed"
        );
    }
    engine.status.change(|condition| condition.active = activation.active);
    engine.wake.planner.notify_one();
    Ok(())
}

/// Jobs that this process was told to run and that the active table describes otherwise, or not at all: nothing of
/// them would ever be claimed here.
pub async fn foreign_jobs(engine: &Engine) -> Result<Vec<JobName>, StoreError> {
    let rows = engine.store.job_rows().await?;
    let is_active = |job: &Job| {
        rows.iter().any(|row| row.name == job.name && row.work_hash == job.work_hash && row.retired_at.is_none())
    };
    let table = engine.table();
    let mine = table.jobs.values().map(|entry| &entry.job);
    let foreign = mine.filter(|job| engine.settings.scope.claims(job) && !is_active(job));
    Ok(foreign.map(|job| job.name.clone()).collect())
}

/// A table that lost its place gets it back when nobody has held the active one for a minute.
pub async fn stay_active(engine: Arc<Engine>, turn: Arc<Mutex<()>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(ACTIVATION_RETRY) => {}
        }
        let _turn = turn.lock().await;
        let table = engine.table();
        match engine.store.active_table().await {
            Ok(active) if active.as_deref() == Some(table.hash.as_str()) => {
                engine.status.change(|condition| condition.active = true);
            }
            Ok(_) => {
                if let Err(error) = activate(&engine, &table).await {
                    engine.store_failed(&error);
                }
            }
            Err(error) => engine.store_failed(&error),
        }
    }
}
