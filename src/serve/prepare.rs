//! What a start prepares: the database reads the jobs' statements before 08:00 does, and the address is written down.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::bail;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _, error::DatabaseError};
use tracing::warn;

use crate::{
    domain::{
        job::{Gate, JobName},
        run::{Failure, FailureKind},
    },
    engine::queues::as_tx,
    handlers::{
        AppTx, Dialect, Statement,
        team::{self, TeamTable},
    },
    job_table::JobTable,
    store::{DatabaseConfig, Kind, Store, StoreError},
};

/// What is prepared for a job.
struct Asked<'a> {
    job: &'a JobName,
    /// Line in its own text.
    line: u64,
    text: String,
    /// The tables of the team that the job would create or adopt first.
    tables: Vec<&'static TeamTable>,
}

/// Prepares every statement for the daemon's own database, lets each work look at it, changes nothing, and returns what
/// is refused. Empty, and without a connection, when there is no database yet. A table of the team that is missing is made for the moment where
/// the daemon may create it.
pub async fn refused_statements(
    table: &JobTable,
    database: &DatabaseConfig,
    may_create: bool,
) -> anyhow::Result<Vec<(JobName, String)>> {
    let is_postgres = database.url.starts_with("postgres");
    let own = if is_postgres { Dialect::Postgres } else { Dialect::Sqlite };
    let of_ours = statements(table, own);
    let examined =
        table.jobs.values().any(|entry| entry.work.looks_at_database() || !entry.work.tables_looked_at().is_empty());
    if (of_ours.is_empty() && !examined) || !database_is_there(database) {
        return Ok(Vec::new());
    }
    let store = Store::open(database).await?;
    let mut refused: Vec<(JobName, String)> = Vec::new();
    for asked in of_ours {
        let Some(reason) = refusal(&store, &asked, may_create).await? else { continue };
        let told = (asked.job.clone(), reason);
        // A table that cannot be used is told once, not by each statement on it.
        if !refused.contains(&told) {
            refused.push(told);
        }
    }
    for (job, entry) in table.jobs.iter().filter(|(_, entry)| entry.work.looks_at_database()) {
        let mut tx = begin(&store).await?;
        let wrong = entry.work.examine(&mut tx).await.unwrap_or_else(|failure| vec![failure.message]);
        refused.extend(wrong.into_iter().map(|reason| (job.clone(), reason)));
    }
    refused.extend(unusable_tables(table, &store).await?);
    Ok(refused)
}

/// What tables lack that jobs only look at, where they exist.
async fn unusable_tables(table: &JobTable, store: &Store) -> anyhow::Result<Vec<(JobName, String)>> {
    let mut lacking = Vec::new();
    for (job, entry) in &table.jobs {
        for looked_at in entry.work.tables_looked_at() {
            let mut tx = begin(store).await?;
            match team::look_at(&mut tx, looked_at).await {
                Ok(_) => {}
                Err(lacks) if lacks.kind == FailureKind::Permanent => lacking.push((job.clone(), lacks.message)),
                Err(failure) => bail!(failure.message),
            }
        }
    }
    Ok(lacking)
}

/// What is doubtful in the tables of the team that jobs work on, one message each. A table that cannot be used at all is
/// told by `refused_statements`.
pub async fn doubtful_tables(
    table: &JobTable,
    database: &DatabaseConfig,
    may_create: bool,
) -> anyhow::Result<Vec<(JobName, String)>> {
    let with_tables: Vec<_> = table.jobs.iter().filter(|(_, entry)| !entry.work.team_tables().is_empty()).collect();
    if with_tables.is_empty() || !database_is_there(database) {
        return Ok(Vec::new());
    }
    let store = Store::open(database).await?;
    let mut doubts = Vec::new();
    for (job, entry) in with_tables {
        // Dropped, and so rolled back.
        let mut tx = begin(&store).await?;
        if let Ok(found) = team::adopt(&mut tx, &entry.work.team_tables(), may_create).await {
            doubts.extend(entry.work.doubts(&found).into_iter().map(|doubt| (job.clone(), doubt)));
        }
    }
    Ok(doubts)
}

