//! Values on their way into and out of both databases, and the runs they make.

use chrono::{DateTime, TimeZone, Utc};
use serde_json::Value;
use sqlx::{
    Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
    types::Json,
};
use uuid::{ContextV7, Timestamp, Uuid};

use super::{Result, StoreError, dialect::Of};
use crate::domain::{
    job::JobName,
    run::{ReplicaId, Run, RunId},
};

/// A value to bind.
#[derive(Debug, Clone)]
pub(super) enum Param {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
    Instant(Option<DateTime<Utc>>),
    Uuid(Option<Uuid>),
    Json(Option<Value>),
    /// A list for `{in($n)}`.
    Texts(Vec<String>),
    Uuids(Vec<Uuid>),
}

macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::row::Param::from($value)),*] };
}
pub(super) use params;

macro_rules! param_from {
    ($($from:ty => |$value:ident| $param:expr;)+) => {
        $(impl From<$from> for Param { fn from($value: $from) -> Self { $param } })+
    };
}

param_from! {
    &str => |value| Self::Text(Some(value.into()));
    String => |value| Self::Text(Some(value));
    Option<String> => |value| Self::Text(value);
    Option<&str> => |value| Self::Text(value.map(str::to_owned));
    &JobName => |value| Self::Text(Some(value.as_str().into()));
    i64 => |value| Self::Int(Some(value));
    i32 => |value| Self::Int(Some(value.into()));
    i16 => |value| Self::Int(Some(value.into()));
    u32 => |value| Self::Int(Some(value.into()));
    Option<i64> => |value| Self::Int(value);
    Option<i32> => |value| Self::Int(value.map(Into::into));
    bool => |value| Self::Bool(value);
    DateTime<Utc> => |value| Self::Instant(Some(value));
    Option<DateTime<Utc>> => |value| Self::Instant(value);
    Uuid => |value| Self::Uuid(Some(value));
    RunId => |value| Self::Uuid(Some(value.0));
    ReplicaId => |value| Self::Uuid(Some(value.0));
    Option<Uuid> => |value| Self::Uuid(value);
    Value => |value| Self::Json(Some(value).filter(|value| !value.is_null()));
    Option<Value> => |value| Self::Json(value.filter(|value| !value.is_null()));
    Vec<String> => |value| Self::Texts(value);
    Vec<Uuid> => |value| Self::Uuids(value);
}

/// A SQLite instant: milliseconds since 1970. Text times would compare wrongly with a team's own.
struct Millis(i64);

impl From<DateTime<Utc>> for Millis {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_millis())
    }
}

impl Millis {
    fn instant(self) -> Result<DateTime<Utc>> {
        Utc.timestamp_millis_opt(self.0)
            .single()
            .ok_or_else(|| StoreError::Other(format!("{} ms is no instant", self.0)))
    }
}

pub(super) type PostgresQuery<'q> = Query<'q, sqlx::Postgres, PgArguments>;
pub(super) type SqliteQuery<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

