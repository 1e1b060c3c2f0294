//! `queue`: what waits in each queue, and what becomes of dead letters. Works on the database itself, beside a daemon or without
//! one; a message goes out only when a daemon drains its queue.

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::{
    books::{Books, unknown},
    runs::instant,
};
use crate::{
    cli::{
        exit::{Exit, Stop},
        output::{Column, Output, remark},
        progress::Progress,
    },
    config::Config,
    serve::{
        self,
        queue::{DeadLetter, Decided, Decision, FILA, Letters, QueueLine, Trouble, Verdict, Which},
    },
};

/// Messages of one transaction: a daemon beside us must not wait.
const BATCH: u32 = 100;
/// The handler whose queue has dead letters.
const DRAIN: &str = "fila";

#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List the queues, and how each stands
    #[command(after_help = "Examples:
  workers queue list
  workers queue list -o json

A queue is a table that a job drains (run.fila, run.drain), or a job without a schedule, whose runs wait in the ledger.")]
    List,
    /// Show the dead letters of the message queue, the oldest first
    #[command(after_help = "Examples:
  workers queue show
  workers queue show fila_worker --reason unknown
  workers queue show fila_mensagens --phones -o jsonl

Texts are never shown, and numbers only by their last digits.")]
    Show(ShowArguments),
    /// Send dead letters again: each is due at once, with all its attempts
    #[command(after_help = "Examples:
  workers queue retry 4711 4712
  workers queue retry --all --dry-run
  workers queue retry --all --reason unknown

A letter with the reason `unknown` may have been delivered: to send it again is to risk that somebody gets it twice. Who has
decided, and when, is kept in `metadata` of the message.")]
    Retry(DecideArguments),
    /// Give dead letters up for good: their messages are cancelled
    #[command(after_help = "Examples:
  workers queue discard 4711
  workers queue discard --all --reason unknown --dry-run")]
    Discard(DecideArguments),
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The job that drains the queue, or its table [default: the only one]
    #[arg(value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Only letters that were given up for this reason
    #[arg(long, value_name = "WORD")]
    pub reason: Option<String>,
    /// Show whole numbers: they are personal
    #[arg(long)]
    pub phones: bool,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct DecideArguments {
    /// The messages
    #[arg(value_name = "ID", conflicts_with_all = ["reason", "dry_run"])]
    pub ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
    /// Only letters that were given up for this reason
    #[arg(long, value_name = "WORD", requires = "all")]
    pub reason: Option<String>,
    /// Say how many it would be, and change none
    #[arg(long, requires = "all")]
    pub dry_run: bool,
    /// The job that drains the queue, or its table [default: the only one]
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
}

pub async fn queue(books: &Books, config: &Config, command: Queue, output: Output) -> anyhow::Result<Exit> {
    match command {
        Queue::List => list(books, config.create_team_tables, output).await,
        Queue::Show(arguments) => show(books, &arguments, output).await,
        Queue::Retry(arguments) => decide(books, &arguments, (Verdict::Retry, who(config)), output).await,
        Queue::Discard(arguments) => decide(books, &arguments, (Verdict::Discard, who(config)), output).await,
    }
}

async fn list(books: &Books, may_create: bool, output: Output) -> anyhow::Result<Exit> {
    let lines = serve::queue::queues(&books.store, &books.table, (books.now, may_create)).await?;
    output.list(&lines, &QUEUES)?;
    let unseen = lines.iter().filter_map(|line| Some((&line.queue, line.problem.as_ref()?)));
    let mut exit = Exit::Ok;
    for (queue, problem) in unseen {
        remark(&format!("error: {queue}: {problem}"));
        exit = Exit::Failed;
    }
    Ok(exit)
}

const QUEUES: [Column<QueueLine>; 8] = [
    ("QUEUE", |line| line.queue.to_string()),
    ("HANDLER", |line| line.handler.to_owned()),
    ("SIZE", |line| number(line.size)),
    ("LATER", |line| number(line.later)),
    ("OLDEST S", |line| number(line.oldest_age_seconds)),
    ("RUNNING", |line| number(line.running)),
    ("STUCK", |line| number(line.stuck)),
    ("FAILED", |line| number(line.failed)),
];

