//! Values of a team's table as they go in and out, and statements that carry them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use sqlx::{
    AssertSqlSafe, Column as _, Postgres, Row as _, Sqlite, TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    fragment::Parameter,
    statement::{Slot, Statement},
    time::Time,
};
use crate::handlers::AppTx;

/// Most of a row that is delivered, in characters of its JSON.
pub(in crate::handlers::drain) const MAX_ROW_CHARS: usize = 1024 * 1024;

/// A value. PostgreSQL writes and reads all of them as text, in its own words; SQLite knows five kinds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) enum Cell {
    Null,
    Whole(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    fn of(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    /// As people and other programs see it.
    pub fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => hex(bytes),
        }
    }

    pub fn whole(&self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(*number),
            // A cast cuts the fraction, and stops at the bounds.
            Self::Real(number) => Some(*number as i64),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Null | Self::Bytes(_) => None,
        }
    }

    /// As JSON; `is_json` = the column was declared to hold it.
    fn json(&self, is_json: bool) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Whole(number) => (*number).into(),
            Self::Real(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Self::Text(text) if is_json => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Self::Text(text) => text.clone().into(),
            Self::Bytes(bytes) => hex(bytes).into(),
        }
    }
}

/// As PostgreSQL writes bytes in JSON.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\x"), |text, byte| text + &format!("{byte:02x}"))
}

/// A row that was claimed, or that is stuck.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) struct Taken {
    pub id: Cell,
    /// What stands in the columns that `claim` sets, now that it is claimed.
    pub claimed: Vec<Cell>,
    /// What stood there before; of a stuck row nobody knows.
    pub before: Vec<Cell>,
    /// How often it was tried, as far as the row tells.
    pub attempts: Option<i64>,
    /// How often it may be, where a column tells.
    pub most: Option<i64>,
    /// The row as a JSON object, cut after `MAX_ROW_CHARS`; empty for a stuck row.
    pub json: String,
}

/// What the parameters and the row of a statement stand for.
#[derive(Debug, Clone)]
pub(in crate::handlers::drain) struct Values {
    pub time: Time,
    pub now: DateTime<Utc>,
    pub replica: String,
    pub stuck_before: DateTime<Utc>,
    pub retry_at: DateTime<Utc>,
    pub error: String,
    pub row: Option<Arc<Taken>>,
}

/// One value, as it is bound.
enum Bound {
    Instant(DateTime<Utc>),
    Cell(Cell),
}

impl Values {
    /// For statements that ask for no value.
    pub fn of_nothing(time: Time) -> Self {
        let never = DateTime::UNIX_EPOCH;
        let (replica, error) = (String::new(), String::new());
        Self { time, now: never, replica, stuck_before: never, retry_at: never, error, row: None }
    }

    fn bound(&self, slot: Slot) -> Bound {
        let row = || self.row.as_deref().expect("only statements about one row ask for it");
        Bound::Cell(match slot {
            Slot::Parameter(Parameter::Now) => return Bound::Instant(self.now),
            Slot::Parameter(Parameter::StuckBefore) => return Bound::Instant(self.stuck_before),
            Slot::Parameter(Parameter::RetryAt) => return Bound::Instant(self.retry_at),
            Slot::Parameter(Parameter::Replica) => Cell::Text(self.replica.clone()),
            Slot::Parameter(Parameter::Error) => Cell::Text(self.error.clone()),
            Slot::Id => row().id.clone(),
            Slot::Claimed(index) => row().claimed[index].clone(),
            Slot::Before(index) => row().before[index].clone(),
        })
    }

