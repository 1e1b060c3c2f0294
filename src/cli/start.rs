//! `start` and `run`: the daemon, whole or narrowed down to some jobs.

use std::{collections::BTreeSet, io::IsTerminal as _, time::Duration};

use clap::Args;
use serde_json::json;
use tracing::info;

use super::{
    exit::{Exit, Stop},
    given::payload,
    ledger::books::unknown,
    load::{Loaded, load, surroundings},
    output::Output,
};
use crate::{
    clock::Clock,
    config::{Config, Flags, Mode},
    domain::{
        job::{Job, JobName},
        run::Outcome,
    },
    engine::Scope,
    job_table::Entry,
    logs::{self, Look},
    serve::{self, Goodbye, Once, Options, Reader, Watched},
    store::StoreError,
};

/// For the waits between the attempts of a run that somebody waits for.
const WAIT_SLACK: Duration = Duration::from_secs(600);

#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct StartArguments {
    /// Run these jobs only, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Run all jobs but these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub except: Vec<String>,
    /// Leave the schedules to other replicas: run queues only
    #[arg(long)]
    pub no_schedule: bool,
    /// Reload the job table when its file changes, as SIGHUP does
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The job
    pub name: String,
    /// Run it now, once, and end: exit 0 when it went well, 1 when it failed
    #[arg(long)]
    pub once: bool,
    /// What that run is given: JSON, @FILE, or - for standard input [default: the job's own payload]
    #[arg(long, value_name = "JSON", requires = "once")]
    pub payload: Option<String>,
}

/// The daemon, until it is told to stop.
pub async fn start(flags: Flags, arguments: StartArguments) -> anyhow::Result<Exit> {
    let watched =
        arguments.watch.then(|| surroundings(&flags).map(|early| Watched::now(early.jobs_file))).transpose()?;
    let loaded = load(&flags)?;
    let scope = Scope {
        only: names(&loaded, arguments.only)?,
        except: names(&loaded, arguments.except)?,
        no_schedule: arguments.no_schedule || matches!(loaded.config.mode, Mode::Api | Mode::Worker),
        no_queues: matches!(loaded.config.mode, Mode::Api | Mode::Scheduler),
    };
    log(&loaded.config)?;
    info!(component = "scheduler", "Process starting");
    let reader = reader(flags, watched);
    let options = Options::new(&loaded.config, loaded.table, scope, reader);
    Ok(exit_of(serve::start(options).await?))
}

/// One job's worker alone: it listens nowhere, so it can stand beside a daemon. A daemon that holds the SQLite file does
/// the one run of `--once` itself.
pub async fn run(flags: Flags, arguments: RunArguments, output: Output) -> anyhow::Result<Exit> {
    let loaded = load(&flags)?;
    let only = names(&loaded, vec![arguments.name.clone()])?;
    let payload = arguments.payload.as_deref().map(payload::read).transpose()?;
    log(&loaded.config)?;
    info!(component = "scheduler", "Process starting");
    let scope = Scope { only, ..Scope::default() };
    let entry = loaded.table.jobs.get(&JobName::from_store(&arguments.name)).filter(|_| arguments.once).cloned();
    let once = entry.as_ref().map(|entry| Once { job: entry.job.name.clone(), payload, patience: patience(entry) });
    let job = entry.map(|entry| entry.job);
    let options = Options::new(&loaded.config, loaded.table, scope, reader(flags, None));
    let options = Options { listen: None, once: once.clone(), ..options };
    let (Some(job), Some(once)) = (job, once) else { return Ok(exit_of(serve::start(options).await?)) };
    // Opening the database and draining take their time, too.
    let longest = once.patience + WAIT_SLACK;
    let too_long = |waited: Duration| {
        let message =
            format!("no end of a run of {} after {} s: `workers runs list --job {0}`", job.name, waited.as_secs());
        Stop::new(Exit::TooLong, message)
    };
    match tokio::time::timeout(longest, run_once(options, &job, &once)).await {
        Err(_) => Err(too_long(longest).into()),
        Ok(Ok(Goodbye::TookTooLong(waited))) => Err(too_long(waited).into()),
        Ok(Ok(Goodbye::Ran(outcome))) => {
            output.text_or(&json!({ "job": job.name, "outcome": outcome }), || outcome.word().to_owned())?;
            Ok(exit_of(Goodbye::Ran(outcome)))
        }
        Ok(ended) => Ok(exit_of(ended?)),
    }
}

/// The longest that a run may take: all its attempts, and the time for which accepted work is followed.
fn patience(entry: &Entry) -> Duration {
    let policy = &entry.job.policy;
    policy.timeout * policy.retry.max_attempts + entry.work.follows_for() + WAIT_SLACK
}

async fn run_once(options: Options, job: &Job, once: &Once) -> anyhow::Result<Goodbye> {
    let database = options.database.clone();
    match serve::start(options).await {
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::Locked(_))) => {
            Ok(serve::once_elsewhere(&database, job, once).await?)
        }
        ended => ended,
    }
}

fn exit_of(goodbye: Goodbye) -> Exit {
    match goodbye {
        Goodbye::Drained | Goodbye::Forced => Exit::Ok,
        Goodbye::Ran(outcome) if outcome.is_failure() || outcome == Outcome::Cancelled => Exit::Failed,
        Goodbye::Ran(_) => Exit::Ok,
        Goodbye::TookTooLong(_) => Exit::TooLong,
        Goodbye::Fatal(_) => Exit::Failed,
    }
}

/// The names, each of a job in the table.
fn names(loaded: &Loaded, names: Vec<String>) -> Result<BTreeSet<String>, Stop> {
    let foreign = names.iter().find(|name| loaded.table.job(&JobName::from_store(name)).is_none());
    match foreign {
        Some(name) => Err(unknown(name, &loaded.table)),
        None => Ok(names.into_iter().collect()),
    }
}

/// Reads the job table as the start did, for a reload.
fn reader(flags: Flags, watched: Option<Watched>) -> Reader {
    let read = move || load(&flags).map(|loaded| loaded.table).map_err(|stop| stop.message);
    Reader { read: Box::new(read), watched }
}

fn log(config: &Config) -> Result<(), Stop> {
    let terminal = std::io::stderr().is_terminal();
    let color = terminal && config.variables.get("NO_COLOR").is_none_or(String::is_empty);
    let look = match config.log_format.as_str() {
        "text" => Look::Text { color },
        "auto" if terminal => Look::Text { color },
        _ => Look::Json,
    };
    logs::start(&config.log_level, look, Clock::system()).map_err(|error| Stop::new(Exit::ConfigInvalid, error))
}
