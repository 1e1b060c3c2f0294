//! `sql`: runs SQL statements in one transaction, in the daemon's own database or in another one.

mod execute;
mod other;
pub(super) mod script;

use std::{fs, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite, Transaction};
use tokio_util::sync::CancellationToken;

pub use other::OtherDatabases;

use super::{AppTx, Context, Dialect, Done, Ending, Handler, Scope, transaction};
use crate::domain::run::{Failure, Report};
use execute::Values;
use other::Pool;
use script::Prepared;

/// Largest file of statements.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Settings of `run.sql`: one of `file` and `text`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file with the statements, relative to the folder of jobs.toml; read when jobs.toml is read.
    pub file: Option<String>,
    /// The statements themselves.
    pub text: Option<String>,
    /// URL of another database, PostgreSQL or SQLite; the daemon's own unless given.
    pub database: Option<String>,
    /// The statements, wherever they came from; set by `check`.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    source: String,
}

/// One statement as a database prepares it, its parameters written as `$1`, `$2`, ...
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub text: String,
    /// Line of the file or text on which it starts, from 1.
    pub line: u64,
    /// `None` = the daemon's own database; else its URL, which is a secret.
    pub database: Option<String>,
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let mut errors = Vec::new();
        let dialect = self.database.as_deref().map(other::check).transpose().unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        match read(self, scope.folder) {
            Ok(source) => self.source = source,
            Err(error) => errors.push(error),
        }
        if !self.source.is_empty() {
            errors.extend(compiled_for_any(&self.source, dialect).err().unwrap_or_default());
        }
        errors
    }

    async fn run(&self, ctx: Context) -> Ending {
        match &self.database {
            Some(url) => elsewhere(&self.source, url, &ctx).await.map(Done::Report),
            None => at_home(self.source.clone(), &ctx).await,
        }
    }

    fn statements(&self, own: Dialect) -> Vec<Statement> {
        let dialect = self.database.as_deref().and_then(|url| other::dialect(url).ok()).unwrap_or(own);
        let script = script::compile(&self.source, dialect).unwrap_or_default();
        let database = &self.database;
        script.into_iter().map(|it| Statement { text: it.text, line: it.line, database: database.clone() }).collect()
    }
}

/// The text of the statements.
fn read(settings: &Settings, folder: &Path) -> Result<String, String> {
    let file = match (&settings.file, &settings.text) {
        (None, Some(text)) if text.trim().is_empty() => return Err("text is empty".into()),
        (None, Some(text)) => return Ok(text.clone()),
        (Some(file), None) => file,
        (Some(_), Some(_)) => return Err("file and text are both given; a job has one of them".into()),
        (None, None) => return Err("no statements: give file or text".into()),
    };
    let path = folder.join(file);
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = fs::metadata(&path).map_err(unreadable)?.len();
    if MAX_FILE_BYTES < size {
        return Err(format!("{} has {size} bytes, and may have {MAX_FILE_BYTES}", path.display()));
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    if text.trim().is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text) }
}

/// Whether the statements can be split for the database they are meant for. Which one that is may not be known when
/// jobs.toml is read: then it is enough that one dialect understands them, and the run finds the rest.
fn compiled_for_any(source: &str, dialect: Option<Dialect>) -> Result<(), Vec<String>> {
    match dialect {
        Some(dialect) => script::compile(source, dialect).map(drop),
        None => script::compile(source, Dialect::Postgres)
            .or_else(|errors| script::compile(source, Dialect::Sqlite).map_err(|_| errors))
            .map(drop),
    }
}

fn compiled(source: &str, dialect: Dialect) -> Result<Vec<Prepared>, Failure> {
    script::compile(source, dialect).map_err(|errors| Failure::permanent(errors.join("; ")).before_effect())
}

/// Exactly once: the effect is committed together with the settlement of the run.
async fn at_home(source: String, ctx: &Context) -> Ending {
    let values = Values::of(ctx);
    transaction::in_own_database(ctx, move |tx| {
        Box::pin(async move {
            let script = compiled(&source, tx.dialect())?;
            match tx {
                AppTx::Postgres(tx) => execute::on_postgres(tx, &script, &values).await,
                AppTx::Sqlite(tx) => execute::on_sqlite(tx, &script, &values).await,
            }
        })
    })
    .await
}

/// At least once: the effect is committed there, then the run is settled here.
async fn elsewhere(source: &str, url: &str, ctx: &Context) -> Result<Report, Failure> {
    let values = Values::of(ctx);
    let pool = ctx.tools.databases.pool(url).map_err(|error| Failure::permanent(error).before_effect())?;
    match pool {
        Pool::Postgres(pool) => {
            let script = compiled(source, Dialect::Postgres)?;
            let mut tx = pool.begin().await.map_err(|error| not_reached(&error))?;
            let report = postgres_elsewhere(&mut tx, &script, ctx, &values).await.map_err(Failure::before_effect)?;
            tx.commit().await.map_err(|error| not_committed(&error))?;
            Ok(report)
        }
        Pool::Sqlite(pool) => {
            let script = compiled(source, Dialect::Sqlite)?;
            let mut tx = pool.begin_with("begin immediate").await.map_err(|error| not_reached(&error))?;
            let report = sqlite_elsewhere(&mut tx, &script, &values).await.map_err(Failure::before_effect)?;
            tx.commit().await.map_err(|error| not_committed(&error))?;
            Ok(report)
        }
    }
}

async fn postgres_elsewhere(
    tx: &mut Transaction<'static, Postgres>,
    script: &[Prepared],
    ctx: &Context,
    values: &Values,
) -> Result<Report, Failure> {
    transaction::limit_statements(tx, ctx.job.policy.timeout).await?;
    execute::on_postgres(tx, script, values).await
}

async fn sqlite_elsewhere(
    tx: &mut Transaction<'static, Sqlite>,
    script: &[Prepared],
    values: &Values,
) -> Result<Report, Failure> {
    // A statement that nobody waits for any more would hold the file: it is interrupted when this attempt is dropped.
    // The watch stays on the connection, which serves one run at a time, until the next run replaces it.
    let stop = CancellationToken::new();
    let _stops_when_dropped = stop.clone().drop_guard();
    let unwatched = |error: sqlx::Error| transaction::failure(&error);
    transaction::watch_connection(tx, Some(stop)).await.map_err(unwatched)?;
    let report = execute::on_sqlite(tx, script, values).await;
    transaction::watch_connection(tx, None).await.map_err(unwatched)?;
    report
}

fn not_reached(error: &sqlx::Error) -> Failure {
    let failure = transaction::failure(error);
    Failure { message: format!("other database: {}", failure.message), ..failure }.before_effect()
}

fn not_committed(error: &sqlx::Error) -> Failure {
    let failure = transaction::failure(error);
    if matches!(error, sqlx::Error::Database(_)) {
        // The database answered, and the answer is no.
        return failure.before_effect();
    }
    Failure::retry(format!("the end of the transaction is unknown: {}", failure.message))
}
