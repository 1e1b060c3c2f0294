//! Runs the statements of a script on an open transaction and counts their items.

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Either, Executor, PgConnection, Row, SqliteConnection, postgres::PgRow, sqlite::SqliteRow,
    types::Json,
};
use uuid::Uuid;

use super::script::{Parameter, Prepared};
use crate::{
    domain::run::{Failure, Report},
    handlers::{Context, transaction},
};

/// What the parameters stand for in one run.
#[derive(Debug, Clone)]
pub(super) struct Values {
    run_id: Uuid,
    scheduled_for: DateTime<Utc>,
    now: DateTime<Utc>,
    payload: Value,
}

impl Values {
    pub fn of(ctx: &Context) -> Self {
        Self {
            run_id: ctx.run.id.0,
            // A run that nobody planned was asked for when it was made; each attempt binds the same instant.
            scheduled_for: ctx.run.scheduled_for.unwrap_or(ctx.run.created_at),
            now: ctx.now,
            payload: ctx.payload().clone(),
        }
    }
}

/// One body per driver. Runs all statements in order; the first failure ends it and names its line.
macro_rules! run_on {
    ($name:ident, $connection:ty, $bind:ident, $number:ident) => {
        pub(super) async fn $name(
            connection: &mut $connection,
            script: &[Prepared],
            values: &Values,
        ) -> Result<Report, Failure> {
            let mut items = Items::default();
            for statement in script {
                // Not persistent: a pooler in transaction mode knows no named statements.
                let mut query = sqlx::query(AssertSqlSafe(statement.text.clone())).persistent(false);
                for parameter in &statement.parameters {
                    query = $bind!(query, parameter, values);
                }
                let mut affected = 0;
                let mut number = None;
                let mut is_first = true;
                let mut answers = (&mut *connection).fetch_many(query);
                while let Some(answer) = answers.try_next().await.map_err(|error| at_line(statement, &error))? {
                    match answer {
                        Either::Left(result) => affected += result.rows_affected(),
                        Either::Right(row) if is_first => {
                            number = $number(&row);
                            is_first = false;
                        }
                        Either::Right(_) => {}
                    }
                }
                items.count(statement, affected, number);
            }
            Ok(items.report())
        }
    };
}

macro_rules! bind_postgres {
    ($query:ident, $parameter:ident, $values:ident) => {
        match $parameter {
            Parameter::RunId => $query.bind($values.run_id),
            Parameter::ScheduledFor => $query.bind($values.scheduled_for),
            Parameter::Now => $query.bind($values.now),
            Parameter::Payload => $query.bind(Json(&$values.payload)),
        }
    };
}

macro_rules! bind_sqlite {
    ($query:ident, $parameter:ident, $values:ident) => {
        match $parameter {
            Parameter::RunId => $query.bind($values.run_id.to_string()),
            Parameter::ScheduledFor => $query.bind(as_text($values.scheduled_for)),
            Parameter::Now => $query.bind(as_text($values.now)),
            Parameter::Payload => $query.bind($values.payload.to_string()),
        }
    };
}

run_on!(on_postgres, PgConnection, bind_postgres, number_of_postgres);
run_on!(on_sqlite, SqliteConnection, bind_sqlite, number_of_sqlite);

/// How SQLite keeps an instant: text that its own date functions read and that sorts by time.
fn as_text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn number_of_postgres(row: &PgRow) -> Option<i64> {
    let narrow = || row.try_get::<i32, _>(0).map(i64::from).or_else(|_| row.try_get::<i16, _>(0).map(i64::from));
    row.try_get::<i64, _>(0).or_else(|_| narrow()).ok()
}

fn number_of_sqlite(row: &SqliteRow) -> Option<i64> {
    row.try_get::<i64, _>(0).ok()
}

fn at_line(statement: &Prepared, error: &sqlx::Error) -> Failure {
    let failure = transaction::failure(error);
    Failure { message: format!("line {}: {}", statement.line, failure.message), ..failure }
}

/// Items of a whole script: the last number that a query gave, else the rows that the other statements changed.
#[derive(Debug, Default)]
struct Items {
    changed: u64,
    told: Option<u64>,
}

impl Items {
    fn count(&mut self, statement: &Prepared, affected: u64, number: Option<i64>) {
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if statement.is_query => self.told = Some(number),
            // SQLite says how many rows changed last, also after statements that change none.
            _ if statement.changes => self.changed += affected,
            _ => {}
        }
    }

    fn report(self) -> Report {
        Report::items(self.told.unwrap_or(self.changed))
    }
}
