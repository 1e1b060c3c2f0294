//! `drain`: takes work from a table the team already has, so that its queue needs no worker of its own.

mod deliver;
mod examine;
mod plan;
mod table;
mod tally;
mod work;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AppTx, Context, Dialect, Ending, Handler, QueueLook, Scope, http};
use crate::domain::{duration::Length, health::QueueFigures, run::Failure};
pub use table::time::Time;
use table::{
    fragment::{self, Clause, Parameter},
    name,
    statement::Fragments,
};

/// Rows that one claim takes, unless told otherwise.
const BATCH: u32 = 10;
/// Most rows of one claim.
const MOST_BATCH: u32 = 1_000;
/// Calls at once, unless told otherwise.
const CONCURRENCY: u32 = 4;
/// Most calls at once.
const MOST_CONCURRENCY: u32 = 64;

/// Settings of `run.drain`. Fragments are SQL of the team's own table, with `:now` everywhere, `:replica` in
/// what is set, `:error` in `retry` and `dead`, `:retry_at` in `retry`, `:stuck_before` in `stuck.where`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The table, perhaps with its schema; created by the team, never by the daemon.
    pub table: String,
    /// The column that tells its rows apart, unique by itself.
    #[serde(default = "id")]
    pub id: String,
    /// Which rows wait.
    pub r#where: String,
    /// What a claim sets: `column = value, ...`.
    pub claim: String,
    /// What is set when a row was delivered.
    pub done: String,
    /// What is set when a row may be tried again.
    pub retry: String,
    /// What is set when a row is given up.
    pub dead: String,
    /// What is set when a claimed row was not begun after all; else what stood there before is put back.
    pub release: Option<String>,
    /// The column that counts the attempts of a row; `claim` or `retry` adds to it.
    pub attempts: Option<String>,
    /// How often a row is tried: a number, or a column that says so; else `retry.max_attempts` of the job.
    pub max_attempts: Option<MaxAttempts>,
    /// Rows that were claimed and forgotten, by a process that died.
    pub stuck: Option<Stuck>,
    /// What `order by` sorts waiting rows by; else the id.
    pub order: Option<String>,
    /// Rows that one claim takes, 1 to 1000.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch: u32,
    /// Calls at once, 1 to 64.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,
    /// How columns keep instants where they have no type for them: on SQLite, and in columns of numbers.
    #[serde(default)]
    pub time: Time,
    /// The call that delivers a row, as `run.http` takes it; the row is its body.
    pub deliver: http::Settings,
}

fn id() -> String {
    "id".into()
}

fn batch() -> u32 {
    BATCH
}

fn concurrency() -> u32 {
    CONCURRENCY
}

/// How often a row is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxAttempts {
    /// For all rows alike.
    Number(u32),
    /// The column that says so for each row.
    Column(String),
}

impl MaxAttempts {
    fn column(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Column(column) => Some(column),
        }
    }
}

/// Which claimed rows are stuck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    /// Which rows were claimed before `:stuck_before`.
    pub r#where: String,
    /// How long a claim may stand; 15 s longer than the job's `timeout` at least, whatever is given.
    pub after: Length,
}

