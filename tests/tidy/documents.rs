//! What must be said: each file's purpose in its first line, each handler in docs/handlers.md.

use std::{fs, path::Path};

use super::source::{Finding, Source};

/// Files of the room that are no handlers: its door, and what every handler is given.
const NO_HANDLERS: [&str; 2] = ["mod", "context"];

/// A first line that is not `//!`, or says nothing.
pub fn unsaid_purpose(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    match first.strip_prefix("//! ") {
        None => Some(source.finding(1, "the first line is a `//!` sentence that says what the file is for")),
        Some(sentence) if sentence.contains("(to come)") => Some(source.finding(1, "a placeholder, not a purpose")),
        Some(_) => None,
    }
}

/// Handlers without a line that begins with their name in a heading, a table or a list of docs/handlers.md.
///
/// A file `http_judge.rs` beside `http.rs` is a part of `http`.
pub fn undocumented_handlers(sources: &[Source], page: &str) -> Vec<Finding> {
    let files: Vec<&Source> = sources.iter().filter(|source| source.folder() == "src/handlers").collect();
    let is_part = |source: &Source| {
        files.iter().any(|whole| source.stem().strip_prefix(whole.stem()).is_some_and(|rest| rest.starts_with('_')))
    };
    let handlers = files.iter().filter(|source| !NO_HANDLERS.contains(&source.stem()) && !is_part(source));
    let unsaid = handlers.filter(|source| !page.lines().any(|line| introduces(line, source.stem())));
    unsaid
        .map(|source| source.finding(1, format!("handler {} has no line in docs/handlers.md", source.stem())))
        .collect()
}

fn introduces(line: &str, handler: &str) -> bool {
    let line = line.trim_start_matches(['#', '|', '-', '*', ' ']);
    let name = line.trim_start_matches('`').trim_start_matches("run.");
    line.starts_with('`') && name.strip_prefix(handler).is_some_and(|rest| rest.starts_with(['`', ' ']))
}

/// A document of the repository; empty when it is not there, so that everything it should say is missing.
pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}
