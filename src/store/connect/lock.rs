//! One daemon per SQLite file: a lock that dies with its process.

use std::fs::{File, OpenOptions, TryLockError};

use super::Database;
use crate::store::{Result, Store, StoreError};

/// Held while the daemon runs; the operating system frees it at any death.
#[derive(Debug)]
pub struct DaemonLock {
    _file: Option<File>,
}

impl Store {
    /// Makes sure that no other daemon serves this SQLite file. Nothing to do on PostgreSQL, where replicas are welcome.
    ///
    /// # Errors
    /// `Locked` when another daemon holds it.
    pub fn lock_daemon(&self) -> Result<DaemonLock> {
        let Database::Sqlite(database) = &self.inner.database else { return Ok(DaemonLock { _file: None }) };
        let mut path = database.path.clone().into_os_string();
        path.push(".lock");
        let shown = path.display().to_string();
        let unusable = |error: std::io::Error| StoreError::Config(format!("cannot lock {shown}: {error}"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(DaemonLock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(format!(
                "another daemon uses {}: stop it, or give this one its own DATABASE_URL ({shown} is locked)",
                database.path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}
