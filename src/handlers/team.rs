//! Tables of the team: created when they are missing, adopted when they are there.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::{AppTx, Dialect, transaction::failure};
use crate::domain::run::Failure;

/// A table that a typed handler works on. Names and words are the team's; an existing table is never changed.
#[derive(Debug, PartialEq)]
pub struct TeamTable {
    pub name: &'static str,
    /// Creates it, with what belongs to it.
    pub postgres: &'static str,
    /// Creates it, with what belongs to it.
    pub sqlite: &'static str,
    /// The columns that the handler reads or writes; a team's own table may have others and may lack others.
    pub columns: &'static [TeamColumn],
}

/// A column that a handler cannot do without.
#[derive(Debug, PartialEq)]
pub struct TeamColumn {
    pub name: &'static str,
    /// Its type and default, for the statement that adds it.
    pub postgres: &'static str,
    pub sqlite: &'static str,
}

impl TeamColumn {
    pub(super) const fn new(name: &'static str, postgres: &'static str, sqlite: &'static str) -> Self {
        Self { name, postgres, sqlite }
    }
}

impl TeamTable {
    /// Makes sure that the table can be worked on, inside the transaction that will do so. A missing table is created
    /// where `may_create`; a missing column is a permanent failure that says how to add it.
    pub async fn adopt(&self, tx: &mut AppTx, may_create: bool) -> Result<(), Failure> {
        let mut columns = self.existing_columns(tx).await.map_err(|error| failure(&error))?;
        if columns.is_empty() && may_create {
            self.create(tx).await.map_err(|error| failure(&error))?;
            columns = self.existing_columns(tx).await.map_err(|error| failure(&error))?;
        }
        if columns.is_empty() {
            return Err(Failure::permanent(format!(
                "table {} is missing, and create_team_tables = false forbids to create it",
                self.name
            )));
        }
        let missing: Vec<_> = self.columns.iter().filter(|column| !columns.contains(column.name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let additions: Vec<_> = missing.iter().map(|column| self.addition(column, tx.dialect())).collect();
        let names: Vec<_> = missing.iter().map(|column| column.name).collect();
        let lacks = format!("table {} lacks {}; add with: {}", self.name, names.join(", "), additions.join("; "));
        Err(Failure::permanent(lacks))
    }

    fn addition(&self, column: &TeamColumn, dialect: Dialect) -> String {
        let kind = match dialect {
            Dialect::Postgres => column.postgres,
            Dialect::Sqlite => column.sqlite,
        };
        format!("alter table {} add column {} {kind}", self.name, column.name)
    }

    /// Empty = there is no such table where an unqualified name leads to.
    async fn existing_columns(&self, tx: &mut AppTx) -> Result<BTreeSet<String>, sqlx::Error> {
        let columns: Vec<String> = match tx {
            AppTx::Postgres(tx) => {
                let query = "select attname::text from pg_attribute \
                    where attrelid = to_regclass($1) and 0 < attnum and not attisdropped";
                sqlx::query_scalar(query).persistent(false).bind(self.name).fetch_all(&mut **tx).await?
            }
            AppTx::Sqlite(tx) => {
                sqlx::query_scalar("select name from pragma_table_info($1)")
                    .bind(self.name)
                    .fetch_all(&mut **tx)
                    .await?
            }
        };
        Ok(columns.into_iter().collect())
    }

    async fn create(&self, tx: &mut AppTx) -> Result<(), sqlx::Error> {
        match tx {
            AppTx::Postgres(tx) => {
                // Two replicas that create one table at once would both fail; the second waits and finds it there.
                let lock = sqlx::query("select pg_advisory_xact_lock(hashtext($1))").persistent(false).bind(self.name);
                lock.execute(&mut **tx).await?;
                sqlx::raw_sql(AssertSqlSafe(self.postgres)).execute(&mut **tx).await?;
            }
            AppTx::Sqlite(tx) => {
                sqlx::raw_sql(AssertSqlSafe(self.sqlite)).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }
}
