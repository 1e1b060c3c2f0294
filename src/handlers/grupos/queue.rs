//! The table behind the pipeline, looked at and never made: what waits at which stage, what is stuck, what gave up.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Context,
        team::{self, Adopted, Param, TeamColumn, TeamTable},
        transaction,
    },
};

/// Where items go whose tries are used up; the application's own word.
pub(super) const EXHAUSTED_STAGE: &str = "erro";
/// An item that has not moved for so long is stuck (spec 6).
const STUCK_AFTER: TimeDelta = TimeDelta::hours(1);
/// Tries of an item in a table that has no column for it (spec 6).
const MAX_TRIES: u32 = 3;
/// Most stages that are listed; their sum counts all.
const MOST_STAGES: u32 = 50;
/// Longest name of a stage that is kept, in characters.
const MAX_STAGE_CHARS: usize = 60;

/// The application's own queue. It belongs to its code, so it is never created here.
pub(super) static FILA_PROCESSAMENTO_GRUPOS: TeamTable = TeamTable {
    name: "fila_processamento_grupos",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::new("id", "uuid", "integer"),
        TeamColumn::new("estagio", "text not null default 'pendente'", "text not null default 'pendente'"),
        TeamColumn::new("tentativas", "integer not null default 0", "integer not null default 0"),
        TeamColumn::optional("max_tentativas", "integer not null default 3", "integer not null default 3"),
        TeamColumn::optional("proximo_retry", "timestamptz", "text"),
        TeamColumn::optional("created_at", "timestamptz not null default now()", "text"),
        TeamColumn::optional("updated_at", "timestamptz", "text"),
    ],
};

/// What was found in the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Queue {
    /// Items at stages that are not finished.
    pub waiting: u64,
    /// The same by stage, the fullest first.
    stages: Vec<(String, u64)>,
    /// Waiting items that have not moved for `STUCK_AFTER`; `None` = the table has no instants to tell.
    stuck: Option<u64>,
    /// Items that were moved to `EXHAUSTED_STAGE`; or why they cannot be.
    exhausted: Result<u64, String>,
}

impl Queue {
    pub fn as_json(&self) -> Value {
        let stages: serde_json::Map<_, _> = self.stages.iter().map(|(name, n)| (name.clone(), json!(n))).collect();
        let exhausted = self.exhausted.as_ref().ok();
        json!({ "waiting": self.waiting, "stages": stages, "stuck": self.stuck, "moved_to_erro": exhausted })
    }

