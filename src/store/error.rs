//! What a database's refusal means to the caller.

use sqlx::{Error, error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

use super::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(refusal) => from_database(refusal.as_ref()),
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed
            | Error::BeginFailed => Self::Unreachable(error.to_string()),
            Error::Configuration(_) => Self::Config(error.to_string()),
            Error::Encode(_) => Self::Refused(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

fn from_database(refusal: &(dyn DatabaseError + 'static)) -> StoreError {
    if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
        return from_postgres(refusal.code(), refusal.to_string());
    }
    if let Some(refusal) = refusal.try_downcast_ref::<SqliteError>() {
        let code = refusal.code().and_then(|code| code.parse().ok()).unwrap_or_default();
        return from_sqlite(code, refusal.to_string());
    }
    StoreError::Other(refusal.to_string())
}

/// By SQLSTATE, PostgreSQL manual, appendix A.
fn from_postgres(code: &str, message: String) -> StoreError {
    match code {
        // Serialization failure, deadlock: nothing was done, the same transaction may succeed now.
        "40001" | "40P01" => StoreError::Contended(message),
        // The backstop index of exclusive runs: another transaction came first.
        "23505" if message.contains("runs_exclusive") => StoreError::Contended(message),
        // A lock or a statement that took too long; a server that became a standby.
        "55P03" | "57014" | "25006" => StoreError::Unreachable(message),
        "42501" | "3D000" | "28000" | "28P01" => StoreError::Config(message),
        _ if ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => StoreError::Unreachable(message),
        _ if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => StoreError::Refused(message),
        "42P01" | "3F000" => StoreError::Other(format!("{message}: run `workers migrate up`")),
        _ => StoreError::Other(message),
    }
}

/// By primary result code, <https://www.sqlite.org/rescode.html>.
fn from_sqlite(code: i32, message: String) -> StoreError {
    match code & 0xff {
        // Busy, locked, I/O error, disk full, cannot open.
        5 | 6 | 10 | 13 | 14 => StoreError::Unreachable(message),
        8 => StoreError::Config(format!("{message}: the database file or its folder is read-only")),
        // Too big, constraint, mismatch.
        18..=20 => StoreError::Refused(message),
        _ => StoreError::Other(message),
    }
}
