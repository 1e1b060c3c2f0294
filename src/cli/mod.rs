//! The command line: one file per command family; it prints and never decides.

pub mod output;
mod exit;
mod given;
mod progress;
mod load;
mod start;
pub mod schedule;
mod trigger;
mod ledger;
mod remote;
mod migrate;
mod demo;
mod completions;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueHint, error::ErrorKind};
use serde_json::json;

use crate::{clock::Clock, config::Flags, serve};
use exit::{Exit, Stop, exit_of};
use ledger::books::Books;
use load::{Loaded, check, config, flags, load, settings};
use output::{Output, line};
use remote::{At, Remote, health, status};
use schedule::Mistake;

/// On the dot: runs the jobs of jobs.toml, and keeps a ledger of every due instant.
#[derive(Debug, Parser)]
#[command(name = "workers", version, about, max_term_width = 100)]
#[command(after_help = "Examples:
  workers                        run the daemon
  workers check                  tell every mistake of jobs.toml at once
  workers next -n 3              the next firings of every job
  workers trigger NAME --wait    run a job now and wait for its end
  workers ledger                 account for every due instant

Exit codes: 0 ok, 1 the job or operation failed, 2 usage, 3 configuration invalid, 4 service or database unreachable,
5 unhealthy, 6 waited too long, 7 not found, 8 conflict.")]
struct Arguments {
    /// The job table [default: jobs.toml]
    #[arg(long, global = true, help_heading = "Global options", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<String>,
    /// Shape of the data on stdout: table, json (one value) or jsonl (one value per line)
    #[arg(long, short, global = true, help_heading = "Global options")]
    #[arg(value_enum, value_name = "SHAPE", default_value_t, hide_possible_values = true)]
    output: Output,
    #[command(flatten)]
    start: start::StartArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    #[command(after_help = "Examples:
  workers start --only fila_worker,daily_report
  workers start --no-schedule")]
    Start(start::StartArguments),
    /// Run one job's worker alone, beside a daemon or without one
    #[command(after_help = "Examples:
  workers run mail
  workers run daily_report --once --payload '{\"day\": \"2027-03-14\"}'")]
    Run(start::RunArguments),
    /// Ask for a run of a job, now or later
    #[command(after_help = "Examples:
  workers trigger daily_report --wait
  workers trigger mail --payload @message.json --in 10min
  workers trigger mail --payload '{\"to\": \"ana\"}' --url https://workers.example.org -o json

Prints the id of the run; with --wait also how it ended. With --url the running service is asked, with the token of
WORKERS_TOKEN; else the run is written into the database, where the service finds it.")]
    Trigger(trigger::TriggerArguments),
    /// Validate settings and job table, and tell every mistake at once
    #[command(after_help = "Examples:
  workers check
  workers check deploy/jobs.toml --strict --format github

The SQL of the jobs is prepared in the database when that can be reached. Exit 3 when something is refused.")]
    Check(check::CheckArguments),
    /// What an expression means and when it fires
    #[command(after_help = "Examples:
  workers explain '0 8 * * 1-5' --timezone America/Sao_Paulo
  workers explain 'every 90s'
  workers explain 'at 08:00 mon-fri' -n 10")]
    Explain(schedule::ExplainArguments),
    /// The next firings of the jobs, or of an expression
    #[command(after_help = "Examples:
  workers next
  workers next daily_report -n 3 -o json
  workers next --cron '0 8 * * 1-5' --timezone America/Sao_Paulo --from 2027-03-01 --to 2027-03-31")]
    Next(schedule::NextArguments),
    /// List, show, pause, resume or rewind jobs
    #[command(subcommand)]
    Jobs(ledger::jobs::Jobs),
    /// List, show, cancel, retry or prune runs
    #[command(subcommand)]
    Runs(ledger::runs::Runs),
    /// List queues; show, retry or discard dead letters
    #[command(subcommand)]
    Queue(ledger::queue::Queue),
    /// Account for every due instant; exit 1 when one is unexplained
    #[command(after_help = "Examples:
  workers ledger
  workers ledger --job daily_report --from 2027-03-01 -o json")]
    Ledger(ledger::account::LedgerArguments),
    /// Show /health/workers of the running service; the exit code is that of `health`
    #[command(after_help = "Examples:
  workers status
  workers status --watch
  workers status -o json --url http://10.0.0.7:8000")]
    Status(status::StatusArguments),
    /// Ask the running service how it is: exit 0 or 5, and 4 when it does not answer
    #[command(after_help = "Examples:
  workers health --live      for a container's HEALTHCHECK
  workers health --strict    degraded is exit 5 too")]
    Health(health::HealthArguments),
    /// Bring the database's tables up to date, say how they stand, or print the statements
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Show the settings and where they come from, the schema of jobs.toml, the list of variables
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Fill an empty database with an invented team, to see work being done
    #[command(after_help = "Examples:
  workers demo                 then `workers`: messages go out within 30 s
  workers demo -o json

Fills the team's tables with invented clients, messages, handoffs, shifts and states, around now, in one transaction. A
table that has a row is refused (exit 8), and so is APP_ENV=production.")]
    Demo,
    /// Print a script that completes our commands in a shell
    #[command(after_help = "Examples:
  workers completions bash > /etc/bash_completion.d/workers
  workers completions zsh > ~/.zfunc/_workers
  workers completions fish > ~/.config/fish/completions/workers.fish")]
    Completions(completions::CompletionsArguments),
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
            Command::Run(arguments) => start::run(flags, arguments, output).await,
            Command::Trigger(arguments) => trigger(&arguments, &flags, output).await,
            Command::Check(arguments) => check(arguments, &flags, output).await,
            Command::Explain(arguments) => explain(&arguments, output),
            Command::Next(arguments) => next(&arguments, &flags, output),
            Command::Jobs(_) | Command::Runs(_) | Command::Queue(_) | Command::Ledger(_) => {
                in_books(command, &flags, output).await
            }
            Command::Status(arguments) => {
                let remote = Remote::find(&arguments.at, settings(&flags))?;
                status::status(&arguments, &remote, output).await
            }
            Command::Health(arguments) => health::find(&arguments, &flags, output).await,
            Command::Migrate(command) => migrate::migrate(command, &serve::database(&settings(&flags)?), output).await,
            Command::Config(command) => config::config(&command, &flags, output).await,
            Command::Demo => demo::demo(&load(&flags)?, output).await,
            Command::Completions(arguments) => completions::completions(&arguments, Self::command()),
            Command::Version { json } => version(if json { Output::Jsonl } else { output }),
        }
    }
}

