//! Parameters and rows of statements on a team's tables, the same for both databases.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Utc};
use serde_json::Value as Json;
use sqlx::{
    AssertSqlSafe, Column as _, Database, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgRow, PgTypeKind},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

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
    Instant(DateTime<Utc>),
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
            Cell::Instant(instant) => Some(instant.to_rfc3339_opts(SecondsFormat::Millis, true)),
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
            Cell::Instant(instant) => Some(*instant),
            Cell::Whole(ms) => DateTime::from_timestamp_millis(*ms),
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
            let rows = for_postgres(text, params).fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(of_postgres).collect()
        }
        AppTx::Sqlite(tx) => {
            let rows = for_sqlite(text, params).fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(of_sqlite).collect()
        }
    }
}

fn of_postgres(row: &PgRow) -> Result<Row, Failure> {
    let cells = row.columns().iter().enumerate().map(|(index, column)| {
        let cell = postgres_cell(row, index).map_err(|error| unreadable::<sqlx::Postgres>(column, &error))?;
        Ok((column.name().to_owned(), cell))
    });
    cells.collect::<Result<_, _>>().map(Row)
}

fn postgres_cell(row: &PgRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let kind = value.type_info().into_owned();
    if matches!(kind.kind(), PgTypeKind::Enum(_)) {
        return row.try_get_unchecked::<String, _>(index).map(Cell::Text);
    }
    Ok(match kind.name() {
        "BOOL" => Cell::Whole(row.try_get::<bool, _>(index)?.into()),
        "INT2" => Cell::Whole(row.try_get::<i16, _>(index)?.into()),
        "INT4" => Cell::Whole(row.try_get::<i32, _>(index)?.into()),
        "INT8" => Cell::Whole(row.try_get(index)?),
        "FLOAT4" => Cell::Real(row.try_get::<f32, _>(index)?.into()),
        "FLOAT8" => Cell::Real(row.try_get(index)?),
        "UUID" => Cell::Text(row.try_get::<Uuid, _>(index)?.to_string()),
        "TIMESTAMPTZ" => Cell::Instant(row.try_get(index)?),
        // The driver opens every session in UTC.
        "TIMESTAMP" => Cell::Instant(row.try_get::<NaiveDateTime, _>(index)?.and_utc()),
        "DATE" => Cell::Text(row.try_get::<NaiveDate, _>(index)?.to_string()),
        "TIME" => Cell::Text(row.try_get::<NaiveTime, _>(index)?.to_string()),
        "JSON" | "JSONB" => Cell::Text(row.try_get::<Json, _>(index)?.to_string()),
        _ => Cell::Text(row.try_get(index)?),
    })
}

fn of_sqlite(row: &SqliteRow) -> Result<Row, Failure> {
    let cells = row.columns().iter().enumerate().map(|(index, column)| {
        let cell = sqlite_cell(row, index).map_err(|error| unreadable::<sqlx::Sqlite>(column, &error))?;
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

fn unreadable<D: Database>(column: &D::Column, error: &sqlx::Error) -> Failure {
    Failure::permanent(format!("column {} cannot be read: {error}", sqlx::Column::name(column)))
}
