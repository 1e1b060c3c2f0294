//! The only reader of flags and environment: where and how this process runs, and where each setting came from.

mod settings;
mod value;
mod resolve;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use resolve::{Origin, Shown};
pub use settings::{VariableRow, variables};

/// Where the process runs, read once.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// All environment variables whose name and value are Unicode.
    pub variables: BTreeMap<String, String>,
    /// Names of those whose value is not.
    pub unreadable: Vec<String>,
    pub in_container: bool,
    /// The text of `/proc/self/mountinfo`; empty = not known.
    pub mounts: String,
    pub working_directory: PathBuf,
    /// First line of the system's zone data, which names their version; `None` = there are none.
    pub zone_data: Option<String>,
}

/// What is mounted where, as this process sees it.
const MOUNTS_FILE: &str = "/proc/self/mountinfo";
/// Where the system keeps the source of its zone data.
const ZONE_DATA_FILE: &str = "/usr/share/zoneinfo/tzdata.zi";

impl Surroundings {
    /// Reads the environment of the process.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader that the others are sent to")]
    pub fn read() -> Self {
        let mut surroundings = Self { working_directory: env::current_dir().unwrap_or_default(), ..Self::default() };
        for (name, value) in env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => drop(surroundings.variables.insert(name, value)),
                (Ok(name), Err(_)) => surroundings.unreadable.push(name),
                // A name that is not Unicode is none of ours.
                (Err(_), _) => {}
            }
        }
        let has = |name: &str| surroundings.variables.contains_key(name);
        // Docker and Podman leave a file; the others leave a variable.
        surroundings.in_container = Path::new("/.dockerenv").exists()
            || Path::new("/run/.containerenv").exists()
            || ["container", "KUBERNETES_SERVICE_HOST", "RAILWAY_ENVIRONMENT_ID"].into_iter().any(has);
        surroundings.mounts = fs::read_to_string(MOUNTS_FILE).unwrap_or_default();
        surroundings.zone_data = first_line(ZONE_DATA_FILE);
        surroundings
    }
}

fn first_line(path: &str) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?).read_line(&mut line).ok()?;
    Some(line)
}

/// Flags of the command line that set something, by the name of the setting, such as `server.listen`.
pub type Flags = BTreeMap<&'static str, String>;

/// Settings that jobs.toml gives: name of the setting, its text, and its line.
pub type FileSettings = BTreeMap<String, (String, usize)>;

/// What this process does with the job table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Plans schedules and runs everything.
    All,
    /// Publishes only: answers, takes enqueues, neither plans nor runs.
    Api,
    /// Runs queues only.
    Worker,
    /// Plans and runs schedules only.
    Scheduler,
}

/// Every setting of the process, with flags, environment, file and built-in values resolved in this order.
#[derive(Debug, Clone)]
pub struct Config {
    pub jobs_file: PathBuf,
    pub listen: SocketAddr,
    /// Tokens that may do everything.
    pub tokens: Vec<String>,
    /// Tokens that may read.
    pub read_tokens: Vec<String>,
    pub metrics_public: bool,
    pub database_url: String,
    /// `WORKERS_DATA_DIR`, else the working directory: where relative SQLite paths start.
    pub data_dir: PathBuf,
    /// For migrations and LISTEN; `None` = the database URL does.
    pub direct_url: Option<String>,
    pub schema: String,
    pub pool_min: u32,
    pub pool_max: u32,
    pub create_team_tables: bool,
    /// A SQLite file on a container's own layer is allowed in production.
    pub allow_ephemeral: bool,
    /// Queue runs at once.
    pub concurrency: usize,
    /// Scheduled, caught-up and triggered runs at once.
    pub scheduled: usize,
    pub shutdown_grace: Duration,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// `auto`, `text` or `json`.
    pub log_format: String,
    /// `all`, `summary` or `none`.
    pub log_success: String,
    pub app_env: Option<String>,
    /// `TZ`: in which zone people are shown times.
    pub zone: Option<String>,
    pub mode: Mode,
    /// The only queue to claim from.
    pub queue: Option<String>,
    pub team: TeamSettings,
    pub in_container: bool,
    /// The text of `/proc/self/mountinfo`; empty = not known.
    pub mounts: String,
    pub variables: BTreeMap<String, String>,
    /// Every setting as text, with its origin; secrets masked.
    pub shown: Vec<Shown>,
    /// What is probably a slip, such as a `WORKERS_*` variable that nobody reads.
    pub warnings: Vec<String>,
}

/// Settings of jobs that the team's own variables give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TeamSettings {
    /// `JOB_TIMEOUT`, `ARQ_JOB_TIMEOUT`, `WORKER_TIMEOUT`.
    pub job_timeout: Option<Duration>,
    /// `ARQ_KEEP_RESULT`.
    pub queue_keep_done: Option<Duration>,
    /// `N_WORKERS`.
    pub queue_concurrency: Option<u32>,
}

impl Config {
    /// Resolves all settings, or lists everything that is wrong with them. Before jobs.toml is read, `file` is empty:
    /// `jobs_file` and `team` do not depend on it.
    pub fn resolve(flags: &Flags, surroundings: &Surroundings, file: &FileSettings) -> Result<Self, Vec<String>> {
        resolve::resolve(flags, surroundings, file)
    }

    /// `APP_ENV` is `production`.
    pub fn is_production(&self) -> bool {
        self.app_env.as_deref() == Some("production")
    }
}

#[cfg(test)]
mod tests;
