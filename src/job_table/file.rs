//! Reads the file as a whole: its tables one after another, then what holds between its jobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::{
    Entry, Environment, JobTable, MAX_FILE_BYTES, MAX_JOBS,
    job::Builder,
    problem::{self, Code, Problem, Source},
    raw::{LATER_JOB_KEYS, LATER_TABLES, OWN_JOB_KEYS, RawFile},
    reading::{
        deserialize::Reader,
        suggest,
        tree::{self, Node, Step, Table, Value},
        variables,
    },
    site::Site,
    warnings,
};
use crate::{
    domain::{duration::LengthOrZero, job::JobName, secret::Masking},
    handlers::{
        Outbound, OutboundTable, Targets,
        http::{DEFAULT_TARGET, Target},
    },
};

/// Reads a job table. `file_name` is shown in problems, and relative paths in the table start at its folder.
/// Either the whole table is good, or every problem of the file comes back, sorted by line.
pub fn parse(text: &str, file_name: &str, environment: &Environment) -> Result<JobTable, Vec<Problem>> {
    if MAX_FILE_BYTES < text.len() {
        let message = format!("the file has {} bytes, the limit is {MAX_FILE_BYTES}", text.len());
        return Err(vec![Problem::of_file(Code::TooLarge, file_name, message)]);
    }
    let source = Source::new(file_name, text);
    let (mut root, complaints) = tree::parse(text);
    let mut problems: Vec<Problem> = Vec::new();
    variables::fill(&mut root, environment, &source, &mut problems);
    let shown = Masking::new(&environment.variables).table(root.to_json());
    let mut reader = Reader { source: &source, problems };
    let table = read_tables(root, file_name, environment, &mut reader);
    let mut problems = reader.problems;
    drop_consequences(&mut problems, &complaints, &source);
    problem::sort(&mut problems);
    match table {
        Some(table) if problems.iter().all(|problem| !problem.code.is_error()) => {
            Ok(JobTable { warnings: problems, shown, ..table })
        }
        _ => {
            problems.retain(|problem| problem.code.is_error());
            Err(problems)
        }
    }
}

/// Adds what is no TOML, and drops the problems on the same lines: they only follow from it.
fn drop_consequences(problems: &mut Vec<Problem>, complaints: &[tree::Complaint], source: &Source<'_>) {
    let syntax: Vec<Problem> =
        complaints.iter().map(|(span, message)| source.problem(Code::Syntax, span.clone(), message.clone())).collect();
    problems.retain(|problem| syntax.iter().all(|other| other.line != problem.line));
    problems.extend(syntax);
}

/// The table without `shown` and `warnings`; `None` when there are too many jobs to go on.
fn read_tables(
    mut root: Table,
    file_name: &str,
    environment: &Environment,
    reader: &mut Reader<'_>,
) -> Option<JobTable> {
    refuse_later(&mut root, &LATER_TABLES, reader);
    let jobs = take_tables(&mut root, "jobs", reader);
    let targets = take_tables(&mut root, "targets", reader);
    let process_settings = process_settings(&root, reader.source);
    refuse_in_defaults(&mut root, reader);
    let mut root = Node { span: 0..0, value: Value::Table(root) };
    let top = reader.read(&mut root, |node| RawFile::deserialize(node)).unwrap_or_default();
    let targets = read_targets(targets, environment, reader);
    if MAX_JOBS < jobs.entries.len() {
        let message = format!("the file has {} jobs, the limit is {MAX_JOBS}", jobs.entries.len());
        reader.tell(Code::TooLarge, jobs.entries[0].key_span.clone(), message, None);
        return None;
    }
    let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
    let outbound = read_outbound(&top.outbound, (environment, &targets), &root, reader);
    let mut builder = Builder::new(&top.defaults, environment, (&targets, &outbound), folder);
    let mut entries = BTreeMap::new();
    let mut sites = Vec::new();
    for entry in jobs.entries {
        let site = Site::new(entry, &root);
        if let Some(entry) = builder.build(&site, reader) {
            warnings::of_job(&entry.job, &site, environment, reader);
            entries.insert(entry.job.name.clone(), entry);
        }
        sites.push(site);
    }
    check_former_names(&entries, &sites, reader);
    warnings::of_table(&entries, &sites, reader);
    let revision = top.revision.map(|revision| revision.0);
    let hash = table_hash(&entries, revision);
    let (server, database, executor) = (top.server, top.database, top.executor);
    Some(JobTable {
        jobs: entries,
        hash,
        revision,
        server,
        database,
        executor,
        targets,
        outbound,
        shown: Json::Null,
        warnings: Vec::new(),
        process_settings,
    })
}