fn number(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

async fn show(books: &Books, arguments: &ShowArguments, output: Output) -> anyhow::Result<Exit> {
    drained(books, arguments.queue.as_deref())?;
    let which = Which { reason: arguments.reason.clone(), until: books.now, limit: arguments.limit };
    let (found, letters) = Letters::of(&books.store).list(&which, arguments.phones).await.map_err(failed)?;
    output.list(&letters, &LETTERS)?;
    let more = found.saturating_sub(letters.len() as u64);
    if 0 < more {
        remark(&format!("{more} more: raise --limit"));
    }
    Ok(Exit::Ok)
}

const LETTERS: [Column<DeadLetter>; 8] = [
    ("ID", |letter| letter.id.clone()),
    ("REASON", |letter| letter.reason.clone()),
    ("GIVEN UP AT", |letter| instant(letter.given_up_at)),
    ("AGE S", |letter| number(letter.age_seconds)),
    ("ATTEMPTS", |letter| letter.attempts.to_string()),
    ("TIPO", |letter| letter.tipo.clone().unwrap_or_default()),
    ("PHONE", |letter| letter.phone.clone().unwrap_or_default()),
    ("ERROR", |letter| letter.error.clone().unwrap_or_default()),
];

async fn decide(
    books: &Books,
    arguments: &DecideArguments,
    (verdict, by): (Verdict, String),
    output: Output,
) -> anyhow::Result<Exit> {
    drained(books, arguments.queue.as_deref())?;
    let decision = Decision { verdict, by, at: books.now };
    if arguments.all {
        return decide_all(books, arguments, &decision, output).await;
    }
    let (letters, mut lines, mut exit) = (Letters::of(&books.store), Vec::new(), Exit::Ok);
    for id in &arguments.ids {
        let (problem, its) = match letters.decide(id, &decision).await.map_err(failed)? {
            Decided::Done => {
                lines.push(Line::new(id, verdict));
                continue;
            }
            Decided::NotDead(state) => (format!("message {id} is {state}, and no dead letter"), Exit::Conflict),
            Decided::Absent => {
                (format!("no message {id} in {FILA}: `workers queue show` lists dead letters"), Exit::NotFound)
            }
        };
        remark(&format!("error: {problem}"));
        exit = if exit == Exit::Ok { its } else { exit };
    }
    output.list(&lines, &LINES)?;
    Ok(exit)
}

async fn decide_all(
    books: &Books,
    arguments: &DecideArguments,
    decision: &Decision,
    output: Output,
) -> anyhow::Result<Exit> {
    let letters = Letters::of(&books.store);
    let which = Which { reason: arguments.reason.clone(), until: books.now, limit: BATCH };
    let (found, _) = letters.list(&which, false).await.map_err(failed)?;
    let (would, done, now) = words(decision.verdict);
    if arguments.dry_run {
        let name = would.replace(' ', "_");
        output.thing(&json!({ (name): found }), &[(would, found.to_string())])?;
        return Ok(Exit::Ok);
    }
    let (mut bar, mut count) = (Progress::new(now, found), 0);
    // What was given up meanwhile is not meant, and is left out by its instant.
    while count < found {
        let batch = letters.decide_many(&which, decision).await.map_err(failed)?;
        if batch == 0 {
            break;
        }
        count += batch;
        bar.add(batch);
    }
    drop(bar);
    output.thing(&json!({ (done): count }), &[(done, count.to_string())])?;
    Ok(Exit::Ok)
}

/// What it would do, what it has done, what it does.
fn words(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Retry => ("would retry", "retried", "retrying"),
        Verdict::Discard => ("would discard", "discarded", "discarding"),
    }
}

/// A message that was decided over.
#[derive(Serialize)]
struct Line {
    id: String,
    status: &'static str,
}

impl Line {
    fn new(id: &str, verdict: Verdict) -> Self {
        let status = match verdict {
            Verdict::Retry => "pendente",
            Verdict::Discard => "cancelada",
        };
        Self { id: id.to_owned(), status }
    }
}

const LINES: [Column<Line>; 2] = [("ID", |line| line.id.clone()), ("NOW", |line| line.status.to_owned())];

/// Sees that the queue that was named is one with dead letters. They can be seen to without a job as well: whoever takes the
/// drain out of the table still has them.
fn drained(books: &Books, named: Option<&str>) -> Result<(), Stop> {
    let Some(name) = named.filter(|name| *name != FILA) else { return Ok(()) };
    let job = books.table.jobs.values().find(|entry| entry.job.name.as_str() == name);
    match job.ok_or_else(|| unknown(name, &books.table))?.work.name() {
        DRAIN => Ok(()),
        "drain" => Err(without_letters(name, "what it gives up stands in its own table, as its `dead` says")),
        _ => Err(without_letters(name, &format!("`workers runs list --job {name}` shows its runs"))),
    }
}

fn without_letters(name: &str, advice: &str) -> Stop {
    Stop::new(Exit::NotFound, format!("job {name} keeps no dead letters: {advice}"))
}

/// Who is at the keyboard, as far as the environment says.
fn who(config: &Config) -> String {
    let given = |name| config.variables.get(name).map(|who| who.trim()).filter(|who| !who.is_empty());
    given("USER").or_else(|| given("LOGNAME")).unwrap_or("workers queue").to_owned()
}

fn failed(trouble: Trouble) -> anyhow::Error {
    match trouble {
        Trouble::Store(error) => error.into(),
        Trouble::Tables(message) => Stop::new(Exit::Failed, message).into(),
    }
}
