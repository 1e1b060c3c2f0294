//! What the database says of a team's table: its columns, their types, and whether its id is one.

use sqlx::Row as _;

use super::name::Table;
use crate::{
    domain::run::Failure,
    handlers::{AppTx, transaction::failure},
};

/// Names are `text` and types are as a cast writes them. A column is unique when a unique index of its own says so.
const POSTGRES: &str = "\
    select a.attname::text as name,
           format_type(a.atttypid, a.atttypmod) as kind,
           exists (
             select 1
             from pg_index i
             where i.indrelid = a.attrelid
               and i.indisunique
               and i.indpred is null
               and i.indnkeyatts = 1
               and i.indkey[0] = a.attnum
           ) as is_unique
    from pg_attribute a
    where a.attrelid = to_regclass($1)
      and 0 < a.attnum
      and not a.attisdropped
    order by a.attnum";

const SQLITE: &str = "\
    select c.name as name,
           c.type as kind,
           (c.pk = 1 and (select count(*) from pragma_table_info($1, $2) k where 0 < k.pk) = 1)
             or exists (
               select 1
               from pragma_index_list($1, $2) i
               where i.\"unique\" = 1
                 and i.partial = 0
                 and (select count(*) from pragma_index_info(i.name, $2)) = 1
                 and exists (select 1 from pragma_index_info(i.name, $2) p where p.name = c.name)
             ) as is_unique
    from pragma_table_info($1, $2) c
    order by c.cid";

/// A column as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) struct Column {
    pub name: String,
    /// As a cast writes it on PostgreSQL; on SQLite as it was declared.
    pub kind: String,
    pub is_unique: bool,
}

/// The columns of a table, in order. A table that is not there is a permanent failure.
pub(in crate::handlers::drain) async fn look(tx: &mut AppTx, table: &Table) -> Result<Vec<Column>, Failure> {
    let columns: Result<Vec<Column>, sqlx::Error> = match tx {
        AppTx::Postgres(tx) => {
            let query = sqlx::query(POSTGRES).persistent(false).bind(table.quoted());
            let rows = query.fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(|row| read(row.try_get("name"), row.try_get("kind"), row.try_get("is_unique"))).collect()
        }
        AppTx::Sqlite(tx) => {
            let schema = table.schema.as_deref().unwrap_or("main");
            let query = sqlx::query(SQLITE).persistent(false).bind(table.name.clone()).bind(schema.to_owned());
            let rows = query.fetch_all(&mut **tx).await.map_err(|error| failure(&error))?;
            rows.iter().map(|row| read(row.try_get("name"), row.try_get("kind"), row.try_get("is_unique"))).collect()
        }
    };
    let columns = columns.map_err(|error| failure(&error))?;
    if columns.is_empty() {
        return Err(Failure::permanent(format!("there is no table {}", table.quoted())).before_effect());
    }
    Ok(columns)
}

fn read(
    name: Result<String, sqlx::Error>,
    kind: Result<String, sqlx::Error>,
    is_unique: Result<bool, sqlx::Error>,
) -> Result<Column, sqlx::Error> {
    Ok(Column { name: name?, kind: kind?, is_unique: is_unique? })
}
