//! Pools of databases that are not the daemon's own.

/// Small pools, one per URL, opened at first use.
#[derive(Debug, Default)]
pub struct OtherDatabases {}
