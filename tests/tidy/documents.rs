//! What must be said: each file's purpose in its first line, each handler in docs/handlers.md.

use std::{fs, path::Path};

use super::source::{Finding, Source};

/// A first line that is not `//!`, or says nothing.
pub fn unsaid_purpose(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    match first.strip_prefix("//! ") {
        None => Some(source.finding(1, "the first line is a `//!` sentence that says what the file is for")),
        Some(sentence) if sentence.contains("(to come)") => Some(source.finding(1, "a placeholder, not a purpose")),
        Some(_) => None,
    }
}

/// Handlers of the list in src/handlers/mod.rs without a line that begins with their name in a heading, a table or a
/// list of docs/handlers.md.
pub fn undocumented_handlers(list: &Source, page: &str) -> Vec<Finding> {
    let unsaid = handlers(list).into_iter().filter(|(handler, _)| !page.lines().any(|line| introduces(line, handler)));
    unsaid.map(|(handler, line)| list.finding(line, format!("{handler} has no line in docs/handlers.md"))).collect()
}

/// The names in `handlers! { name as Variant, ... }`, with their lines.
pub fn handlers(list: &Source) -> Vec<(&str, usize)> {
    let Some(begin) = list.find(&["handlers", "!", "{"]).first().copied() else {
        return Vec::new();
    };
    let inside = list.tokens[begin..].iter().take_while(|token| token.text != "}").filter(|token| !token.in_attribute);
    let inside: Vec<_> = inside.collect();
    let named = inside.windows(2).filter(|pair| pair[1].text == "as");
    named.map(|pair| (pair[0].text.as_str(), pair[0].line)).collect()
}

fn introduces(line: &str, handler: &str) -> bool {
    let line = line.trim_start_matches(['#', '|', '-', '*', ' ']);
    let name = line.strip_prefix('`').map(|name| name.strip_prefix("run.").unwrap_or(name));
    name.and_then(|name| name.strip_prefix(handler)).is_some_and(|rest| rest.starts_with(['`', ' ']))
}

/// A document of the repository; empty when it is not there, so that everything it should say is missing.
pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}
