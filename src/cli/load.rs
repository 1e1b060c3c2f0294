//! Reads settings and job table, in the order in which they need each other.

use std::{fs, path::PathBuf, sync::Arc};

use super::output::{Exit, Stop};
use crate::{
    config::{Config, FileSettings, Flags, Surroundings},
    job_table::{self, Environment, JobTable, TeamDefaults, problem},
};

/// What most commands begin with.
pub struct Loaded {
    pub config: Config,
    pub table: Arc<JobTable>,
}

/// Flags of all commands, by the names of their settings.
pub fn flags(jobs_file: Option<PathBuf>) -> Flags {
    let jobs_file = jobs_file.map(|file| ("jobs_file", file.to_string_lossy().into_owned()));
    jobs_file.into_iter().collect()
}

/// Settings and job table; the error lists everything that is wrong with either.
pub fn load(flags: &Flags) -> Result<Loaded, Stop> {
    let surroundings = Surroundings::read();
    let first = resolve(flags, &surroundings, &FileSettings::new())?;
    let table = Arc::new(read(&first)?);
    let config = resolve(flags, &surroundings, &table.process_settings)?;
    Ok(Loaded { config, table })
}

/// The settings alone, for commands that ask the service or the database: a broken job table does not stop them, it only
/// has nothing to say.
pub fn settings(flags: &Flags) -> Result<Config, Stop> {
    let surroundings = Surroundings::read();
    let first = resolve(flags, &surroundings, &FileSettings::new())?;
    match read(&first) {
        Ok(table) => resolve(flags, &surroundings, &table.process_settings),
        Err(_) => Ok(first),
    }
}

/// A table without jobs, for commands that were given an expression.
pub fn no_table() -> Arc<JobTable> {
    let table = job_table::parse("version = 1\n", "", &Environment::default());
    Arc::new(table.expect("a table without jobs is a good one"))
}

fn resolve(flags: &Flags, surroundings: &Surroundings, file: &FileSettings) -> Result<Config, Stop> {
    Config::resolve(flags, surroundings, file).map_err(|problems| Stop::new(Exit::ConfigInvalid, problems.join("\n")))
}

fn read(config: &Config) -> Result<JobTable, Stop> {
    let name = config.jobs_file.display().to_string();
    let text = fs::read_to_string(&config.jobs_file).map_err(|error| {
        Stop::new(Exit::ConfigInvalid, format!("cannot read the job table {name}: {error}; name it with --config"))
    })?;
    let team = TeamDefaults {
        timeout: config.team.job_timeout,
        queue_keep_done: config.team.queue_keep_done,
        queue_concurrency: config.team.queue_concurrency,
    };
    let environment = Environment { variables: config.variables.clone(), team };
    job_table::parse(&text, &name, &environment)
        .map_err(|problems| Stop::new(Exit::ConfigInvalid, problem::as_text(&problems, false)))
}
