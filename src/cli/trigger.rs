//! `trigger`: a run now, or later, of the service that is asked over HTTP or of the database it works on.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{
    exit::{Exit, Stop},
    given::{moment, payload},
    ledger::{
        books::{Books, meant},
        runs::instant,
    },
    output::{Output, line},
    remote::{Remote, text},
};
use crate::{
    clock::Clock,
    domain::{
        duration,
        run::{Outcome, Run, RunId, State, Trigger},
    },
    store::{NewRun, StoreError},
};

/// `--wait` without `--timeout` waits this long.
const PATIENCE: Duration = Duration::from_secs(600);
/// A run can be put off this far, as over HTTP: what lies further away belongs into a calendar.
const MOST_DELAY: TimeDelta = TimeDelta::days(366);
/// One question to the service may wait this long for the end of a run.
const LONG_POLL: Duration = Duration::from_secs(30);
/// Between two looks at a run in the database: the first, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct TriggerArguments {
    /// The job
    pub name: String,
    /// What the run is given: JSON, @FILE, or - for standard input [default: the job's own payload]
    #[arg(long, value_name = "JSON")]
    pub payload: Option<String>,
    /// Not now but after this long, such as 10min
    #[arg(long = "in", value_name = "DURATION", value_parser = moment::length, conflicts_with = "at")]
    pub delay: Option<Duration>,
    /// Not now but at this instant: RFC 3339 or a date
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub at: Option<DateTime<Utc>>,
    /// Higher goes first, from -10 to 10 [default: the job's own]
    #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-10..=10))]
    pub priority: Option<i16>,
    /// The key that `limit` of the job counts by
    #[arg(long)]
    pub key: Option<String>,
    /// No second run while an unfinished one has this key: that one is told instead
    #[arg(long, value_name = "KEY")]
    pub dedupe_key: Option<String>,
    /// Wait for the end: exit 0 when it went well or was skipped, 1 when it failed, 6 when it took too long
    #[arg(long)]
    pub wait: bool,
    /// Wait at most this long [default: 10min]
    #[arg(long, value_name = "DURATION", value_parser = moment::length, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Ask the service at this address, and not the database
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

impl TriggerArguments {
    fn patience(&self) -> Duration {
        self.timeout.unwrap_or(PATIENCE)
    }

    fn payload(&self) -> Result<Option<Value>, Stop> {
        self.payload.as_deref().map(payload::read).transpose()
    }
}

/// How a run stands, in whatever words it was told.
struct Seen {
    /// The run as it is shown.
    shown: Value,
    state: String,
    /// Of a finished run.
    outcome: Option<Outcome>,
}

