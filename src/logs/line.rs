//! One log line: the closed set of keys, and how they look.

use std::fmt::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::{Look, REPLICA};

/// The fields that are keys of their own, in this order; any other field becomes part of the message.
const FIELDS: [&str; 9] =
    ["component", "job_name", "run_id", "attempt", "scheduled_for", "lag_ms", "duration_ms", "outcome", "items"];
const COMPONENT: usize = 0;
/// Longest message, in bytes: hosts cut lines at 16 KiB, and escapes may double what is written.
const LONGEST_MESSAGE: usize = 7 * 1024;

pub struct Line {
    at: DateTime<Utc>,
    level: Level,
    message: String,
    fields: [Option<Value>; FIELDS.len()],
    replica: Option<&'static str>,
}

impl Line {
    pub fn from_event(at: DateTime<Utc>, event: &Event<'_>) -> Self {
        let mut reader = Reader::default();
        event.record(&mut reader);
        let Reader { message, rest, mut fields } = reader;
        let message = shortened(message + &rest);
        fields[COMPONENT].get_or_insert_with(|| component(event.metadata().target()).into());
        Self { at, level: *event.metadata().level(), message, fields, replica: replica() }
    }

    /// A line of the log about itself.
    pub fn about_logs(at: DateTime<Utc>, message: String) -> Self {
        let mut fields = [const { None }; FIELDS.len()];
        fields[COMPONENT] = Some("logs".into());
        Self { at, level: Level::WARN, message, fields, replica: replica() }
    }

    /// The line with its line feed.
    pub fn render(&self, look: Look) -> String {
        match look {
            Look::Json => serde_json::to_string(self).expect("strings and numbers are JSON") + "\n",
            Look::Text { color } => self.text(color),
        }
    }

    fn text(&self, color: bool) -> String {
        let (on, off) = if color { (hue(self.level), "\x1b[0m") } else { ("", "") };
        let (dim, level) = (if color { "\x1b[2m" } else { "" }, self.level.as_str());
        let component = self.fields[COMPONENT].as_ref().and_then(Value::as_str).unwrap_or_default();
        let mut text = format!("{dim}{}{off} {on}{level:<5}{off} {component:<9} ", self.ts());
        text.push_str(&printable(&self.message));
        for (name, value) in FIELDS.iter().zip(&self.fields).skip(1) {
            match value {
                Some(Value::String(word)) => push(&mut text, format_args!(" {dim}{name}={off}{}", printable(word))),
                Some(value) => push(&mut text, format_args!(" {dim}{name}={off}{value}")),
                None => {}
            }
        }
        text.push('\n');
        text
    }

    fn ts(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &self.ts())?;
        map.serialize_entry("level", self.level.as_str())?;
        map.serialize_entry("message", &self.message)?;
        for (name, value) in FIELDS.iter().zip(&self.fields).filter(|(_, value)| value.is_some()) {
            map.serialize_entry(name, value)?;
        }
        if let Some(replica) = self.replica {
            map.serialize_entry("replica", replica)?;
        }
        map.end()
    }
}

fn replica() -> Option<&'static str> {
    REPLICA.get().map(String::as_str)
}

/// A message that fits into a line, with what was cut named at its end.
fn shortened(mut message: String) -> String {
    let length = message.len();
    if LONGEST_MESSAGE < length {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        push(&mut message, format_args!("... ({length} bytes in all)"));
    }
    message
}

/// The room of the house a line comes from, or the crate; the planner goes by the name people look for.
fn component(target: &str) -> &str {
    let mut rooms = target.split("::");
    let name = rooms.next().unwrap_or(target);
    if name != "emponto" {
        return name;
    }
    match (rooms.next(), rooms.next()) {
        (Some("engine"), Some("planner")) => "scheduler",
        (Some("engine"), Some(part)) => part,
        (Some(room), _) => room,
        (None, _) => name,
    }
}

fn hue(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// Text from outside must not move the terminal's cursor, begin a line of its own, or run backwards.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                printable.extend(c.escape_unicode())
            }
            _ if c.is_control() => printable.extend(c.escape_default()),
            _ => printable.push(c),
        }
    }
    printable
}

fn push(text: &mut String, piece: fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("a string takes every piece");
}

/// Sorts an event's fields into the message and the keys.
#[derive(Default)]
struct Reader {
    message: String,
    rest: String,
    fields: [Option<Value>; FIELDS.len()],
}

impl Reader {
    fn keep(&mut self, field: &Field, value: Value) {
        match FIELDS.iter().position(|name| *name == field.name()) {
            Some(place) => self.fields[place] = Some(value),
            None if field.name() == "message" => self.message = value.as_str().unwrap_or_default().to_owned(),
            // Fields that the `log` crate's bridge adds; they say where, and the component says it already.
            None if field.name().starts_with("log.") => {}
            None => push(&mut self.rest, format_args!(" {}={value}", field.name())),
        }
    }
}

impl Visit for Reader {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}