    /// What a person should know of it.
    pub fn note(&self) -> Option<String> {
        let stuck = self.stuck.filter(|stuck| 0 < *stuck);
        let stuck = stuck.map(|stuck| format!("{stuck} items have not moved for {} min", STUCK_AFTER.num_minutes()));
        let exhausted = match &self.exhausted {
            Ok(0) => None,
            Ok(moved) => Some(format!("{moved} items with no tries left were moved to {EXHAUSTED_STAGE}")),
            Err(why) => Some(why.clone()),
        };
        let parts: Vec<String> = exhausted.into_iter().chain(stuck).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Moves what gave up and counts the rest; `None` = there is no such table. Who writes is held up only to move something.
pub(super) async fn watch(ctx: &Context, finished: &BTreeSet<String>) -> Result<Option<Queue>, Failure> {
    let (now, stages) = (ctx.now, finished.clone());
    let seen = transaction::reading(ctx, move |tx| {
        Box::pin(async move {
            let Some(watch) = Watch::open(tx, stages, now).await? else { return Ok(None) };
            watch.look(tx).await.map(Some)
        })
    });
    let seen = seen.await?;
    if !seen.as_ref().is_some_and(|queue| queue.exhausted.as_ref().is_ok_and(|exhausted| 0 < *exhausted)) {
        return Ok(seen);
    }
    let stages = finished.clone();
    transaction::apart(ctx, move |tx| {
        Box::pin(async move {
            let Some(watch) = Watch::open(tx, stages, now).await? else { return Ok(None) };
            let moved = watch.give_up(tx).await?;
            watch.look(tx).await.map(|queue| Some(Queue { exhausted: Ok(moved), ..queue }))
        })
    })
    .await
}

struct Watch {
    adopted: Adopted,
    finished: BTreeSet<String>,
    now: DateTime<Utc>,
}

impl Watch {
    async fn open(tx: &mut AppTx, finished: BTreeSet<String>, now: DateTime<Utc>) -> Result<Option<Self>, Failure> {
        let adopted = team::look_at(tx, &FILA_PROCESSAMENTO_GRUPOS).await?;
        Ok(adopted.map(|adopted| Self { adopted, finished, now }))
    }

    /// What stands in the table now; `exhausted` is what could be moved.
    async fn look(&self, tx: &mut AppTx) -> Result<Queue, Failure> {
        let exhausted = self.exhausted(tx).await?;
        let stuck = self.stuck(tx).await?;
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let unfinished = self.unfinished(1);
        let counted = format!("select count(*) from {table} where {unfinished}");
        let waiting = self.adopted.count(tx, &counted, &self.params([])).await?;
        let listed = format!(
            "select cast(estagio as text) as stage, count(*) as items from {table} where {unfinished} \
             group by estagio order by count(*) desc, cast(estagio as text) limit {MOST_STAGES}"
        );
        let rows = self.adopted.rows(tx, &listed, &self.params([])).await?;
        let stage = |row: &team::Row| {
            let name: String = row.text("stage").unwrap_or_default().chars().take(MAX_STAGE_CHARS).collect();
            (name, row.whole("items").and_then(|items| u64::try_from(items).ok()).unwrap_or(0))
        };
        Ok(Queue { waiting, stages: rows.iter().map(stage).collect(), stuck, exhausted })
    }

    /// Items that can be given up; or why they cannot be.
    async fn exhausted(&self, tx: &mut AppTx) -> Result<Result<u64, String>, Failure> {
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let stage = self.adopted.column(table, "estagio").cloned().unwrap_or_default();
        if !stage.labels.is_empty() && !stage.labels.iter().any(|label| label == EXHAUSTED_STAGE) {
            let kind = stage.kind;
            return Ok(Err(format!("items with no tries left stay: alter type {kind} add value '{EXHAUSTED_STAGE}'")));
        }
        let counted = format!("select count(*) from {table} where {}", self.is_exhausted());
        self.adopted.count(tx, &counted, &self.params([self.resting_since()])).await.map(Ok)
    }

    /// Items whose tries are used up would stay at their stage for ever, because no cycle takes them.
    async fn give_up(&self, tx: &mut AppTx) -> Result<u64, Failure> {
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let has = self.adopted.has(table, "updated_at");
        let now = format!("${}", self.finished.len() + 2);
        let touched = if has { format!(", updated_at = @type({table}.updated_at, {now})") } else { String::new() };
        // The instant is bound whether or not the table has where to keep it, and PostgreSQL wants to know its type.
        let statement = format!(
            "update {table} set estagio = @type({table}.estagio, '{EXHAUSTED_STAGE}'){touched} \
             where {} and @instant({now}) is not null",
            self.is_exhausted()
        );
        let mut params = self.params([self.resting_since()]);
        params.push(self.now.into());
        self.adopted.change(tx, &statement, &params).await
    }

    /// No tries left, and nobody at work on the last one: it rests since `$1` or before, where the table tells.
    fn is_exhausted(&self) -> String {
        let limit = if self.adopted.has(FILA_PROCESSAMENTO_GRUPOS.name, "max_tentativas") {
            format!("coalesce(max_tentativas, {MAX_TRIES})")
        } else {
            MAX_TRIES.to_string()
        };
        let moved = self.moved().map(|moved| format!("({moved} is null or {moved} <= @instant($1))"));
        let rests = moved.unwrap_or_else(|| "@instant($1) is not null".into());
        format!("{} and {limit} <= tentativas and {} and {rests}", self.unfinished(2), self.is_due())
    }

    async fn stuck(&self, tx: &mut AppTx) -> Result<Option<u64>, Failure> {
        let Some(moved) = self.moved() else { return Ok(None) };
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let statement = format!(
            "select count(*) from {table} where {} and {} and {moved} <= @instant($1)",
            self.unfinished(2),
            self.is_due(),
        );
        self.adopted.count(tx, &statement, &self.params([self.resting_since()])).await.map(Some)
    }

    /// When an item moved last; `None` = the table has no instants to tell.
    fn moved(&self) -> Option<String> {
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let moved = ["updated_at", "created_at"].into_iter().filter(|column| self.adopted.has(table, column));
        let moved: Vec<_> = moved.collect();
        (!moved.is_empty()).then(|| format!("@instant(coalesce({}, null))", moved.join(", ")))
    }

    /// Who waits for the next try is not stuck before it comes. By `$1`, an hour ago: the try that came meanwhile may be
    /// under way.
    fn is_due(&self) -> &'static str {
        match self.adopted.has(FILA_PROCESSAMENTO_GRUPOS.name, "proximo_retry") {
            true => "(proximo_retry is null or @instant(proximo_retry) <= @instant($1))",
            false => "true",
        }
    }

    fn resting_since(&self) -> Param {
        (self.now - STUCK_AFTER).into()
    }

    /// The condition on items that still wait; its parameters begin at `$first`.
    fn unfinished(&self, first: usize) -> String {
        let stages: Vec<String> = (first..first + self.finished.len()).map(|at| format!("${at}")).collect();
        format!("cast(estagio as text) not in ({})", stages.join(", "))
    }

    fn params<const N: usize>(&self, before: [Param; N]) -> Vec<Param> {
        before.into_iter().chain(self.finished.iter().map(|stage| Param::from(stage.as_str()))).collect()
    }
}
