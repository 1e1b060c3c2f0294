//! `runs`: the ledger's rows, newest first.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{
    books::Books,
    change::{self, CancelArguments, RetryArguments},
    prune::{self, PruneArguments},
};
use crate::{
    cli::{
        exit::{Exit, Stop},
        given::moment::{self, Since},
        output::{Column, Output},
    },
    domain::run::{Outcome, Run, RunId, State},
    store::RunFilter,
};

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List runs, newest first
    #[command(after_help = "Examples:
  workers runs list --job mail --outcome error --since 24h
  workers runs list --state running -o json")]
    List(ListArguments),
    /// Show everything about one run
    Show {
        /// The id of the run
        id: Uuid,
    },
    /// Cancel runs: what waits ends now, what runs is asked to end
    #[command(after_help = "Examples:
  workers runs cancel 0198f3a2-7c1e-7000-8000-0123456789ab
  workers runs cancel --job mail --state waiting --dry-run")]
    Cancel(CancelArguments),
    /// Do finished runs again: each becomes a new run that names the old one
    #[command(after_help = "Examples:
  workers runs retry 0198f3a2-7c1e-7000-8000-0123456789ab
  workers runs retry 0198f3a2-7c1e-7000-8000-0123456789ab --payload '{\"to\": \"ana\"}'
  workers runs retry --job mail --since 24h --dry-run

A run that was retried before is left out when runs are chosen by a filter, so that saying it twice does nothing twice.")]
    Retry(RetryArguments),
    /// Remove old finished runs, in small batches; only what the audit has counted
    #[command(after_help = "Examples:
  workers runs prune --dry-run
  workers runs prune --job mail --older-than 7d --outcome success

The service does this by itself, by `keep` of each job. The newest success of a job always stays, and so do instants that the
audit has not counted yet: `workers ledger` goes on balancing.")]
    Prune(PruneArguments),
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Only runs in this state: waiting, due, running or finished
    #[arg(long)]
    pub state: Option<State>,
    /// Only runs that ended so: success, partial, skipped, error, timeout, panic, lost, unknown or cancelled
    #[arg(long)]
    pub outcome: Option<Outcome>,
    /// Only runs created since: an instant, a date, or how long ago, such as 24h
    #[arg(long, value_parser = moment::since)]
    pub since: Option<Since>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

pub async fn runs(books: &Books, command: Runs, output: Output) -> anyhow::Result<Exit> {
    match command {
        Runs::List(arguments) => list(books, arguments, output).await,
        Runs::Show { id } => show(books, RunId(id), output).await,
        Runs::Cancel(arguments) => change::cancel(books, arguments, output).await,
        Runs::Retry(arguments) => change::retry(books, arguments, output).await,
        Runs::Prune(arguments) => prune::prune(books, arguments, output).await,
    }
}

async fn list(books: &Books, arguments: ListArguments, output: Output) -> anyhow::Result<Exit> {
    let job = match &arguments.job {
        Some(name) => Some(books.known(name).await?),
        None => None,
    };
    let filter = RunFilter {
        job,
        state: arguments.state,
        outcome: arguments.outcome,
        since: arguments.since.map(|since| since.at(books.now)),
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
    let run = books.store.run(id).await?.ok_or_else(|| unknown(id))?;
    output.thing(&run, &fields(&run)?)?;
    Ok(Exit::Ok)
}

/// The error of an id that no run has.
pub fn unknown(id: RunId) -> Stop {
    Stop::new(Exit::NotFound, format!("no run {id} in the ledger: `workers runs list` shows the newest"))
}

fn fields(run: &Run) -> anyhow::Result<Vec<(&'static str, String)>> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(vec![
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
        ("cancel asked", instant(run.cancel_requested_at)),
        ("key", text(&run.key)),
        ("payload", if run.payload.is_null() { String::new() } else { run.payload.to_string() }),
        ("error", text(&run.error)),
        ("result", run.result.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("earlier errors", earlier(run)?),
    ])
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
