//! How commands speak: data on stdout in three shapes, everything else on stderr, and one list of exit codes.

use std::{
    fmt,
    io::{self, Write},
};

use clap::ValueEnum;
use serde::Serialize;

/// The exit codes, the same for every command (docs/operations.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The job or the operation failed.
    Failed = 1,
    Usage = 2,
    ConfigInvalid = 3,
    /// The service or the database does not answer.
    Unreachable = 4,
    Unhealthy = 5,
    /// Waited too long.
    TooLong = 6,
    NotFound = 7,
    /// Something else holds what is needed: a port, a SQLite file, a newer schema, a run in another state.
    Conflict = 8,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub message: String,
}

impl Stop {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// The shape of the data on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// One JSON value per line.
    Jsonl,
}

/// A column of a table: its heading, and how a row fills it.
pub type Column<T> = (&'static str, fn(&T) -> String);

impl Output {
    /// Prints a list: a table with these columns, or the rows themselves as JSON.
    pub fn list<T: Serialize>(self, rows: &[T], columns: &[Column<T>]) -> io::Result<()> {
        match self {
            Self::Table => line(&table(rows, columns)),
            Self::Json => line(&pretty(rows)),
            Self::Jsonl => rows.iter().try_for_each(|row| line(&compact(row))),
        }
    }

    /// Prints one thing: as `name  value` lines, or as JSON.
    pub fn thing(self, thing: &impl Serialize, lines: &[(&str, String)]) -> io::Result<()> {
        match self {
            Self::Table => {
                let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                let shown = lines.iter().filter(|(_, value)| !value.is_empty());
                let text: Vec<_> = shown.map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect();
                line(&text.join("\n"))
            }
            Self::Json => line(&pretty(thing)),
            Self::Jsonl => line(&compact(thing)),
        }
    }
}

/// Writes one line to stdout. A reader that went away (`| head`) is not an error.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a remark to stderr; nobody there to read it is not an error.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn table<T>(rows: &[T], columns: &[Column<T>]) -> String {
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|(_, cell)| printable(&cell(row))).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let join = |line: &Vec<String>| {
        let padded: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    lines.iter().map(join).collect::<Vec<_>>().join("\n")
}

/// Text from outside must not move the terminal's cursor nor break a line.
fn printable(text: &str) -> String {
    let spell = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spell).collect()
}

fn pretty(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string_pretty(value).expect("what commands show is JSON")
}

fn compact(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("what commands show is JSON")
}
