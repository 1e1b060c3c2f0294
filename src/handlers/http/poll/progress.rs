//! How work that goes on elsewhere says where it stands (spec 5).

use serde_json::{Map, Value};

/// Words for work that has not ended: those of spec 5, and what common queues and job APIs say besides.
const GOING_ON: [&str; 13] = [
    "queued",
    "inprogress",
    "processing",
    "waiting",
    "active",
    "pending",
    "accepted",
    "deferred",
    "delayed",
    "notstarted",
    "running",
    "scheduled",
    "started",
];
/// Words for work that ended well.
const WELL: [&str; 6] = ["done", "completed", "complete", "success", "succeeded", "finished"];
/// Words for work that ended badly, or is not known where it was begun.
const BADLY: [&str; 10] =
    ["failed", "error", "dead", "notfound", "failure", "critical", "cancelled", "canceled", "timeout", "timedout"];
/// Where such a word stands. An object `job` describes the work itself, and what stands beside it may describe the asking.
const PLACES: [(Option<&str>, &str); 4] =
    [(Some("job"), "status"), (Some("job"), "state"), (None, "status"), (None, "state")];

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    GoesOn,
    EndedWell,
    EndedBadly,
}

/// What an answer says about the work.
#[derive(Debug, PartialEq)]
pub(super) struct Said<'a> {
    pub progress: Progress,
    /// The place and the word, for people.
    pub shown: String,
    /// The object that describes the work, when it is not the answer itself.
    pub job: Option<&'a Map<String, Value>>,
}

/// The first known word of an answer; `None` when it says nothing that is understood.
pub(super) fn said(answer: &Map<String, Value>) -> Option<Said<'_>> {
    PLACES.iter().find_map(|(inside, field)| {
        let job = inside.map(|inside| answer.get(inside)?.as_object()).map_or(Some(None), |job| job.map(Some))?;
        let word = job.unwrap_or(answer).get(*field)?.as_str()?;
        let place = inside.map(|inside| format!("{inside}.")).unwrap_or_default();
        Some(Said { progress: meaning(word)?, shown: format!("{place}{field} is {word:?}"), job })
    })
}

/// Case, `_`, `-` and spaces do not matter: `IN_PROGRESS`, `in-progress` and `InProgress` are one word.
fn meaning(word: &str) -> Option<Progress> {
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let is_in = |words: &[&str]| words.contains(&plain.as_str());
    if is_in(&GOING_ON) {
        Some(Progress::GoesOn)
    } else if is_in(&WELL) {
        Some(Progress::EndedWell)
    } else if is_in(&BADLY) {
        Some(Progress::EndedBadly)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use Progress::{EndedBadly, EndedWell, GoesOn};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_the_page_are_known_in_each_place() {
        let going_on = ["queued", "in_progress", "processing", "waiting", "active", "pending"];
        let well = ["done", "completed", "complete", "success", "succeeded"];
        let badly = ["failed", "error", "dead", "not_found"];
        for (words, progress) in [(&going_on[..], GoesOn), (&well, EndedWell), (&badly, EndedBadly)] {
            for word in words {
                for answer in [
                    json!({ "status": word }),
                    json!({ "state": word.to_uppercase() }),
                    json!({ "success": true, "job": { "status": word.replace('_', "-") } }),
                    json!({ "status": "ok", "job": { "state": word } }),
                ] {
                    let said = said(answer.as_object().expect("an object")).map(|said| said.progress);

                    assert_eq!(said, Some(progress), "{answer}");
                }
            }
        }
    }

    #[test]
    fn what_describes_the_work_outweighs_what_describes_the_asking() {
        for (answer, shown) in [
            (
                json!({ "status": "success", "job": { "status": "in_progress" } }),
                Some(r#"job.status is "in_progress""#),
            ),
            (json!({ "status": "done", "state": "active" }), Some(r#"status is "done""#)),
            (json!({ "status": "ok", "state": "InProgress" }), Some(r#"state is "InProgress""#)),
            (json!({ "status": 3, "state": "RUNNING" }), Some(r#"state is "RUNNING""#)),
            (json!({ "job": "pending", "status": "done" }), Some(r#"status is "done""#)),
            (json!({ "status": "ok" }), None),
            (json!({ "job": { "status": null } }), None),
            (json!({ "data": { "status": "pending" } }), None),
            (json!({}), None),
        ] {
            let said = said(answer.as_object().expect("an object")).map(|said| said.shown);

            assert_eq!(said.as_deref(), shown, "{answer}");
        }
    }
}
