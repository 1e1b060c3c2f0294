//! `workers demo`: opens the database and fills the team's empty tables with an invented team, all of it or nothing.

use chrono::{DateTime, Utc};
use tracing::info;

use super::{options::database, prepare::begin};
use crate::{
    clock::Clock,
    config::Config,
    domain::{run::FailureKind, schedule::Zone},
    engine::Engine,
    handlers::demo::{self, Moment, Unfilled},
    job_table::{Entry, JobTable},
    store::{Store, StoreError},
};

pub use crate::handlers::demo::Filled;

/// A daemon at work beside us may undo a filling with its locks; so often it is begun.
const MOST_TRIES: u32 = 3;

/// What was made, and where.
pub struct Demonstration {
    /// One line per table, in the order in which they were filled.
    pub tables: Vec<Filled>,
    /// The database, without its password.
    pub database: String,
    /// When it was filled.
    pub now: DateTime<Utc>,
    /// The zone in which the invented business has its hours.
    pub zone: Zone,
}

/// Fills the team's tables. `told` hears before each row how many are left.
///
/// # Errors
/// `StoreError::Conflict` in production, and when a table of the team has a row; what else keeps a table from being filled
/// is named. Nothing is changed then.
pub async fn demonstrate(
    config: &Config,
    table: &JobTable,
    told: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<Demonstration> {
    if config.is_production() {
        let message = "APP_ENV is production: invented people have no business there";
        return Err(StoreError::Conflict(message.into()).into());
    }
    let store = Store::open(&database(config)).await?;
    let now = store.database_time().await?.unwrap_or_else(|| Clock::system().now());
    let moment = Moment { now, zone: business_zone(table) };
    let mut tries = 0;
    let filled = loop {
        let mut tx = begin(&store).await?;
        tries += 1;
        match demo::fill(&mut tx, &moment, config.create_team_tables, told).await {
            Ok(filled) => {
                tx.commit().await.map_err(StoreError::from)?;
                break filled;
            }
            // Whoever works on the tables may have stood in the way of a lock, and we in his.
            Err(Unfilled::Failed(failure)) if failure.kind == FailureKind::Retry && tries < MOST_TRIES => {}
            Err(unfilled) => return Err(refusal(unfilled)),
        }
    };
    let described = store.describe();
    store.close().await;
    let database = format!("{} {}", described.kind.word(), described.database);
    Ok(Demonstration { tables: filled, database, now, zone: moment.zone })
}

fn refusal(unfilled: Unfilled) -> anyhow::Error {
    match unfilled {
        Unfilled::NotEmpty(table) => {
            let message =
                format!("table {table} has rows: a demonstration is made in empty tables only, nothing was changed");
            StoreError::Conflict(message).into()
        }
        Unfilled::Failed(failure) => anyhow::anyhow!("{}; nothing was changed", failure.message),
    }
}

/// The zone of the first job that works on the team's tables.
fn business_zone(table: &JobTable) -> Zone {
    let of_team = table.jobs.values().find(|entry| !entry.work.team_tables().is_empty());
    of_team.map_or_else(Zone::utc, |entry| entry.job.zone.clone())
}

/// Says how to see work being done, where the team's tables are missing or empty.
pub async fn offer(engine: &Engine) {
    let claims_team = |entry: &Entry| engine.settings.scope.claims(&entry.job) && !entry.work.team_tables().is_empty();
    if !engine.table().jobs.values().any(claims_team) {
        return;
    }
    // A database that does not answer has told so elsewhere.
    let Ok(mut tx) = (engine.database.begin)().await else { return };
    if let Ok(None) = demo::first_filled(&mut tx).await {
        info!(
            component = "banner",
            "the team's tables are empty: `workers demo`, in another terminal, fills them with invented people and messages"
        );
    }
}