/// Statements and gates of all jobs.
fn statements(table: &JobTable, own: Dialect) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for (job, entry) in &table.jobs {
        let of_ours = entry.work.statements(own).into_iter().filter(|statement| statement.database.is_none());
        let tables = entry.work.team_tables();
        let asked =
            |statement: Statement| Asked { job, line: statement.line, text: statement.text, tables: tables.clone() };
        all.extend(of_ours.map(asked));
        if let Some(Gate::Sql { text }) = &entry.job.gate {
            all.push(Asked { job, line: 1, text: text.clone(), tables: Vec::new() });
        }
    }
    all
}

/// A SQLite file that is not there yet has nothing to say, and must not be made by looking.
pub fn database_is_there(database: &DatabaseConfig) -> bool {
    let Some(path) = database.url.strip_prefix("sqlite:") else { return true };
    let path = path.trim_start_matches("//").split('?').next().unwrap_or_default();
    database.data_dir.join(path).exists()
}

/// A transaction in the daemon's own database, as handlers get it.
pub(super) async fn begin(store: &Store) -> Result<AppTx, StoreError> {
    Ok(as_tx(store.begin_app().await?))
}

/// In a transaction of its own, which is rolled back: a refusal spoils it.
async fn refusal(store: &Store, asked: &Asked<'_>, may_create: bool) -> anyhow::Result<Option<String>> {
    let mut tx = begin(store).await?;
    let text = match as_taken(&mut tx, asked, may_create).await {
        Ok(text) => text,
        Err(failure) if failure.kind == FailureKind::Permanent => return Ok(Some(failure.message)),
        // Neither right nor wrong: the database could not be asked.
        Err(failure) => bail!(failure.message),
    };
    let sql = AssertSqlSafe(text).into_sql_str();
    let answer = match &mut tx {
        AppTx::Postgres(tx) => (&mut **tx).prepare(sql).await.map(drop),
        AppTx::Sqlite(connection) => (&mut **connection).prepare(sql).await.map(drop),
    };
    match answer {
        Ok(()) => Ok(None),
        Err(sqlx::Error::Database(refusal)) if !passes(&*refusal) => {
            let (line, kind, reason) = (asked.line, kind(store), refusal.message());
            Ok(Some(format!("line {line} of its SQL: the {kind} database says: {reason}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the same statement may be taken a moment later: somebody holds a lock, or the server goes down.
fn passes(refusal: &dyn DatabaseError) -> bool {
    let code = refusal.code().unwrap_or_default();
    match code.parse::<u32>() {
        // SQLite, whose codes say more in their higher bits: busy, locked, input or output.
        Ok(number) if code.len() < 5 => [5, 6, 10].contains(&(number & 0xff)),
        // PostgreSQL: connection, serialization, resources, locks and limits, shutdown, system.
        _ => ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)),
    }
}

/// The statement as the database takes it, once the tables that it speaks of are there.
async fn as_taken(tx: &mut AppTx, asked: &Asked<'_>, may_create: bool) -> Result<String, Failure> {
    if asked.tables.is_empty() {
        return Ok(asked.text.clone());
    }
    team::adopt(tx, &asked.tables, may_create).await?.text(&asked.text)
}

fn kind(store: &Store) -> &'static str {
    match store.kind() {
        Kind::Postgres => "PostgreSQL",
        Kind::Sqlite => "SQLite",
    }
}

/// The file in data_dir that says where the daemon listens, for who asks it from the same place.
const LISTEN_FILE: &str = "workers.listen";

/// The written address; it goes with the daemon. One that stays behind is harmless: nobody answers there.
pub struct Written {
    file: PathBuf,
    text: String,
}

impl Written {
    /// Writes the address. A folder that cannot be written to is told, and all else goes on.
    pub fn at(data_dir: &Path, address: SocketAddr) -> Self {
        let written = Self { file: data_dir.join(LISTEN_FILE), text: format!("{address}\n") };
        if let Err(error) = fs::write(&written.file, &written.text) {
            warn!(component = "http", "`workers health` must be told the address: {}: {error}", written.file.display());
        }
        written
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Another daemon of the same folder may have written its own since.
        if fs::read_to_string(&self.file).is_ok_and(|text| text == self.text) {
            // What stays is harmless.
            let _ = fs::remove_file(&self.file);
        }
    }
}

/// Where a daemon of this folder listens, or did when it was killed.
pub fn written_address(data_dir: &Path) -> Option<SocketAddr> {
    fs::read_to_string(data_dir.join(LISTEN_FILE)).ok()?.trim().parse().ok()
}