impl Settings {
    /// The fragments as one database reads them; or one message per mistake.
    fn fragments(&self, dialect: Dialect) -> Result<Fragments, Vec<String>> {
        use Parameter::{Error, Now, Replica, RetryAt, StuckBefore};
        let mut errors = Vec::new();
        let mut read = |setting: &str, source: &str, clause: Clause, allowed: &[Parameter]| {
            fragment::read(source, dialect, clause, allowed).unwrap_or_else(|error| {
                errors.push(format!("{setting}: {error}"));
                fragment::Fragment::default()
            })
        };
        let fragments = Fragments {
            condition: read("where", &self.r#where, Clause::Where, &[Now]),
            claim: read("claim", &self.claim, Clause::Set, &[Now, Replica]),
            done: read("done", &self.done, Clause::Set, &[Now, Replica]),
            retry: read("retry", &self.retry, Clause::Set, &[Now, Replica, RetryAt, Error]),
            dead: read("dead", &self.dead, Clause::Set, &[Now, Replica, Error]),
            order: self.order.as_deref().map(|order| read("order", order, Clause::Order, &[Now])),
            release: self.release.as_deref().map(|set| read("release", set, Clause::Set, &[Now, Replica])),
            stuck: self
                .stuck
                .as_ref()
                .map(|stuck| read("stuck.where", &stuck.r#where, Clause::Where, &[Now, StuckBefore])),
        };
        if errors.is_empty() { Ok(fragments) } else { Err(errors) }
    }

    /// The fragments for the database that is meant: which one that is may not be known when jobs.toml is read.
    fn fragments_for_any(&self) -> Result<Fragments, Vec<String>> {
        let postgres = self.fragments(Dialect::Postgres);
        postgres.or_else(|errors| self.fragments(Dialect::Sqlite).map_err(|_| errors))
    }

    fn wrong_names(&self) -> Vec<String> {
        let table = name::Table::read(&self.table).err().map(|error| format!("table: {error}"));
        let most = self.max_attempts.as_ref().and_then(MaxAttempts::column);
        let columns = [("id", Some(self.id.as_str())), ("attempts", self.attempts.as_deref()), ("max_attempts", most)];
        let wrong = columns.into_iter().filter_map(|(setting, column)| {
            column.and_then(|column| name::column(column).err()).map(|error| format!("{setting}: {error}"))
        });
        table.into_iter().chain(wrong).collect()
    }

    fn wrong_numbers(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if !(1..=MOST_BATCH).contains(&self.batch) {
            errors.push(format!("batch is {}, and must be 1 to {MOST_BATCH}", self.batch));
        }
        if !(1..=MOST_CONCURRENCY).contains(&self.concurrency) {
            errors.push(format!("concurrency is {}, and must be 1 to {MOST_CONCURRENCY}", self.concurrency));
        }
        if self.max_attempts == Some(MaxAttempts::Number(0)) {
            errors.push("max_attempts is 0, and must be 1 or more".into());
        }
        if self.max_attempts.is_some() && self.attempts.is_none() {
            errors.push("max_attempts is given, and no column counts attempts: give attempts".into());
        }
        errors
    }

    /// Settings that are right each, and wrong together.
    fn wrong_together(&self, fragments: &Fragments) -> Option<String> {
        let attempts = name::column(self.attempts.as_deref()?).ok()?;
        let is_counted = fragments.claim.assigns(&attempts) || fragments.retry.assigns(&attempts);
        (!is_counted).then(|| {
            format!("neither claim nor retry sets {attempts:?}, which counts attempts: a row that fails would be tried for ever")
        })
    }

    /// What `run.http` can do and a delivery cannot.
    fn wrong_delivery(&self) -> Vec<String> {
        let deliver = &self.deliver;
        let mut errors = Vec::new();
        if deliver.get.is_some() || deliver.delete.is_some() {
            errors.push("deliver: a row is sent with post, put or patch; get and delete have no body".into());
        }
        if deliver.json.is_some() {
            errors.push("deliver: json is given, and the row is the body".into());
        }
        if deliver.poll != http::Poll::default() {
            errors.push("deliver: poll is given, and a row that was accepted is done".into());
        }
        errors
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let mut errors = self.wrong_names();
        errors.extend(self.wrong_numbers());
        match self.fragments_for_any() {
            Ok(fragments) => errors.extend(self.wrong_together(&fragments)),
            Err(wrong) => errors.extend(wrong),
        }
        errors.extend(self.wrong_delivery());
        errors.extend(self.deliver.check(scope).into_iter().map(|error| format!("deliver: {error}")));
        errors
    }

    fn warnings(&self) -> Vec<String> {
        let Ok(fragments) = self.fragments_for_any() else { return Vec::new() };
        let mut warnings = Vec::new();
        if self.stuck.is_none() {
            warnings.push("without stuck, a row whose process dies is never taken up again".into());
        }
        if !fragments.claim.asks_for(Parameter::Now) && !fragments.claim.asks_for(Parameter::Replica) {
            warnings.push("claim sets neither :now nor :replica, so one claim of a row looks like the next".into());
        }
        if !fragments.retry.asks_for(Parameter::RetryAt) {
            warnings.push("retry does not use :retry_at, so a row that failed is tried again by the next run".into());
        }
        warnings
    }

    fn canonical(&self) -> Value {
        let mut settings = json!(self);
        settings["deliver"] = self.deliver.canonical();
        settings
    }

    async fn look(&self, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
        Some(work::look(self, look).await)
    }

    fn looks_at_database(&self) -> bool {
        true
    }

    async fn examine(&self, tx: &mut AppTx) -> Result<Vec<String>, Failure> {
        examine::examine(self, tx).await
    }

    fn stop_grace(&self) -> std::time::Duration {
        work::STOP_GRACE
    }

    async fn run(&self, ctx: Context) -> Ending {
        work::run(self, &ctx).await
    }
}
