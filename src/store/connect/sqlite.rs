//! SQLite: one writer, a few readers, and what a file can have against us.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{sleep, timeout},
};

use super::{Described, writer::Writer};
use crate::store::{
    DatabaseConfig, Result, StoreError,
    dialect::{Book, Kind},
    session::{Body, LONG, Limits, READ, Session},
};

/// Readers beside the one writer.
const READERS: u32 = 4;
/// Another process (a command line) may hold the write lock this long.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// What SQLite says of a file that somebody else has locked: the lower byte of its codes.
const SQLITE_BUSY: i32 = 5;
/// Between two looks at whether he has let go.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// 3.51.3 repairs a corruption of WAL files under concurrent checkpoints (sqlite.org/wal.html, "The WAL-Reset Bug").
const OLDEST_VERSION: (u32, u32, u32) = (3, 51, 3);

pub(in crate::store) struct Sqlite {
    pub path: PathBuf,
    writer: Writer,
    connection: Arc<Mutex<SqliteConnection>>,
    /// Handlers that wait for the connection take turns here.
    turn: Mutex<()>,
    readers: SqlitePool,
}

impl Sqlite {
    pub async fn open(config: &DatabaseConfig, book: Arc<Book>) -> Result<Self> {
        let (path, synchronous) = place(config)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unusable(&path, &error.to_string()))?;
        }
        refuse_read_only(&path)?;
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(BUSY_LIMIT).foreign_keys(true);
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .disable_statement_logging();
        let mut connection = connected(&writing).await.map_err(|error| unusable(&path, &error.to_string()))?;
        refuse_old_version(&mut connection).await?;
        let reading = options.read_only(true).disable_statement_logging();
        let readers = SqlitePoolOptions::new().max_connections(READERS).test_before_acquire(false);
        let readers = readers.acquire_timeout(BUSY_LIMIT).connect_lazy_with(reading);
        let connection = Arc::new(Mutex::new(connection));
        let writer = Writer::start(Arc::clone(&connection), book);
        Ok(Self { path, writer, connection, turn: Mutex::new(()), readers })
    }

    pub fn describe(&self) -> Described {
        let path = self.path.display().to_string();
        let url = format!("sqlite://{path}");
        Described { kind: Kind::Sqlite, url, database: path, schema: String::new(), pooled: false }
    }

    /// Runs a body in the writer's next transaction; answers when that is committed.
    pub async fn write<T: Send + 'static>(&self, limits: Limits, body: impl Body<T>) -> Result<T> {
        self.writer.ask(limits, body).await
    }

    pub async fn read<T>(&self, book: &Book, body: &impl Body<T>) -> Result<T> {
        let mut connection = self.readers.acquire().await?;
        let answer = timeout(READ.client, async {
            sqlx::raw_sql("begin").execute(&mut *connection).await?;
            let answer = body(&mut Session::sqlite(&mut connection, book)).await;
            sqlx::raw_sql("rollback").execute(&mut *connection).await?;
            answer
        });
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            failed => {
                // It may still be inside its transaction.
                drop(connection.detach());
                failed.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer from the database file".into())))
            }
        }
    }

    /// The writer's connection, with nothing open on it.
    pub async fn lock_writer(&self) -> Result<OwnedMutexGuard<SqliteConnection>> {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        roll_back_left_open(&mut connection).await;
        Ok(connection)
    }

    /// The writer's connection for a handler. Only one of them waits for it, and behind all that the engine has to
    /// write: plan and settle wait for one handler at most, however many there are.
    pub async fn lock_for_handler(&self) -> Result<OwnedMutexGuard<SqliteConnection>> {
        if let Ok(mut free) = Arc::clone(&self.connection).try_lock_owned() {
            roll_back_left_open(&mut free).await;
            return Ok(free);
        }
        let _turn = self.turn.lock().await;
        self.write(LONG, |_| Box::pin(async { Ok(()) })).await?;
        self.lock_writer().await
    }

    /// A connection of its own that only reads, inside a transaction; it goes with its guard.
    pub async fn begin_look(&self) -> Result<OwnedMutexGuard<SqliteConnection>> {
        let mut connection = self.readers.connect_options().connect().await?;
        sqlx::raw_sql("begin").execute(&mut connection).await?;
        Ok(Arc::new(Mutex::new(connection)).lock_owned().await)
    }

    /// Moves the journal into the file and refreshes what the query planner knows.
    pub async fn tidy(&self) -> Result<()> {
        let mut connection = self.lock_writer().await?;
        sqlx::raw_sql("pragma optimize; pragma wal_checkpoint(truncate)").execute(&mut *connection).await?;
        Ok(())
    }

    pub async fn close(&self) {
        self.readers.close().await;
        let mut connection = self.connection.lock().await;
        roll_back_left_open(&mut connection).await;
        // A checkpoint that cannot be made now is made at the next start.
        let _ = sqlx::raw_sql("pragma wal_checkpoint(truncate)").execute(&mut *connection).await;
    }
}

