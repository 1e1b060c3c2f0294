//! Asks for the document, and takes nothing for it that is none.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    domain::run::Failure,
    handlers::{Context, http},
    outbound::call::{Content, MAX_ANSWER_BYTES},
};

/// Bound of the whole call; a document is a page of text.
const TIMEOUT: &str = "30s";
/// Longest etag that is kept; a longer one is not worth a column.
const MOST_ETAG_CHARS: usize = 200;

/// What came of asking.
pub enum Answer {
    /// The server has nothing newer than what it was asked about.
    Unchanged,
    Document {
        text: String,
        etag: Option<String>,
        /// The call as people see it.
        shown: String,
    },
}

/// The settings of the call, which is checked and made like any other.
pub fn call(url: &str, target: Option<&str>, headers: &BTreeMap<String, String>) -> http::Settings {
    let settings = json!({ "get": url.trim(), "target": target, "headers": headers, "timeout": TIMEOUT });
    serde_json::from_value(settings).expect("these are keys of `http`, and texts of ours")
}

/// Asks by the state that is known, when one is.
pub async fn fetch(call: &http::Settings, etag: Option<&str>, ctx: &Context) -> Result<Answer, Failure> {
    let mut call = call.clone();
    call.headers.entry("Accept".into()).or_insert_with(|| "text/markdown, text/plain, */*;q=0.1".into());
    if let Some(etag) = etag {
        call.headers.insert("If-None-Match".into(), etag.into());
    }
    let http::Told { answer, shown } = http::fetch(&call, ctx).await?;
    if answer.status == 304 {
        return match etag {
            Some(_) => Ok(Answer::Unchanged),
            None => Err(Failure::permanent(format!("{shown} answered 304, though it was not told what is known"))),
        };
    }
    let etag = answer.etag.filter(|etag| etag.chars().count() <= MOST_ETAG_CHARS);
    match text(answer.content) {
        Ok(text) => Ok(Answer::Document { text, etag, shown }),
        Err(what) => Err(Failure::permanent(format!(
            "{shown} answered with {what}, not with a document of Markdown or plain text: nothing was changed"
        ))),
    }
}

/// The text of an answer, or what it is instead.
fn text(content: Content) -> Result<String, String> {
    match content {
        Content::Text(text) if is_page(&text) => Err("a page of HTML (is it one for signing in?)".into()),
        // What is not UTF-8 was replaced when it was read.
        Content::Text(text) if text.contains('\u{fffd}') => Err("bytes that are not UTF-8".into()),
        Content::Text(text) => Ok(text),
        Content::Json(_) | Content::Broken(_) => Err("JSON".into()),
        Content::Encoded(coding) => Err(format!("content packed as {coding:?}, which was not asked for")),
        Content::Cut { .. } => Err(format!("more than {MAX_ANSWER_BYTES} bytes")),
    }
}

fn is_page(text: &str) -> bool {
    let beginning: String = text.trim_start().chars().take(14).flat_map(char::to_lowercase).collect();
    ["<!doctype html", "<html", "<head", "<?xml"].iter().any(|mark| beginning.starts_with(mark))
}