/// Takes the table of tables below a key; what is no table is told and left out.
fn take_tables(root: &mut Table, key: &str, reader: &mut Reader<'_>) -> Table {
    let Some(entry) = root.take(key) else { return Table::default() };
    let Value::Table(mut tables) = entry.node.value else {
        let message = format!("`{key}` is not a table");
        reader.tell(Code::WrongType, entry.key_span, message, Some(format!("write [{key}.<name>]")));
        return Table::default();
    };
    tables.entries.retain(|entry| {
        let is_table = matches!(entry.node.value, Value::Table(_));
        if !is_table && entry.node.value != Value::Broken {
            let message = format!("`{key}.{}` is not a table", entry.key);
            reader.tell(
                Code::WrongType,
                entry.node.span.clone(),
                message,
                Some(format!("write [{key}.{}]", entry.key)),
            );
        }
        is_table
    });
    tables
}

/// Refuses what later versions will know, so that it is never silently without effect.
pub fn refuse_later(table: &mut Table, later: &[&str], reader: &mut Reader<'_>) {
    for key in later {
        if let Some(entry) = table.take(key) {
            let message = format!("`{key}` is not supported yet");
            reader.tell(
                Code::NotSupportedYet,
                entry.key_span,
                message,
                Some("take it out until a later version".into()),
            );
        }
    }
}

/// Refuses in `[defaults]` what comes later, and what only a job can say.
fn refuse_in_defaults(root: &mut Table, reader: &mut Reader<'_>) {
    let Some(entry) = root.entries.iter_mut().find(|entry| entry.key == "defaults") else { return };
    let Value::Table(defaults) = &mut entry.node.value else { return };
    refuse_later(defaults, &LATER_JOB_KEYS, reader);
    for key in OWN_JOB_KEYS {
        if let Some(entry) = defaults.take(key) {
            let help = Some("write it under [jobs.<name>]".into());
            reader.tell(Code::UnknownKey, entry.key_span, format!("`{key}` cannot be a default"), help);
        }
    }
}

/// What the file says about the process, as text: lists with commas, lengths of time in milliseconds.
fn process_settings(root: &Table, source: &Source<'_>) -> BTreeMap<String, (String, usize)> {
    let tables = root.entries.iter().filter(|entry| ["server", "database", "executor"].contains(&entry.key.as_str()));
    let mut settings = BTreeMap::new();
    for entry in tables {
        let Value::Table(table) = &entry.node.value else { continue };
        for key in &table.entries {
            let text = match (key.key.as_str(), key.node.to_json()) {
                ("shutdown_grace", length) => LengthOrZero::deserialize(length)
                    .map(|length| format!("{}ms", length.0.as_millis()))
                    .unwrap_or_default(),
                (_, Json::Array(items)) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","),
                (_, Json::String(text)) => text,
                (_, other) => other.to_string(),
            };
            // An empty text is what a variable without a value leaves behind: as if the key were not there.
            if !text.trim().is_empty() {
                let line = source.line_of(key.key_span.start);
                settings.insert(format!("{}.{}", entry.key, key.key), (text, line));
            }
        }
    }
    settings
}

/// `[targets.*]`, and the one named `default` from `APP_URL` when the file has none.
fn read_targets(tables: Table, environment: &Environment, reader: &mut Reader<'_>) -> Targets {
    let mut targets = Targets::new();
    for mut entry in tables.entries {
        let told = reader.problems.len();
        let Some(target) = reader.read(&mut entry.node, |node| Target::deserialize(node)) else { continue };
        if told == reader.problems.len() {
            for mistake in target.check() {
                let message = format!("target `{}`: {mistake}", entry.key);
                reader.tell(Code::BadWork, entry.key_span.clone(), message, None);
            }
        }
        targets.insert(entry.key, target);
    }
    let url = environment.value_of("APP_URL").filter(|url| !url.is_empty());
    if let Some(url) = url.filter(|_| !targets.contains_key(DEFAULT_TARGET)) {
        let target = Target::at(url);
        for mistake in target.check() {
            reader.tell(Code::BadWork, 0..0, format!("APP_URL: {mistake}"), None);
        }
        targets.insert(DEFAULT_TARGET.into(), target);
    }
    targets
}

