//! `check`: everything that can be known about settings and job table before the service starts.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
};

use chrono::{DateTime, FixedOffset, Utc};
use clap::{Args, ValueEnum, ValueHint};
use serde_json::json;

use super::{Loaded, Refused, load_within};
use crate::{
    cli::exit::Exit,
    config::{Flags, Surroundings},
    domain::{
        job::JobName,
        schedule::{
            Zone,
            second_opinion::{self, Difference},
            zone,
        },
    },
    job_table::{Code, Problem, problem},
};

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The job table [default: jobs.toml]
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<String>,
    /// text for people, json for programs, github for annotations [default: text; json with -o json]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
    Github,
}

/// What is known so far. The caller may add what a database says.
pub struct Examined {
    /// `None` = settings or table are refused.
    pub loaded: Option<Loaded>,
    file: String,
    settings: Vec<String>,
    problems: Vec<Problem>,
    /// `NO_COLOR` is not set.
    colours: bool,
}

/// Reads settings and table, and looks at the zones of the coming year.
pub fn examine(arguments: &CheckArguments, flags: &Flags, now: DateTime<Utc>) -> Examined {
    examine_within(arguments, flags, (&Surroundings::read(), now))
}

fn examine_within(
    arguments: &CheckArguments,
    flags: &Flags,
    (surroundings, now): (&Surroundings, DateTime<Utc>),
) -> Examined {
    let mut flags = flags.clone();
    let colours = surroundings.variables.get("NO_COLOR").is_none_or(String::is_empty);
    if let Some(file) = &arguments.file {
        flags.insert("jobs_file", file.clone());
    }
    match load_within(&flags, surroundings) {
        Ok(loaded) => {
            let file = loaded.config.jobs_file.display().to_string();
            let mut problems = loaded.table.warnings.clone();
            problems.extend(doubtful_zones(&loaded, &file, now));
            let settings = loaded.config.warnings.clone();
            Examined { loaded: Some(loaded), file, settings, problems, colours }
        }
        Err(Refused { settings, problems }) => {
            let file = flags.get("jobs_file").cloned().unwrap_or_else(|| "jobs.toml".into());
            Examined { loaded: None, file, settings, problems, colours }
        }
    }
}

/// Zones about which the two editions of the zone data disagree in the coming 400 days, with the jobs they concern.
fn doubtful_zones(loaded: &Loaded, file: &str, now: DateTime<Utc>) -> Vec<Problem> {
    let mut zones: BTreeMap<&str, (&Zone, Vec<&JobName>, usize)> = BTreeMap::new();
    for entry in loaded.table.jobs.values() {
        if let Some(zone) = entry.job.schedule.as_ref().and_then(|schedule| schedule.zone()) {
            let (_, jobs, line) = zones.entry(zone.name()).or_insert((zone, Vec::new(), entry.line));
            jobs.push(&entry.job.name);
            *line = entry.line.min(*line);
        }
    }
    let doubts = zones.into_values().filter_map(|(zone, jobs, line)| {
        let difference = second_opinion::difference(zone, now)?;
        let message = format!("{}; this concerns {}", words(&difference), some_of(&jobs));
        Some(Problem::of_file(Code::ZoneData, file, message).on_line(line))
    });
    doubts.collect()
}

fn words(difference: &Difference) -> String {
    let Difference { zone, at, ours, theirs } = difference;
    let (our_data, their_data) = (zone::version(), second_opinion::version());
    let ours = offset(*ours);
    match theirs {
        Some(theirs) => format!(
            "zone data {our_data} and {their_data} disagree about {zone} from {}: {ours} against {}",
            at.format("%Y-%m-%d"),
            offset(*theirs)
        ),
        None => format!("zone data {their_data} do not know {zone}, which {our_data} put at {ours}"),
    }
}

fn offset(seconds: i64) -> String {
    i32::try_from(seconds).ok().and_then(FixedOffset::east_opt).map_or_else(|| seconds.to_string(), |o| o.to_string())
}

/// The first jobs by name, and how many more there are.
fn some_of(jobs: &[&JobName]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<&str> = jobs.iter().take(SHOWN).map(|job| job.as_str()).collect();
    match jobs.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

impl Examined {
    /// Adds that the database refuses a statement of a job.
    pub fn refuse_statement(&mut self, job: &JobName, message: &str) {
        self.tell_of_database(Code::Statement, job, message);
    }

    /// Adds that a table of the team's can be worked on and not all of it as meant.
    pub fn doubt_table(&mut self, job: &JobName, message: &str) {
        self.tell_of_database(Code::DoubtfulTable, job, message);
    }

    fn tell_of_database(&mut self, code: Code, job: &JobName, message: &str) {
        let line = self.loaded.as_ref().and_then(|loaded| loaded.table.jobs.get(job)).map_or(1, |entry| entry.line);
        let message = format!("job `{job}`: {message}");
        self.problems.push(Problem::of_file(code, &self.file, message).on_line(line));
    }

    /// The answer in the wanted form, and the exit code: 3 when something is refused.
    pub fn answer(mut self, arguments: &CheckArguments) -> (String, Exit) {
        problem::sort(&mut self.problems);
        let told = self.problems.len() + self.settings.len();
        let is_refused = self.loaded.is_none() || self.problems.iter().any(|problem| problem.code.is_error());
        let exit = match is_refused || (arguments.strict && 0 < told) {
            true => Exit::ConfigInvalid,
            false => Exit::Ok,
        };
        let text = match arguments.format.unwrap_or_default() {
            Format::Text => self.text(self.colours && io::stdout().is_terminal()),
            Format::Json => self.json(exit == Exit::Ok),
            Format::Github => self.github(),
        };
        (text, exit)
    }

    /// `error` when the settings were refused, else they are only doubtful.
    fn severity_of_settings(&self) -> &'static str {
        if self.loaded.is_none() { "error" } else { "warning" }
    }

    fn text(&self, colours: bool) -> String {
        let severity = self.severity_of_settings();
        let settings: String = self.settings.iter().map(|problem| format!("{severity}: {problem}\n\n")).collect();
        let errors = self.problems.iter().filter(|problem| problem.code.is_error()).count();
        let (mut errors, mut warnings) = (errors, self.problems.len() - errors);
        *(if self.loaded.is_none() { &mut errors } else { &mut warnings }) += self.settings.len();
        let jobs = self.loaded.as_ref().map(|loaded| loaded.table.jobs.len());
        let counts = [jobs.map(|jobs| (jobs, "job")), Some((errors, "error")), Some((warnings, "warning"))];
        let counts: Vec<String> = counts.into_iter().flatten().map(|(count, word)| counted(count, word)).collect();
        format!("{settings}{}{}: {}", problem::as_text(&self.problems, colours), self.file, counts.join(", "))
    }

    fn json(&self, ok: bool) -> String {
        let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) =
            self.problems.iter().partition(|problem| problem.code.is_error());
        let answer = json!({
            "file": self.file,
            "ok": ok,
            "jobs": self.loaded.as_ref().map(|loaded| loaded.table.jobs.len()),
            "settings": self.settings,
            "errors": errors,
            "warnings": warnings,
        });
        serde_json::to_string_pretty(&answer).expect("an answer is JSON")
    }

    fn github(&self) -> String {
        let severity = self.severity_of_settings();
        let settings: String = self.settings.iter().map(|problem| format!("::{severity} ::{problem}\n")).collect();
        (settings + &problem::as_github(&self.problems)).trim_end().into()
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
