//! What is wrong with a job table, told so that a person can mend it: code, place, marked line, remedy.

use std::{fmt::Write as _, ops::Range};

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)+) => {
        /// The stable code of a kind of problem: `E...` refuses the file, `W...` is only told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $meaning] $name),+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// The code as people quote it, such as `E002`.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$name => $code),+ }
            }

            /// What the code stands for, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning),+ }
            }
        }
    };
}

codes! {
    Syntax = "E001", "The file is not TOML.";
    UnknownKey = "E002", "No table has a key of this name.";
    WrongType = "E003", "The value is of another type than the key takes.";
    BadValue = "E004", "The type is right, the value is not possible.";
    MissingKey = "E005", "A key that must be given is not there.";
    NotSupportedYet = "E006", "The key is part of the design and not of this version.";
    Variable = "E007", "A `${...}` cannot be filled in.";
    BadName = "E008", "The name of the job is not possible.";
    TwoSchedules = "E009", "More than one of `every`, `cron` and `at`, or a key that needs another of them.";
    BadSchedule = "E010", "The schedule is not possible or never fires.";
    UnknownZone = "E011", "The zone data knows no such time zone.";
    Handlers = "E012", "Not exactly one handler under `run`.";
    UnknownHandler = "E013", "No handler has this name.";
    BadWork = "E014", "The settings of the handler contradict each other or the rest of the table.";
    TakenName = "E015", "A name in `previous_names` belongs to another job.";
    TooLarge = "E016", "The file or the number of its jobs is over the limit.";
    Unreadable = "E017", "The file cannot be read.";
    Statement = "E018", "The database refuses a statement of the job.";
    LongInterval = "W101", "`every` of a day or more fires at UTC midnight multiples, not at a local time.";
    ShortInterval = "W102", "`every` below 10 s makes the ledger grow quickly.";
    LongTimeout = "W103", "The time-out is longer than the period.";
    NoZone = "W104", "No time zone is given, so cron and at mean UTC.";
    NoEnvironment = "W105", "`only_in` is given and APP_ENV is not set.";
    DayFields = "W106", "A day field like `*/2` beside a restricted other day field: either day matches.";
    NoEffect = "W107", "A key has no effect beside the others.";
    ZoneData = "W108", "Two editions of the zone data disagree about the next firings.";
    DoubtfulWork = "W109", "The settings of the handler are possible and probably not meant.";
    DoubtfulTable = "W110", "A table of the team's can be worked on, and not everything can be written as meant.";
}

impl Code {
    /// Whether the file is refused for it.
    pub fn is_error(self) -> bool {
        self.text().starts_with('E')
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// One thing that is wrong or doubtful, with its place. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub code: Code,
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Characters to mark on the line, at least 1.
    pub width: usize,
    pub message: String,
    pub help: Option<String>,
    /// The line as it stands in the file; empty when the problem has no place in it.
    pub source_line: String,
}

/// The text of a file and its name, from which problems get their places.
pub struct Source<'a> {
    name: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

/// Longest part of a source line that is shown, in characters.
const SHOWN_LINE_CHARS: usize = 160;

impl<'a> Source<'a> {
    pub fn new(name: &'a str, text: &'a str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, line_starts }
    }

    /// A problem at a span of the text. A span that goes over the end of its line is marked up to there.
    pub fn problem(&self, code: Code, span: Range<usize>, message: impl Into<String>) -> Problem {
        let start = floor_boundary(self.text, span.start);
        let line = self.line_starts.partition_point(|begin| *begin <= start) - 1;
        let begin = self.line_starts[line];
        let source_line = self.text[begin..].lines().next().unwrap_or_default();
        let end = floor_boundary(self.text, span.end).clamp(start, (begin + source_line.len()).max(start));
        Problem {
            code,
            file: self.name.into(),
            line: line + 1,
            column: self.text[begin..start].chars().count() + 1,
            width: self.text[start..end].chars().count().max(1),
            message: message.into(),
            help: None,
            source_line: source_line.chars().take(SHOWN_LINE_CHARS).collect(),
        }
    }

    /// The line, from 1, on which a byte stands.
    pub fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|begin| *begin <= at)
    }

    /// The span of `part` of a text value that stands at `span` of the file; the whole value when escapes or
    /// variables make the two differ.
    pub fn inside(&self, span: Range<usize>, value: &str, part: Range<usize>) -> Range<usize> {
        match self.text.get(span.clone()) {
            Some(written) if written.len() == value.len() + 2 && &written[1..=value.len()] == value => {
                let start = span.start + 1 + part.start.min(value.len());
                start..span.start + 1 + part.end.clamp(part.start.min(value.len()), value.len())
            }
            _ => span,
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn of_file(code: Code, file: &str, message: impl Into<String>) -> Self {
        Source::new(file, "").problem(code, 0..0, message)
    }

    /// The same, on a line that is known only by its number.
    pub fn on_line(self, line: usize) -> Self {
        Self { line, ..self }
    }

    /// Adds what to do about it.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do about it, when something is known.
    pub fn with_some_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// Sorts by place, then by code; a problem told twice is told once.
pub fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| (a.line, a.column, a.code, &a.message).cmp(&(b.line, b.column, b.code, &b.message)));
    problems.dedup();
}

/// The problems as text for a terminal.
pub fn as_text(problems: &[Problem], colours: bool) -> String {
    let mut text = String::new();
    for problem in problems {
        write_text(&mut text, problem, colours);
    }
    text
}

fn write_text(text: &mut String, problem: &Problem, colours: bool) {
    let (bold, mark, end) = match (colours, problem.code.is_error()) {
        (false, _) => ("", "", ""),
        (true, true) => ("\x1b[1m", "\x1b[31m", "\x1b[0m"),
        (true, false) => ("\x1b[1m", "\x1b[33m", "\x1b[0m"),
    };
    let word = severity(problem);
    let Problem { file, line, column, message, .. } = problem;
    let code = problem.code.text();
    let _ = writeln!(text, "{mark}{word}[{code}]{end}{bold}: {message}{end}");
    let _ = writeln!(text, "  --> {file}:{line}:{column}");
    if !problem.source_line.trim().is_empty() {
        let gutter = " ".repeat(line.to_string().len());
        let shown: String = problem.source_line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let indent = " ".repeat(column - 1);
        let carets = "^".repeat(problem.width.min(SHOWN_LINE_CHARS.saturating_sub(column - 1)).max(1));
        let _ = writeln!(text, " {gutter} |");
        let _ = writeln!(text, " {line} | {shown}");
        let _ = writeln!(text, " {gutter} | {indent}{mark}{carets}{end}");
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(text, "  help: {help}");
    }
    text.push('\n');
}

fn severity(problem: &Problem) -> &'static str {
    if problem.code.is_error() { "error" } else { "warning" }
}

/// The problems as GitHub annotations, one line each.
pub fn as_github(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let body = match &problem.help {
            Some(help) => format!("{}\nhelp: {help}", problem.message),
            None => problem.message.clone(),
        };
        let _ = writeln!(
            text,
            "::{} file={},line={},col={},title={}::{}",
            severity(problem),
            escape_property(&problem.file),
            problem.line,
            problem.column,
            problem.code.text(),
            escape_message(&body)
        );
    }
    text
}

fn escape_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_message(text).replace(':', "%3A").replace(',', "%2C")
}
