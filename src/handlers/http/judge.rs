//! Judges what an application says about its own work: a 200 that says "error" is an error (spec 5).

use serde_json::{Map, Value};

use crate::domain::{
    clean,
    run::{Failure, Reason, Report},
};

/// Words of `status` that mean failure.
const BAD_WORDS: [&str; 3] = ["error", "critical", "failed"];
/// Fields that count what was done, the most telling first.
const ITEM_FIELDS: [&str; 7] = ["processados", "processadas", "processed", "count", "total", "enviadas", "removidos"];
/// Fields that count what failed.
const ERROR_FIELDS: [&str; 3] = ["erros", "errors", "erro"];
/// Objects inside the answer in which counts are looked for, after the answer itself.
const INNER_OBJECTS: [&str; 3] = ["stats", "result", "ciclo"];
/// Fields whose text says what went wrong.
const WORD_FIELDS: [&str; 6] = ["error", "erro", "detail", "message", "mensagem", "reason"];
/// Most of such a text that goes into an error message, in characters.
const MAX_WORDS_CHARS: usize = 300;

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers) enum Verdict {
    /// Done, perhaps in part: `failed` of the items were not.
    Done { items: Option<u64>, failed: u64 },
    /// The application had nothing to do; its reason, when it gives one.
    Skipped(Option<String>),
    /// Not done, and why.
    Failed { message: String, items: Option<u64>, failed: u64 },
}

impl Verdict {
    /// What the verdict makes of an attempt: the report with its counts, or the failure that it is. `skipped` stands in
    /// for a reason that was not given.
    pub(in crate::handlers) fn into_ending(self, report: Report, skipped: &str) -> Result<Report, Failure> {
        match self {
            Self::Done { items, failed } => Ok(Report { items, items_failed: failed, ..report }),
            Self::Skipped(reason) => Err(Failure::skipped(Reason::Handler, reason.unwrap_or_else(|| skipped.into()))),
            Self::Failed { message, items, failed } => {
                Err(Failure::retry(message).with_report(Report { items, items_failed: failed, ..report }))
            }
        }
    }
}

/// What is wrong with a dotted path to the number of items.
pub(in crate::handlers) fn wrong_path(items: Option<&str>) -> Option<String> {
    let is_wrong = items.is_some_and(|path| path.split('.').any(str::is_empty));
    is_wrong.then(|| "items has an empty part; write a dotted path such as stats.processados".into())
}

/// Judges a JSON object by its words and counts. `items` is the dotted path of the number of items, when the job
/// names one; errors are then looked for beside it first.
pub(in crate::handlers) fn judge(answer: &Map<String, Value>, items: Option<&str>) -> Verdict {
    let failed = count_errors(answer, items);
    let items = count_items(answer, items);
    if let Some(sign) = bad_sign(answer) {
        let message = words(answer).map_or_else(|| sign.clone(), |words| format!("{sign}: {words}"));
        return Verdict::Failed { message, items, failed };
    }
    if answer.get("skipped") == Some(&Value::Bool(true)) || status_is(answer, &["skipped"]) {
        return Verdict::Skipped(words(answer));
    }
    if 0 < failed && items.unwrap_or(0) == 0 {
        let message = format!("{failed} failed and none was done");
        return Verdict::Failed { message, items, failed };
    }
    Verdict::Done { items, failed }
}

/// What an answer says about a failure, in its own words and cut short.
pub(super) fn words(answer: &Map<String, Value>) -> Option<String> {
    let text = WORD_FIELDS.iter().find_map(|field| answer.get(*field)?.as_str().filter(|text| !text.is_empty()))?;
    Some(clean::text(text, MAX_WORDS_CHARS))
}

/// The field that says outright that it went wrong.
fn bad_sign(answer: &Map<String, Value>) -> Option<String> {
    if status_is(answer, &BAD_WORDS) {
        return Some(format!("status is {}", answer["status"]));
    }
    let is_false = |field: &&&str| answer.get(**field) == Some(&Value::Bool(false));
    ["success", "ok"].iter().find(is_false).map(|field| format!("{field} is false"))
}

fn status_is(answer: &Map<String, Value>, words: &[&str]) -> bool {
    let status = answer.get("status").and_then(Value::as_str);
    status.is_some_and(|status| words.iter().any(|word| status.eq_ignore_ascii_case(word)))
}

fn count_items(answer: &Map<String, Value>, path: Option<&str>) -> Option<u64> {
    match path {
        Some(path) => at_path(answer, path).and_then(as_count),
        // The better name wins wherever it stands: `total` beside `stats.processados` is what there was to do.
        None => ITEM_FIELDS.iter().find_map(|field| places(answer).find_map(|place| as_count(place.get(*field)?))),
    }
}

fn count_errors(answer: &Map<String, Value>, path: Option<&str>) -> u64 {
    let beside_items = path.and_then(|path| path.rsplit_once('.')).and_then(|(parent, _)| at_path(answer, parent));
    let places = beside_items.and_then(Value::as_object).into_iter().chain(places(answer));
    let mut counts = places.flat_map(|place| ERROR_FIELDS.iter().filter_map(|field| as_count(place.get(*field)?)));
    counts.find(|count| 0 < *count).unwrap_or(0)
}

fn places(answer: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let inner = INNER_OBJECTS.iter().filter_map(|name| answer.get(*name)?.as_object());
    std::iter::once(answer).chain(inner)
}

