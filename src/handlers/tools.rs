//! What all attempts of a process share.

use std::sync::Arc;

use super::{
    Targets,
    http::{HttpClients, Traffic},
    sql::OtherDatabases,
};
use crate::{clock::Clock, outbound::Gateways};

/// Built once per process and cloned into each `Context`; a reload keeps the pools and swaps the targets.
#[derive(Clone)]
pub struct Tools {
    pub http: Arc<HttpClients>,
    pub databases: Arc<OtherDatabases>,
    pub targets: Arc<Targets>,
    /// What is known about the targets: rates, breakers, and which asked to be left alone.
    pub traffic: Arc<Traffic>,
    /// What is known about the gateways that carry messages to people.
    pub gateways: Arc<Gateways>,
    /// The time while an attempt runs; when it began, its `Context` says.
    pub clock: Clock,
    /// `[database] create_team_tables`: whether a missing table of the team may be created.
    pub create_team_tables: bool,
}

impl Tools {
    pub fn new(targets: Targets) -> Self {
        Self::on_clock(targets, Clock::system())
    }

    /// The same, with the rates and breakers of the targets on a clock of the caller's.
    pub fn on_clock(targets: Targets, clock: Clock) -> Self {
        Self {
            http: Arc::default(),
            databases: Arc::default(),
            traffic: Arc::new(Traffic::new(&targets, clock.clone())),
            gateways: Arc::new(Gateways::new(clock.clone())),
            targets: Arc::new(targets),
            clock,
            create_team_tables: true,
        }
    }

    /// The same pools with the targets of a newly read job table. Targets that have not changed keep their rates and
    /// breakers as they stand.
    pub fn with_targets(&self, targets: Targets) -> Self {
        let traffic = Arc::new(self.traffic.with_targets(&targets));
        Self { targets: Arc::new(targets), traffic, ..self.clone() }
    }
}