impl Param {
    pub fn bind_postgres(self, query: PostgresQuery<'_>) -> PostgresQuery<'_> {
        match self {
            Self::Text(value) => query.bind(value),
            Self::Int(value) => query.bind(value),
            Self::Bool(value) => query.bind(value),
            Self::Instant(value) => query.bind(value),
            Self::Uuid(value) => query.bind(value),
            Self::Json(value) => query.bind(value.map(Json)),
            Self::Texts(value) => query.bind(value),
            Self::Uuids(value) => query.bind(value),
        }
    }

    pub fn bind_sqlite(self, query: SqliteQuery<'_>) -> SqliteQuery<'_> {
        match self {
            Self::Text(value) => query.bind(value),
            Self::Int(value) => query.bind(value),
            Self::Bool(value) => query.bind(value),
            Self::Instant(value) => query.bind(value.map(|value| Millis::from(value).0)),
            Self::Uuid(value) => query.bind(value.map(|value| value.to_string())),
            Self::Json(value) => query.bind(value.map(Json)),
            Self::Texts(value) => query.bind(Json(value)),
            Self::Uuids(value) => query.bind(Json(value)),
        }
    }

    /// The value within a row that SQLite reads out of JSON; JSON itself travels as text.
    pub fn into_json(self) -> Value {
        match self {
            Self::Text(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::Bool(value) => i64::from(value).into(),
            Self::Instant(value) => value.map(|value| Millis::from(value).0).into(),
            Self::Uuid(value) => value.map(|value| value.to_string()).into(),
            Self::Json(value) => value.map(|value| value.to_string()).into(),
            Self::Texts(value) => value.into(),
            Self::Uuids(value) => value.into_iter().map(|value| value.to_string()).collect(),
        }
    }

    /// PostgreSQL has no NUL in text; SQLite must refuse it too, or the two would hold different ledgers.
    pub fn holds_nul(&self) -> bool {
        match self {
            Self::Text(Some(text)) => text.contains('\0'),
            Self::Json(Some(value)) => json_holds_nul(value),
            Self::Texts(texts) => texts.iter().any(|text| text.contains('\0')),
            _ => false,
        }
    }
}

fn json_holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(json_holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || json_holds_nul(value)),
        _ => false,
    }
}

macro_rules! array_of {
    ($query:expr, $values:expr, $variant:ident) => {
        $query.bind(
            $values
                .map(|value| match value {
                    Param::$variant(value) => value,
                    other => unreachable!("{other:?} in a column of another kind"),
                })
                .collect::<Vec<_>>(),
        )
    };
}

/// Binds one column of the rows of a bulk statement as an array.
pub(super) fn bind_array(query: PostgresQuery<'_>, of: Of, values: impl Iterator<Item = Param>) -> PostgresQuery<'_> {
    match of {
        Of::Text => array_of!(query, values, Text),
        Of::Int => array_of!(query, values, Int),
        Of::Bool => array_of!(query, values, Bool),
        Of::Instant => array_of!(query, values, Instant),
        Of::Uuid => array_of!(query, values, Uuid),
        Of::Json => query.bind(
            values
                .map(|value| match value {
                    Param::Json(value) => value.map(Json),
                    other => unreachable!("{other:?} in a column of another kind"),
                })
                .collect::<Vec<_>>(),
        ),
    }
}

/// A row of either database.
pub(super) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

/// Reads the columns of a row one after another, in the order of the select list.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl Row {
    pub fn columns(&self) -> Columns<'_> {
        Columns { row: self, next: 0 }
    }
}

macro_rules! take {
    ($self:ident, $type:ty) => {{
        let index = $self.advance();
        match $self.row {
            Row::Postgres(row) => row.try_get::<$type, _>(index).map_err(StoreError::from),
            Row::Sqlite(row) => row.try_get::<$type, _>(index).map_err(StoreError::from),
        }
    }};
}

impl Columns<'_> {
    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    pub fn maybe_text(&mut self) -> Result<Option<String>> {
        take!(self, Option<String>)
    }

    pub fn text(&mut self) -> Result<String> {
        take!(self, String)
    }

    /// A word of one of the closed lists.
    pub fn word<T: std::str::FromStr<Err = String>>(&mut self) -> Result<T> {
        self.text()?.parse().map_err(StoreError::Other)
    }

    pub fn maybe_word<T: std::str::FromStr<Err = String>>(&mut self) -> Result<Option<T>> {
        self.maybe_text()?.map(|word| word.parse().map_err(StoreError::Other)).transpose()
    }

    pub fn job(&mut self) -> Result<JobName> {
        Ok(JobName::from_store(&self.text()?))
    }

    pub fn flag(&mut self) -> Result<bool> {
        take!(self, bool)
    }

    /// Integers of any width: PostgreSQL columns are as narrow as their values.
    pub fn maybe_int(&mut self) -> Result<Option<i64>> {
        let index = self.advance();
        let row = match self.row {
            Row::Sqlite(row) => return Ok(row.try_get(index)?),
            Row::Postgres(row) => row,
        };
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(None);
        }
        let value = match raw.type_info().name() {
            "INT2" => row.try_get::<i16, _>(index)?.into(),
            "INT4" => row.try_get::<i32, _>(index)?.into(),
            _ => row.try_get::<i64, _>(index)?,
        };
        Ok(Some(value))
    }

    pub fn int(&mut self) -> Result<i64> {
        self.maybe_int()?.ok_or_else(|| StoreError::Other(format!("column {} holds no number", self.next)))
    }

    /// An integer that our own statements keep within its width.
    pub fn small<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let value = self.int()?;
        T::try_from(value).map_err(|_| StoreError::Other(format!("{value} is out of range in column {}", self.next)))
    }

    pub fn maybe_instant(&mut self) -> Result<Option<DateTime<Utc>>> {
        let index = self.advance();
        match self.row {
            Row::Postgres(row) => Ok(row.try_get(index)?),
            Row::Sqlite(row) => {
                row.try_get::<Option<i64>, _>(index)?.map(|millis| Millis(millis).instant()).transpose()
            }
        }
    }

    pub fn instant(&mut self) -> Result<DateTime<Utc>> {
        self.maybe_instant()?.ok_or_else(|| StoreError::Other(format!("column {} holds no instant", self.next)))
    }

    pub fn maybe_uuid(&mut self) -> Result<Option<Uuid>> {
        let index = self.advance();
        match self.row {
            Row::Postgres(row) => Ok(row.try_get(index)?),
            Row::Sqlite(row) => {
                let text = row.try_get::<Option<String>, _>(index)?;
                text.map(|text| text.parse().map_err(|_| StoreError::Other(format!("{text:?} is no id")))).transpose()
            }
        }
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        self.maybe_uuid()?.ok_or_else(|| StoreError::Other(format!("column {} holds no id", self.next)))
    }

    pub fn maybe_json(&mut self) -> Result<Option<Value>> {
        let value = take!(self, Option<Json<Value>>)?;
        Ok(value.map(|Json(value)| value))
    }
}

