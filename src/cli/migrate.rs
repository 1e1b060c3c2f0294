//! `migrate`: brings the tables up to date, says how they stand, or prints the statements.

use clap::Subcommand;
use serde_json::json;

use super::{
    exit::Exit,
    output::{Output, line},
};
use crate::store::{DatabaseConfig, Kind, Store};

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Migrate {
    /// Apply what is missing
    Up,
    /// Say what is applied and what is missing; exit 1 when something is
    Status,
    /// Print the statements of all migrations
    Sql,
}

pub async fn migrate(command: Migrate, database: &DatabaseConfig, output: Output) -> anyhow::Result<Exit> {
    match command {
        Migrate::Up => up(&Store::open(database).await?, output).await,
        Migrate::Status => status(&Store::open(database).await?, output).await,
        Migrate::Sql => {
            let is_postgres = database.url.starts_with("postgres");
            let kind = if is_postgres { Kind::Postgres } else { Kind::Sqlite };
            line(Store::migration_sql(kind, &database.schema).trim_end())?;
            Ok(Exit::Ok)
        }
    }
}

async fn up(store: &Store, output: Output) -> anyhow::Result<Exit> {
    let migrated = store.migrate().await?;
    let applied = if migrated.applied.is_empty() { "nothing: up to date".into() } else { migrated.applied.join(", ") };
    let shown = json!({ "applied": migrated.applied, "view": migrated.view });
    output.thing(&shown, &[("applied", applied), ("view", migrated.view)])?;
    Ok(Exit::Ok)
}

async fn status(store: &Store, output: Output) -> anyhow::Result<Exit> {
    let status = store.migration_status().await?;
    let shown = json!({ "current": status.current, "latest": status.latest, "pending": status.pending });
    let lines = [
        ("current", status.current.to_string()),
        ("latest", status.latest.to_string()),
        ("pending", status.pending.join(", ")),
    ];
    output.thing(&shown, &lines)?;
    Ok(if status.pending.is_empty() { Exit::Ok } else { Exit::Failed })
}