/// Connects, and waits for another process that does the same: two that make one file at once both want to change its
/// journal, and for that SQLite waits for nobody.
async fn connected(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let connecting = async {
        loop {
            match options.connect().await {
                Err(error) if is_busy(&error) => sleep(BUSY_PAUSE).await,
                end => return end,
            }
        }
    };
    // The last word is SQLite's own.
    match timeout(BUSY_LIMIT, connecting).await {
        Ok(end) => end,
        Err(_) => options.connect().await,
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// A handler that was aborted may have left its transaction open on the one writing connection.
pub(super) async fn roll_back_left_open(connection: &mut SqliteConnection) {
    // Fails when nothing is open, which is what we want to be sure of.
    let _ = sqlx::raw_sql("rollback").execute(connection).await;
}

/// Path and durability from `sqlite://path?synchronous=normal`.
pub(super) fn place(config: &DatabaseConfig) -> Result<(PathBuf, SqliteSynchronous)> {
    let rest = config.url.trim_start_matches("sqlite:");
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() || path == ":memory:" || query.contains("mode=memory") {
        return Err(StoreError::Config("sqlite in memory forgets the ledger: give a file, sqlite://workers.db".into()));
    }
    let synchronous = match query {
        // A power cut must not lose what was acknowledged.
        "" | "mode=rwc" | "synchronous=full" => SqliteSynchronous::Full,
        "synchronous=normal" => SqliteSynchronous::Normal,
        "synchronous=off" => SqliteSynchronous::Off,
        other => return Err(StoreError::Config(format!("unknown option in the SQLite URL: {other:?}"))),
    };
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    Ok((
        std::path::absolute(config.data_dir.join(path))
            .map_err(|error| unusable(&config.data_dir, &error.to_string()))?,
        synchronous,
    ))
}

/// SQLite opens what it may not write, and complains at the first write; we complain at once.
fn refuse_read_only(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::access(folder, access).is_err() {
        return Err(unusable(folder, "the folder is not writable, and SQLite keeps its journal there"));
    }
    if path.exists() && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
        return Err(unusable(path, "the file is not writable"));
    }
    Ok(())
}

fn unusable(path: &Path, reason: &str) -> StoreError {
    StoreError::Config(format!(
        "cannot use {}: {reason}; give this user write access, or set WORKERS_DATA_DIR or DATABASE_URL",
        path.display()
    ))
}

async fn refuse_old_version(connection: &mut SqliteConnection) -> Result<()> {
    let row = sqlx::raw_sql("select sqlite_version()").fetch_one(&mut *connection).await?;
    let text: String = row.try_get(0)?;
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    connection.ping().await?;
    if version < OLDEST_VERSION {
        let (major, minor, patch) = OLDEST_VERSION;
        return Err(StoreError::Config(format!(
            "SQLite {text} is too old: {major}.{minor}.{patch} is the oldest we use"
        )));
    }
    Ok(())
}
