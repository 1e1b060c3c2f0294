//! `grupos`: what is offered in groups becomes shifts step by step, and what got stuck on the way must be seen.

mod queue;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Context, Done, Ending, Handler, Scope,
    http::{self, DEFAULT_TARGET},
    team::TeamTable,
};
use crate::domain::{
    duration::Length,
    run::{Failure, Reason, Report},
};
use queue::{EXHAUSTED_STAGE, Queue};

/// Most items that the application may be asked to take at once.
const LARGEST_BATCH: u32 = 10_000;
/// The field of the answer's `fila` that counts what was given up, and is no stage.
const GIVEN_UP_FIELD: &str = "erros_max_tentativas";

/// Settings of `run.grupos`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A table under `[targets]`; `default` unless `post` is a full URL.
    pub target: Option<String>,
    /// The endpoint that runs one cycle: a path below the target's base URL, or a full URL.
    pub post: String,
    /// How many items the application is asked to take.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch: u32,
    /// Bound of the whole call; the job's own `timeout` bounds it too.
    pub timeout: Option<Length>,
    /// Stages at which an item rests; all others wait for a cycle. `erro` is always one.
    pub finished: BTreeSet<String>,
    /// The call, put together by `check`; `None` = nobody said where to.
    #[serde(skip)]
    #[schemars(skip)]
    endpoint: Option<http::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        let finished = ["finalizado", "concluido", "descartado", EXHAUSTED_STAGE].map(str::to_owned).into();
        Self { target: None, post: "/jobs/processar-grupos".into(), batch: 50, timeout: None, finished, endpoint: None }
    }
}

impl Settings {
    /// Whether there is somewhere to call: a target, the default one, or a full URL.
    fn is_configured(&self, scope: &Scope<'_>) -> bool {
        self.target.is_some() || !self.post.starts_with('/') || scope.targets.contains_key(DEFAULT_TARGET)
    }

    fn call(&self) -> http::Settings {
        let mut call = http::Settings::default();
        call.target = self.target.clone();
        call.post = Some(self.post.clone());
        call.timeout = self.timeout;
        call.json = Some(json!({ "batch": self.batch }));
        call
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !(1..=LARGEST_BATCH).contains(&self.batch) {
            mistakes.push(format!("batch is {}, and must be from 1 to {LARGEST_BATCH}", self.batch));
        }
        self.finished.insert(EXHAUSTED_STAGE.into());
        self.endpoint = self.is_configured(scope).then(|| self.call());
        mistakes.extend(self.endpoint.iter_mut().flat_map(|endpoint| endpoint.check(scope)));
        mistakes
    }

    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        vec![&queue::FILA_PROCESSAMENTO_GRUPOS]
    }

    fn resumes(&self) -> bool {
        true
    }

    fn follows_for(&self) -> std::time::Duration {
        self.endpoint.as_ref().map(Handler::follows_for).unwrap_or_default()
    }

    fn canonical(&self) -> Value {
        // The endpoint has the address too, without what belongs to the host alone, such as a password.
        let post = if self.endpoint.is_some() { String::new() } else { self.post.clone() };
        let settings = Self { post, ..self.clone() };
        json!({ "settings": settings, "endpoint": self.endpoint.as_ref().map(Handler::canonical) })
    }

    async fn run(&self, ctx: Context) -> Ending {
        let called = match &self.endpoint {
            Some(endpoint) => endpoint.run(ctx.clone()).await,
            None => Err(Failure::skipped(
                Reason::NotConfigured,
                "no endpoint: set APP_URL, add [targets.default], or name a target",
            )),
        };
        // The table is looked at after the cycle, whatever became of it: a cycle that fails is when a queue grows.
        let watched = queue::watch(&ctx, &self.finished).await;
        ended(called, watched, &self.finished)
    }
}

/// What the call and the table make of the attempt together.
fn ended(called: Ending, watched: Result<Option<Queue>, Failure>, finished: &BTreeSet<String>) -> Ending {
    match (called, watched) {
        (Ok(Done::Report(report)), Ok(queue)) => Ok(Done::Report(seen(report, queue.as_ref(), finished))),
        (Ok(Done::Report(report)), Err(watch)) => Ok(Done::Report(unwatched(seen(report, None, finished), &watch))),
        (Ok(done @ Done::InTransaction(..)), _) => Ok(done),
        (Err(failure), Ok(queue)) => {
            let report = failure.report.as_deref().cloned().unwrap_or_default();
            Err(failure.with_report(seen(report, queue.as_ref(), finished)))
        }
        (Err(failure), Err(watch)) => {
            // A call that was never made hides nothing; a table that cannot be read is what must be told then.
            let message = format!("{}; {}", failure.message, watch.message);
            let nothing_called =
                matches!(failure.kind, crate::domain::run::FailureKind::Skipped(Reason::NotConfigured));
            Err(if nothing_called { watch } else { Failure { message, ..failure } })
        }
    }
}

/// A cycle that took effect, beside a table that could not be watched. Whatever the trouble is: a failure would have the
/// cycle repeated, so this is told with the run, as partly failed where something was done. Nothing done and one failed
/// would be a failure too.
fn unwatched(report: Report, watch: &Failure) -> Report {
    let told = format!("the cycle was run, and its table could not be watched: {}", watch.message);
    let note = report.note.into_iter().chain([told]).collect::<Vec<_>>().join("; ");
    let least = u64::from(report.items.is_some_and(|items| 0 < items));
    Report { items_failed: report.items_failed.max(least), note: Some(note), ..report }
}

/// The report with what waits: by the table when there is one, else by the answer's own word.
fn seen(report: Report, queue: Option<&Queue>, finished: &BTreeSet<String>) -> Report {
    let waiting = || waiting_by_answer(report.result.as_ref()?, finished);
    let left = queue.map(|queue| queue.waiting).or_else(waiting);
    let mut result = Map::new();
    result.extend(report.result.map(|answer| ("answer".to_owned(), answer)));
    result.extend(queue.map(|queue| ("queue".to_owned(), queue.as_json())));
    let note = queue.and_then(Queue::note).or(report.note);
    let result = if result.is_empty() { None } else { Some(Value::Object(result)) };
    Report { left, note, result, ..report }
}

/// The sum of the stages in the answer's `fila` at which items wait.
fn waiting_by_answer(answer: &Value, finished: &BTreeSet<String>) -> Option<u64> {
    let stages = answer.get("fila")?.as_object()?;
    let waiting = stages.iter().filter(|(stage, _)| *stage != GIVEN_UP_FIELD && !finished.contains(*stage));
    Some(waiting.filter_map(|(_, count)| count.as_u64()).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_summed_from_the_stages_of_the_answer() {
        let finished = Settings::default().finished;
        for (answer, waiting) in [
            (
                json!({ "fila": { "classificacao": 3, "extracao": 4, "finalizado": 90, "erros_max_tentativas": 2 } }),
                Some(7),
            ),
            (json!({ "fila": {} }), Some(0)),
            (json!({ "fila": { "extracao": "many", "a": -1, "b": 1.5 } }), Some(0)),
            (json!({ "fila": 7 }), None),
            (json!({}), None),
            (json!("ok"), None),
        ] {
            assert_eq!(waiting_by_answer(&answer, &finished), waiting, "{answer}");
        }
    }
}
