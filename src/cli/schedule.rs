//! `explain` and `next`: what an expression means, and when it fires.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{given::moment, ledger::books::unknown};
use crate::{
    domain::{
        duration,
        job::{Job, JobName},
        schedule::{Dst, Gap, Repeat, Schedule, ScheduleError, Zone, second_opinion},
    },
    job_table::JobTable,
};

/// Firings shown when the command says neither how many nor until when.
const SHOWN: usize = 10;
/// Most firings of one job in one answer.
const MOST: usize = 100_000;

/// `workers explain EXPR`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A cron expression (`0 8 * * 1-5`), or `every 30s`, or `at 08:00 mon-fri`.
    #[arg(value_name = "EXPR")]
    pub expression: String,
    #[command(flatten)]
    pub clock: ClockArguments,
    /// How many firings to show.
    #[arg(short = 'n', long, default_value_t = 5, value_parser = count)]
    pub count: usize,
}

/// `workers next [NAME]`, or the next firings of an expression.
#[derive(Debug, Args)]
pub struct NextArguments {
    /// A job of the table; without it, all of them.
    #[arg(conflicts_with_all = ["cron", "every", "at"])]
    pub name: Option<String>,
    /// A cron expression instead of a job.
    #[arg(long, value_name = "EXPR", conflicts_with_all = ["every", "at"])]
    pub cron: Option<String>,
    /// An interval instead of a job, such as `90s`.
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    pub every: Option<String>,
    /// Times of day instead of a job, such as `08:00` or `08:00,12:00`.
    #[arg(long, value_name = "TIMES", value_delimiter = ',')]
    pub at: Vec<String>,
    /// Days for `--at`, such as `mon-fri`.
    #[arg(long, value_name = "DAYS", requires = "at")]
    pub days: Option<String>,
    #[command(flatten)]
    pub clock: ClockArguments,
    /// How many firings of each; 10, or all of them with `--to`.
    #[arg(short = 'n', long, value_parser = count)]
    pub count: Option<usize>,
    /// Firings after this instant, RFC 3339 or a date (00:00 UTC); now by default.
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub from: Option<DateTime<Utc>>,
    /// Firings up to this instant, itself included.
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub to: Option<DateTime<Utc>>,
}

/// Whose clock an expression reads.
#[derive(Debug, Args)]
pub struct ClockArguments {
    /// IANA name of the zone; UTC by default. A job of the table has its own.
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Clock times that are jumped over: due right `after` the gap, or never (`skip`).
    #[arg(long, value_parser = ["after", "skip"], default_value = "after", hide_possible_values = true)]
    pub gap: String,
    /// Clock times that come twice: due the `first` time, or `both` times.
    #[arg(long, value_parser = ["first", "both"], default_value = "first", hide_possible_values = true)]
    pub repeat: String,
}

/// How many firings to show.
fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count <= MOST);
    count.ok_or_else(|| format!("is not a whole number up to {MOST}"))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The command line is wrong: a bad expression, zone, time or combination.
    #[error("{0}")]
    Usage(String),
    /// The table has no such job.
    #[error("{0}")]
    UnknownJob(String),
}