/// The commands on the ledger; the database is closed behind them.
async fn in_books(command: Command, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    let Loaded { config, table } = load(flags)?;
    let books = Books::open(table, &serve::database(&config)).await?;
    let ended = match command {
        Command::Jobs(command) => ledger::jobs::jobs(&books, command, output).await,
        Command::Runs(command) => ledger::runs::runs(&books, command, output).await,
        Command::Queue(command) => ledger::queue::queue(&books, &config, command, output).await,
        Command::Ledger(arguments) => ledger::account::ledger(&books, &arguments, output).await,
        _ => unreachable!("no other command is sent here"),
    };
    books.close().await;
    ended
}

/// With an address the service is asked, else the ledger.
async fn trigger(arguments: &trigger::TriggerArguments, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    if arguments.url.is_none() {
        let books = books(flags).await?;
        let ended = trigger::in_books(&books, arguments, output).await;
        books.close().await;
        return ended;
    }
    let remote = Remote::find(&At { url: arguments.url.clone() }, settings(flags))?;
    trigger::over_http(&remote, arguments, output).await
}

/// The job table beside the open database.
async fn books(flags: &Flags) -> anyhow::Result<Books> {
    let Loaded { config, table } = load(flags)?;
    Books::open(table, &serve::database(&config)).await
}

/// Settings and table, and what the database says of the statements when it can be asked.
async fn check(mut arguments: check::CheckArguments, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    if output != Output::Table {
        arguments.format.get_or_insert(check::Format::Json);
    }
    let mut examined = check::examine(&arguments, flags, Clock::system().now());
    let asked = match &examined.loaded {
        Some(Loaded { config, table }) => {
            let (database, may_create) = (serve::database(config), config.create_team_tables);
            let refused = serve::refused_statements(table, &database, may_create).await;
            let doubtful = serve::doubtful_tables(table, &database, may_create).await;
            refused.and_then(|refused| Ok((refused, doubtful?)))
        }
        None => Ok((Vec::new(), Vec::new())),
    };
    match asked {
        Ok((refused, doubtful)) => {
            refused.iter().for_each(|(job, message)| examined.refuse_statement(job, message));
            doubtful.iter().for_each(|(job, message)| examined.doubt_table(job, message));
        }
        Err(error) => output::remark(&format!("the SQL of the jobs was not prepared: {error}")),
    }
    let (text, exit) = examined.answer(&arguments);
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

fn version(output: Output) -> anyhow::Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let revision = option_env!("WORKERS_REVISION").unwrap_or_default();
    let shown = json!({ "version": version, "revision": revision });
    output.text_or(&shown, || format!("workers {version} {revision}").trim_end().to_owned())?;
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
    crate::logs::finish();
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
