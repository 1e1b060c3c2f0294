//! From flags, environment and file to one value per setting, each with its origin.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    Config, FileSettings, Flags, Mode, Surroundings, TeamSettings,
    settings::{SETTINGS, Setting},
    value::Unit,
};

/// What the platform's draining time leaves for the process to end after its work has (spec 4, Stopping).
const DRAINING_MARGIN_MS: u64 = 2_000;

/// 64 bits even when a token is written in hexadecimal.
const SHORTEST_TOKEN_CHARS: usize = 16;

/// Variables that handlers give to their children; a daemon started by one of them must not stumble over them.
const GIVEN_TO_CHILDREN: [&str; 4] = ["WORKERS_RUN_ID", "WORKERS_JOB", "WORKERS_ATTEMPT", "WORKERS_SCHEDULED_FOR"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Variable(&'static str),
    /// The line of jobs.toml.
    File(usize),
    BuiltIn,
    /// Worked out from where the process runs, in words.
    Surroundings(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::File(line) => write!(f, "jobs.toml, line {line}"),
            Self::BuiltIn => f.write_str("built in"),
            Self::Surroundings(why) => f.write_str(why),
        }
    }
}

/// A setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub name: &'static str,
    pub value: String,
    pub origin: Origin,
}

/// The settings that have a value, in their one form.
struct Resolved {
    values: BTreeMap<&'static str, (String, Origin)>,
    problems: Vec<String>,
}

pub fn resolve(flags: &Flags, surroundings: &Surroundings, file: &FileSettings) -> Result<Config, Vec<String>> {
    let mut resolved = Resolved { values: BTreeMap::new(), problems: Vec::new() };
    for name in &surroundings.unreadable {
        if SETTINGS.iter().any(|setting| setting.reads(name)) {
            resolved.problems.push(format!("{name}: the value is not Unicode"));
        }
    }
    for setting in SETTINGS {
        let found = first_given(setting, (flags, surroundings, file), &mut resolved.problems);
        if let Some(value) = found {
            resolved.values.insert(setting.name, value);
        }
    }
    if let Some((grace, Origin::Variable("RAILWAY_DEPLOYMENT_DRAINING_SECONDS"))) =
        resolved.values.get_mut("executor.shutdown_grace")
    {
        *grace = grace.parse::<u64>().unwrap_or_default().saturating_sub(DRAINING_MARGIN_MS).to_string();
    }
    let mode = resolved.mode();
    let listen = resolved.listen(surroundings);
    resolved.database(surroundings);
    if resolved.number("database.pool_max") < resolved.number("database.pool_min") {
        resolved.problems.push("database.pool_min is larger than database.pool_max".into());
    }
    if !resolved.problems.is_empty() {
        return Err(resolved.problems);
    }
    Ok(resolved.into_config(mode, listen, surroundings))
}

impl Setting {
    fn reads(&self, name: &str) -> bool {
        self.ours == Some(name) || self.team.iter().any(|(team, _)| *team == name)
    }
}

/// Flag, our variable, the team's variables, file, built-in: the first that is given decides.
/// All that is given is checked, also what another source overrules.
fn first_given(
    setting: &Setting,
    (flags, surroundings, file): (&Flags, &Surroundings, &FileSettings),
    problems: &mut Vec<String>,
) -> Option<(String, Origin)> {
    let mut read = |source: &str, text: &str, unit: Unit| match setting.kind.read(text, unit) {
        Ok(value) => Some(value),
        Err(why) => {
            problems.push(format!("{source}: {why}"));
            None
        }
    };
    let given = |name: &str| surroundings.variables.get(name).filter(|value| !value.trim().is_empty());
    let mut found: Vec<(String, Origin)> = Vec::new();
    if let Some(text) = flags.get(setting.name) {
        found.extend(read(&setting.flag(), text, Unit::Seconds).map(|value| (value, Origin::Flag)));
    }
    if let Some((name, text)) = setting.ours.and_then(|name| Some((name, given(name)?))) {
        found.extend(read(name, text, Unit::Seconds).map(|value| (value, Origin::Variable(name))));
    }
    let team: Vec<(String, Origin)> = setting
        .team
        .iter()
        .filter_map(|(name, unit)| Some((read(name, given(name)?, *unit)?, Origin::Variable(name))))
        .collect();
    if let Some((text, line)) = file.get(setting.name) {
        let source = format!("jobs.toml, line {line}: {}", setting.name);
        let from_file = read(&source, text, Unit::Seconds).map(|value| (value, Origin::File(*line)));
        found.extend(team.iter().cloned().chain(from_file));
    } else {
        found.extend(team.iter().cloned());
    }
    if !setting.default.is_empty() {
        found.extend(read(setting.name, setting.default, Unit::Seconds).map(|value| (value, Origin::BuiltIn)));
    }
    problems.extend(disagreement(setting, &team));
    found.into_iter().next()
}

/// Two variables of the team that set one thing to different values.
fn disagreement(setting: &Setting, team: &[(String, Origin)]) -> Option<String> {
    let (value, name) = team.first()?;
    let (other_value, other) = team.iter().find(|other| other.0 != *value)?;
    let (value, other_value) = (setting.kind.shown(value), setting.kind.shown(other_value));
    Some(format!("{name} and {other} set {} to different values: {value} and {other_value}", setting.name))
}

impl Setting {
    /// The flag of the command line that sets it.
    fn flag(&self) -> String {
        format!("--{}", self.name.rsplit('.').next().unwrap_or(self.name).replace('_', "-"))
    }
}

