//! How the rules of the daemon are decided.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Finding, Look,
    table::{AHEAD_LIMIT, FIGURES_PATIENCE, LAG_LIMIT, PLANNER_PATIENCE},
};
use crate::domain::health::snapshot::Snapshot;

/// The planner turns at least each second; an instant younger than this may be in the turn that runs now.
const TURN_SLACK: TimeDelta = TimeDelta::seconds(2);

/// Whether `/livez` says yes: the planner turns. Touches no database and no job.
pub fn alive(snapshot: &Snapshot, now: DateTime<Utc>) -> bool {
    now - planner_seen(snapshot, now) < PLANNER_PATIENCE
}

/// What a scrape shows as the planner's last turn; `None` = it has not turned yet.
pub fn last_tick(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // A planner that rests because the process drains has not stalled, however long the drain may take.
    if snapshot.planner.draining { Some(now) } else { snapshot.planner.last_turn }
}

/// Age of the oldest due instant that is not in the ledger; zero = none.
pub fn scheduler_lag(snapshot: &Snapshot, now: DateTime<Utc>) -> TimeDelta {
    let planner = &snapshot.planner;
    let (Some(owed), Some(turned)) = (planner.oldest_owed, planner.last_turn) else { return TimeDelta::zero() };
    let age = now - owed;
    // An instant that came due after the last turn is late only when the next turn is.
    let left_behind = owed <= turned || TURN_SLACK < age;
    if left_behind { age.max(TimeDelta::zero()) } else { TimeDelta::zero() }
}

/// Whether a cursor stands further in the future than clocks and slow commands explain.
pub fn is_ahead(planned_until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now + AHEAD_LIMIT < planned_until
}

/// When the database last answered; before the first time, since when it could have.
pub fn figures_seen(snapshot: &Snapshot) -> DateTime<Utc> {
    snapshot.sampled_at.unwrap_or(snapshot.planner.started_at).max(snapshot.database.since)
}

/// When the planner was last known to work. It begins when the database is open: waiting for that is no stall.
fn planner_seen(snapshot: &Snapshot, now: DateTime<Utc>) -> DateTime<Utc> {
    let (planner, database) = (&snapshot.planner, &snapshot.database);
    match last_tick(snapshot, now) {
        Some(turned) => turned,
        None if database.migrated => planner.started_at.max(database.since),
        None => now,
    }
}

pub fn stalled(look: &Look<'_>) -> Option<Finding> {
    let (snapshot, now) = (look.snapshot, look.now);
    let since = planner_seen(snapshot, now);
    let holds = !alive(snapshot, now);
    let message = || format!("the planner has not turned for {} s", (now - since).num_seconds());
    holds.then(|| Finding::new(Some(since), message()))
}

pub fn lagging(look: &Look<'_>) -> Option<Finding> {
    let lag = scheduler_lag(look.snapshot, look.now);
    let message = || format!("the oldest due instant has waited {} s for its ledger entry", lag.num_seconds());
    (LAG_LIMIT < lag).then(|| Finding::new(look.snapshot.planner.oldest_owed, message()))
}

pub fn clock_held(look: &Look<'_>) -> Option<Finding> {
    let message = "the clock jumped; planning waits for three agreeing samples";
    look.snapshot.planner.clock_hold.then(|| Finding::new(None, message))
}

pub fn away(look: &Look<'_>) -> Option<Finding> {
    let database = &look.snapshot.database;
    let away = look.now - database.since;
    let message = || format!("the database has been away for {} s", away.num_seconds());
    (!database.up).then(|| Finding::new(Some(database.since), message()))
}

pub fn blind(look: &Look<'_>) -> Option<Finding> {
    let (database, since) = (&look.snapshot.database, figures_seen(look.snapshot));
    let age = look.now - since;
    let holds = database.up && database.migrated && FIGURES_PATIENCE < age;
    let message = || format!("the figures of the jobs are {} s old although the database answers", age.num_seconds());
    holds.then(|| Finding::new(Some(since), message()))
}

pub fn ephemeral(look: &Look<'_>) -> Option<Finding> {
    let message = "the database lies on the container's own layer and goes with it: mount a volume";
    look.snapshot.ephemeral.then(|| Finding::new(Some(look.snapshot.planner.started_at), message))
}

pub fn unexplained(look: &Look<'_>) -> Option<Finding> {
    let unexplained = look.snapshot.unexplained;
    let message = || format!("{unexplained} instants are missing, doubled or extra in the ledger");
    (unexplained != 0).then(|| Finding::new(None, message()))
}

pub fn reload_failed(look: &Look<'_>) -> Option<Finding> {
    let failed = look.snapshot.reload.as_ref()?;
    let message = "the job table on disk was refused; the one that was read before goes on";
    Some(Finding { detail: Some(failed.problem.clone()), ..Finding::new(Some(failed.since), message) })
}
