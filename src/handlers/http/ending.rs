//! What an answer makes of the attempt: its status first, then what it says (spec 5).

use std::time::Duration;

use serde_json::Value;

use super::{
    Judge, Settings,
    exchange::{Answer, Content, MAX_ANSWER_BYTES},
    expect::difference,
    judge::{self, Verdict},
};
use crate::domain::{
    clean,
    run::{Failure, FailureKind, Reason, Report},
};

/// The longest wait that a server may ask for.
const LONGEST_SNOOZE: Duration = Duration::from_secs(3_600);
/// The shortest: a server that says 0 is not asked again in a tight circle.
const SHORTEST_SNOOZE: Duration = Duration::from_secs(1);
/// Most of a plain text that goes into an error message, in characters.
const MAX_TEXT_CHARS: usize = 200;

/// Judges an answer. `shown` is the call as people see it.
pub(super) fn ending(settings: &Settings, answer: &Answer, shown: &str) -> Result<Report, Failure> {
    let report = Report {
        result: answer.content.kept(),
        response_code: Some(answer.status),
        note: note(&answer.content),
        ..Report::default()
    };
    let verdict = match &settings.expect.status {
        // Accepted is not done, whatever is expected.
        _ if answer.status == 202 && answer.has_location => {
            Err(Failure::permanent(format!("{shown} answered 202 with a location: polling is not supported yet")))
        }
        Some(statuses) if statuses.contain(answer.status) => Ok(()),
        Some(statuses) if is_good(answer.status) => {
            Err(Failure::retry(format!("{shown} answered {}, not {statuses}", answer.status)))
        }
        _ => by_status(answer, shown),
    };
    let verdict = verdict.and_then(|()| by_content(settings, answer, report.clone()));
    verdict.map_err(|failure| {
        let named =
            if failure.message.starts_with(shown) { failure.message } else { format!("{shown}: {}", failure.message) };
        let report = failure.report.unwrap_or(Box::new(report));
        Failure { message: named, report: Some(report), response_code: Some(answer.status), ..failure }
    })
}

fn is_good(status: u16) -> bool {
    (200..300).contains(&status)
}

fn by_status(answer: &Answer, shown: &str) -> Result<(), Failure> {
    let said = said(&answer.content).map(|words| format!(": {words}")).unwrap_or_default();
    let message = format!("{shown} answered {}{said}", answer.status);
    let wait = answer.retry_after.map(|wait| wait.clamp(SHORTEST_SNOOZE, LONGEST_SNOOZE));
    Err(match (answer.status, wait) {
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

/// Judges the words of an answer whose status is good.
fn by_content(settings: &Settings, answer: &Answer, report: Report) -> Result<Report, Failure> {
    let fields = match &answer.content {
        Content::Json(Value::Object(fields)) => Some(fields),
        _ => None,
    };
    let cut = matches!(answer.content, Content::Cut { is_json: true, .. });
    let must_read = settings.expect.json.is_some() || (cut && settings.judge == Judge::Content);
    if must_read && matches!(answer.content, Content::Cut { .. }) {
        return Err(Failure::permanent(format!("answered more than {MAX_ANSWER_BYTES} bytes, too many to be judged")));
    }
    if settings.judge == Judge::Content || settings.expect.json.is_some() {
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
    match judge::judge(fields, settings.items.as_deref()) {
        Verdict::Done { items, failed } => Ok(Report { items, items_failed: failed, ..report }),
        Verdict::Skipped(reason) => {
            Err(Failure::skipped(Reason::Handler, reason.unwrap_or_else(|| "the application skipped".into())))
        }
        Verdict::Failed { message, items, failed } => {
            Err(Failure::retry(message).with_report(Report { items, items_failed: failed, ..report }))
        }
    }
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
