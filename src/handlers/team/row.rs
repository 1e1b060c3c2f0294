//! Parameters and rows of statements on a team's tables, the same for both databases.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;
use sqlx::{
    AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{
    domain::run::Failure,
    handlers::{AppTx, transaction::failure},
};

/// A value that a statement binds. `None` is a null of its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    Whole(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    /// `timestamptz` on PostgreSQL; on SQLite text in RFC 3339 with milliseconds and `Z`.
    Instant(Option<DateTime<Utc>>),
    /// `jsonb` on PostgreSQL, text on SQLite.
    Json(Json),
}

macro_rules! params_from {
    ($($kind:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$kind> for Param {
            fn from(value: $kind) -> Self {
                Self::$variant(Some(value.into()))
            }
        }

        impl From<Option<$kind>> for Param {
            fn from(value: Option<$kind>) -> Self {
                Self::$variant(value.map(Into::into))
            }
        })+
    };
}

params_from!(i64 => Whole, i32 => Whole, u32 => Whole, f64 => Real, &str => Text, String => Text, DateTime<Utc> => Instant);

impl From<Json> for Param {
    fn from(value: Json) -> Self {
        Self::Json(value)
    }
}

/// A row that was read: its columns by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(Vec<(String, Cell)>);

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Whole(i64),
    Real(f64),
    Text(String),
}

impl Row {
    fn cell(&self, column: &str) -> &Cell {
        let found = self.0.iter().find(|(name, _)| name == column);
        &found.unwrap_or_else(|| unreachable!("the statement selects no column {column}")).1
    }

    /// Text, and anything else as text; `None` = null.
    pub fn text(&self, column: &str) -> Option<String> {
        match self.cell(column) {
            Cell::Null => None,
            Cell::Whole(number) => Some(number.to_string()),
            Cell::Real(number) => Some(number.to_string()),
            Cell::Text(text) => Some(text.clone()),
        }
    }

    /// A whole number; truth is 1 or 0. `None` = null, or no whole number.
    pub fn whole(&self, column: &str) -> Option<i64> {
        match self.cell(column) {
            Cell::Whole(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A number; `None` = null, or no number.
    pub fn real(&self, column: &str) -> Option<f64> {
        match self.cell(column) {
            Cell::Whole(number) => Some(*number as f64),
            Cell::Real(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// An instant that was selected as `@instant(...)`; `None` = null, or a text that is no instant.
    pub fn instant(&self, column: &str) -> Option<DateTime<Utc>> {
        match self.cell(column) {
            Cell::Whole(ms) => DateTime::from_timestamp_millis(*ms),
            Cell::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The first column, when it is a whole number.
    pub(super) fn first_number(&self) -> Option<i64> {
        match self.0.first() {
            Some((_, Cell::Whole(number))) => Some(*number),
            _ => None,
        }
    }
}

/// Not persistent on PostgreSQL: a pooler in transaction mode knows no named statements.
fn for_postgres(text: String, params: &[Param]) -> Query<'_, sqlx::Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(text)).persistent(false);
    params.iter().fold(query, |query, param| match param {
        Param::Whole(value) => query.bind(*value),
        Param::Real(value) => query.bind(*value),
        Param::Text(value) => query.bind(value.as_deref()),
        Param::Instant(value) => query.bind(*value),
        Param::Json(value) => query.bind(value),
    })
}

fn for_sqlite(text: String, params: &[Param]) -> Query<'_, sqlx::Sqlite, SqliteArguments> {
    params.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, param| match param {
        Param::Whole(value) => query.bind(*value),
        Param::Real(value) => query.bind(*value),
        Param::Text(value) => query.bind(value.as_deref()),
        Param::Instant(value) => query.bind(value.map(|it| it.to_rfc3339_opts(SecondsFormat::Millis, true))),
        Param::Json(value) => query.bind(value.to_string()),
    })
}

pub(super) async fn change(tx: &mut AppTx, text: String, params: &[Param]) -> Result<u64, sqlx::Error> {
    Ok(match tx {
        AppTx::Postgres(tx) => for_postgres(text, params).execute(&mut **tx).await?.rows_affected(),
        AppTx::Sqlite(tx) => for_sqlite(text, params).execute(&mut **tx).await?.rows_affected(),
    })
}

pub(super) async fn rows(tx: &mut AppTx, text: String, params: &[Param]) -> Result<Vec<Row>, Failure> {
    match tx {
        AppTx::Postgres(tx) => {
            let rows =
                for_postgres(as_json(&text), params).fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(of_postgres).collect()
        }
        AppTx::Sqlite(tx) => {
            let rows = for_sqlite(text, params).fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(of_sqlite).collect()
        }
    }
}

/// Rows come as JSON, which the server makes of any type a team may have chosen. Read one by one, an enumeration would
/// be looked up by the driver between preparing the statement and running it, and the unnamed statement would be lost.
fn as_json(text: &str) -> String {
    format!("with answer as ({text}) select to_jsonb(answer) from answer")
}

fn of_postgres(row: &PgRow) -> Result<Row, Failure> {
    let answer: serde_json::Map<String, Json> = match row.try_get(0) {
        Ok(Json::Object(answer)) => answer,
        Ok(other) => return Err(Failure::permanent(format!("a row is no object: {other}"))),
        Err(error) => return Err(Failure::permanent(format!("a row cannot be read: {error}"))),
    };
    Ok(Row(answer.into_iter().map(|(name, value)| (name, cell_of(value))).collect()))
}

fn cell_of(value: Json) -> Cell {
    match value {
        Json::Null => Cell::Null,
        Json::Bool(is_true) => Cell::Whole(is_true.into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cell::Whole(whole),
            (None, real) => real.map_or(Cell::Null, Cell::Real),
        },
        Json::String(text) => Cell::Text(text),
        other => Cell::Text(other.to_string()),
    }
}

fn of_sqlite(row: &SqliteRow) -> Result<Row, Failure> {
    let cells = row.columns().iter().enumerate().map(|(index, column)| {
        let cell = sqlite_cell(row, index).map_err(|error| unreadable(column.name(), &error))?;
        Ok((column.name().to_owned(), cell))
    });
    cells.collect::<Result<_, _>>().map(Row)
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
        _ => Cell::Text(row.try_get_unchecked(index)?),
    })
}

fn unreadable(column: &str, error: &sqlx::Error) -> Failure {
    Failure::permanent(format!("column {column} cannot be read: {error}"))
}
