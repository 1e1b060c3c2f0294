//! What the end of a process makes of the attempt: its exit code first, then what its last line says (spec 5).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Settings,
    exit::Exit,
    output::{MAX_LINE_BYTES, Stream, fitted, written_bytes},
};
use crate::{
    domain::{
        clean,
        run::{Failure, MAX_RESULT_BYTES, Report},
    },
    handlers::http::Judge,
};

/// EX_TEMPFAIL: the program asks to be started later (spec 5, `command`).
const TEMPORARY: i32 = 75;
const TEMPORARY_WAIT: Duration = Duration::from_secs(60);
/// Of a result, for what is around stdout, stderr and the answer: keys, exit and notes.
const FRAME_BYTES: usize = 512;
/// Of a result, for the answer: as much again stays for what was written beside it.
const MAX_ANSWER_BYTES: usize = MAX_RESULT_BYTES / 2;
/// Most of what was written that goes into an error message: its last lines.
const MAX_SAID_CHARS: usize = 1_200;
const MAX_SAID_LINES: usize = 12;

/// A process that has ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` = its status is not known.
    pub exit: Option<Exit>,
    /// It was asked to end.
    pub was_told: bool,
    /// It left processes behind, which were killed.
    pub left_behind: bool,
    pub stdout: Stream,
    pub stderr: Stream,
}

/// What was said on the last line, as an object.
enum Answer {
    None,
    Object(Map<String, Value>),
    /// Perhaps an object, and too long to be read.
    TooLong,
}

impl Answer {
    /// Whether it says that the work was done. A program that is told to stop may end with 0 although it was not: most
    /// that listen to SIGTERM do.
    fn is_success(&self, settings: &Settings) -> bool {
        matches!(self, Self::Object(_)) && by_answer(settings, self, Report::default()).is_ok()
    }
}

/// Judges an end.
pub(super) fn ending(settings: &Settings, ended: &Ended) -> Result<Report, Failure> {
    let program = settings.program();
    let answer = answer(&ended.stdout);
    let report = Report { result: result(settings, ended, &answer), ..Report::default() };
    let judged = match ended.exit {
        Some(Exit::Code(0)) if !ended.was_told || answer.is_success(settings) => {
            by_answer(settings, &answer, report.clone()).map_err(|failure| (": ", failure))
        }
        Some(exit) => Err((" ", with_words(by_exit(exit, ended.was_told), ended))),
        None => Err((" ", Failure::retry("ended, and somebody else has taken its exit status"))),
    };
    judged.map_err(|(separator, failure)| {
        let message = settings.variables.mask(&format!("{program}{separator}{}", failure.message));
        let report = failure.report.unwrap_or(Box::new(report));
        Failure { message, report: Some(report), ..failure }
    })
}

/// The failure, with what the program said last.
fn with_words(failure: Failure, ended: &Ended) -> Failure {
    match said(ended) {
        said if said.is_empty() => failure,
        said => Failure { message: format!("{}: {}", failure.message, plain(&said)), ..failure },
    }
}

fn by_exit(exit: Exit, was_told: bool) -> Failure {
    match exit {
        // Whatever it says then, it says because it was stopped.
        _ if was_told => Failure::retry(format!("was told to stop and {exit}")),
        Exit::Code(TEMPORARY) => Failure::snooze(TEMPORARY_WAIT, exit.to_string()),
        exit if exit.is_final() => Failure::permanent(exit.to_string()),
        exit => Failure::retry(exit.to_string()),
    }
}

/// Judges the words of a process that ended with 0.
fn by_answer(settings: &Settings, answer: &Answer, report: Report) -> Result<Report, Failure> {
    if settings.judge == Judge::Status {
        return Ok(report);
    }
    match answer {
        Answer::None => Ok(report),
        Answer::TooLong => Err(Failure::permanent(format!(
            "its last line has more than {MAX_LINE_BYTES} bytes, too many to be judged"
        ))),
        Answer::Object(fields) => settings.verdict(fields).into_ending(report, "the program skipped"),
    }
}

fn answer(stdout: &Stream) -> Answer {
    match stdout.last_line() {
        Err(too_long) if too_long.ends_an_object => Answer::TooLong,
        Err(_) => Answer::None,
        Ok(line) if line.trim_ascii_start().starts_with(b"{") => match clean::parse_json(&line) {
            Some(Value::Object(fields)) => Answer::Object(fields),
            _ => Answer::None,
        },
        Ok(_) => Answer::None,
    }
}

/// What the row keeps: how it ended, what it answered, and what it wrote; nothing of a silent success.
fn result(settings: &Settings, ended: &Ended, answer: &Answer) -> Option<Value> {
    let mut result = Map::new();
    let mut stdout = ended.stdout.text();
    if let Answer::Object(fields) = answer {
        let mut fields = Value::Object(fields.clone());
        settings.variables.mask_json(&mut fields);
        result.insert("json".into(), clean::capped(fields, MAX_ANSWER_BYTES));
        // It is there already.
        let written = stdout.trim_end();
        stdout = written.rsplit_once('\n').map_or(String::new(), |(before, _)| before.to_owned());
    }
    let room = MAX_RESULT_BYTES - FRAME_BYTES - Value::Object(result.clone()).to_string().len();
    let clean = |text: &str| clean::text(&settings.variables.mask(text), usize::MAX);
    let (stdout, stderr) = both_fitted(&clean(&stdout), &clean(&ended.stderr.text()), room);
    for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
        if !text.trim().is_empty() {
            result.insert(name.into(), text.into());
        }
    }
    if ended.left_behind {
        result.insert("note".into(), "processes that it left behind were killed".into());
    }
    if result.is_empty() && ended.exit == Some(Exit::Code(0)) {
        return None;
    }
    let exit = match ended.exit {
        Some(Exit::Code(code)) => json!(code),
        Some(signal) => json!(signal.short()),
        None => Value::Null,
    };
    result.insert("exit".into(), exit);
    Some(Value::Object(result))
}

/// Two texts in one room: what one does not need the other may have.
fn both_fitted(stdout: &str, stderr: &str, room: usize) -> (String, String) {
    let (out, err) = (written_bytes(stdout), written_bytes(stderr));
    let half = room / 2;
    let for_stdout = if err < half { room - err } else { half };
    let stdout = fitted(stdout, out.min(for_stdout));
    let left = room.saturating_sub(written_bytes(&stdout));
    (stdout, fitted(stderr, left))
}

/// Without what would move the cursor of a terminal, or change its colours.
fn plain(said: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    said.chars().map(shown).collect()
}

/// The last lines of stderr, or of stdout when there are none: where programs say why.
fn said(ended: &Ended) -> String {
    let last_lines = |stream: &Stream| {
        let text = stream.text();
        let mut lines: Vec<&str> =
            text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()).take(MAX_SAID_LINES).collect();
        lines.reverse();
        lines.join("\n")
    };
    let said = Some(last_lines(&ended.stderr)).filter(|said| !said.is_empty());
    let said = said.unwrap_or_else(|| last_lines(&ended.stdout));
    let surplus = said.chars().count().saturating_sub(MAX_SAID_CHARS);
    match surplus {
        0 => said,
        _ => format!("…{}", said.chars().skip(surplus).collect::<String>()),
    }
}
