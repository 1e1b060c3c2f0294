//! Everything one run needs of a table: its statements, made once, and the verbs that run them.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Settings,
    table::cell::{Taken, Values},
    table::columns::{self, Column},
    table::fragment::{Fragment, Parameter},
    table::name::{self, Table, quoted},
    table::statement::{Fragments, Shape, Statement},
    table::time::Time,
};
use crate::{
    domain::{health::QueueFigures, run::Failure},
    handlers::{AppTx, Dialect, transaction::failure},
};

/// Stuck rows that are looked at in one run; the next run goes on.
const MOST_STUCK_ROWS: u32 = 1_000;

/// The statements of a job on its table.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub shape: Shape,
    pub fragments: Fragments,
    claim: Claim,
    pub stuck: Option<Stuck>,
    pub done: Statement,
    pub retry: Statement,
    pub dead: Statement,
    pub release: Statement,
    left: Statement,
    oldest: Option<Statement>,
}

/// PostgreSQL tells what stood in a row before, in the statement that claims it. SQLite cannot, but lets nobody else
/// write meanwhile.
#[derive(Debug, Clone)]
enum Claim {
    AtOnce(Statement),
    Picked { pick: Statement, take: Statement },
}

/// What is done about rows that were claimed and forgotten.
#[derive(Debug, Clone)]
pub(super) struct Stuck {
    find: Statement,
    count: Statement,
    pub retry: Statement,
    pub dead: Statement,
}

impl Plan {
    /// Looks at the table and puts the statements together. What does not fit is a permanent failure that names it.
    pub async fn of(settings: &Settings, tx: &mut AppTx) -> Result<Self, Failure> {
        let wrong = |error: String| Failure::permanent(error).before_effect();
        let table = Table::read(&settings.table).map_err(|error| wrong(format!("table: {error}")))?;
        let columns = columns::look(tx, &table).await?;
        let fragments = settings.fragments(tx.dialect()).map_err(|errors| wrong(errors.join("; ")))?;
        let shape = shape(settings, table, columns, (tx.dialect(), &fragments)).map_err(wrong)?;
        let claim = match shape.dialect {
            Dialect::Postgres => Claim::AtOnce(shape.claim(&fragments)),
            Dialect::Sqlite => Claim::Picked { pick: shape.pick(&fragments), take: shape.take(&fragments) },
        };
        let stuck = fragments.stuck.as_ref().map(|stuck| Stuck {
            find: shape.stuck(stuck, MOST_STUCK_ROWS),
            count: shape.count(stuck),
            retry: shape.change(&fragments.retry, Some(stuck)),
            dead: shape.change(&fragments.dead, Some(stuck)),
        });
        let release = fragments.release.as_ref().map_or_else(|| shape.restore(), |set| shape.change(set, None));
        Ok(Self {
            claim,
            stuck,
            done: shape.change(&fragments.done, None),
            retry: shape.change(&fragments.retry, None),
            dead: shape.change(&fragments.dead, None),
            release,
            left: shape.count(&fragments.condition),
            oldest: shape.oldest(&fragments.condition),
            shape,
            fragments,
        })
    }

    /// A claim spends an attempt by itself; else `retry` does.
    pub fn counts_at_claim(&self) -> bool {
        self.shape.attempts.as_ref().is_some_and(|attempts| self.fragments.claim.assigns(attempts))
    }

    /// `retry` says when a row may be tried again.
    pub fn waits_between_tries(&self) -> bool {
        self.fragments.retry.asks_for(Parameter::RetryAt)
    }

    /// Claims a batch, in order.
    pub async fn claim(&self, tx: &mut AppTx, values: Values) -> Result<Vec<Arc<Taken>>, Failure> {
        let taken = match &self.claim {
            Claim::AtOnce(statement) => values.take(tx, statement).await,
            Claim::Picked { pick, take } => one_by_one(tx, values, (pick, take)).await,
        };
        Ok(taken.map_err(|error| failure(&error))?.into_iter().map(Arc::new).collect())
    }

    /// Rows that are stuck, at most `MOST_STUCK_ROWS`.
    pub async fn find_stuck(&self, tx: &mut AppTx, values: Values) -> Result<Vec<Arc<Taken>>, Failure> {
        let Some(stuck) = &self.stuck else { return Ok(Vec::new()) };
        let found = values.take(tx, &stuck.find).await.map_err(|error| failure(&error))?;
        Ok(found.into_iter().map(Arc::new).collect())
    }

    /// How many rows wait, as far as they are counted.
    pub async fn left(&self, tx: &mut AppTx, values: Values) -> Result<u64, Failure> {
        count(tx, &values, &self.left).await
    }

