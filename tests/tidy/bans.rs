//! Who may ask for what: time, environment, tables; and what may not be left in the tree.

use super::source::{Finding, Source, Token};

/// Types that answer `now`.
const ASKERS_OF_TIME: [&str; 6] = ["Utc", "Local", "Instant", "SystemTime", "Zoned", "Timestamp"];
const READERS_OF_ENVIRONMENT: [&str; 4] = ["var", "var_os", "vars", "vars_os"];
/// What only a room with I/O needs.
const IMPURE_CRATES: [&str; 5] = ["tokio", "sqlx", "reqwest", "axum", "tower_http"];
const IMPURE_MODULES: [&str; 4] = ["fs", "net", "process", "thread"];
/// Our tables and our view (spec 4, Tables).
const TABLES: [&str; 8] =
    ["jobs", "schedules", "runs", "replicas", "job_configs", "idempotency", "hourly", "job_executions"];
/// Words of SQL that a table follows.
const BEFORE_A_TABLE: [&str; 5] = ["from", "into", "update", "join", "table"];
/// Binds several test binaries together; says itself why.
const MAY_ALLOW: &str = "tests/support/mod.rs";

/// Time, environment, tables and I/O asked for in the wrong room.
pub fn asked_elsewhere(source: &Source) -> Vec<Finding> {
    [time(source), environment(source), tables(source), impurity(source)].concat()
}

/// What a finished change does not contain.
pub fn left_behind(source: &Source) -> Vec<Finding> {
    [unwraps(source), silenced(source), stubs(source), notes_to_self(source)].concat()
}

fn time(source: &Source) -> Vec<Finding> {
    if source.room() == "clock" {
        return Vec::new();
    }
    let what = "only clock asks the time: take `now` as an argument, or a `Clock`";
    let asked = ASKERS_OF_TIME.into_iter().flat_map(|asker| lines_of(source, &[asker, "::", "now"]));
    asked.map(|line| source.finding(line, what)).collect()
}

fn environment(source: &Source) -> Vec<Finding> {
    // Arguments come through std::env too, and `main` hands them to the command line.
    if ["config", "main"].contains(&source.room()) {
        return Vec::new();
    }
    let mut lines = imported_from_std(source, &["env"]);
    lines.extend(READERS_OF_ENVIRONMENT.into_iter().flat_map(|reader| lines_of(source, &["env", "::", reader])));
    lines.sort_unstable();
    lines.dedup();
    let what = "only config reads the environment: take the setting from `Config`";
    lines.into_iter().map(|line| source.finding(line, what)).collect()
}

fn tables(source: &Source) -> Vec<Finding> {
    // Handlers work on the team's tables, which may have such names.
    if ["store", "handlers"].contains(&source.room()) {
        return Vec::new();
    }
    let literals = source.tokens.iter().filter(|token| !token.in_attribute && token.text.contains('"'));
    let what = "only store names our tables: ask for a verb of the store";
    literals.filter(|token| names_a_table(&token.text)).map(|token| source.finding(token.line, what)).collect()
}

fn names_a_table(literal: &str) -> bool {
    let text = literal.to_lowercase().replace("\\n", " ");
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(['"', '#', 'r'])).collect();
    words.windows(2).any(|pair| BEFORE_A_TABLE.contains(&pair[0]) && is_table(pair[1]))
}

/// `runs`, `{runs}`, `workers.runs`, `workers_runs`, `runs;`; not `jobs.toml`.
fn is_table(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let bare = ["workers.", "workers_"].into_iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word);
    TABLES.contains(&bare)
}

fn impurity(source: &Source) -> Vec<Finding> {
    if source.room() != "domain" {
        return Vec::new();
    }
    let mut lines = imported_from_std(source, &IMPURE_MODULES);
    lines.extend(IMPURE_CRATES.into_iter().flat_map(|name| lines_of(source, &[name, "::"])));
    lines.extend(lines_of(source, &["async"]));
    lines
        .into_iter()
        .map(|line| source.finding(line, "domain is pure: no async, no I/O; decide here, act elsewhere"))
        .collect()
}

/// Lines of `std::module` and `std::{.., module, ..}`.
fn imported_from_std(source: &Source, modules: &[&str]) -> Vec<usize> {
    let names = source.find(&["std", "::"]).into_iter().flat_map(|index| source.names_after(index + 2));
    names.filter(|(name, _)| modules.contains(name)).map(|(_, line)| line).collect()
}

fn unwraps(source: &Source) -> Vec<Finding> {
    let lines = lines_of(source, &[".", "unwrap", "(", ")"]).into_iter().filter(|line| !source.is_test(*line));
    lines
        .map(|line| source.finding(line, "unwrap outside tests: `expect` that states the invariant, or an error"))
        .collect()
}

fn silenced(source: &Source) -> Vec<Finding> {
    let after_hash = |name: &'static str| {
        let is_it = move |token: &&Token| token.in_attribute && token.text == name;
        source.tokens.iter().filter(is_it).map(|token| token.line)
    };
    let ignored =
        after_hash("ignore").map(|line| source.finding(line, "ignored test: a test runs, or it is not there"));
    let allowed = after_hash("allow").filter(|_| source.path != MAY_ALLOW);
    let allowed = allowed.map(|line| source.finding(line, "allow: write #[expect(lint, reason = \"...\")]"));
    ignored.chain(allowed).collect()
}

fn stubs(source: &Source) -> Vec<Finding> {
    let stub = |name: &'static str| {
        lines_of(source, &[name, "!"])
            .into_iter()
            .map(move |line| source.finding(line, format!("{name}! is work that was not done")))
    };
    ["todo", "unimplemented"].into_iter().flat_map(stub).collect()
}

/// Comments are not tokens: the text is searched, and this file, which names what it looks for, is not.
fn notes_to_self(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("tests/tidy") {
        return Vec::new();
    }
    let note = |(index, line): (usize, &str)| {
        let (_, comment) = line.split_once("//")?;
        let mut words = comment.split(|c: char| !c.is_alphanumeric());
        let word = words.find(|word| ["TODO", "FIXME", "XXX"].contains(word))?;
        Some(source.finding(index + 1, format!("{word}: do it now, or open an issue")))
    };
    source.text.lines().enumerate().filter_map(note).collect()
}

fn lines_of(source: &Source, wanted: &[&str]) -> Vec<usize> {
    source.find(wanted).into_iter().map(|index| source.tokens[index].line).collect()
}
