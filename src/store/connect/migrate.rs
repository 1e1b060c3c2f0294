//! Brings the tables up to date: each migration once, in order, never back.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, Row, SqliteConnection};

use super::{
    Database,
    postgres::{trusted, within},
};
use crate::store::{
    Result, Store, StoreError,
    dialect::{Book, Kind},
};

/// Connecting, and waiting for another migrator.
const LIMIT: Duration = Duration::from_secs(120);

struct Migration {
    number: i64,
    name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
        }),+]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    1 "0001_ledger",
    2 "0002_access",
    3 "0003_pruned",
];

/// How the tables stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// 0 = none of our tables is there.
    pub current: i64,
    /// The newest this binary knows.
    pub latest: i64,
    pub pending: Vec<&'static str>,
}

/// What `migrate` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub applied: Vec<&'static str>,
    /// Where `job_executions` is: not under its plain name when a team's own table has that.
    pub view: String,
}

const CREATE_SCHEMA: &str = "create schema {schema}";
const CREATE_MIGRATIONS: &str = "create table if not exists {migrations} \
    (number bigint primary key, name text not null)";
const NUMBERS: &str = "select coalesce(max(number), 0) from {migrations}";

impl Store {
    /// Applies what is missing, in one transaction. Any number of processes may call it at once.
    ///
    /// # Errors
    /// `NewerSchema` when the tables were made by a later release; `Config` when the role may not create them.
    pub async fn migrate(&self) -> Result<Migrated> {
        match &self.inner.database {
            Database::Postgres(database) => {
                let mut connection = within(LIMIT, database.direct.connect()).await?;
                let applied = migrate_postgres(&mut connection, &self.inner.book).await?;
                let view = view_of_postgres(&mut connection, &self.inner.book).await?;
                // Closing politely is not worth an error.
                let _ = connection.close().await;
                Ok(Migrated { applied, view })
            }
            Database::Sqlite(database) => {
                let mut connection = database.lock_writer().await?;
                let applied = migrate_sqlite(&mut connection, &self.inner.book).await?;
                let view = view_of_sqlite(&mut connection).await?;
                Ok(Migrated { applied, view })
            }
        }
    }

    /// How the tables stand; changes nothing.
    ///
    /// # Errors
    /// `NewerSchema` when the tables were made by a later release.
    pub async fn migration_status(&self) -> Result<MigrationStatus> {
        let book = &self.inner.book;
        let numbers = trusted(book.expand(NUMBERS, &[]));
        let current = match &self.inner.database {
            Database::Postgres(database) => {
                let mut connection = database.pool.acquire().await?;
                let there = trusted(book.expand("select to_regclass('{migrations}') is not null", &[]));
                let there: bool = sqlx::raw_sql(there).fetch_one(&mut *connection).await?.try_get(0)?;
                if there { sqlx::raw_sql(numbers).fetch_one(&mut *connection).await?.try_get(0)? } else { 0 }
            }
            Database::Sqlite(database) => {
                let mut connection = database.lock_writer().await?;
                if has_sqlite(&mut connection, &book.expand("{migrations}", &[])).await? {
                    sqlx::raw_sql(numbers).fetch_one(&mut *connection).await?.try_get(0)?
                } else {
                    0
                }
            }
        };
        status(current)
    }

    /// The statements of all migrations, for people who apply them by hand.
    pub fn migration_sql(kind: Kind, schema: &str) -> String {
        let book = Book::new(kind, schema, std::iter::empty());
        let create_schema = if kind == Kind::Postgres { format!("{CREATE_SCHEMA};\n") } else { String::new() };
        let mut sql = book.expand(&format!("{create_schema}{CREATE_MIGRATIONS};\n"), &[]);
        for migration in MIGRATIONS {
            sql += &format!("\n-- {}\n{}", migration.name, migration.text(&book, "job_executions"));
            let note = format!("insert into {{migrations}} values ({}, '{}');\n", migration.number, migration.name);
            sql += &book.expand(&note, &[]);
        }
        sql
    }
}

impl Migration {
    fn text(&self, book: &Book, view: &str) -> String {
        match book.kind {
            Kind::Postgres => book.expand(self.postgres, &[]),
            Kind::Sqlite => book.expand(&self.sqlite.replace("{view}", view), &[]),
        }
    }

    fn note(&self, book: &Book) -> String {
        book.expand(&format!("insert into {{migrations}} values ({}, '{}')", self.number, self.name), &[])
    }
}

fn latest() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.number)
}

