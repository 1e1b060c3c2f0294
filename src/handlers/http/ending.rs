//! What an answer makes of the attempt: its status first, then what it says (spec 5).

use serde_json::{Map, Value};

use super::{
    Judge, Settings,
    expect::difference,
    judge::{self, Verdict},
};
use crate::{
    domain::{
        clean,
        run::{Failure, FailureKind, Report},
    },
    outbound::call::{Answer, Content, MAX_ANSWER_BYTES},
};

/// Most of a plain text that goes into an error message, in characters.
const MAX_TEXT_CHARS: usize = 200;

/// Judges an answer. `shown` is the call as people see it.
pub(super) fn ending(settings: &Settings, answer: &Answer, shown: &str) -> Result<Report, Failure> {
    let verdict = match &settings.expect.status {
        Some(statuses) if statuses.contain(answer.status) => Ok(()),
        Some(statuses) if is_good(answer.status) => {
            Err(Failure::retry(format!("answered {}, not {statuses}", answer.status)))
        }
        _ => by_status(answer),
    };
    verdict.and_then(|()| by_content(settings, answer, None)).map_err(|failure| dressed(failure, answer, shown))
}

/// Judges the last answer about work that went on elsewhere; `job` is the object inside it that described the work, when
/// there was one. The work is over: whatever is wrong with it, another attempt would find the same.
pub(super) fn last_ending(
    settings: &Settings,
    answer: &Answer,
    job: Option<&Map<String, Value>>,
) -> Result<Report, Failure> {
    let verdict = if is_good(answer.status) {
        by_content(settings, answer, job)
    } else {
        by_status(answer).map(|()| report(answer))
    };
    verdict.map_err(|failure| match failure.kind {
        FailureKind::Skipped(_) => failure,
        _ => Failure { kind: FailureKind::Permanent, before_effect: false, ..failure },
    })
}

/// The failure with what it is about: the call, the status, and what was answered.
pub(super) fn dressed(failure: Failure, answer: &Answer, shown: &str) -> Failure {
    let between = if failure.message.starts_with("answered ") { " " } else { ": " };
    Failure {
        message: format!("{shown}{between}{}", failure.message),
        report: Some(failure.report.unwrap_or_else(|| Box::new(report(answer)))),
        response_code: Some(answer.status),
        ..failure
    }
}

/// What is kept of an answer, whatever becomes of it.
fn report(answer: &Answer) -> Report {
    Report {
        result: answer.content.kept(),
        response_code: Some(answer.status),
        note: note(&answer.content),
        ..Report::default()
    }
}

/// The status of an answer, and its own words about it.
pub(super) fn answered(answer: &Answer) -> String {
    let said = said(&answer.content).map(|words| format!(": {words}")).unwrap_or_default();
    format!("answered {}{said}", answer.status)
}

fn is_good(status: u16) -> bool {
    (200..300).contains(&status)
}

pub(super) fn by_status(answer: &Answer) -> Result<(), Failure> {
    let message = answered(answer);
    Err(match (answer.status, answer.retry_after) {
        (200..=299, _) => return Ok(()),
        // Asked to wait before it took the work: nothing was done.
        (429 | 503, Some(wait)) => Failure::snooze(wait, message).before_effect(),
        (429, None) => Failure::retry(message).before_effect(),
        (408 | 425 | 500..=599, _) => Failure::retry(message),
        (410, _) => Failure::new(FailureKind::Pause, message),
        (300..=399, _) => Failure::permanent(format!("{message}: redirects are not followed")),
        _ => Failure::permanent(message),
    })
}

/// Judges the words of an answer whose status is good. Counts that stand nowhere else are looked for in `job`.
fn by_content(settings: &Settings, answer: &Answer, job: Option<&Map<String, Value>>) -> Result<Report, Failure> {
    let report = report(answer);
    let fields = match &answer.content {
        Content::Json(Value::Object(fields)) => Some(fields),
        _ => None,
    };
    let cut = matches!(answer.content, Content::Cut { is_json: true, .. });
    let must_read = settings.expect.json.is_some() || (cut && settings.judge == Judge::Content);
    if must_read && matches!(answer.content, Content::Cut { .. }) {
        return Err(Failure::permanent(format!("answered more than {MAX_ANSWER_BYTES} bytes, too many to be judged")));
    }
    if settings.reads_answers() {
        readable(&answer.content)?;
    }
    if let Some(expected) = &settings.expect.json {
        let difference = match fields {
            Some(fields) => difference(expected, fields),
            None => Some("it is not a JSON object".into()),
        };
        if let Some(difference) = difference {
            return Err(Failure::retry(format!("not the expected answer: {difference}")));
        }
    }
    let Some(fields) = fields.filter(|_| settings.judge == Judge::Content) else {
        return Ok(report);
    };
    let verdict = match (judge::judge(fields, settings.items.as_deref()), job) {
        (Verdict::Done { items: None, failed: 0 }, Some(job)) if settings.items.is_none() => judge::judge(job, None),
        (verdict, _) => verdict,
    };
    verdict.into_ending(report, "the application skipped")
}

fn note(content: &Content) -> Option<String> {
    match content {
        Content::Cut { .. } => Some(format!("the answer was cut at {MAX_ANSWER_BYTES} bytes")),
        Content::Encoded(coding) => Some(format!("the answer is packed as {coding:?} and was not read")),
        _ => None,
    }
}

/// An answer that cannot be read is not called a success.
fn readable(content: &Content) -> Result<(), Failure> {
    match content {
        Content::Broken(_) => Err(Failure::retry("answered with JSON that cannot be read, so it cannot be judged")),
        // The next answer would come packed as well.
        Content::Encoded(coding) => Err(Failure::permanent(format!(
            "answered with content packed as {coding:?}, which was not asked for and cannot be judged"
        ))),
        _ => Ok(()),
    }
}

/// The words of an answer that explain its status; pages of HTML explain nothing.
fn said(content: &Content) -> Option<String> {
    match content {
        Content::Json(Value::Object(fields)) => judge::words(fields),
        Content::Text(text) if !text.trim_start().starts_with('<') => {
            let text = text.trim();
            (!text.is_empty()).then(|| clean::text(text, MAX_TEXT_CHARS))
        }
        _ => None,
    }
}
