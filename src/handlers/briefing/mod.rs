//! `briefing`: the team writes its directives in a document; what people are answered by must say the same.

mod document;
mod fetch;
mod log;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Context, Dialect, Done, Ending, Handler, Outbound, Scope, Statement, TeamTable, http,
    people::{self, Notice},
    report::Language,
    team, transaction,
};
use crate::domain::run::{Failure, Reason, Report};
use document::{Document, Unfit};
use fetch::Answer;
use log::{Change, Fetched, Last, Outcome, Rules};

/// Keys that a list names at most.
const MOST_NAMED: usize = 20;

/// Settings of `run.briefing`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A full URL, or a path below the target. Empty = there is no briefing, and the job idles.
    pub url: String,
    /// A table under `[targets]`, for a path.
    pub target: Option<String>,
    /// Sent with the call, such as a token.
    pub headers: BTreeMap<String, String>,
    /// Keys of sections by their headings, where the key shall not be made of the heading's words.
    pub sections: BTreeMap<String, String>,
    /// What happens to sections that are no longer in the document.
    pub gone: Gone,
    /// What the notice is written in.
    pub language: Language,
    /// The call, as it was when the settings were checked.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    call: Option<http::Settings>,
    /// Whom to tell, as it was when the settings were checked.
    #[serde(skip)]
    #[schemars(skip)]
    resolved: Outbound,
}

/// What happens to sections that came from the briefing and are no longer in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Gone {
    /// They stay, and the team is told of them.
    #[default]
    Keep,
    /// Their rows are deleted.
    Delete,
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = scope.outbound.clone();
        let is_empty = |(heading, key): (&String, &String)| heading.trim().is_empty() || key.trim().is_empty();
        if self.sections.iter().any(is_empty) {
            return vec!["sections: a heading and its key must not be empty".into()];
        }
        if self.url.trim().is_empty() {
            return Vec::new();
        }
        let mut call = fetch::call(&self.url, self.target.as_deref(), &self.headers);
        let errors = call.check(scope);
        self.call = Some(call);
        errors
    }

    /// What no document is stored without; none while there is no briefing.
    fn statements(&self, _: Dialect) -> Vec<Statement> {
        let texts = if self.call.is_some() { &log::ALWAYS[..] } else { &[] };
        texts.iter().map(|text| Statement { text: (*text).into(), line: 1, database: None }).collect()
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        log::TABLES.to_vec()
    }

    /// With the address and the headers as `http` gives them to a hash.
    fn canonical(&self) -> Value {
        let settings = Self { url: String::new(), headers: BTreeMap::new(), call: None, ..self.clone() };
        let mut canonical = json!(settings);
        canonical["call"] = json!(self.call.as_ref().map(Handler::canonical));
        canonical
    }

    async fn run(&self, ctx: Context) -> Ending {
        let Some(call) = &self.call else {
            let why = "there is no briefing: `url` is empty (BRIEFING_URL, in the table that is shipped)";
            return Err(Failure::skipped(Reason::NotConfigured, why).before_effect());
        };
        // Another address may call another text by the same name.
        let origin = document::hash(&call.canonical().to_string());
        let last = last(&ctx, &origin).await?;
        let answer = fetch::fetch(call, last.as_ref().and_then(|last| last.etag.as_deref()), &ctx).await?;
        let Answer::Document { text, etag, shown } = answer else { return self.unchanged(&ctx, last).await };
        let document = Document::read(&text, &self.sections).map_err(|unfit| failure(&shown, unfit))?;
        let fetched = Fetched { document, etag, origin };
        match last {
            Some(last) if last.hash == fetched.document.hash => {
                renamed(&ctx, &last, fetched).await?;
                self.unchanged(&ctx, Some(last)).await
            }
            last => self.changed(&ctx, fetched, last).await,
        }
    }
}

/// A document that cannot be stored; what is stored stays as it is.
fn failure(shown: &str, unfit: Unfit) -> Failure {
    match unfit {
        // An export that comes out empty may come out whole a moment later.
        Unfit::Empty => Failure::retry(format!("the document of {shown} is empty: nothing was changed")),
        Unfit::Not(why) => Failure::permanent(format!("the document of {shown} {why}: nothing was changed")),
    }
}

async fn last(ctx: &Context, origin: &str) -> Result<Option<Last>, Failure> {
    let (origin, may_create, now) = (origin.to_owned(), ctx.tools.create_team_tables, ctx.now);
    let last = transaction::apart(ctx, move |tx| {
        Box::pin(async move {
            let adopted = team::adopt(tx, &log::TABLES, may_create).await?;
            log::last(tx, &adopted, &origin, now).await
        })
    });
    last.await.map_err(Failure::before_effect)
}