/// The columns of a run, in the order in which `run` reads them.
pub(super) const RUN_COLUMNS: &str = "id, job, epoch, trigger, scheduled_for, covers, covers_from, state, outcome, \
    reason, due_at, priority, key, dedupe_key, payload, attempt, max_attempts, crashes, exclusive, replica, resume, \
    retry_of, cancel_requested_at, created_at, started_at, finished_at, lag_ms, duration_ms, items, items_failed, \
    response_code, result, error, errors";

/// Reads a run from a row of `{run_columns}`.
pub(super) fn run(row: &Row) -> Result<Run> {
    let mut columns = row.columns();
    let c = &mut columns;
    Ok(Run {
        id: RunId(c.uuid()?),
        job: c.job()?,
        epoch: c.int()?,
        trigger: c.word()?,
        scheduled_for: c.maybe_instant()?,
        covers: c.int()?,
        covers_from: c.maybe_instant()?,
        state: c.word()?,
        outcome: c.maybe_word()?,
        reason: c.maybe_word()?,
        due_at: c.instant()?,
        priority: c.small()?,
        key: c.maybe_text()?,
        dedupe_key: c.maybe_text()?,
        payload: c.maybe_json()?.unwrap_or_default(),
        attempt: c.small()?,
        max_attempts: c.small()?,
        crashes: c.small()?,
        exclusive: c.flag()?,
        replica: c.maybe_uuid()?.map(ReplicaId),
        resume: c.maybe_json()?,
        retry_of: c.maybe_uuid()?.map(RunId),
        cancel_requested_at: c.maybe_instant()?,
        created_at: c.instant()?,
        started_at: c.maybe_instant()?,
        finished_at: c.maybe_instant()?,
        lag_ms: c.maybe_int()?,
        duration_ms: c.maybe_int()?,
        items: c.maybe_int()?,
        items_failed: c.maybe_int()?,
        response_code: c.maybe_int()?.and_then(|code| i32::try_from(code).ok()),
        result: c.maybe_json()?,
        error: c.maybe_text()?,
        errors: c.maybe_json()?.unwrap_or_default(),
    })
}

/// Ids of this instant, each later than the one before.
pub(super) struct Ids {
    context: ContextV7,
    seconds: u64,
    nanos: u32,
}

impl Ids {
    pub fn at(now: DateTime<Utc>) -> Self {
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Self { context: ContextV7::new(), seconds, nanos: now.timestamp_subsec_nanos() }
    }

    pub fn next(&self) -> RunId {
        RunId(Uuid::new_v7(Timestamp::from_unix(&self.context, self.seconds, self.nanos)))
    }
}
