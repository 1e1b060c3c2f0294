//! What the application's answer about one message means: a text, sent already, nothing to say, or nothing at all.

use serde_json::{Map, Value};

use super::inbox::Answer;
use crate::handlers::http::judge::{self, Verdict};

/// Where the text for the client stands, unless a job says so. Words such as `message` are not among them: many
/// applications tell there what they did, and that is nothing to be sent.
const TEXT_FIELDS: [&str; 4] = ["resposta", "texto", "text", "reply"];
/// True = the application has sent its answer itself.
const SENT_FIELDS: [&str; 3] = ["enviada", "enviado", "sent"];
/// The same, as words of `status`.
const SENT_WORDS: [&str; 3] = ["enviada", "enviado", "sent"];
/// Longest text that is queued, in characters: what WhatsApp takes in one message.
const MAX_TEXT_CHARS: usize = 4_096;

/// Reads a good answer. An answer that says nothing of the above, or an empty text, is an error: a message is only done
/// when somebody said so, and having nothing to say has a word of its own, `skipped`. The words of the answer are never part of the error, because they may quote the client.
pub(super) fn understood(answer: &Value, field: Option<&str>) -> Result<Answer, String> {
    let Some(fields) = answer.as_object() else { return Err("answered with no JSON object".into()) };
    match judge::judge(fields, None) {
        Verdict::Failed { .. } => return Err(format!("answered that it failed{}", sign(fields))),
        Verdict::Skipped(_) => return Ok(Answer::Nothing),
        Verdict::Done { .. } => {}
    }
    if is_sent(fields) {
        return Ok(Answer::SentItself);
    }
    let text = match field {
        Some(path) => path.split('.').try_fold(answer, |place, name| place.get(name)),
        None => TEXT_FIELDS.iter().find_map(|name| fields.get(*name)),
    };
    match text {
        Some(Value::Null) => Err(format!("answered with null at {}", shown(field))),
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(format!("answered with an empty text at {}", shown(field)))
        }
        Some(Value::String(text)) if text.chars().count() <= MAX_TEXT_CHARS => Ok(Answer::Text(text.trim().to_owned())),
        Some(Value::String(_)) => Err(format!("answered with a text of more than {MAX_TEXT_CHARS} characters")),
        Some(_) => Err(format!("answered with something other than text at {}", shown(field))),
        None => Err(format!("answered without {}", shown(field))),
    }
}

fn shown(field: Option<&str>) -> String {
    field.map_or_else(|| TEXT_FIELDS.join(", "), str::to_owned)
}

/// The word of an answer's `status`, when it is one of ours.
fn sign(fields: &Map<String, Value>) -> String {
    let word = fields.get("status").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let known = word.filter(|word| ["error", "critical", "failed"].contains(&word.as_str()));
    known.map(|word| format!(": status is {word}")).unwrap_or_default()
}

fn is_sent(fields: &Map<String, Value>) -> bool {
    let says_so = SENT_FIELDS.iter().any(|field| fields.get(*field) == Some(&Value::Bool(true)));
    let status = fields.get("status").and_then(Value::as_str);
    says_so || status.is_some_and(|status| SENT_WORDS.iter().any(|word| status.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Result<Answer, String> {
        Ok(Answer::Text(text.into()))
    }

    fn wrong(words: &str) -> Result<Answer, String> {
        Err(words.into())
    }

    #[test]
    fn an_answer_means_what_it_says_and_silence_means_nothing() {
        for (answer, field, meaning) in [
            (json!({ "resposta": " Oi! " }), None, text("Oi!")),
            (json!({ "texto": "Oi!", "status": "ok" }), None, text("Oi!")),
            (json!({ "text": "Oi!" }), None, text("Oi!")),
            (json!({ "reply": "Oi!", "ok": true }), None, text("Oi!")),
            (json!({ "resposta": "first", "text": "second" }), None, text("first")),
            (json!({ "data": { "mensagem": "Oi!" } }), Some("data.mensagem"), text("Oi!")),
            (json!({ "enviada": true, "resposta": "Oi!" }), None, Ok(Answer::SentItself)),
            (json!({ "sent": true }), None, Ok(Answer::SentItself)),
            (json!({ "status": "Enviada" }), None, Ok(Answer::SentItself)),
            (json!({ "skipped": true }), None, Ok(Answer::Nothing)),
            (json!({ "status": "skipped", "reason": "opt-out" }), None, Ok(Answer::Nothing)),
            (json!({ "skipped": true, "resposta": "" }), None, Ok(Answer::Nothing)),
            (json!({ "resposta": null }), None, wrong("answered with null at resposta, texto, text, reply")),
            (json!({ "resposta": "  " }), None, wrong("answered with an empty text at resposta, texto, text, reply")),
            (
                json!({ "data": { "texto": "" } }),
                Some("data.texto"),
                wrong("answered with an empty text at data.texto"),
            ),
            (json!({ "status": "error", "resposta": "Oi!" }), None, wrong("answered that it failed: status is error")),
            (json!({ "success": false, "error": "about Ana" }), None, wrong("answered that it failed")),
            (json!({ "message": "processed" }), None, wrong("answered without resposta, texto, text, reply")),
            (
                json!({ "resposta": 7 }),
                None,
                wrong("answered with something other than text at resposta, texto, text, reply"),
            ),
            (json!({ "resposta": "Oi!" }), Some("data.texto"), wrong("answered without data.texto")),
            (
                json!({ "resposta": "a".repeat(4_097) }),
                None,
                wrong("answered with a text of more than 4096 characters"),
            ),
            (json!({ "enviada": false }), None, wrong("answered without resposta, texto, text, reply")),
            (json!("Oi!"), None, wrong("answered with no JSON object")),
            (json!([]), None, wrong("answered with no JSON object")),
            (json!({}), None, wrong("answered without resposta, texto, text, reply")),
        ] {
            assert_eq!(understood(&answer, field), meaning, "{answer} with {field:?}");
        }
    }
}
