//! `sql`: runs SQL statements in one transaction, in the daemon's own database or in another one.

mod other;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use other::OtherDatabases;

use super::{Context, Ending, Handler, Scope};
use crate::domain::run::Failure;

/// Settings of `run.sql`: one of `file` and `text`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A file with the statements, relative to the folder of jobs.toml; read when jobs.toml is read.
    pub file: Option<String>,
    /// The statements themselves.
    pub text: Option<String>,
    /// URL of another database, PostgreSQL or SQLite; the daemon's own unless given.
    pub database: Option<String>,
}

/// One statement as a database prepares it, its parameters written as `$1`, `$2`, ...
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub text: String,
    /// Line of the file or text on which it starts, from 1.
    pub line: u64,
    /// `None` = the daemon's own database; else its URL, which is a secret.
    pub database: Option<String>,
}

impl Handler for Settings {
    fn check(&mut self, _: &Scope<'_>) -> Vec<String> {
        Vec::new()
    }

    async fn run(&self, ctx: Context) -> Ending {
        drop(ctx);
        Err(Failure::permanent("not built yet"))
    }
}
