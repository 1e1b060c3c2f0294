//! How commands speak: data on stdout in three shapes, everything else on stderr.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

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
    pub fn thing(self, thing: &impl Serialize, fields: &[(&str, String)]) -> io::Result<()> {
        self.text_or(thing, || named(fields))
    }

    /// Prints one thing: as this text, or as JSON.
    pub fn text_or(self, thing: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        match self {
            Self::Table => line(&text()),
            Self::Json => line(&pretty(thing)),
            Self::Jsonl => line(&compact(thing)),
        }
    }
}

/// One `name  value` line for each field that has a value.
pub fn named(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<_> = shown.map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect();
    lines.join("\n")
}

/// Writes one line to stdout. A reader that went away (`| head`) is not an error.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a text as it is to stdout, at once; the error is `BrokenPipe` when the reader went away.
pub fn raw(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a remark to stderr; nobody there to read it is not an error.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows as aligned columns under their headings.
pub fn table<T>(rows: &[T], columns: &[Column<T>]) -> String {
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

/// One JSON value on one line.
pub fn compact(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("what commands show is JSON")
}

/// Text from outside must not move the terminal's cursor nor break a line.
fn printable(text: &str) -> String {
    let spell = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spell).collect()
}

fn pretty(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string_pretty(value).expect("what commands show is JSON")
}
