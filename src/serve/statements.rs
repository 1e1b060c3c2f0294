//! Asks the database about the statements of jobs before 08:00 does.

use std::path::Path;

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::{
    domain::job::{Gate, JobName},
    handlers::Dialect,
    job_table::JobTable,
    store::{AppConnection, DatabaseConfig, Store},
};

/// Prepares the statements and gates of all jobs against the daemon's own database; one message per statement that it
/// refuses. Empty when there is nothing to ask, when the SQLite file is not there yet, or when nobody answers: what
/// cannot be asked is not refused.
pub async fn refused_statements(table: &JobTable, database: &DatabaseConfig) -> Vec<(JobName, String)> {
    let dialect = if database.url.starts_with("sqlite") { Dialect::Sqlite } else { Dialect::Postgres };
    let asked = statements(table, dialect);
    if asked.is_empty() || !is_there(database) {
        return Vec::new();
    }
    let Ok(store) = Store::open(database).await else { return Vec::new() };
    let mut refused = Vec::new();
    for (job, line, text) in asked {
        let Ok(connection) = store.begin_app().await else { break };
        if let Err(error) = prepare(connection, text).await {
            refused.push((job, format!("line {line}: the database refuses the statement: {error}")));
        }
    }
    store.close().await;
    refused
}

fn statements(table: &JobTable, dialect: Dialect) -> Vec<(JobName, u64, String)> {
    let mut all = Vec::new();
    for entry in table.jobs.values() {
        let own = entry.work.statements(dialect).into_iter().filter(|statement| statement.database.is_none());
        all.extend(own.map(|statement| (entry.job.name.clone(), statement.line, statement.text)));
        if let Some(Gate::Sql { text }) = &entry.job.gate {
            all.push((entry.job.name.clone(), 1, text.clone()));
        }
    }
    all
}

/// Opening a SQLite database makes its file; a check must not.
fn is_there(database: &DatabaseConfig) -> bool {
    let path = database.url.strip_prefix("sqlite:").map(|path| path.trim_start_matches("//"));
    path.is_none_or(|path| database.data_dir.join(Path::new(path.split('?').next().unwrap_or(path))).exists())
}

/// Parses and plans; nothing is executed, and the transaction ends with the connection.
async fn prepare(connection: AppConnection, text: String) -> Result<(), sqlx::Error> {
    let text = AssertSqlSafe(text).into_sql_str();
    match connection {
        AppConnection::Postgres(mut tx) => tx.prepare(text).await.map(drop),
        AppConnection::Sqlite(mut guard) => guard.prepare(text).await.map(drop),
    }
}
