//! An invented team: fills empty tables with fictitious people, messages and shifts, so that the first minute shows work.

mod invented;
mod plan;
mod queue;
mod shifts;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{
    AppTx,
    team::{self, Adopted, Param, TeamTable, tables},
    transaction::{failure, limit_statements},
};
use crate::domain::{run::Failure, schedule::Zone};
use plan::{Plan, PlannedRow};

/// A statement of the filling, which waits for whoever works on the tables, takes this long at most.
const STATEMENT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// When it is, and on whose clocks.
#[derive(Debug, Clone)]
pub struct Moment {
    pub now: DateTime<Utc>,
    /// The zone of the team's business.
    pub zone: Zone,
}

/// Why nothing was filled.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfilled {
    /// This table of the team has a row already.
    NotEmpty(&'static str),
    /// A table cannot be used, or the database refused.
    Failed(Failure),
}

impl From<Failure> for Unfilled {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Rows that were made in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    pub table: &'static str,
    pub rows: u64,
}

/// Fills the tables, which are created where they are missing and `may_create`; the caller commits. The same moment gives
/// the same rows. `told` hears before each row how many are left.
pub async fn fill(
    tx: &mut AppTx,
    moment: &Moment,
    may_create: bool,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Vec<Filled>, Unfilled> {
    if let AppTx::Postgres(postgres) = &mut *tx {
        limit_statements(postgres, STATEMENT_LIMIT).await?;
    }
    let plan = Plan::around(moment);
    let adopted = team::adopt(tx, &plan.tables(), may_create).await?;
    hold(tx, &plan.tables()).await?;
    if let Some(table) = first_filled(tx).await? {
        return Err(Unfilled::NotEmpty(table));
    }
    let mut ids: Vec<Option<String>> = Vec::with_capacity(plan.rows.len());
    for row in &plan.rows {
        told((plan.rows.len() - ids.len()) as u64);
        let id = insert(tx, &adopted, row, &ids).await?;
        ids.push(id);
    }
    let of_table = |table: &&'static TeamTable| {
        let rows = plan.rows.iter().filter(|row| row.table == *table).count() as u64;
        Filled { table: table.name, rows }
    };
    Ok(plan.tables().iter().map(of_table).collect())
}

/// The first table of the team that has a row. Tables that are missing have none.
pub async fn first_filled(tx: &mut AppTx) -> Result<Option<&'static str>, Failure> {
    for table in tables::ALL {
        if team::has_rows(tx, table).await? {
            return Ok(Some(table.name));
        }
    }
    Ok(None)
}

/// Nobody writes into the tables until the end of the transaction: empty stays empty. SQLite has one writer anyway.
async fn hold(tx: &mut AppTx, tables: &[&'static TeamTable]) -> Result<(), Failure> {
    let AppTx::Postgres(postgres) = tx else { return Ok(()) };
    let names: Vec<_> = tables.iter().map(|table| table.name).collect();
    let statement = format!("lock table {} in share row exclusive mode", names.join(", "));
    let locked = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut **postgres).await;
    locked.map(drop).map_err(|error| failure(&error))
}

/// Writes one row; its id, when the table has one. Columns that the team's own table does not have are left out.
async fn insert(
    tx: &mut AppTx,
    adopted: &Adopted,
    row: &PlannedRow,
    ids: &[Option<String>],
) -> Result<Option<String>, Failure> {
    let table = row.table.name;
    let known: Vec<_> = row.values.iter().filter(|(column, _)| adopted.has(table, column)).collect();
    let columns: Vec<_> = known.iter().map(|(column, _)| *column).collect();
    let marks = columns.iter().enumerate().map(|(index, column)| format!("@type({table}.{column}, ${})", index + 1));
    let (columns, marks) = (columns.join(", "), marks.collect::<Vec<_>>().join(", "));
    let id = if adopted.has(table, "id") { "cast(id as text)" } else { "null" };
    let statement = format!("insert into {table} ({columns}) values ({marks}) returning {id} as id");
    let params: Vec<Param> = known.iter().map(|(_, value)| value.bound(ids)).collect();
    let told = |failure: Failure| Failure { message: format!("table {table}: {}", failure.message), ..failure };
    let rows = adopted.rows(tx, &statement, &params).await.map_err(told)?;
    Ok(rows.first().and_then(|row| row.text("id")))
}