/// Asks for a run in the database.
pub async fn in_books(books: &Books, arguments: &TriggerArguments, output: Output) -> anyhow::Result<Exit> {
    let job = books.job(&arguments.name)?;
    let run = NewRun {
        job: job.name.clone(),
        // A queue has no runs but those that are asked for.
        trigger: if job.schedule.is_some() { Trigger::Manual } else { Trigger::Enqueue },
        payload: arguments.payload()?.unwrap_or_else(|| job.payload.clone()),
        due_at: due_at(arguments, books.now)?,
        priority: arguments.priority,
        key: arguments.key.clone(),
        dedupe_key: arguments.dedupe_key.clone(),
        max_attempts: None,
        retry_of: None,
    };
    books.store.refuse_unable(job, run.trigger, books.now).await?;
    let id = books.store.enqueue(&run, books.now).await?;
    let asked = Asked { id: id.to_string(), job: job.name.to_string(), output };
    if !arguments.wait {
        return asked.made(look_in(books, id).await?.as_ref());
    }
    asked.announce()?;
    let clock = Clock::system();
    let deadline = clock.boot() + arguments.patience();
    let mut pause = FIRST_LOOK;
    loop {
        let seen = look_in(books, id).await;
        match seen {
            // A success that is not kept leaves no row.
            Ok(None) => return asked.ended(Outcome::Success, asked.gone()),
            Ok(Some(Seen { outcome: Some(outcome), shown, .. })) => return asked.ended(outcome, shown),
            Ok(Some(seen)) if deadline <= clock.boot() => return Err(asked.too_long(arguments, &seen.state).into()),
            Err(error) if deadline <= clock.boot() || !matches!(error, StoreError::Unreachable(_)) => {
                return Err(error.into());
            }
            // An outage ends, and the run with it.
            Ok(Some(_)) | Err(_) => sleep(pause.min(deadline.saturating_sub(clock.boot()))).await,
        }
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

async fn look_in(books: &Books, id: RunId) -> Result<Option<Seen>, StoreError> {
    let run: Option<Run> = books.store.run(id).await?;
    Ok(run.map(|run| Seen {
        shown: json!(run),
        state: run.state.to_string(),
        outcome: (run.state == State::Finished).then(|| run.outcome.unwrap_or(Outcome::Unknown)),
    }))
}

/// When the run is due: now, when the instant has passed.
fn due_at(arguments: &TriggerArguments, now: DateTime<Utc>) -> Result<DateTime<Utc>, Stop> {
    let later = |delay| TimeDelta::from_std(delay).ok().and_then(|delay| now.checked_add_signed(delay));
    let due = match arguments.delay {
        Some(delay) => later(delay),
        None => Some(arguments.at.unwrap_or(now).max(now)),
    };
    let within = |due: &DateTime<Utc>| *due <= now + MOST_DELAY;
    due.filter(within).ok_or_else(|| {
        let days = MOST_DELAY.num_days();
        Stop::new(Exit::Usage, format!("the run would be due in more than {days} days: give a nearer --in or --at"))
    })
}

/// Asks the service for a run.
pub async fn over_http(remote: &Remote, arguments: &TriggerArguments, output: Output) -> anyhow::Result<Exit> {
    let body = request(arguments)?;
    refuse_unknown_there(remote, &arguments.name).await?;
    let name = utf8_percent_encode(&arguments.name, NON_ALPHANUMERIC);
    let answer = remote.post(&format!("/api/v1/jobs/{name}/runs"), &body).await?;
    let id = text(&answer.body, "id");
    if answer.code == 404 {
        let (name, from) = (&arguments.name, &answer.from);
        let message =
            format!("no job {name:?} in the job table of {from}, or no such path: `workers status --url` lists them");
        return Err(Stop::new(Exit::NotFound, message).into());
    }
    if !(200..300).contains(&answer.code) || id.is_empty() {
        return Err(answer.refusal().into());
    }
    let asked = Asked { id, job: arguments.name.clone(), output };
    if !arguments.wait {
        return asked.made(Some(&seen(answer.body)));
    }
    asked.announce()?;
    let clock = Clock::system();
    let deadline = clock.boot() + arguments.patience();
    let mut last = Ok("accepted".to_owned());
    loop {
        let left = deadline.saturating_sub(clock.boot());
        if left.is_zero() {
            return Err(last.map_or_else(|stop| stop, |state| asked.too_long(arguments, &state)).into());
        }
        match long_poll(remote, &asked, left.min(LONG_POLL)).await {
            Ok(Seen { outcome: Some(outcome), shown, .. }) => return asked.ended(outcome, shown),
            Ok(seen) => last = Ok(seen.state),
            // A service that is replaced by a newer one is back soon, and the run is in its ledger.
            Err(stop) if stop.exit == Exit::Unreachable => last = Err(stop),
            Err(stop) => return Err(stop.into()),
        }
        // Whatever it answers at once, it is not asked more often than this.
        sleep(FIRST_LOOK.max(if last.is_err() { LONGEST_LOOK } else { FIRST_LOOK }).min(left)).await;
    }
}

/// Asks the service's health for the jobs it has: the API says only that this one is none of them.
async fn refuse_unknown_there(remote: &Remote, name: &str) -> Result<(), Stop> {
    let health = remote.get("/health/workers", super::remote::PATIENCE).await?;
    // Whatever this is, the request itself is answered with a reason.
    let Some(jobs) = health.body.get("jobs").and_then(Value::as_object) else { return Ok(()) };
    let from = &health.from;
    if !jobs.contains_key(name) {
        let hint = meant(name, jobs.keys().map(String::as_str));
        let hint = hint.unwrap_or_else(|| format!("`workers status --url {from}` shows them all"));
        return Err(Stop::new(Exit::NotFound, format!("no job {name:?} in the job table of {from}; {hint}")));
    }
    Ok(())
}

/// The body of the request; a length of time is counted by the service's clock.
fn request(arguments: &TriggerArguments) -> Result<Value, Stop> {
    let fields = [
        ("payload", arguments.payload()?),
        ("in", arguments.delay.map(|delay| duration::format(delay).into())),
        ("due_at", arguments.at.map(|at| instant(Some(at)).into())),
        ("priority", arguments.priority.map(Value::from)),
        ("key", arguments.key.clone().map(Value::from)),
        ("dedupe_key", arguments.dedupe_key.clone().map(Value::from)),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(Value::Object(given.collect::<Map<_, _>>()))
}

async fn long_poll(remote: &Remote, asked: &Asked, wait: Duration) -> Result<Seen, Stop> {
    let seconds = wait.as_secs().max(1);
    let path = format!("/api/v1/runs/{}?wait={seconds}s", asked.id);
    let answer = remote.get(&path, wait + super::remote::PATIENCE).await?;
    match answer.code {
        200 => Ok(seen(answer.body)),
        // A success that is not kept leaves no row.
        404 | 410 => {
            Ok(Seen { shown: asked.gone(), state: State::Finished.to_string(), outcome: Some(Outcome::Success) })
        }
        _ => Err(answer.refusal()),
    }
}

fn seen(shown: Value) -> Seen {
    let state = text(&shown, "state");
    let outcome =
        (state == State::Finished.word()).then(|| text(&shown, "outcome").parse().unwrap_or(Outcome::Unknown));
    Seen { shown, state, outcome }
}

/// A run that was asked for, and how to speak of it.
struct Asked {
    id: String,
    job: String,
    output: Output,
}

impl Asked {
    /// Nobody waits for its end.
    fn made(&self, seen: Option<&Seen>) -> anyhow::Result<Exit> {
        let shown = seen.map_or_else(|| self.gone(), |seen| seen.shown.clone());
        self.output.text_or(&shown, || self.id.clone())?;
        Ok(Exit::Ok)
    }

    /// The id is told before the wait: who gives up early still knows the run.
    fn announce(&self) -> std::io::Result<()> {
        if self.output == Output::Table { line(&self.id) } else { Ok(()) }
    }

    fn ended(&self, outcome: Outcome, shown: Value) -> anyhow::Result<Exit> {
        self.output.text_or(&shown, || outcome.word().to_owned())?;
        let went_wrong = outcome.is_failure() || outcome == Outcome::Cancelled;
        Ok(if went_wrong { Exit::Failed } else { Exit::Ok })
    }

    fn gone(&self) -> Value {
        json!({ "id": self.id, "job": self.job, "state": State::Finished, "outcome": Outcome::Success })
    }

    fn too_long(&self, arguments: &TriggerArguments, state: &str) -> Stop {
        let Self { id, job, .. } = self;
        let patience = duration::format(arguments.patience());
        let advice = if state == State::Due.word() { "is the service running? " } else { "" };
        let message =
            format!("run {id} of {job} is {state} after {patience}: {advice}`workers runs show {id}` tells more");
        Stop::new(Exit::TooLong, message)
    }
}
