//! What the database says of a team's table, and how a missing one is made.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row as _};

use super::{FoundColumn, TeamTable};
use crate::handlers::AppTx;

const COLUMNS_POSTGRES: &str = "\
    select a.attname::text as name,
           format_type(a.atttypid, a.atttypmod) as kind,
           a.attnotnull as required,
           array(select e.enumlabel::text from pg_enum e where e.enumtypid = a.atttypid order by e.enumsortorder) as labels
    from pg_attribute a
    where a.attrelid = to_regclass($1)
      and 0 < a.attnum
      and not a.attisdropped";

/// Empty = there is no such table where an unqualified name leads to.
pub(super) async fn columns(tx: &mut AppTx, table: &str) -> Result<BTreeMap<String, FoundColumn>, sqlx::Error> {
    match tx {
        AppTx::Postgres(tx) => {
            let rows = sqlx::query(COLUMNS_POSTGRES).persistent(false).bind(table).fetch_all(&mut **tx).await?;
            let column = |row: &sqlx::postgres::PgRow| {
                let found = FoundColumn {
                    kind: row.try_get("kind")?,
                    labels: row.try_get("labels")?,
                    is_required: row.try_get("required")?,
                };
                Ok((row.try_get("name")?, found))
            };
            rows.iter().map(column).collect()
        }
        AppTx::Sqlite(tx) => {
            let query =
                sqlx::query("select name, type, \"notnull\" as required from pragma_table_info($1)").bind(table);
            let rows = query.fetch_all(&mut **tx).await?;
            let column = |row: &sqlx::sqlite::SqliteRow| {
                let found = FoundColumn {
                    kind: row.try_get("type")?,
                    labels: Vec::new(),
                    is_required: row.try_get("required")?,
                };
                Ok((row.try_get("name")?, found))
            };
            rows.iter().map(column).collect()
        }
    }
}

pub(super) async fn create(tx: &mut AppTx, table: &TeamTable) -> Result<(), sqlx::Error> {
    match tx {
        AppTx::Postgres(tx) => {
            // Two that create one table at once would both fail; the second waits and finds it there. One lock for all
            // tables: with one for each, two that create the same tables in different orders would wait for each other.
            let lock = sqlx::query("select pg_advisory_xact_lock(hashtext('emponto team tables'))").persistent(false);
            lock.execute(&mut **tx).await?;
            sqlx::raw_sql(AssertSqlSafe(table.postgres)).execute(&mut **tx).await?;
        }
        AppTx::Sqlite(tx) => {
            sqlx::raw_sql(AssertSqlSafe(table.sqlite)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}
