//! The JSON Schema (draft-07) of jobs.toml and the tables of its documentation, both made from the types.

use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value as Json, json};

use super::{
    problem::Code,
    raw::{self, RawFile, RawJob},
};
use crate::handlers::{Work, http::Target};

type Object = Map<String, Json>;

/// The schema as it is checked in: a variable may stand for every scalar.
pub fn schema() -> Json {
    let mut schema = plain(&mut generator().into_root_schema_for::<RawFile>().to_value());
    allow_variables(&mut schema);
    schema["title"] = json!("Job table of Emponto (jobs.toml)");
    schema
}

/// The schema as the text of `jobs.schema.json`.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
    text.push('\n');
    text
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// The schema of `[jobs]`: the pattern of names, and the keys of a job below each.
pub fn of_jobs(generator: &mut SchemaGenerator) -> Schema {
    let job = RawJob::json_schema(generator);
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": raw::NAME_PATTERN, "not": { "enum": crate::domain::job::RESERVED_NAMES } },
        "additionalProperties": job,
    })
}

/// The schema of `run`: exactly one of the handlers.
pub fn of_run(generator: &mut SchemaGenerator) -> Schema {
    let handlers: Object = Work::NAMES
        .iter()
        .filter_map(|name| Some(((*name).to_string(), Work::schema(name, generator)?.to_value())))
        .collect();
    json_schema!({
        "type": "object",
        "properties": handlers,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

/// Calls `visit` for every schema inside a schema, the outer one last.
fn for_each_schema(schema: &mut Json, visit: &mut dyn FnMut(&mut Object)) {
    let Json::Object(object) = schema else { return };
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "definitions" | "patternProperties", Json::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| for_each_schema(schema, visit));
            }
            ("anyOf" | "oneOf" | "allOf", Json::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| for_each_schema(schema, visit));
            }
            ("items" | "additionalProperties", schema) => for_each_schema(schema, visit),
            _ => {}
        }
    }
    visit(object);
}

/// Takes out what TOML has no word for (null) and what validators do not know (number formats of Rust).
fn plain(schema: &mut Json) -> Json {
    for_each_schema(schema, &mut |object| {
        object.remove("format");
        object.retain(|key, value| key != "default" || !value.is_null());
        if let Some(Json::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                object.insert("type".into(), one);
            }
        }
        if let Some(Json::Array(words)) = object.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if let Some(Json::Array(choices)) = object.get_mut("oneOf") {
            choices.retain(|choice| choice["type"] != "null");
        }
        if let Some(Json::Array(choices)) = object.get_mut("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            if let [Json::Object(only)] = choices.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                only.into_iter().for_each(|(key, value)| {
                    object.entry(key).or_insert(value);
                });
            }
        }
    });
    schema.take()
}

/// Lets a text with a variable stand for every scalar that is not any text already.
fn allow_variables(schema: &mut Json) {
    for_each_schema(schema, &mut |object| {
        const NOTES: [&str; 4] = ["title", "description", "default", "$schema"];
        // A text with a variable fits more than one choice.
        if let Some(choices) = object.remove("oneOf") {
            object.insert("anyOf".into(), choices);
        }
        let is_free_text = object.get("type").is_some_and(|name| name == "string")
            && !["pattern", "enum", "const"].iter().any(|key| object.contains_key(*key));
        let is_scalar = match object.get("type") {
            Some(Json::String(name)) => ["string", "integer", "number", "boolean"].contains(&name.as_str()),
            _ => object.contains_key("enum") || object.contains_key("const"),
        };
        if is_scalar && !is_free_text {
            let rules: Object = std::mem::take(object)
                .into_iter()
                .filter_map(|(key, value)| match NOTES.contains(&key.as_str()) {
                    true => {
                        object.insert(key, value);
                        None
                    }
                    false => Some((key, value)),
                })
                .collect();
            object.insert("anyOf".into(), json!([rules, { "type": "string", "pattern": "\\$\\{" }]));
        }
    });
}

/// The parts of `docs/jobs-toml.md` between its markers: name of the marker, Markdown.
pub fn documentation() -> Vec<(String, String)> {
    let mut generator = generator();
    let root = plain(&mut generator.clone().into_root_schema_for::<RawFile>().to_value());
    let job = &root["properties"]["jobs"]["additionalProperties"];
    let target = plain(&mut Target::json_schema(&mut generator).to_value());
    let mut parts = vec![
        ("file".to_string(), key_table(&root)),
        ("jobs".to_string(), key_table(job)),
        ("defaults".to_string(), format!("{}\n", names(&root["properties"]["defaults"]))),
    ];
    for table in ["dst", "retry", "keep", "when"] {
        parts.push((table.to_string(), key_table(&job["properties"][table])));
    }
    for table in ["outbound", "server", "database", "executor"] {
        parts.push((table.to_string(), key_table(&root["properties"][table])));
    }
    for table in ["hours", "limits", "breaker", "evolution", "webhook"] {
        let schema = &root["properties"]["outbound"]["properties"][table];
        parts.push((format!("outbound.{table}"), key_table(schema)));
    }
    parts.push(("targets".to_string(), key_table(&target)));
    let mut handlers = String::new();
    for name in Work::NAMES {
        let settings = &job["properties"]["run"]["properties"][name];
        let _ = write!(handlers, "#### `run.{name}`\n\n{}\n\n{}\n", sentence(settings), key_table(settings));
    }
    parts.push(("handlers".to_string(), handlers.trim_end().to_string() + "\n"));
    parts.push(("codes".to_string(), code_table()));
    parts
}

fn key_table(schema: &Json) -> String {
    let mut text = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let default = value.get("default").filter(|default| is_telling(default)).map_or(String::new(), code);
        let _ = writeln!(text, "| `{key}` | {} | {default} | {} |", type_words(value), sentence(value));
    }
    text
}

/// Empty defaults of structs say nothing to a reader.
fn is_telling(default: &Json) -> bool {
    *default != json!({}) && *default != json!([]) && *default != json!("") && !default.is_object()
}

fn code(value: &Json) -> String {
    format!("`{value}`")
}

fn names(schema: &Json) -> String {
    let keys = schema["properties"].as_object().into_iter().flatten();
    keys.map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn sentence(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The type in words; types of ours carry them as their title.
fn type_words(schema: &Json) -> String {
    if let Some(title) = schema["title"].as_str() {
        return title.into();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(code).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let all: Vec<String> =
            choices.iter().map(|choice| choice.get("const").map_or_else(|| type_words(choice), code)).collect();
        return all.join(", ");
    }
    match (schema["type"].as_str(), schema.get("minimum"), schema.get("maximum")) {
        (Some("integer"), Some(least), Some(most)) if most.as_i64() == Some(i64::MAX) => {
            format!("whole number from {least}")
        }
        (Some("integer"), Some(least), Some(most)) if least == most => format!("{least}"),
        (Some("integer"), Some(least), Some(most)) => format!("whole number, {least} to {most}"),
        (Some("integer"), _, _) => "whole number".into(),
        (Some("number"), Some(least), Some(most)) => format!("number, {least} to {most}"),
        (Some("string"), _, _) => "text".into(),
        (Some("array"), _, _) => "array".into(),
        (Some("object"), _, _) => "table".into(),
        (Some(other), _, _) => other.into(),
        (None, _, _) => "any".into(),
    }
}

fn code_table() -> String {
    let mut text = String::from("| code | meaning |\n|---|---|\n");
    for problem in Code::ALL {
        let _ = writeln!(text, "| {} | {} |", problem.text(), problem.meaning().replace('|', "\\|"));
    }
    text
}