fn status(current: i64) -> Result<MigrationStatus> {
    let latest = latest();
    if latest < current {
        return Err(StoreError::NewerSchema(format!(
            "the tables are at migration {current}, this release knows {latest}: start the newer release, \
             or restore a backup from before it"
        )));
    }
    let pending = MIGRATIONS.iter().filter(|migration| current < migration.number).map(|migration| migration.name);
    Ok(MigrationStatus { current, latest, pending: pending.collect() })
}

async fn migrate_postgres(connection: &mut PgConnection, book: &Book) -> Result<Vec<&'static str>> {
    let mut tx = connection
        .begin_with(
            "begin isolation level read committed; set local lock_timeout = 60000; set local statement_timeout = 0",
        )
        .await?;
    // Of the transaction, not of the session: behind a pooler a session lock would stay with a stranger.
    let lock = trusted(format!("select pg_advisory_xact_lock(hashtextextended('{}.migrations', 0))", book.schema));
    sqlx::raw_sql(lock).execute(&mut *tx).await?;
    let there = trusted(format!("select to_regnamespace('{}') is not null", book.schema));
    if !sqlx::raw_sql(there).fetch_one(&mut *tx).await?.try_get::<bool, _>(0)? {
        sqlx::raw_sql(trusted(book.expand(CREATE_SCHEMA, &[]))).execute(&mut *tx).await?;
    }
    let there = trusted(book.expand("select to_regclass('{migrations}') is not null", &[]));
    if !sqlx::raw_sql(there).fetch_one(&mut *tx).await?.try_get::<bool, _>(0)? {
        sqlx::raw_sql(trusted(book.expand(CREATE_MIGRATIONS, &[]))).execute(&mut *tx).await?;
    }
    let numbers = trusted(book.expand(NUMBERS, &[]));
    let pending = status(sqlx::raw_sql(numbers).fetch_one(&mut *tx).await?.try_get(0)?)?.pending;
    for migration in MIGRATIONS.iter().filter(|migration| pending.contains(&migration.name)) {
        sqlx::raw_sql(trusted(migration.text(book, ""))).execute(&mut *tx).await?;
        sqlx::raw_sql(trusted(migration.note(book))).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(pending)
}

/// Our view in `public` is known by its comment; else it is in our own schema.
async fn view_of_postgres(connection: &mut PgConnection, book: &Book) -> Result<String> {
    let ours = trusted(format!(
        "select coalesce(obj_description(to_regclass('public.job_executions'), 'pg_class') like 'runs of {},%', false)",
        book.schema
    ));
    let ours: bool = sqlx::raw_sql(ours).fetch_one(connection).await?.try_get(0)?;
    Ok(if ours { "public.job_executions".into() } else { format!("{}.job_executions", book.schema) })
}

async fn migrate_sqlite(connection: &mut SqliteConnection, book: &Book) -> Result<Vec<&'static str>> {
    sqlx::raw_sql("begin immediate").execute(&mut *connection).await?;
    let applied = migrate_sqlite_within(connection, book).await;
    let end = if applied.is_ok() { "commit" } else { "rollback" };
    sqlx::raw_sql(end).execute(connection).await?;
    applied
}

async fn migrate_sqlite_within(connection: &mut SqliteConnection, book: &Book) -> Result<Vec<&'static str>> {
    sqlx::raw_sql(trusted(book.expand(CREATE_MIGRATIONS, &[]))).execute(&mut *connection).await?;
    let numbers = trusted(book.expand(NUMBERS, &[]));
    let pending = status(sqlx::raw_sql(numbers).fetch_one(&mut *connection).await?.try_get(0)?)?.pending;
    // A team's own table of this name is left alone.
    let taken = has_sqlite(connection, "job_executions").await?;
    let view = if taken { "workers_job_executions" } else { "job_executions" };
    for migration in MIGRATIONS.iter().filter(|migration| pending.contains(&migration.name)) {
        sqlx::raw_sql(trusted(migration.text(book, view))).execute(&mut *connection).await?;
        sqlx::raw_sql(trusted(migration.note(book))).execute(&mut *connection).await?;
    }
    Ok(pending)
}

async fn view_of_sqlite(connection: &mut SqliteConnection) -> Result<String> {
    let taken = has_sqlite(connection, "workers_job_executions").await?;
    Ok(if taken { "workers_job_executions".into() } else { "job_executions".into() })
}

async fn has_sqlite(connection: &mut SqliteConnection, name: &str) -> Result<bool> {
    let found =
        sqlx::query("select 1 from sqlite_master where name = $1").bind(name).fetch_optional(connection).await?;
    Ok(found.is_some())
}