    fn for_postgres(&self, statement: &Statement) -> Query<'static, Postgres, PgArguments> {
        // Not persistent: a pooler in transaction mode knows no named statements.
        let query = sqlx::query(AssertSqlSafe(statement.text.clone())).persistent(false);
        statement.slots.iter().fold(query, |query, slot| match self.bound(*slot) {
            Bound::Instant(instant) => match self.time.number(instant) {
                Some(number) => query.bind(number),
                None => query.bind(instant),
            },
            Bound::Cell(Cell::Null) => query.bind(None::<String>),
            Bound::Cell(cell) => query.bind(cell.shown()),
        })
    }

    fn for_sqlite(&self, statement: &Statement) -> Query<'static, Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(statement.text.clone())).persistent(false);
        statement.slots.iter().fold(query, |query, slot| {
            let cell = match self.bound(*slot) {
                Bound::Instant(instant) => self.time.cell(instant),
                Bound::Cell(cell) => cell,
            };
            match cell {
                Cell::Null => query.bind(None::<String>),
                Cell::Whole(number) => query.bind(number),
                Cell::Real(number) => query.bind(number),
                Cell::Text(text) => query.bind(text),
                Cell::Bytes(bytes) => query.bind(bytes),
            }
        })
    }

    /// Runs a statement; the rows it changed.
    pub async fn change(&self, tx: &mut AppTx, statement: &Statement) -> Result<u64, sqlx::Error> {
        Ok(match tx {
            AppTx::Postgres(tx) => self.for_postgres(statement).execute(&mut **tx).await?.rows_affected(),
            AppTx::Sqlite(tx) => self.for_sqlite(statement).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Runs a statement that gives rows as `Shape::claim`, `pick`, `take` and `stuck` list them.
    pub async fn take(&self, tx: &mut AppTx, statement: &Statement) -> Result<Vec<Taken>, sqlx::Error> {
        match tx {
            AppTx::Postgres(tx) => {
                let mut rows = self.for_postgres(statement).fetch_all(&mut **tx).await?;
                // The rows that an `update` returns have no order of their own.
                rows.sort_by_key(|row| row.try_get::<i64, _>(6).unwrap_or(0));
                rows.iter().map(of_postgres).collect()
            }
            AppTx::Sqlite(tx) => {
                let rows = self.for_sqlite(statement).fetch_all(&mut **tx).await?;
                rows.iter().map(|row| of_sqlite(row, &statement.shape)).collect()
            }
        }
    }

    /// Runs a query that gives one column, and reads all of it.
    pub async fn column(&self, tx: &mut AppTx, statement: &Statement) -> Result<Vec<Cell>, sqlx::Error> {
        match tx {
            AppTx::Postgres(tx) => {
                let rows = self.for_postgres(statement).fetch_all(&mut **tx).await?;
                rows.iter().map(|row| row.try_get(0).map(Cell::of)).collect()
            }
            AppTx::Sqlite(tx) => {
                let rows = self.for_sqlite(statement).fetch_all(&mut **tx).await?;
                rows.iter().map(|row| sqlite_cell(row, 0)).collect()
            }
        }
    }
}

/// Columns: id, what is claimed, what was before, attempts, most, the row, and its place in the order.
fn of_postgres(row: &PgRow) -> Result<Taken, sqlx::Error> {
    let cells = |texts: Vec<Option<String>>| texts.into_iter().map(Cell::of).collect();
    Ok(Taken {
        id: Cell::of(row.try_get(0)?),
        claimed: cells(row.try_get(1)?),
        before: cells(row.try_get(2)?),
        attempts: Cell::of(row.try_get(3)?).whole(),
        most: Cell::of(row.try_get(4)?).whole(),
        json: row.try_get(5)?,
    })
}

/// Columns: id, attempts, most, what is claimed, then the row, column by column; `shape` says how many are claimed and
/// which hold JSON.
fn of_sqlite(row: &SqliteRow, shape: &SqliteRowShape) -> Result<Taken, sqlx::Error> {
    let cells = (0..row.columns().len()).map(|index| sqlite_cell(row, index)).collect::<Result<Vec<_>, _>>()?;
    let (head, rest) = cells.split_at(3);
    let (claimed, columns) = rest.split_at(shape.claimed);
    let names = row.columns().iter().skip(3 + shape.claimed).map(|column| column.name().to_owned());
    let fields: Map<String, Value> = names
        .zip(columns)
        .map(|(name, cell)| {
            let is_json = shape.of_json.contains(&name);
            (name, cell.json(is_json))
        })
        .collect();
    let mut json = if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() };
    if let Some((cut, _)) = json.char_indices().nth(MAX_ROW_CHARS + 1) {
        json.truncate(cut);
    }
    Ok(Taken {
        id: head[0].clone(),
        attempts: head[1].whole(),
        most: head[2].whole(),
        claimed: claimed.to_vec(),
        before: Vec::new(),
        json,
    })
}

/// How the columns of a row of SQLite are to be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::handlers::drain) struct SqliteRowShape {
    /// So many columns after the first three are those that `claim` sets.
    pub claimed: usize,
    /// Columns of the row that were declared as JSON.
    pub of_json: Vec<String>,
}

fn sqlite_cell(row: &SqliteRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    // What the value is, not what its column was declared as.
    let kind = value.type_info().into_owned();
    Ok(match kind.name() {
        "INTEGER" => Cell::Whole(row.try_get_unchecked(index)?),
        "REAL" => Cell::Real(row.try_get_unchecked(index)?),
        "BLOB" => Cell::Bytes(row.try_get_unchecked(index)?),
        // Text that is no UTF-8 is bytes.
        _ => match row.try_get_unchecked::<String, _>(index) {
            Ok(text) => Cell::Text(text),
            Err(_) => Cell::Bytes(row.try_get_unchecked(index)?),
        },
    })
}
