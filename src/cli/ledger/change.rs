//! `runs cancel` and `runs retry`: runs by their ids, or all that a filter names.

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{books::Books, runs};
use crate::{
    cli::{
        exit::{Exit, Stop, exit_of_store},
        given::moment::{self, Since},
        given::payload,
        output::{Column, Output, remark},
        progress::Progress,
    },
    domain::run::{Outcome, RunId, State},
    store::{Cancelled, Retried, Retrying, StoreError, Unfinished},
};

/// Runs of one transaction: a daemon beside us must not wait.
const BATCH: u32 = 200;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "job", "state"]))]
pub struct CancelArguments {
    /// The runs
    #[arg(value_name = "ID", conflicts_with_all = ["job", "state", "dry_run"])]
    pub ids: Vec<Uuid>,
    /// All unfinished runs of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// All runs in this state: waiting, due or running
    #[arg(long)]
    pub state: Option<State>,
    /// Say how many it would be, and cancel none
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "job", "outcome", "since"]))]
pub struct RetryArguments {
    /// The runs
    #[arg(value_name = "ID", conflicts_with_all = ["job", "outcome", "since", "dry_run"])]
    pub ids: Vec<Uuid>,
    /// Another payload than before: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", conflicts_with_all = ["job", "outcome", "since"])]
    pub payload: Option<String>,
    /// Runs of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Runs that ended so [default: error, timeout, panic, lost and unknown]
    #[arg(long)]
    pub outcome: Option<Outcome>,
    /// Runs created since: an instant, a date, or how long ago, such as 24h
    #[arg(long, value_parser = moment::since)]
    pub since: Option<Since>,
    /// At most this many, the oldest first
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Say how many it would be, and retry none
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn cancel(books: &Books, arguments: CancelArguments, output: Output) -> anyhow::Result<Exit> {
    if arguments.ids.is_empty() {
        return cancel_all(books, &arguments, output).await;
    }
    let (mut lines, mut exit) = (Vec::new(), Exit::Ok);
    for id in arguments.ids.into_iter().map(RunId) {
        match books.store.request_cancel(id, books.now).await {
            Ok(was) => lines.push(CancelLine { run: id, was }),
            Err(error) => exit = told(error, id, exit)?,
        }
    }
    output.list(&lines, &CANCELLED)?;
    Ok(exit)
}

/// A line of `runs cancel ID...`.
#[derive(Serialize)]
struct CancelLine {
    run: RunId,
    was: State,
}

const CANCELLED: [Column<CancelLine>; 3] = [
    ("RUN", |line| line.run.to_string()),
    ("WAS", |line| line.was.to_string()),
    ("NOW", |line| if line.was == State::Running { "asked to end" } else { "cancelled" }.into()),
];

/// One of several runs could not be changed: the others go on, and the first reason is the exit code. An outage ends all.
fn told(error: StoreError, id: RunId, exit: Exit) -> anyhow::Result<Exit> {
    let its = exit_of_store(&error);
    match error {
        StoreError::NotFound(reason) if reason.starts_with("no run") => {
            remark(&format!("error: {}", runs::unknown(id)))
        }
        StoreError::NotFound(reason) | StoreError::Conflict(reason) => remark(&format!("error: {reason}")),
        other => return Err(other.into()),
    }
    Ok(if exit == Exit::Ok { its } else { exit })
}

async fn cancel_all(books: &Books, arguments: &CancelArguments, output: Output) -> anyhow::Result<Exit> {
    if arguments.state == Some(State::Finished) {
        let message = "--state finished: what has finished cannot be cancelled; give waiting, due or running";
        return Err(Stop::new(Exit::Usage, message).into());
    }
    let job = match &arguments.job {
        Some(name) => Some(books.known(name).await?),
        None => None,
    };
    let which = Unfinished { job, state: arguments.state };
    let found = books.store.count_unfinished(&which).await?;
    if arguments.dry_run {
        output.thing(&json!({ "would_cancel": found }), &[("would cancel", found.to_string())])?;
        return Ok(Exit::Ok);
    }
    let (mut bar, mut sum) = (Progress::new("cancelling", found), Cancelled::default());
    // What is enqueued meanwhile is not meant, and must not keep us here.
    while bar.done() < found {
        let batch = books.store.cancel_many(&which, books.now, BATCH).await?;
        if batch == Cancelled::default() {
            break;
        }
        sum = Cancelled { ended: sum.ended + batch.ended, asked: sum.asked + batch.asked };
        bar.add(batch.ended + batch.asked);
    }
    drop(bar);
    let shown = json!({ "cancelled": sum.ended, "asked_to_end": sum.asked });
    output.thing(&shown, &[("cancelled", sum.ended.to_string()), ("asked to end", sum.asked.to_string())])?;
    Ok(Exit::Ok)
}

pub async fn retry(books: &Books, arguments: RetryArguments, output: Output) -> anyhow::Result<Exit> {
    if arguments.ids.is_empty() {
        return retry_all(books, &arguments, output).await;
    }
    let payload = arguments.payload.as_deref().map(payload::read).transpose()?;
    let (mut lines, mut exit) = (Vec::new(), Exit::Ok);
    for id in arguments.ids.into_iter().map(RunId) {
        match books.store.retry(id, payload.clone(), books.now).await {
            Ok(run) => {
                let new = books.store.run(run).await?.context("the new run is in the ledger")?;
                lines.push(RetryLine { run, retry_of: id, job: new.job.to_string() });
            }
            Err(error) => exit = told(error, id, exit)?,
        }
    }
    output.list(&lines, &RETRIED)?;
    Ok(exit)
}

/// A line of `runs retry`.
#[derive(Serialize)]
struct RetryLine {
    run: RunId,
    retry_of: RunId,
    job: String,
}

const RETRIED: [Column<RetryLine>; 3] = [
    ("RUN", |line| line.run.to_string()),
    ("RETRY OF", |line| line.retry_of.to_string()),
    ("JOB", |line| line.job.clone()),
];

async fn retry_all(books: &Books, arguments: &RetryArguments, output: Output) -> anyhow::Result<Exit> {
    let job = match &arguments.job {
        Some(name) => Some(books.known(name).await?),
        None => None,
    };
    let since = arguments.since.map(|since| since.at(books.now));
    let which = Retrying { job, outcome: arguments.outcome, since };
    let found = books.store.count_retryable(&which).await?;
    let wanted = found.min(arguments.limit.into());
    if arguments.dry_run {
        let shown = json!({ "would_retry": wanted, "matching": found });
        output.thing(&shown, &[("would retry", wanted.to_string()), ("matching", found.to_string())])?;
        return Ok(Exit::Ok);
    }
    let (mut bar, mut lines) = (Progress::new("retrying", wanted), Vec::new());
    while bar.done() < wanted {
        let left = u32::try_from(wanted - bar.done()).unwrap_or(BATCH).min(BATCH);
        let batch = books.store.retry_many(&which, books.now, left).await?;
        if batch.is_empty() {
            break;
        }
        bar.add(batch.len() as u64);
        lines.extend(batch.into_iter().map(RetryLine::from));
    }
    drop(bar);
    output.list(&lines, &RETRIED)?;
    if wanted < found {
        remark(&format!("{} more match: say it again, or raise --limit", found - wanted));
    }
    Ok(Exit::Ok)
}

impl From<Retried> for RetryLine {
    fn from(retried: Retried) -> Self {
        Self { run: retried.run, retry_of: retried.retry_of, job: retried.job.to_string() }
    }
}