/// Keeps by what name the server knows the text that is stored, where that has changed.
async fn renamed(ctx: &Context, last: &Last, fetched: Fetched) -> Result<(), Failure> {
    if fetched.etag.is_none() || last.etag == fetched.etag {
        return Ok(());
    }
    let last = last.clone();
    transaction::apart(ctx, move |tx| {
        Box::pin(async move { log::rename(tx, &last, fetched.etag, &fetched.origin).await })
    })
    .await
}

impl Settings {
    /// Nothing is new; but a change that the team was not told of is told now.
    async fn unchanged(&self, ctx: &Context, last: Option<Last>) -> Ending {
        let report = Report { result: Some(json!({ "status": "unchanged" })), ..Report::items(0) };
        let Some(last) = last.filter(|last| last.owes_notice) else { return Ok(Done::Report(report)) };
        let (id, now) = (last.id.clone(), ctx.now);
        let take = transaction::apart(ctx, move |tx| {
            Box::pin(async move { log::notice(tx, &id, log::Notice::Take, now).await })
        });
        if !take.await? {
            return Ok(Done::Report(report));
        }
        let text = self.headline(last.title.as_deref());
        self.tell(ctx, last.id, Notice { text, blocks: Vec::new() }, report).await
    }

    /// Stores the document, then tells the team. What is stored stays so, whatever becomes of the notice.
    async fn changed(&self, ctx: &Context, fetched: Fetched, last: Option<Last>) -> Ending {
        let rules = Rules { may_create: ctx.tools.create_team_tables, now: ctx.now, gone: self.gone };
        let (title, hash) = (fetched.document.title.clone(), fetched.document.hash.clone());
        let stored = transaction::apart(ctx, move |tx| {
            Box::pin(async move { log::store(tx, &fetched, last.as_ref(), &rules).await })
        });
        let change = match stored.await? {
            Outcome::Stored(change) => change,
            Outcome::Overtaken => {
                let note = "somebody else has stored a document meanwhile; the next run compares with that one";
                let result = Some(json!({ "status": "overtaken" }));
                return Ok(Done::Report(Report { note: Some(note.into()), result, ..Report::items(0) }));
            }
        };
        let result = json!({
            "status": "stored",
            "hash": hash,
            "title": title,
            "sections": {
                "new": named(&change.new), "changed": named(&change.changed), "unchanged": change.unchanged,
                "gone": change.gone, "deleted": change.deleted,
            },
        });
        let items = (change.new.len() + change.changed.len()) as u64;
        let report = Report { result: Some(result), ..Report::items(items) };
        let notice = Notice { text: self.text(title.as_deref(), &change), blocks: Vec::new() };
        self.tell(ctx, change.id, notice, report).await
    }

    /// Tells the team and notes that it was told, which commits together with the end of the run. A notice that cannot
    /// be given is owed: the next attempt or run gives it.
    async fn tell(&self, ctx: &Context, id: String, notice: Notice, report: Report) -> Ending {
        let now = ctx.now;
        match people::tell_team(ctx, &self.resolved, &notice).await {
            Ok(_) => {
                transaction::in_own_database(ctx, move |tx| {
                    Box::pin(async move { log::notice(tx, &id, log::Notice::Given, now).await.map(|_| report) })
                })
                .await
            }
            Err(failure) => {
                let back = transaction::apart(ctx, move |tx| {
                    Box::pin(async move { log::notice(tx, &id, log::Notice::Return, now).await })
                });
                // When it cannot be given back either, it frees itself after a while.
                let _ = back.await;
                let message = format!("the briefing is stored, and the team was not told: {}", failure.message);
                Err(Failure { message, ..failure }.with_report(report))
            }
        }
    }

    fn headline(&self, title: Option<&str>) -> String {
        let title = title.unwrap_or("briefing").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!("*{}: {title}*", self.language.either("Briefing atualizado", "Briefing updated"))
    }

    /// What a change means to people.
    fn text(&self, title: Option<&str>, change: &Change) -> String {
        let gone = match self.gone {
            Gone::Keep => self.language.either(
                "Saíram do documento e continuam nas diretrizes",
                "No longer in the document, and still in force",
            ),
            Gone::Delete => self.language.either("Removidas das diretrizes", "Removed"),
        };
        let lists = [
            (self.language.either("Novas", "New"), &change.new),
            (self.language.either("Alteradas", "Changed"), &change.changed),
            (gone, &change.gone),
        ];
        let lines = lists.into_iter().filter(|(_, keys)| !keys.is_empty());
        let lines = lines.map(|(words, keys)| format!("{words}: {}", named(keys).join(", ")));
        std::iter::once(self.headline(title)).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// The first of some keys, and how many more there are.
fn named(keys: &[String]) -> Vec<String> {
    let mut named: Vec<String> = keys.iter().take(MOST_NAMED).cloned().collect();
    if MOST_NAMED < keys.len() {
        named.push(format!("+{}", keys.len() - MOST_NAMED));
    }
    named
}
