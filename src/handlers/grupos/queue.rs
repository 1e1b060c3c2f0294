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
    /// Items that were moved to `EXHAUSTED_STAGE` by this look; or why they cannot be.
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

/// Moves what gave up and counts the rest, in one short transaction; `None` = there is no such table.
pub(super) async fn watch(ctx: &Context, finished: &BTreeSet<String>) -> Result<Option<Queue>, Failure> {
    let (now, finished) = (ctx.now, finished.clone());
    transaction::apart(ctx, move |tx| {
        Box::pin(async move {
            let Some(adopted) = team::look_at(tx, &FILA_PROCESSAMENTO_GRUPOS).await? else { return Ok(None) };
            Watch { adopted, finished, now }.look(tx).await.map(Some)
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
    async fn look(&self, tx: &mut AppTx) -> Result<Queue, Failure> {
        let exhausted = self.give_up(tx).await?;
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

    /// Items whose tries are used up would stay at their stage for ever, because no cycle takes them.
    async fn give_up(&self, tx: &mut AppTx) -> Result<Result<u64, String>, Failure> {
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let stage = self.adopted.column(table, "estagio").cloned().unwrap_or_default();
        if !stage.labels.is_empty() && !stage.labels.iter().any(|label| label == EXHAUSTED_STAGE) {
            let kind = stage.kind;
            return Ok(Err(format!("items with no tries left stay: alter type {kind} add value '{EXHAUSTED_STAGE}'")));
        }
        let has = |column| self.adopted.has(table, column);
        let limit = if has("max_tentativas") {
            format!("coalesce(max_tentativas, {MAX_TRIES})")
        } else {
            MAX_TRIES.to_string()
        };
        let touched =
            if has("updated_at") { format!(", updated_at = @type({table}.updated_at, $1)") } else { String::new() };
        // The instant is bound whether or not the table has where to keep it, and PostgreSQL wants to know its type.
        let statement = format!(
            "update {table} set estagio = @type({table}.estagio, '{EXHAUSTED_STAGE}'){touched} \
             where {} and {limit} <= tentativas and @instant($1) is not null",
            self.unfinished(2)
        );
        self.adopted.change(tx, &statement, &self.params([self.now.into()])).await.map(Ok)
    }

    async fn stuck(&self, tx: &mut AppTx) -> Result<Option<u64>, Failure> {
        let table = FILA_PROCESSAMENTO_GRUPOS.name;
        let moved = ["updated_at", "created_at"].into_iter().filter(|column| self.adopted.has(table, column));
        let moved: Vec<_> = moved.collect();
        if moved.is_empty() {
            return Ok(None);
        }
        // Who waits for the next try is not stuck before it comes.
        let is_due = match self.adopted.has(table, "proximo_retry") {
            true => "(proximo_retry is null or @instant(proximo_retry) <= @instant($1))",
            false => "true",
        };
        let statement = format!(
            "select count(*) from {table} where {} and {is_due} and @instant(coalesce({}, null)) <= @instant($1)",
            self.unfinished(2),
            moved.join(", ")
        );
        let params = self.params([(self.now - STUCK_AFTER).into()]);
        self.adopted.count(tx, &statement, &params).await.map(Some)
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