fn at_path<'a>(answer: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = answer.get(first)?;
    match rest {
        Some(rest) => at_path(value.as_object()?, rest),
        None => Some(value),
    }
}

/// A number of 0 or more, its fraction cut, or the length of a list.
fn as_count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            // A cast from f64 stops at the bounds of u64; a negative count is no count.
            number.as_u64().or_else(|| number.as_f64().filter(|n| 0.0 <= *n).map(|n| n as u64))
        }
        Value::Array(values) => Some(values.len() as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Verdict::*, *};

    fn failed(message: &str, items: Option<u64>, failed: u64) -> Verdict {
        Failed { message: message.into(), items, failed }
    }

    #[test]
    fn an_answer_is_judged_by_what_it_says() {
        for (answer, path, verdict) in [
            (json!({}), None, Done { items: None, failed: 0 }),
            (json!({ "status": "ok" }), None, Done { items: None, failed: 0 }),
            (json!({ "status": 500 }), None, Done { items: None, failed: 0 }),
            // Words of failure.
            (json!({ "status": "error" }), None, failed("status is \"error\"", None, 0)),
            (json!({ "status": "CRITICAL" }), None, failed("status is \"CRITICAL\"", None, 0)),
            (json!({ "status": "failed", "error": "no db" }), None, failed("status is \"failed\": no db", None, 0)),
            (json!({ "status": "error", "detail": "x\0y" }), None, failed("status is \"error\": x\u{fffd}y", None, 0)),
            (json!({ "success": false, "processados": 2 }), None, failed("success is false", Some(2), 0)),
            (json!({ "ok": false, "message": "" }), None, failed("ok is false", None, 0)),
            (json!({ "ok": "false", "success": null }), None, Done { items: None, failed: 0 }),
            // Failure outweighs a skip.
            (json!({ "status": "error", "skipped": true }), None, failed("status is \"error\"", None, 0)),
            // Skips.
            (json!({ "skipped": true, "reason": "lock" }), None, Skipped(Some("lock".into()))),
            (json!({ "status": "skipped" }), None, Skipped(None)),
            (json!({ "skipped": 3, "processados": 1 }), None, Done { items: Some(1), failed: 0 }),
            // Items, each name.
            (json!({ "processados": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "processadas": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "processed": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "count": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "total": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "enviadas": 3 }), None, Done { items: Some(3), failed: 0 }),
            (json!({ "removidos": 3 }), None, Done { items: Some(3), failed: 0 }),
            // Items, each place.
            (json!({ "stats": { "count": 4 } }), None, Done { items: Some(4), failed: 0 }),
            (json!({ "result": { "total": 4 } }), None, Done { items: Some(4), failed: 0 }),
            (json!({ "ciclo": { "processados": 4 } }), None, Done { items: Some(4), failed: 0 }),
            (json!({ "other": { "processados": 4 } }), None, Done { items: None, failed: 0 }),
            (json!({ "total": 9, "stats": { "processados": 4 } }), None, Done { items: Some(4), failed: 0 }),
            // Items, odd values.
            (json!({ "count": -1 }), None, Done { items: None, failed: 0 }),
            (json!({ "count": "5" }), None, Done { items: None, failed: 0 }),
            (json!({ "count": 2.0 }), None, Done { items: Some(2), failed: 0 }),
            (json!({ "count": 1e300 }), None, Done { items: Some(u64::MAX), failed: 0 }),
            (json!({ "count": null, "total": 2 }), None, Done { items: Some(2), failed: 0 }),
            (json!({ "processed": ["a", "b"] }), None, Done { items: Some(2), failed: 0 }),
            // Items by path: the named field and no other.
            (json!({ "a": { "b": 7 }, "count": 1 }), Some("a.b"), Done { items: Some(7), failed: 0 }),
            (json!({ "count": 1 }), Some("a.b"), Done { items: None, failed: 0 }),
            (json!({ "a": 3 }), Some("a.b"), Done { items: None, failed: 0 }),
            // Errors beside items done: partial.
            (json!({ "processados": 3, "erros": 2 }), None, Done { items: Some(3), failed: 2 }),
            (json!({ "processados": 3, "errors": ["x"] }), None, Done { items: Some(3), failed: 1 }),
            (json!({ "processados": 3, "erro": 1 }), None, Done { items: Some(3), failed: 1 }),
            (json!({ "processados": 3, "stats": { "erros": 2 } }), None, Done { items: Some(3), failed: 2 }),
            (
                json!({ "processados": 3, "errors": [], "ciclo": { "erros": 2 } }),
                None,
                Done { items: Some(3), failed: 2 },
            ),
            (json!({ "a": { "n": 3, "erros": 1 } }), Some("a.n"), Done { items: Some(3), failed: 1 }),
            // Errors and nothing done: error.
            (json!({ "processados": 0, "erros": 2 }), None, failed("2 failed and none was done", Some(0), 2)),
            (json!({ "errors": ["x", "y"] }), None, failed("2 failed and none was done", None, 2)),
            // No errors.
            (json!({ "processados": 0, "erros": 0, "errors": [] }), None, Done { items: Some(0), failed: 0 }),
            (json!({ "erro": "text", "erros": {} }), None, Done { items: None, failed: 0 }),
        ] {
            let fields = answer.as_object().expect("the cases are objects");

            assert_eq!(judge(fields, path), verdict, "{answer} with {path:?}");
        }
    }
}
