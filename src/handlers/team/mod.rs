//! Tables of the team: created when they are missing, adopted when they are there, and spoken to in one SQL.

mod catalog;
mod outgoing;
mod row;
pub mod tables;
mod text;
pub mod words;

use std::collections::BTreeMap;

use super::{AppTx, Dialect, transaction::failure};
use crate::domain::run::Failure;

pub use outgoing::Outgoing;
pub use row::{Param, Row};

/// A table that a typed handler works on. Names and words are the team's; an existing table is never changed.
#[derive(Debug, PartialEq)]
pub struct TeamTable {
    pub name: &'static str,
    /// Creates it, with what belongs to it.
    pub postgres: &'static str,
    /// Creates it, with what belongs to it.
    pub sqlite: &'static str,
    /// The columns that the handler reads or writes; a team's own table may have others.
    pub columns: &'static [TeamColumn],
}

/// A column of a team's table.
#[derive(Debug, PartialEq)]
pub struct TeamColumn {
    pub name: &'static str,
    /// Its type and default, for the statement that adds it.
    pub postgres: &'static str,
    pub sqlite: &'static str,
    /// The handler works without it, and does less.
    pub is_optional: bool,
}

impl TeamColumn {
    pub const fn new(name: &'static str, postgres: &'static str, sqlite: &'static str) -> Self {
        Self { name, postgres, sqlite, is_optional: false }
    }

    pub const fn optional(name: &'static str, postgres: &'static str, sqlite: &'static str) -> Self {
        Self { name, postgres, sqlite, is_optional: true }
    }
}

/// Tables as they were found, and the way to speak to them. Statements are written once, for both databases, with `$n`
/// for parameters and these marks:
///
/// - `@instant(x)` makes instants comparable: a `timestamptz` on PostgreSQL, Unix milliseconds on SQLite, whatever text
///   the column holds. Both sides of a comparison wear it; a parameter that is stored does not.
/// - `@type(table.column, x)` gives a parameter, or a column of another table, the type of that column.
/// - `@optional(table.column)` is the column, or null where the team's table has none of that name.
/// - `@word(table.column, word)` is a text that the column must take: an enumeration without it is named with the
///   statement that adds it.
/// - `@locked` takes only rows that nobody else holds: `for update skip locked`, and nothing on SQLite.
#[derive(Debug, Clone)]
pub struct Adopted {
    dialect: Dialect,
    tables: BTreeMap<&'static str, BTreeMap<String, FoundColumn>>,
}

/// What a database says of a column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoundColumn {
    /// As PostgreSQL writes it in a cast; on SQLite as declared.
    pub kind: String,
    /// The words of an enumeration; empty for other types.
    pub labels: Vec<String>,
    /// It must not be null.
    pub is_required: bool,
}

impl FoundColumn {
    /// Whether a text becomes a value of this type, so that an id of another table can be given to it without spoiling the
    /// statement.
    pub fn takes(&self, text: &str) -> bool {
        match self.kind.as_str() {
            "uuid" => uuid::Uuid::parse_str(text).is_ok(),
            "smallint" => text.parse::<i16>().is_ok(),
            "integer" => text.parse::<i32>().is_ok(),
            "bigint" => text.parse::<i64>().is_ok(),
            _ => true,
        }
    }

    /// A pattern of PostgreSQL for texts that become a value of this type; `None` = any text does.
    pub fn pattern(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "uuid" => Some("^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"),
            "smallint" => Some("^-?[0-9]{1,4}$"),
            "integer" => Some("^-?[0-9]{1,9}$"),
            "bigint" => Some("^-?[0-9]{1,18}$"),
            _ => None,
        }
    }
}