    /// What can be known of the table without knowing its words.
    pub async fn figures(&self, tx: &mut AppTx, values: Values) -> Result<QueueFigures, Failure> {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let left = whole(count(tx, &values, &self.left).await?);
        let stuck = match &self.stuck {
            Some(stuck) => Some(whole(count(tx, &values, &stuck.count).await?)),
            None => None,
        };
        let oldest_due = match &self.oldest {
            Some(oldest) => {
                let oldest = values.column(tx, oldest).await.map_err(|error| failure(&error))?;
                oldest.first().and_then(Time::instant)
            }
            None => None,
        };
        Ok(QueueFigures { stuck, oldest_due, ..QueueFigures::waiting(values.now, left) })
    }

    /// All statements of a run.
    pub fn statements(&self) -> Vec<&Statement> {
        let mut all = match &self.claim {
            Claim::AtOnce(claim) => vec![claim],
            Claim::Picked { pick, take } => vec![pick, take],
        };
        all.extend([&self.done, &self.retry, &self.dead, &self.release, &self.left]);
        all.extend(&self.oldest);
        all.extend(self.stuck.iter().flat_map(|stuck| [&stuck.find, &stuck.count, &stuck.retry, &stuck.dead]));
        all
    }

    /// Columns that are compared with instants or set to them.
    pub fn timed(&self) -> BTreeSet<&String> {
        let Fragments { condition, order, claim, done, retry, dead, release, stuck } = &self.fragments;
        let always = [condition, claim, done, retry, dead];
        let given = [order, release, stuck].into_iter().flatten();
        always.into_iter().chain(given).flat_map(|fragment| &fragment.timed).collect()
    }
}

async fn count(tx: &mut AppTx, values: &Values, statement: &Statement) -> Result<u64, Failure> {
    let counted = values.column(tx, statement).await.map_err(|error| failure(&error))?;
    let count = counted.first().and_then(|cell| u64::try_from(cell.whole()?).ok());
    count.ok_or_else(|| Failure::permanent("a count of rows is no number"))
}

async fn one_by_one(
    tx: &mut AppTx,
    values: Values,
    (pick, take): (&Statement, &Statement),
) -> Result<Vec<Taken>, sqlx::Error> {
    let mut claimed = Vec::new();
    for picked in values.take(tx, pick).await? {
        let before = picked.claimed.clone();
        let values = Values { row: Some(Arc::new(picked)), ..values.clone() };
        // None: the claim of an earlier row of the batch closed the condition for this one.
        claimed.extend(values.take(tx, take).await?.into_iter().map(|row| Taken { before: before.clone(), ..row }));
    }
    Ok(claimed)
}

fn shape(
    settings: &Settings,
    table: Table,
    columns: Vec<Column>,
    (dialect, fragments): (Dialect, &Fragments),
) -> Result<Shape, String> {
    let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let find = |setting: &str, name: &str| {
        let is_it = |column: &&Column| match dialect {
            Dialect::Postgres => column.name == name,
            Dialect::Sqlite => column.name.eq_ignore_ascii_case(name),
        };
        let lacks = || {
            format!("{setting}: table {} has no column {}; it has {}", table.quoted(), quoted(name), known.join(", "))
        };
        columns.iter().find(is_it).cloned().ok_or_else(lacks)
    };
    let id = find("id", &name::column(&settings.id)?)?;
    if !id.is_unique {
        return Err(format!(
            "id: column {} of table {} is not unique by itself, so one row cannot be told from another",
            quoted(&id.name),
            table.quoted()
        ));
    }
    let claimed = fragments.claim.assigned.iter().map(|name| find("claim", name)).collect::<Result<Vec<_>, _>>()?;
    let named = |setting: &str, name: Option<&str>| -> Result<Option<String>, String> {
        name.map(|name| find(setting, &name::column(name)?).map(|column| column.name)).transpose()
    };
    let attempts = named("attempts", settings.attempts.as_deref())?;
    let most = named("max_attempts", settings.max_attempts.as_ref().and_then(|most| most.column()))?;
    let (time, batch) = (settings.time, settings.batch);
    Ok(Shape { dialect, time, table, id, claimed, attempts, most, batch, columns })
}

impl Fragments {
    /// Each with the setting it came from.
    pub fn named(&self) -> Vec<(&'static str, &Fragment)> {
        let mut all = vec![
            ("where", &self.condition),
            ("claim", &self.claim),
            ("done", &self.done),
            ("retry", &self.retry),
            ("dead", &self.dead),
        ];
        all.extend(self.order.as_ref().map(|order| ("order", order)));
        all.extend(self.release.as_ref().map(|release| ("release", release)));
        all.extend(self.stuck.as_ref().map(|stuck| ("stuck.where", stuck)));
        all
    }
}
