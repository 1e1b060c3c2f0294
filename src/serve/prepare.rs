//! Lets the database read the jobs' statements before 08:00 does.

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::{
    domain::job::{Gate, JobName},
    handlers::Dialect,
    job_table::JobTable,
    store::{AppConnection, DatabaseConfig, Kind, Store, StoreError},
};

/// Prepares every statement for the daemon's own database, changes nothing, and returns what it refuses. Empty, and
/// without a connection, when no job has a statement.
pub async fn refused_statements(
    table: &JobTable,
    database: &DatabaseConfig,
) -> Result<Vec<(JobName, String)>, StoreError> {
    let is_postgres = database.url.starts_with("postgres");
    let own = if is_postgres { Dialect::Postgres } else { Dialect::Sqlite };
    let of_ours = statements(table, own);
    if of_ours.is_empty() || !is_there(database) {
        return Ok(Vec::new());
    }
    let store = Store::open(database).await?;
    let mut refused = Vec::new();
    for (name, line, text) in of_ours {
        if let Some(reason) = refusal(&store, text).await? {
            let reason = format!("line {line} of its SQL: the {} database says: {reason}", kind(&store));
            refused.push((name, reason));
        }
    }
    Ok(refused)
}

/// Statements and gates of all jobs: job, line in its own text, text.
fn statements(table: &JobTable, own: Dialect) -> Vec<(JobName, u64, String)> {
    let mut all = Vec::new();
    for (name, entry) in &table.jobs {
        let of_ours = entry.work.statements(own).into_iter().filter(|statement| statement.database.is_none());
        all.extend(of_ours.map(|statement| (name.clone(), statement.line, statement.text)));
        if let Some(Gate::Sql { text }) = &entry.job.gate {
            all.push((name.clone(), 1, text.clone()));
        }
    }
    all
}

/// A SQLite file that is not there yet has nothing to say, and must not be made by looking.
fn is_there(database: &DatabaseConfig) -> bool {
    let Some(path) = database.url.strip_prefix("sqlite:") else { return true };
    let path = path.trim_start_matches("//").split('?').next().unwrap_or_default();
    database.data_dir.join(path).exists()
}

/// In a transaction of its own, which is rolled back: a refusal spoils it.
async fn refusal(store: &Store, text: String) -> Result<Option<String>, StoreError> {
    let sql = AssertSqlSafe(text).into_sql_str();
    let answer = match store.begin_app().await? {
        AppConnection::Postgres(mut tx) => (&mut *tx).prepare(sql).await.map(drop),
        AppConnection::Sqlite(mut connection) => (&mut *connection).prepare(sql).await.map(drop),
    };
    match answer {
        Ok(()) => Ok(None),
        Err(sqlx::Error::Database(refusal)) => Ok(Some(refusal.message().to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn kind(store: &Store) -> &'static str {
    match store.kind() {
        Kind::Postgres => "PostgreSQL",
        Kind::Sqlite => "SQLite",
    }
}
