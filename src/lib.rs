//! Emponto: a cron-and-interval scheduler daemon with a durable ledger of every due instant.
//!
//! The way of the data, which is also the reading order of the modules:
//!
//! ```text
//! jobs.toml --parse--> JobTable --plan--> Occurrence --record--> run (due) --claim--> (Lease, Run)
//!    --handler--> Result<Report, Failure> --settle--> Outcome --store--> run (finished | due again)
//!    --snapshot--> Snapshot --assess--> Health --> /health/workers, /metrics, `workers status`
//! ```
//!
//! It never flows back. Four pure functions decide everything: `parse`, `plan`, `settle`, `assess`.

// What only the house itself must keep; clippy.toml gives the reasons and what to write instead.
#![warn(clippy::disallowed_methods, clippy::unwrap_used)]

pub mod domain;
pub mod clock;
pub mod config;
pub mod outbound;
pub mod handlers;
pub mod job_table;
pub mod store;
pub mod metrics;
pub mod engine;
pub mod http;
pub mod logs;
pub mod serve;
pub mod cli;
