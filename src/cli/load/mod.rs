//! Reads settings and job table, in the order in which they need each other: what most commands begin with.

pub mod check;
pub mod config;

use std::{fs, path::Path, sync::Arc};

use super::exit::{Exit, Stop};
use crate::{
    config::{Config, FileSettings, Flags, Origin, Shown, Surroundings},
    domain::schedule::zone,
    job_table::{Code, Environment, JobTable, MAX_FILE_BYTES, Problem, TeamDefaults, parse, problem},
};

/// The settings of this process and its job table.
pub struct Loaded {
    pub config: Config,
    pub table: Arc<JobTable>,
}

/// Flags of all commands, by the names of their settings.
pub fn flags(jobs_file: Option<String>) -> Flags {
    jobs_file.map(|file| ("jobs_file", file)).into_iter().collect()
}

/// Everything that is wrong with settings and table, told at once.
#[derive(Debug, Default)]
pub struct Refused {
    /// Of flags and variables.
    pub settings: Vec<String>,
    /// Of the file, sorted by line.
    pub problems: Vec<Problem>,
}

impl Refused {
    /// For people: the settings first, one per line, then the file with its marked lines.
    fn text(&self) -> String {
        let (settings, file) = (self.settings.join("\n"), problem::as_text(&self.problems, false));
        let parts: Vec<&str> = [settings.as_str(), file.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        match self.settings.is_empty() {
            true => format!("the job table is refused\n\n{}", parts.join("\n\n")),
            false => parts.join("\n\n"),
        }
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::new(Exit::ConfigInvalid, refused.text().trim_end())
    }
}

/// Settings and job table; the error lists everything that is wrong with either.
pub fn load(flags: &Flags) -> Result<Loaded, Stop> {
    load_within(flags, &Surroundings::read()).map_err(Stop::from)
}

/// The settings alone, for commands that ask the service or the database: a broken job table does not stop them, it only
/// has nothing to say.
pub fn settings(flags: &Flags) -> Result<Config, Stop> {
    let surroundings = Surroundings::read();
    let refused = match load_within(flags, &surroundings) {
        Ok(loaded) => return Ok(loaded.config),
        Err(refused) => refused,
    };
    match Config::resolve(flags, &surroundings, &FileSettings::new()) {
        Ok(config) if refused.settings.is_empty() => Ok(config),
        _ => Err(Refused { problems: Vec::new(), ..refused }.into()),
    }
}

/// The settings that flags and environment give, without jobs.toml.
pub fn surroundings(flags: &Flags) -> Result<Config, Stop> {
    let config = Config::resolve(flags, &Surroundings::read(), &FileSettings::new());
    config.map_err(|settings| Refused { settings, problems: Vec::new() }.into())
}

/// The settings that say where the service listens. The job table is not read when it cannot matter: a HEALTHCHECK asks this
/// every few seconds.
pub fn whereabouts(flags: &Flags) -> Result<Config, Stop> {
    let early = surroundings(flags)?;
    let is_given =
        |row: &Shown| row.name == "server.listen" && matches!(row.origin, Origin::Flag | Origin::Variable(_));
    if early.shown.iter().any(is_given) { Ok(early) } else { settings(flags) }
}

/// The same in given surroundings.
fn load_within(flags: &Flags, surroundings: &Surroundings) -> Result<Loaded, Refused> {
    let early = Config::resolve(flags, surroundings, &FileSettings::new());
    let file = match &early {
        Ok(config) => config.jobs_file.clone(),
        // The table is read even so: one start tells all that is wrong.
        Err(_) => flags.get("jobs_file").map_or("jobs.toml", String::as_str).into(),
    };
    let team = early.as_ref().map(team_defaults).unwrap_or_default();
    let environment = Environment { variables: surroundings.variables.clone(), team };
    // Before the first zone is parsed: newer data of the system are believed over our own.
    zone::choose(surroundings.zone_data.as_deref().and_then(zone::version_in));
    let table = read_table(&file, &environment);
    let settings = match (early, &table) {
        (Err(problems), _) => Err(problems),
        (Ok(_), Ok(table)) => Config::resolve(flags, surroundings, &table.process_settings),
        (Ok(config), Err(_)) => Ok(config),
    };
    match (settings, table) {
        (Ok(config), Ok(table)) => Ok(Loaded { config, table: Arc::new(table) }),
        (settings, table) => {
            Err(Refused { settings: settings.err().unwrap_or_default(), problems: table.err().unwrap_or_default() })
        }
    }
}

fn team_defaults(config: &Config) -> TeamDefaults {
    TeamDefaults {
        timeout: config.team.job_timeout,
        queue_keep_done: config.team.queue_keep_done,
        queue_concurrency: config.team.queue_concurrency,
    }
}

/// Reads the table from a file. A file over the limit is not read into memory.
fn read_table(file: &Path, environment: &Environment) -> Result<JobTable, Vec<Problem>> {
    let name = file.display().to_string();
    let size = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if (MAX_FILE_BYTES as u64) < size {
        let message = format!("the file has {size} bytes, the limit is {MAX_FILE_BYTES}");
        return Err(vec![Problem::of_file(Code::TooLarge, &name, message)]);
    }
    let bytes = fs::read(file).map_err(|error| {
        let problem = Problem::of_file(Code::Unreadable, &name, format!("cannot read {name}: {error}"));
        vec![problem.with_help("name the job table with --config or WORKERS_CONFIG")]
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        let problem = Problem::of_file(Code::Syntax, &name, "the file is not UTF-8").on_line(line);
        vec![problem.with_help("save it as UTF-8")]
    })?;
    parse(&text, &name, environment)
}