/// `[outbound]` filled in by the team's own variables. What is wrong is told at the table; without one it is a variable
/// that is wrong.
fn read_outbound(
    table: &OutboundTable,
    (environment, targets): (&Environment, &Targets),
    root: &Node,
    reader: &mut Reader<'_>,
) -> Outbound {
    table.resolve(&environment.variables, targets).unwrap_or_else(|mistakes| {
        let entry = match &root.value {
            Value::Table(table) => table.get("outbound"),
            _ => None,
        };
        let span = entry.map_or(0..0, |entry| entry.key_span.clone());
        for mistake in mistakes {
            reader.tell(Code::BadWork, span.clone(), format!("outbound: {mistake}"), None);
        }
        Outbound::default()
    })
}

/// A former name belongs to one job only, and to none that still exists.
fn check_former_names(entries: &BTreeMap<JobName, Entry>, sites: &[Site<'_>], reader: &mut Reader<'_>) {
    let names: BTreeSet<&str> = sites.iter().map(Site::name).collect();
    let mut owners: BTreeMap<&JobName, &JobName> = BTreeMap::new();
    for site in sites {
        let Some(entry) = entries.get(&JobName::from_store(site.name())) else { continue };
        for (index, former) in entry.job.previous_names.iter().enumerate() {
            let span = site.place_of(&[Step::Key("previous_names".into()), Step::Index(index)]);
            if names.contains(former.as_str()) {
                let message = format!("`{former}` is still a job, so it cannot be a previous name");
                reader.tell(Code::TakenName, span, message, Some("take the name out, or remove that job".into()));
            } else if let Some(owner) = owners.insert(former, &entry.job.name) {
                let message = format!("the previous name `{former}` is taken by job `{owner}` already");
                reader.tell(Code::TakenName, span, message, Some("a history can go to one job only".into()));
            }
        }
    }
}

fn table_hash(entries: &BTreeMap<JobName, Entry>, revision: Option<i64>) -> String {
    let jobs: Vec<Json> = entries
        .values()
        .map(|Entry { job, .. }| {
            let schedule = job.schedule.as_ref().map(|schedule| schedule.hash());
            json!([job.name, schedule, job.work_hash, job.previous_names])
        })
        .collect();
    sha256(&json!([revision, jobs]))
}

/// SHA-256 (hex) over JSON with its keys in order.
pub fn sha256(value: &Json) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_canonical(value: &Json, text: &mut String) {
    match value {
        Json::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for key in keys {
                text.push_str(&Json::String(key.clone()).to_string());
                text.push(':');
                write_canonical(&map[key], text);
                text.push(',');
            }
            text.push('}');
        }
        Json::Array(items) => {
            text.push('[');
            for item in items {
                write_canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

/// The name of a job, told when it is not possible.
pub fn job_name(site: &Site<'_>, reader: &mut Reader<'_>) -> JobName {
    JobName::parse(site.name()).unwrap_or_else(|why| {
        let better: String = site.name().to_lowercase().replace([' ', '/', ':'], "_");
        let help = JobName::parse(&better).is_ok().then(|| format!("did you mean `{better}`?"));
        let message = format!("the job name {:?} is not possible: {why}", site.name());
        reader.tell(Code::BadName, site.header(), message, help);
        JobName::from_store(site.name())
    })
}

/// The name of a handler that is not known, told with the nearest one.
pub fn unknown_handler(name: &str, span: std::ops::Range<usize>, reader: &mut Reader<'_>) {
    let help = suggest::help(name, crate::handlers::Work::NAMES, "handlers");
    reader.tell(Code::UnknownHandler, span, format!("unknown handler `{name}`"), Some(help));
}
