//! Asks a gate (`when = { sql = "select ..." }`) whether a job may run now.

use sqlx::{AssertSqlSafe, Row};

use super::{AppTx, transaction::failure};
use crate::domain::run::Failure;

/// Open = the first column of the first row is true, or a number other than 0. No row, null and everything else close
/// it. What the query changed is rolled back: a gate only looks.
pub async fn ask_gate(mut tx: AppTx, query: &str) -> Result<bool, Failure> {
    let asked = match &mut tx {
        AppTx::Postgres(tx) => {
            let query = sqlx::query(AssertSqlSafe(query.to_owned())).persistent(false);
            query.fetch_optional(&mut **tx).await.map(|row| {
                row.is_some_and(|row| {
                    let is_true = row.try_get::<bool, _>(0);
                    let number = || row.try_get::<i64, _>(0).or_else(|_| row.try_get::<i32, _>(0).map(i64::from));
                    is_true.or_else(|_| number().map(|number| number != 0)).unwrap_or(false)
                })
            })
        }
        AppTx::Sqlite(tx) => {
            let query = sqlx::query(AssertSqlSafe(query.to_owned())).persistent(false);
            let row = query.fetch_optional(&mut **tx).await;
            row.map(|row| row.is_some_and(|row| row.try_get::<i64, _>(0).is_ok_and(|number| number != 0)))
        }
    };
    asked.map_err(|error| {
        let failure = failure(&error);
        Failure { message: format!("gate: {}", failure.message), ..failure }.before_effect()
    })
}
