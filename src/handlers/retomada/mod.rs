//! `retomada`: whoever wrote at night or at the weekend is answered when the day begins, and nobody is forgotten.

mod answer;
mod endpoint;
mod inbox;
mod round;

use std::time::Duration;

use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Context, Dialect, Ending, Handler, Scope, Statement, TeamTable, http,
    team::{
        Adopted,
        tables::{FILA_MENSAGENS, MENSAGENS_FORA_HORARIO},
    },
};
use crate::{
    domain::{
        duration::Length,
        run::{Failure, Reason},
    },
    outbound::Hours,
};
use round::Round;

/// Most messages that are read at once.
const LARGEST_BATCH: u32 = 1_000;
/// Longest text that is queued, in characters: what WhatsApp takes in one message.
const MAX_TEXT_CHARS: usize = 4_096;
/// Bound of one call unless the settings or the target give one: applications that ask a language model take their time.
const TIMEOUT: Length = Length(Duration::from_secs(60));

/// Settings of `run.retomada`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A table under `[targets]`; `default` unless `post` is a full URL.
    pub target: Option<String>,
    /// The endpoint that answers one message: a path below the target's base URL, or a full URL. Without it the greeting
    /// is queued.
    pub post: Option<String>,
    /// Where the text for the client stands in the endpoint's answer: a dotted path.
    pub field: Option<String>,
    /// Bound of one call.
    pub timeout: Length,
    /// How many messages are read at once; all that wait are handled.
    #[schemars(range(min = 1, max = 1_000))]
    pub batch: u32,
    /// What a client is greeted with who wrote out of hours, when no endpoint answers.
    pub greeting: String,
    /// How the talk goes on, in the same message.
    pub resume: String,
    /// The call, put together by `check`.
    #[serde(skip)]
    #[schemars(skip)]
    endpoint: Option<http::Settings>,
    /// When there is business.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    resolved: Hours,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: None,
            post: None,
            field: None,
            timeout: TIMEOUT,
            batch: 100,
            greeting: "Oi! Recebi sua mensagem fora do horário de atendimento.".into(),
            resume: "Já estou por aqui: podemos continuar?".into(),
            endpoint: None,
            resolved: Hours::default(),
        }
    }
}

impl Settings {
    /// The text for a client whom no endpoint answers.
    fn greeting(&self) -> String {
        let parts = [self.greeting.trim(), self.resume.trim()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn call(&self) -> Option<http::Settings> {
        let mut call = http::Settings::default();
        call.target = self.target.clone();
        call.post = Some(self.post.clone()?);
        Some(call)
    }

    /// What is wrong with the texts and numbers.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !(1..=LARGEST_BATCH).contains(&self.batch) {
            mistakes.push(format!("batch is {}, and must be from 1 to {LARGEST_BATCH}", self.batch));
        }
        match self.greeting().chars().count() {
            0 => mistakes.push("greeting and resume are both empty: there is nothing to say".into()),
            1..=MAX_TEXT_CHARS => {}
            length => mistakes.push(format!("greeting and resume have {length} characters, {MAX_TEXT_CHARS} at most")),
        }
        if self.field.as_deref().is_some_and(|path| path.split('.').any(str::is_empty)) {
            mistakes.push("field has an empty part; write a dotted path such as data.texto".into());
        }
        if self.post.is_none() && (self.target.is_some() || self.field.is_some()) {
            mistakes.push("target and field are about an endpoint, and no post says which".into());
        }
        mistakes
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = scope.outbound.hours.clone();
        self.endpoint = self.call();
        let mut mistakes = self.mistakes();
        mistakes.extend(self.endpoint.iter_mut().flat_map(|endpoint| endpoint.check(scope)));
        mistakes
    }

    fn canonical(&self) -> Value {
        json!({ "settings": self, "endpoint": self.endpoint.as_ref().map(Handler::canonical) })
    }

    async fn run(&self, ctx: Context) -> Ending {
        let (hours, zone) = (&self.resolved, &ctx.job.zone);
        if !hours.is_open(ctx.now, zone) {
            let next = hours.next_open(ctx.now, zone).map(|next| next.to_rfc3339_opts(SecondsFormat::Secs, true));
            let next = next.map(|next| format!("; business hours begin at {next}")).unwrap_or_default();
            return Err(Failure::skipped(Reason::Handler, format!("fora_horario{next}")));
        }
        Round::open(self, &ctx).await?.run().await
    }

    fn statements(&self, _: Dialect) -> Vec<Statement> {
        let statement = |text: &str| Statement { text: text.into(), line: 1, database: None };
        inbox::TEXTS.iter().map(|text| statement(text)).collect()
    }

    fn doubts(&self, found: &Adopted) -> Vec<String> {
        inbox::too_narrow(found).into_iter().collect()
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        vec![&MENSAGENS_FORA_HORARIO, &FILA_MENSAGENS]
    }
}
