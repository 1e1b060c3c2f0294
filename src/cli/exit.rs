//! The exit codes, the same for every command, and the errors that know theirs.

use std::{fmt, process::ExitCode};

use crate::{serve, store::StoreError};

/// The exit codes (docs/operations.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The job or the operation failed.
    Failed = 1,
    Usage = 2,
    ConfigInvalid = 3,
    /// The service or the database does not answer.
    Unreachable = 4,
    Unhealthy = 5,
    /// Waited too long.
    TooLong = 6,
    NotFound = 7,
    /// Something else holds what is needed: a port, a SQLite file, a newer schema, a run in another state.
    Conflict = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub message: String,
}

impl Stop {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// The exit code of an error, by the outermost cause that has one.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return stop.exit;
        }
        if let Some(serve::ListenError::Taken(_)) = cause.downcast_ref() {
            return Exit::Conflict;
        }
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return exit_of_store(error);
        }
    }
    Exit::Failed
}

pub fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Unreachable(_) => Exit::Unreachable,
        StoreError::NewerSchema(_) | StoreError::Locked(_) | StoreError::Conflict(_) => Exit::Conflict,
        StoreError::NotFound(_) => Exit::NotFound,
        StoreError::Config(_) => Exit::ConfigInvalid,
        _ => Exit::Failed,
    }
}