/// What an expression means.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub expression: String,
    pub words: String,
    /// Name and text of each field of a cron expression.
    pub fields: Vec<(&'static str, String)>,
    pub timezone: String,
    pub zone_data_version: String,
    /// What happens when the clock changes.
    pub clock_changes: String,
    pub next: Vec<Firing>,
    /// Clock changes of the coming year that meet it.
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// One instant at which something is due.
#[derive(Debug, Clone, Serialize)]
pub struct Firing {
    /// `None` for an expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    pub at: DateTime<Utc>,
    /// The same on the schedule's own clock.
    pub local: String,
    pub timezone: String,
}

/// Explains an expression as of `now`.
pub fn explain(arguments: &ExplainArguments, now: DateTime<Utc>) -> Result<Explanation, Mistake> {
    let (zone, dst) = arguments.clock.read()?;
    let text = arguments.expression.trim();
    let is_spelt_out = ["every ", "at ", "cron "].iter().any(|kind| text.starts_with(kind));
    let schedule = if is_spelt_out { Schedule::from_text(text, &zone, dst) } else { Schedule::cron(text, &zone, dst) };
    let schedule = schedule.map_err(|error| Mistake::Usage(pointed_out(text, &error)))?;
    let spec = schedule.spec();
    Ok(Explanation {
        expression: text.to_owned(),
        words: schedule.words(),
        fields: schedule.fields(),
        timezone: spec.timezone,
        zone_data_version: spec.zone_data_version,
        clock_changes: on_clock_changes(&schedule, dst),
        next: firings(None, &schedule, Range { after: now, until: None, count: arguments.count }),
        notes: schedule.clock_change_notes(now).into_iter().chain(doubt(&zone, now)).collect(),
        warnings: schedule.warnings(),
    })
}

impl Explanation {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![(String::new(), self.words.clone())];
        lines.extend(self.fields.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        lines.push(("zone".into(), format!("{} (zone data {})", self.timezone, self.zone_data_version)));
        lines.push(("clock changes".into(), self.clock_changes.clone()));
        let next = self.next.iter().map(|firing| format!("{}  {}", firing.local, rfc3339(firing.at)));
        lines.extend(titled("next", next));
        lines.extend(titled("note", self.notes.iter().cloned()));
        lines.extend(titled("warning", self.warnings.iter().cloned()));
        let mut text = self.expression.clone();
        for (title, line) in lines {
            let _ = write!(text, "\n{title:<13}  {line}");
        }
        text
    }
}

/// The firings that the arguments ask for: of an expression, or of the table's jobs when they need it.
pub fn next(arguments: &NextArguments, now: DateTime<Utc>, table: Option<&JobTable>) -> Result<Vec<Firing>, Mistake> {
    let range = arguments.range(now);
    if let Some(schedule) = arguments.schedule()? {
        return Ok(firings(None, &schedule, range));
    }
    let table = table.ok_or_else(|| Mistake::Usage("there is no job table; give --cron, --every or --at".into()))?;
    let jobs = match &arguments.name {
        Some(name) => vec![job_of(table, name)?],
        None => table.jobs.values().map(|entry| &*entry.job).filter(|job| job.disabled.is_none()).collect(),
    };
    let of_job = |job: &Job| job.schedule.as_ref().map(|schedule| firings(Some(&job.name), schedule, range));
    let mut found = jobs.into_iter().filter_map(of_job).flatten().collect::<Vec<_>>();
    found.sort_by(|a, b| (a.at, &a.job).cmp(&(b.at, &b.job)));
    Ok(found)
}

/// Firings as JSON: of an expression just the instants, of jobs with name, local time and zone.
pub fn next_json(firings: &[Firing]) -> Json {
    let shown = |firing: &Firing| match &firing.job {
        None => json!(rfc3339(firing.at)),
        Some(job) => json!({
            "job": job, "at": rfc3339(firing.at), "local": firing.local, "timezone": firing.timezone,
        }),
    };
    firings.iter().map(shown).collect()
}

/// Firings for people, one to a line.
pub fn next_text(firings: &[Firing]) -> String {
    let width = firings.iter().filter_map(|firing| firing.job.as_ref()).map(String::len).max().unwrap_or(0);
    let line = |firing: &Firing| {
        let job = firing.job.as_ref().map(|job| format!("{job:<width$}  ")).unwrap_or_default();
        format!("{job}{}  {}  {}", rfc3339(firing.at), firing.local, firing.timezone)
    };
    firings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The instants in `(after, until]`, at most `count`.
#[derive(Debug, Clone, Copy)]
struct Range {
    after: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    count: usize,
}

impl NextArguments {
    /// Whether the answer needs the job table: it is not read for an expression.
    pub fn needs_table(&self) -> bool {
        self.cron.is_none() && self.every.is_none() && self.at.is_empty()
    }

    fn range(&self, now: DateTime<Utc>) -> Range {
        let all = if self.to.is_some() { MOST } else { SHOWN };
        Range { after: self.from.unwrap_or(now), until: self.to, count: self.count.unwrap_or(all).min(MOST) }
    }

    fn schedule(&self) -> Result<Option<Schedule>, Mistake> {
        if self.needs_table() {
            return match &self.clock.timezone {
                Some(_) => Err(Mistake::Usage("--timezone goes with --cron or --at; a job has its own zone".into())),
                None => Ok(None),
            };
        }
        let (zone, dst) = self.clock.read()?;
        let plain = |error: ScheduleError| Mistake::Usage(with_help(error.message, error.help.as_deref()));
        if let Some(text) = &self.cron {
            let schedule = Schedule::cron(text, &zone, dst);
            return schedule.map(Some).map_err(|error| Mistake::Usage(pointed_out(text, &error)));
        }
        if let Some(text) = &self.every {
            let interval = duration::parse(text).map_err(Mistake::Usage)?;
            return Schedule::every(interval, std::time::Duration::ZERO).map(Some).map_err(plain);
        }
        let times = self.at.iter().map(String::as_str).collect::<Vec<_>>();
        let days = self.days.as_deref().into_iter().collect::<Vec<_>>();
        Schedule::at(&times, &days, &zone, dst).map(Some).map_err(plain)
    }
}

impl ClockArguments {
    fn read(&self) -> Result<(Zone, Dst), Mistake> {
        let zone = self.timezone.as_deref().map_or(Ok(Zone::utc()), Zone::parse);
        let zone = zone.map_err(|error| Mistake::Usage(with_help(error.message, error.help.as_deref())))?;
        let gap = if self.gap == "skip" { Gap::Skip } else { Gap::After };
        let repeat = if self.repeat == "both" { Repeat::Both } else { Repeat::First };
        Ok((zone, Dst { gap, repeat }))
    }
}

fn job_of<'a>(table: &'a JobTable, name: &str) -> Result<&'a Job, Mistake> {
    let found = table.job(&JobName::from_store(name));
    let job = found.ok_or_else(|| Mistake::UnknownJob(unknown(name, table).message))?;
    if job.schedule.is_none() {
        return Err(Mistake::Usage(format!("job {name:?} is a queue: its runs come from producers")));
    }
    Ok(job)
}

