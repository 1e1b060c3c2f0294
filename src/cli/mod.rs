//! The command line: one file per command family; it prints and never decides.

pub mod output;
mod load;
mod start;
pub mod schedule;
mod ledger;
mod status;
mod migrate;

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};
use serde_json::json;

use crate::{clock::Clock, config::Flags, serve, store::StoreError};
use ledger::books::Books;
use load::{Loaded, check, config, flags, load, settings};
use output::{Exit, Output, Stop, line};
use schedule::Mistake;

/// On the dot: runs the jobs of jobs.toml, and keeps a ledger of every due instant.
#[derive(Debug, Parser)]
#[command(name = "workers", version, about, max_term_width = 100)]
struct Arguments {
    /// The job table [default: jobs.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shape of the data on stdout
    #[arg(long, short, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    start: start::StartArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Start(start::StartArguments),
    /// Run one job's worker alone, beside a daemon or without one
    Run(start::RunArguments),
    /// Validate settings and job table, and tell every mistake at once
    Check(check::CheckArguments),
    /// What an expression means and when it fires
    Explain(schedule::ExplainArguments),
    /// The next firings of the jobs, or of an expression
    Next(schedule::NextArguments),
    /// List, show, pause, resume or rewind jobs
    #[command(subcommand)]
    Jobs(ledger::jobs::Jobs),
    /// List or show runs
    #[command(subcommand)]
    Runs(ledger::runs::Runs),
    /// Account for every due instant; exit 1 when one is unexplained
    Ledger(ledger::account::LedgerArguments),
    /// Show /health/workers of the running service
    Status(status::At),
    /// Ask the running service how it is: exit 0 or 5
    Health(status::HealthArguments),
    /// Bring the database's tables up to date, say how they stand, or print the statements
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Show the settings and where they come from, the schema of jobs.toml, the list of variables
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Arguments {
    async fn act(self) -> anyhow::Result<Exit> {
        let Self { config, output, start, command } = self;
        let flags = flags(config);
        let command = match command {
            None => Command::Start(start),
            // `workers --only a runs list` cannot mean anything.
            Some(_) if start != start::StartArguments::default() => {
                return Err(
                    Stop::new(Exit::Usage, "--only, --except, --no-schedule and --watch belong to `start`").into()
                );
            }
            Some(command) => command,
        };
        match command {
            Command::Start(arguments) => start::start(flags, arguments).await,
            Command::Run(arguments) => start::run(flags, arguments).await,
            Command::Check(arguments) => check(&arguments, &flags).await,
            Command::Explain(arguments) => explain(&arguments, output),
            Command::Next(arguments) => next(&arguments, &flags, output),
            Command::Jobs(command) => ledger::jobs::jobs(&books(&flags).await?, command, output).await,
            Command::Runs(command) => ledger::runs::runs(&books(&flags).await?, command, output).await,
            Command::Ledger(arguments) => ledger::account::ledger(&books(&flags).await?, &arguments, output).await,
            Command::Status(at) => status::status(output, &base(at, &flags)?).await,
            Command::Health(arguments) => status::health(&arguments, &base(arguments.at.clone(), &flags)?).await,
            Command::Migrate(command) => migrate::migrate(command, &serve::database(&settings(&flags)?), output).await,
            Command::Config(command) => config::config(&command, &flags, output).await,
            Command::Version { json } => version(json),
        }
    }
}

/// The job table beside the open database.
async fn books(flags: &Flags) -> anyhow::Result<Books> {
    let Loaded { config, table } = load(flags)?;
    Books::open(table, &serve::database(&config)).await
}

/// Where the service answers: as told, else where the settings let it listen.
fn base(at: status::At, flags: &Flags) -> Result<String, Stop> {
    if let Some(url) = at.url {
        return Ok(url);
    }
    let mut listen = settings(flags)?.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{listen}"))
}

/// Settings and table, and what the database says of the statements when it can be asked.
async fn check(arguments: &check::CheckArguments, flags: &Flags) -> anyhow::Result<Exit> {
    let mut examined = check::examine(arguments, flags, Clock::system().now());
    let asked = match &examined.loaded {
        Some(loaded) => serve::refused_statements(&loaded.table, &serve::database(&loaded.config)).await,
        None => Ok(Vec::new()),
    };
    match asked {
        Ok(refused) => refused.iter().for_each(|(job, message)| examined.refuse_statement(job, message)),
        Err(error) => output::remark(&format!("the SQL of the jobs was not prepared: {error}")),
    }
    let (text, exit) = examined.answer(arguments);
    line(&text)?;
    Ok(exit)
}

fn explain(arguments: &schedule::ExplainArguments, output: Output) -> anyhow::Result<Exit> {
    let explanation = schedule::explain(arguments, Clock::system().now()).map_err(stop)?;
    match output {
        Output::Table => line(&explanation.text())?,
        Output::Json | Output::Jsonl => output.thing(&explanation, &[])?,
    }
    Ok(Exit::Ok)
}

fn next(arguments: &schedule::NextArguments, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    let table = if arguments.needs_table() { Some(load(flags)?.table) } else { None };
    let firings = schedule::next(arguments, Clock::system().now(), table.as_deref()).map_err(stop)?;
    match output {
        Output::Table => line(&schedule::next_text(&firings))?,
        Output::Json | Output::Jsonl => {
            output.list(schedule::next_json(&firings).as_array().map_or(&[], Vec::as_slice), &[])?
        }
    }
    Ok(Exit::Ok)
}

fn stop(mistake: Mistake) -> Stop {
    let exit = match mistake {
        Mistake::Usage(_) => Exit::Usage,
        Mistake::UnknownJob(_) => Exit::NotFound,
    };
    Stop::new(exit, mistake.to_string())
}

fn version(json: bool) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let revision = option_env!("WORKERS_REVISION").unwrap_or_default();
    if json {
        Output::Jsonl.thing(&json!({ "version": version, "revision": revision }), &[])?;
    } else {
        line(format!("workers {version} {revision}").trim_end())?;
    }
    Ok(Exit::Ok)
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    // Both databases and the HTTP client bring TLS; whoever installs the provider first decides for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let ended = runtime.block_on(arguments.act());
    // What still runs, runs in vain: a handler that blocks its thread must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error),
    }
}

/// Prints what clap has to say: help and version are data, the rest is a usage error.
fn refused(error: &clap::Error) -> ExitCode {
    // Nobody there to read it: the exit code says the same.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok.into(),
        _ => Exit::Usage.into(),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    output::remark(&format!("error: {error:#}"));
    exit_of(error).into()
}

/// The exit code of an error, by the innermost cause that has one.
fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return stop.exit;
        }
        if let Some(serve::ListenError::Taken(_)) = cause.downcast_ref() {
            return Exit::Conflict;
        }
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return exit_of_store(error);
        }
    }
    Exit::Failed
}

fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Unreachable(_) => Exit::Unreachable,
        StoreError::NewerSchema(_) | StoreError::Locked(_) | StoreError::Conflict(_) => Exit::Conflict,
        StoreError::NotFound(_) => Exit::NotFound,
        StoreError::Config(_) => Exit::ConfigInvalid,
        _ => Exit::Failed,
    }
}
