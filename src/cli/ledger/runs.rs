//! `runs`: the ledger's rows, newest first.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::books::Books;
use crate::{
    cli::output::{Column, Exit, Output, Stop},
    domain::{
        job::JobName,
        run::{Outcome, Run, RunId, State},
    },
    store::RunFilter,
};

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List runs, newest first.
    List(ListArguments),
    /// Show one run.
    Show {
        /// The id of the run.
        id: Uuid,
    },
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this job.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Only runs in this state: waiting, due, running or finished.
    #[arg(long)]
    pub state: Option<State>,
    /// Only runs that ended so: success, partial, skipped, error, timeout, panic, lost, unknown or cancelled.
    #[arg(long)]
    pub outcome: Option<Outcome>,
    /// Only runs created from this instant on (RFC 3339).
    #[arg(long, value_name = "INSTANT")]
    pub since: Option<DateTime<Utc>>,
    /// At most this many.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

pub async fn runs(books: &Books, command: Runs, output: Output) -> anyhow::Result<Exit> {
    match command {
        Runs::List(arguments) => list(books, arguments, output).await,
        Runs::Show { id } => show(books, RunId(id), output).await,
    }
}

async fn list(books: &Books, arguments: ListArguments, output: Output) -> anyhow::Result<Exit> {
    let filter = RunFilter {
        job: arguments.job.as_deref().map(JobName::from_store),
        state: arguments.state,
        outcome: arguments.outcome,
        since: arguments.since,
        limit: arguments.limit,
    };
    let runs = books.store.runs(&filter).await?;
    output.list(&runs, &COLUMNS)?;
    Ok(Exit::Ok)
}

const COLUMNS: [Column<Run>; 10] = [
    ("ID", |run| run.id.to_string()),
    ("JOB", |run| run.job.to_string()),
    ("TRIGGER", |run| run.trigger.to_string()),
    ("DUE", |run| instant(Some(run.scheduled_for.unwrap_or(run.due_at)))),
    ("COVERS", |run| run.covers.to_string()),
    ("STATE", |run| run.outcome.map_or_else(|| run.state.to_string(), |outcome| outcome.to_string())),
    ("REASON", |run| run.reason.map(|reason| reason.to_string()).unwrap_or_default()),
    ("ATTEMPT", |run| run.attempt.to_string()),
    ("LAG MS", |run| number(run.lag_ms)),
    ("TOOK MS", |run| number(run.duration_ms)),
];

async fn show(books: &Books, id: RunId, output: Output) -> anyhow::Result<Exit> {
    let run = books.store.run(id).await?;
    let run = run.ok_or_else(|| Stop::new(Exit::NotFound, format!("no run {id} in the ledger")))?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let lines = [
        ("id", run.id.to_string()),
        ("job", run.job.to_string()),
        ("trigger", run.trigger.to_string()),
        ("state", run.state.to_string()),
        ("outcome", run.outcome.map(|outcome| outcome.to_string()).unwrap_or_default()),
        ("reason", run.reason.map(|reason| reason.to_string()).unwrap_or_default()),
        ("scheduled for", instant(run.scheduled_for)),
        ("covers", run.covers.to_string()),
        ("covers from", instant(run.covers_from)),
        ("due at", instant(Some(run.due_at))),
        ("started at", instant(run.started_at)),
        ("finished at", instant(run.finished_at)),
        ("attempt", format!("{} of {}", run.attempt, run.max_attempts)),
        ("crashes", run.crashes.to_string()),
        ("lag ms", number(run.lag_ms)),
        ("took ms", number(run.duration_ms)),
        ("items", number(run.items)),
        ("items failed", number(run.items_failed)),
        ("response code", number(run.response_code.map(i64::from))),
        ("replica", run.replica.map(|replica| replica.to_string()).unwrap_or_default()),
        ("retry of", run.retry_of.map(|of| of.to_string()).unwrap_or_default()),
        ("error", text(&run.error)),
        ("result", run.result.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("earlier errors", earlier(&run)?),
    ];
    output.thing(&run, &lines)?;
    Ok(Exit::Ok)
}

fn earlier(run: &Run) -> anyhow::Result<String> {
    let none = run.errors.as_array().is_none_or(Vec::is_empty);
    if none { Ok(String::new()) } else { serde_json::to_string(&run.errors).context("earlier errors are JSON") }
}

/// An instant for people and machines alike; empty when there is none.
pub fn instant(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}

fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