fn firings(job: Option<&JobName>, schedule: &Schedule, range: Range) -> Vec<Firing> {
    let zone = schedule.zone().cloned().unwrap_or_else(Zone::utc);
    let firing =
        |at| Firing { job: job.map(JobName::to_string), at, local: zone.shown(at), timezone: zone.name().to_owned() };
    let until = range.until.unwrap_or(DateTime::<Utc>::MAX_UTC);
    schedule.instants(range.after, until).take(range.count).map(firing).collect()
}

fn on_clock_changes(schedule: &Schedule, dst: Dst) -> String {
    if schedule.counts_elapsed_time() {
        return "none matter: it counts elapsed time".into();
    }
    let gap = match dst.gap {
        Gap::After => "due right after the gap",
        Gap::Skip => "not due",
    };
    let repeat = match dst.repeat {
        Repeat::First => "due the first time",
        Repeat::Both => "due both times",
    };
    format!("a time that is skipped is {gap}; a time that comes twice is {repeat}")
}

/// What chrono-tz thinks of the zone, when it thinks otherwise.
fn doubt(zone: &Zone, now: DateTime<Utc>) -> Option<String> {
    let difference = second_opinion::difference(zone, now)?;
    let hours = |seconds: i64| format!("{:+}", seconds as f64 / 3600.0);
    let theirs = difference.theirs.map_or("does not know it".into(), |theirs| format!("says UTC{}", hours(theirs)));
    Some(format!(
        "zone data {} have {} at UTC{} from {}; chrono-tz ({}) {theirs}",
        zone.version(),
        zone.name(),
        hours(difference.ours),
        rfc3339(difference.at),
        second_opinion::version(),
    ))
}

/// A message with the place in the expression marked, and the fix.
fn pointed_out(text: &str, error: &ScheduleError) -> String {
    let mut message = format!("{text:?}: {}", error.message);
    if let Some(span) = &error.span {
        let before = text[..span.start].chars().count();
        let marks = "^".repeat(text[span.clone()].chars().count().max(1));
        let _ = write!(message, "\n    {text}\n    {:before$}{marks}", "");
    }
    with_help(message, error.help.as_deref())
}

fn with_help(message: String, help: Option<&str>) -> String {
    help.map_or(message.clone(), |help| format!("{message}\nhelp: {help}"))
}

fn titled(title: &str, lines: impl Iterator<Item = String>) -> impl Iterator<Item = (String, String)> {
    lines.enumerate().map(move |(index, line)| (if index == 0 { title.to_owned() } else { String::new() }, line))
}

fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
