//! Lets the database read the jobs' statements before 08:00 does.

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::{
    domain::job::JobName,
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
    let statements = |name: &JobName| table.jobs.get(name).map(|entry| entry.work.statements(own)).unwrap_or_default();
    let of_ours: Vec<_> = table
        .jobs
        .keys()
        .flat_map(|name| statements(name).into_iter().map(move |statement| (name, statement)))
        .filter(|(_, statement)| statement.database.is_none())
        .collect();
    if of_ours.is_empty() || !is_there(database) {
        return Ok(Vec::new());
    }
    let store = Store::open(database).await?;
    let mut refused = Vec::new();
    for (name, statement) in of_ours {
        if let Some(reason) = refusal(&store, statement.text).await? {
            refused.push((
                name.clone(),
                format!("line {} of its SQL: the {} database says: {reason}", statement.line, kind(&store)),
            ));
        }
    }
    Ok(refused)
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
