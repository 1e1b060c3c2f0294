//! Asks a gate (`when = { sql = "select ..." }`) whether a job may run now.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row, postgres::PgRow, sqlite::SqliteRow};

use super::{AppTx, transaction};
use crate::domain::run::Failure;

/// A gate is a look at a row or two.
const LIMIT: Duration = Duration::from_secs(5);

/// Open = the first column of the first row is true, or a number other than 0. No row, null and everything else close
/// it. What the query changed is rolled back: a gate only looks, for at most 5 s.
pub async fn ask_gate(tx: AppTx, query: &str) -> Result<bool, Failure> {
    let query = query.to_owned();
    let asked = transaction::bounded(tx, LIMIT, move |tx| Box::pin(async move { ask(tx, query).await })).await;
    asked
        .map(|(is_open, _rolled_back)| is_open)
        .map_err(|failure| Failure { message: format!("gate: {}", failure.message), ..failure }.before_effect())
}

async fn ask(tx: &mut AppTx, query: String) -> Result<bool, Failure> {
    let answer = match tx {
        AppTx::Postgres(tx) => {
            let row = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch_optional(&mut **tx).await;
            row.map(|row| row.is_some_and(|row| opens_postgres(&row)))
        }
        AppTx::Sqlite(tx) => {
            let row = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch_optional(&mut **tx).await;
            row.map(|row| row.is_some_and(|row| opens_sqlite(&row)))
        }
    };
    answer.map_err(|error| transaction::failure(&error))
}

fn opens_postgres(row: &PgRow) -> bool {
    let narrow = || row.try_get::<i32, _>(0).map(i64::from).or_else(|_| row.try_get::<i16, _>(0).map(i64::from));
    let number = || row.try_get::<i64, _>(0).or_else(|_| narrow());
    row.try_get::<bool, _>(0).or_else(|_| number().map(|number| number != 0)).unwrap_or(false)
}

fn opens_sqlite(row: &SqliteRow) -> bool {
    row.try_get::<i64, _>(0).is_ok_and(|number| number != 0)
}