/// Makes sure that tables can be worked on, inside the transaction that will do so. A missing table is created where
/// `may_create`; a missing column is a permanent failure that says how to add it.
pub async fn adopt(tx: &mut AppTx, tables: &[&'static TeamTable], may_create: bool) -> Result<Adopted, Failure> {
    let mut adopted = Adopted { dialect: tx.dialect(), tables: BTreeMap::new() };
    for table in tables {
        adopted.tables.insert(table.name, found(tx, table, may_create).await?);
    }
    Ok(adopted)
}

/// What there is of a table; `None` = there is no such table. For tables that a handler only looks at when they exist.
pub async fn look_at(tx: &mut AppTx, table: &'static TeamTable) -> Result<Option<Adopted>, Failure> {
    let columns = catalog::columns(tx, table.name).await.map_err(|error| failure(&error))?;
    if columns.is_empty() {
        return Ok(None);
    }
    table.lacks(&columns, tx.dialect())?;
    Ok(Some(Adopted { dialect: tx.dialect(), tables: BTreeMap::from([(table.name, columns)]) }))
}

/// Whether a table is there and has a row, whatever its columns are.
pub async fn has_rows(tx: &mut AppTx, table: &'static TeamTable) -> Result<bool, Failure> {
    if catalog::columns(tx, table.name).await.map_err(|error| failure(&error))?.is_empty() {
        return Ok(false);
    }
    let first = row::rows(tx, format!("select 1 as one from {} limit 1", table.name), &[]).await?;
    Ok(!first.is_empty())
}

async fn found(
    tx: &mut AppTx,
    table: &'static TeamTable,
    may_create: bool,
) -> Result<BTreeMap<String, FoundColumn>, Failure> {
    let mut columns = catalog::columns(tx, table.name).await.map_err(|error| failure(&error))?;
    if columns.is_empty() && may_create {
        catalog::create(tx, table).await.map_err(|error| failure(&error))?;
        columns = catalog::columns(tx, table.name).await.map_err(|error| failure(&error))?;
    }
    if columns.is_empty() {
        return Err(Failure::permanent(format!(
            "table {} is missing, and create_team_tables = false forbids to create it",
            table.name
        )));
    }
    table.lacks(&columns, tx.dialect())?;
    Ok(columns)
}

impl TeamTable {
    /// Fails, naming the statements that add them, when columns are missing.
    fn lacks(&self, columns: &BTreeMap<String, FoundColumn>, dialect: Dialect) -> Result<(), Failure> {
        let is_missing = |column: &&TeamColumn| !column.is_optional && !columns.contains_key(column.name);
        let missing: Vec<_> = self.columns.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let additions: Vec<_> = missing.iter().map(|column| self.addition(column, dialect)).collect();
        let names: Vec<_> = missing.iter().map(|column| column.name).collect();
        let lacks = format!("table {} lacks {}; add with: {}", self.name, names.join(", "), additions.join("; "));
        Err(Failure::permanent(lacks))
    }

    /// The statement that adds a column.
    pub fn addition(&self, column: &TeamColumn, dialect: Dialect) -> String {
        let kind = match dialect {
            Dialect::Postgres => column.postgres,
            Dialect::Sqlite => column.sqlite,
        };
        format!("alter table {} add column {} {kind}", self.name, column.name)
    }
}

impl Adopted {
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What was found of a column; `None` = the team's table has no such column.
    pub fn column(&self, table: &str, column: &str) -> Option<&FoundColumn> {
        self.tables.get(table)?.get(column)
    }

    pub fn has(&self, table: &str, column: &str) -> bool {
        self.column(table, column).is_some()
    }

    /// Whether a column is there and takes a text; on SQLite a column takes any.
    pub fn fits(&self, table: &str, column: &str, text: &str) -> bool {
        let is_sqlite = self.dialect == Dialect::Sqlite;
        self.column(table, column).is_some_and(|found| is_sqlite || found.takes(text))
    }

    /// A statement as this database takes it. The error names the mark that cannot be resolved.
    pub fn text(&self, statement: &str) -> Result<String, Failure> {
        text::expand(self, statement).map_err(Failure::permanent)
    }

    /// Runs a statement; the rows it changed.
    pub async fn change(&self, tx: &mut AppTx, statement: &str, params: &[Param]) -> Result<u64, Failure> {
        row::change(tx, self.text(statement)?, params).await.map_err(|error| failure(&error))
    }

    /// Runs a query, or a statement with `returning`, and reads all its rows: it must say how many there can be. On
    /// PostgreSQL it becomes part of a `with`, so it cannot itself begin with a `with` that changes rows.
    pub async fn rows(&self, tx: &mut AppTx, statement: &str, params: &[Param]) -> Result<Vec<Row>, Failure> {
        row::rows(tx, self.text(statement)?, params).await
    }

    /// The only number that a query answers, such as a count.
    pub async fn count(&self, tx: &mut AppTx, statement: &str, params: &[Param]) -> Result<u64, Failure> {
        let rows = self.rows(tx, statement, params).await?;
        let number = rows.first().and_then(Row::first_number).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| Failure::permanent(format!("no count came of: {statement}")))
    }
}