impl Resolved {
    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|(value, _)| value.clone())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name).as_deref() == Some("true")
    }

    fn time(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_string).collect()
    }

    /// `WORKER_MODE=true` goes with every mode that runs something; `false` is `RUN_MODE=api`.
    fn mode(&mut self) -> Mode {
        let worker_mode = self.text("worker_mode");
        let mode = match self.text("run_mode").as_deref() {
            Some("api") => Mode::Api,
            Some("worker") => Mode::Worker,
            Some("scheduler") => Mode::Scheduler,
            _ if worker_mode.as_deref() == Some("false") => Mode::Api,
            _ => Mode::All,
        };
        let says_api = worker_mode.as_deref().map(|value| value == "false");
        if says_api.is_some_and(|says_api| says_api != (mode == Mode::Api)) {
            self.problems
                .push("RUN_MODE and WORKER_MODE say different things: WORKER_MODE=false is RUN_MODE=api".into());
        }
        mode
    }

    /// A given address decides; else `PORT` or a container opens the door to all, else only this machine may knock.
    fn listen(&mut self, surroundings: &Surroundings) -> SocketAddr {
        let port = self.number("port").unwrap_or_default() as u16;
        let port_is_given = !matches!(self.values.get("port"), Some((_, Origin::BuiltIn)));
        let (derived, why) = match (port_is_given, surroundings.in_container) {
            (true, _) => ((Ipv6Addr::UNSPECIFIED, port).into(), "PORT is set"),
            (false, true) => ((Ipv6Addr::UNSPECIFIED, port).into(), "in a container"),
            (false, false) => (([127, 0, 0, 1], port).into(), "neither PORT nor a container"),
        };
        let entry = (SocketAddr::to_string(&derived), Origin::Surroundings(why));
        let (text, _) = self.values.entry("server.listen").or_insert(entry);
        text.parse().unwrap_or(derived)
    }

    /// Without a URL the database is a SQLite file in the data folder, which is the working directory unless given.
    fn database(&mut self, surroundings: &Surroundings) {
        let folder = surroundings.working_directory.display().to_string();
        self.values.entry("data_dir").or_insert((folder, Origin::Surroundings("working directory")));
        let url = ("sqlite://workers.db".into(), Origin::Surroundings("workers.db in data_dir"));
        self.values.entry("database.url").or_insert(url);
    }

    fn into_config(self, mode: Mode, listen: SocketAddr, surroundings: &Surroundings) -> Config {
        let text = |name: &str| self.text(name).unwrap_or_default();
        let number = |name: &str| self.number(name).unwrap_or_default();
        Config {
            jobs_file: text("jobs_file").into(),
            listen,
            tokens: self.list("server.token"),
            read_tokens: self.list("server.read_token"),
            metrics_public: self.is_true("server.metrics_public"),
            database_url: text("database.url"),
            data_dir: text("data_dir").into(),
            direct_url: self.text("database.direct_url"),
            schema: text("database.schema"),
            pool_min: number("database.pool_min") as u32,
            pool_max: number("database.pool_max") as u32,
            create_team_tables: self.is_true("database.create_team_tables"),
            allow_ephemeral: self.is_true("allow_ephemeral"),
            concurrency: number("executor.concurrency") as usize,
            scheduled: number("executor.scheduled") as usize,
            shutdown_grace: self.time("executor.shutdown_grace").unwrap_or_default(),
            log_level: text("log.level"),
            log_format: text("log.format"),
            log_success: text("log.success"),
            app_env: self.text("app_env"),
            zone: self.text("zone"),
            mode,
            queue: self.text("queue"),
            team: TeamSettings {
                job_timeout: self.time("team.job_timeout"),
                queue_keep_done: self.time("team.queue_keep_done"),
                queue_concurrency: self.number("team.queue_concurrency").map(|slots| slots as u32),
            },
            in_container: surroundings.in_container,
            mounts: surroundings.mounts.clone(),
            variables: surroundings.variables.clone(),
            shown: self.shown(),
            warnings: unread_variables(surroundings).into_iter().chain(self.short_tokens()).collect(),
        }
    }

    /// Settings that hold a token which can be guessed. The daemon starts all the same: jobs must not stop for it.
    fn short_tokens(&self) -> Vec<String> {
        let is_short = |token: &String| token.chars().count() < SHORTEST_TOKEN_CHARS;
        let tokens = [("server.token", "WORKERS_TOKEN"), ("server.read_token", "WORKERS_READ_TOKEN")];
        let short = tokens.into_iter().filter(|(name, _)| self.list(name).iter().any(is_short));
        short
            .map(|(_, variable)| {
                format!(
                    "{variable} holds a token of fewer than {SHORTEST_TOKEN_CHARS} characters, which can be guessed: \
                     `openssl rand -hex 32` makes a good one"
                )
            })
            .collect()
    }

    fn shown(&self) -> Vec<Shown> {
        let rows = SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.name)?;
            Some(Shown { name: setting.name, value: setting.kind.shown(value), origin: origin.clone() })
        });
        rows.collect()
    }
}

/// `WORKERS_*` variables that nothing reads: most likely slips.
fn unread_variables(surroundings: &Surroundings) -> Vec<String> {
    let is_read = |name: &str| SETTINGS.iter().any(|setting| setting.reads(name)) || GIVEN_TO_CHILDREN.contains(&name);
    let ours = surroundings.variables.keys().filter(|name| name.starts_with("WORKERS_") && !is_read(name));
    ours.map(|name| match nearest(name) {
        Some(near) => format!("nothing reads the variable {name}; did you mean {near}?"),
        None => format!("nothing reads the variable {name}"),
    })
    .collect()
}

fn nearest(name: &str) -> Option<&'static str> {
    let known = SETTINGS.iter().filter_map(|setting| setting.ours);
    let near = known.map(|known| (strsim::osa_distance(name, known), known)).min()?;
    (near.0 <= 3).then_some(near.1)
}
