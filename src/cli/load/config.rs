//! `config`: the settings in force and where each came from, the schema of jobs.toml, and the list of variables.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::{Loaded, load};
use crate::{
    cli::{
        exit::Exit,
        ledger::books::Books,
        output::{Column, Output, line, remark},
    },
    config::{Flags, Shown, VariableRow, variables},
    domain::run::ReplicaId,
    job_table::schema,
    serve,
    store::ActivateRequest,
};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting; secrets are masked
    Show(ShowArguments),
    /// Print the JSON Schema of jobs.toml
    Schema,
    /// List every variable with its unit, range, default and meaning
    Env,
    /// Make this job table the active one, whatever is active now
    Activate,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Say where each value came from
    #[arg(long)]
    pub origin: bool,
}

/// Runs the command; only `activate` opens the database, and closes it behind itself.
pub async fn config(command: &ConfigCommand, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Show(arguments) => show(&load(flags)?, arguments, output)?,
        ConfigCommand::Schema => line(schema::text().trim_end())?,
        ConfigCommand::Env => env(output)?,
        ConfigCommand::Activate => {
            let Loaded { config, table } = load(flags)?;
            let books = Books::open(table, &serve::database(&config)).await?;
            let activated = activate(&books).await;
            books.close().await;
            activated?;
        }
    }
    Ok(Exit::Ok)
}

async fn activate(books: &Books) -> anyhow::Result<()> {
    let request = ActivateRequest {
        table_hash: books.table.hash.clone(),
        revision: books.table.revision,
        jobs: books.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect(),
        replica: ReplicaId(Uuid::now_v7()),
        now: books.now,
        force: true,
    };
    let activation = books.store.activate(&request).await?;
    remark(match activation.changed {
        true => "the job table is the active one now",
        false => "the job table was the active one already",
    });
    Ok(())
}

fn show(loaded: &Loaded, arguments: &ShowArguments, output: Output) -> std::io::Result<()> {
    if output != Output::Table {
        let settings: serde_json::Map<_, _> = loaded
            .config
            .shown
            .iter()
            .map(|row| (row.name.into(), json!({ "value": row.value, "origin": row.origin.to_string() })))
            .collect();
        let all = json!({ "settings": settings, "table": loaded.table.shown, "hash": loaded.table.hash });
        return output.thing(&all, &[]);
    }
    let rows: Vec<ShownRow> = loaded.config.shown.iter().map(ShownRow::from).collect();
    let columns: &[Column<ShownRow>] =
        &[("SETTING", |row| row.name.into()), ("VALUE", |row| row.value.clone()), ("ORIGIN", |row| row.origin.clone())];
    output.list(&rows, if arguments.origin { columns } else { &columns[..2] })
}

/// A line of `config show`.
#[derive(serde::Serialize)]
struct ShownRow {
    name: &'static str,
    value: String,
    origin: String,
}

impl From<&Shown> for ShownRow {
    fn from(shown: &Shown) -> Self {
        Self { name: shown.name, value: shown.value.clone(), origin: shown.origin.to_string() }
    }
}

fn env(output: Output) -> std::io::Result<()> {
    let rows = variables();
    let columns: &[Column<VariableRow>] = &[
        ("VARIABLE", |row| row.name.into()),
        ("UNIT", |row| row.unit.into()),
        ("RANGE", |row| row.range.clone()),
        ("DEFAULT", |row| row.default.into()),
        ("MEANING", |row| row.meaning.into()),
    ];
    output.list(&rows, columns)
}
