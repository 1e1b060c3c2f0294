//! What all attempts of a process share.

use std::sync::Arc;

use super::{Targets, http::HttpClients, sql::OtherDatabases};

/// Built once per process and cloned into each `Context`; a reload keeps the pools and swaps the targets.
#[derive(Clone)]
pub struct Tools {
    pub http: Arc<HttpClients>,
    pub databases: Arc<OtherDatabases>,
    pub targets: Arc<Targets>,
    /// `[database] create_team_tables`: whether a missing table of the team may be created.
    pub create_team_tables: bool,
}

impl Tools {
    pub fn new(targets: Targets) -> Self {
        Self { http: Arc::default(), databases: Arc::default(), targets: Arc::new(targets), create_team_tables: true }
    }

    /// The same pools with the targets of a newly read job table.
    pub fn with_targets(&self, targets: Targets) -> Self {
        Self { targets: Arc::new(targets), ..self.clone() }
    }
}
