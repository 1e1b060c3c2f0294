//! The command line: one file per command family; it prints and never decides.

pub mod output;
mod books;
mod start;
mod jobs;
mod runs;
mod ledger;
mod status;
mod migrate;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use serde_json::json;

use crate::store::StoreError;
use books::Books;
use output::{Exit, Output, Stop};

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
    /// List, show, pause, resume or rewind jobs
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// List or show runs
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Account for every due instant; exit 1 when one is unexplained
    Ledger(ledger::LedgerArguments),
    /// Show /health/workers of the running service
    Status(status::At),
    /// Ask the running service how it is: exit 0 or 5
    Health(status::HealthArguments),
    /// Bring the database's tables up to date, say how they stand, or print the statements
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Show the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
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
