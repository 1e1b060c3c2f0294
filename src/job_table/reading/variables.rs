//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$` in text values, filled in after parsing.

use std::ops::Range;

use super::tree::{Node, Table, Value};
use crate::job_table::{
    Environment,
    problem::{Code, Problem, Source},
};

/// Why a variable cannot be filled in, and where in the text.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    part: Range<usize>,
    message: String,
    help: Option<String>,
}

/// Fills in all variables of a table; a value that cannot be filled in becomes a problem and is broken afterwards.
pub fn fill(table: &mut Table, environment: &Environment, source: &Source<'_>, problems: &mut Vec<Problem>) {
    for entry in &mut table.entries {
        fill_node(&mut entry.node, environment, source, problems);
    }
}

fn fill_node(node: &mut Node, environment: &Environment, source: &Source<'_>, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Table(table) => fill(table, environment, source, problems),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_node(item, environment, source, problems)),
        Value::Text(text) => match filled(&text.text, environment) {
            Ok(None) => {}
            Ok(Some((result, from_variables))) => {
                text.text = result;
                text.from_variables = from_variables;
            }
            Err(refusal) => {
                let span = source.inside(node.span.clone(), &text.text, refusal.part);
                problems.push(source.problem(Code::Variable, span, refusal.message).with_some_help(refusal.help));
                node.value = Value::Broken;
            }
        },
        _ => {}
    }
}

/// The text with its variables filled in and whether it had any; `None` = nothing to do.
fn filled(text: &str, environment: &Environment) -> Result<Option<(String, bool)>, Refusal> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut result = String::new();
    let mut from_variables = false;
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        result.push_str(&text[at..dollar]);
        let rest = &text[dollar + 1..];
        if rest.starts_with('$') {
            result.push('$');
            at = dollar + 2;
        } else if rest.starts_with('{') {
            let end = closing_brace(text, dollar)?;
            result.push_str(&value_of(&text[dollar + 2..end], dollar..end + 1, environment)?);
            from_variables = true;
            at = end + 1;
        } else {
            result.push('$');
            at = dollar + 1;
        }
    }
    result.push_str(&text[at..]);
    Ok(Some((result, from_variables)))
}

fn closing_brace(text: &str, dollar: usize) -> Result<usize, Refusal> {
    text[dollar..].find('}').map(|offset| dollar + offset).ok_or_else(|| Refusal {
        part: dollar..text.len(),
        message: "\"${\" is never closed".into(),
        help: Some("write ${NAME}, or $$ for a dollar sign".into()),
    })
}

/// The value of what stands between the braces.
fn value_of(inner: &str, part: Range<usize>, environment: &Environment) -> Result<String, Refusal> {
    let name_end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, form) = inner.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message = format!("\"${{{inner}}}\" does not begin with the name of a variable");
        return Err(Refusal { part, message, help: Some("write ${NAME}, or $$ for a dollar sign".into()) });
    }
    let value = environment.variables.get(name);
    let value_not_empty = value.filter(|value| !value.is_empty());
    if form.is_empty() {
        return value.cloned().ok_or_else(|| Refusal {
            part,
            message: format!("the variable {name} is not set"),
            help: Some(format!("set it, or give a default: ${{{name}:-...}}")),
        });
    }
    if let Some(default) = form.strip_prefix(":-") {
        return Ok(value_not_empty.map_or(default, String::as_str).to_string());
    }
    if let Some(message) = form.strip_prefix(":?") {
        return value_not_empty.cloned().ok_or_else(|| Refusal {
            part,
            message: format!("the variable {name} is not set: {message}"),
            help: None,
        });
    }
    Err(Refusal {
        part,
        message: format!("{form:?} is not understood after the variable {name}"),
        help: Some("the forms are ${NAME}, ${NAME:-default} and ${NAME:?message}".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::new([("A".into(), "one".into()), ("EMPTY".into(), String::new())].into())
    }

    #[test]
    fn variables_are_filled_in_and_dollars_can_be_written() {
        for (text, expected) in [
            ("${A}", "one"),
            ("<${A}-${A}>", "<one-one>"),
            ("${NONE:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("${A:?must be given}", "one"),
            ("$${A}", "${A}"),
            ("costs $5", "costs $5"),
            ("$$", "$"),
        ] {
            let result = filled(text, &environment()).expect(text).expect("there is a dollar").0;

            assert_eq!(result, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why_and_where() {
        for (text, part, reason) in [
            ("${NONE}", 0..7, "NONE is not set"),
            ("x ${NONE:?ask Ana}", 2..18, "not set: ask Ana"),
            ("${EMPTY:?ask Ana}", 0..17, "not set: ask Ana"),
            ("a ${A", 2..5, "never closed"),
            ("${1A}", 0..5, "does not begin with the name"),
            ("${A+x}", 0..6, "\"+x\" is not understood"),
        ] {
            let refusal = filled(text, &environment()).expect_err(text);

            assert_eq!(refusal.part, part, "{text}");
            assert!(refusal.message.contains(reason), "{text}: {}", refusal.message);
        }
    }
}
