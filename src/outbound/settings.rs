//! `[outbound]` of jobs.toml: how and when people are written to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Hours;

/// How often people are written to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    pub per_hour: u32,
    pub per_day: u32,
    pub between: std::time::Duration,
    pub per_client_hour: u32,
    pub per_tipo_hour: std::collections::BTreeMap<String, u32>,
}
impl Default for Limits {
    fn default() -> Self {
        let tipos = [("prospeccao", 10), ("followup", 15), ("resposta", 50), ("campanha", 20), ("sistema", 1_000)];
        Self { per_hour: 20, per_day: 100, between: std::time::Duration::from_secs(45), per_client_hour: 3, per_tipo_hour: tipos.into_iter().map(|(a, b)| (a.to_owned(), b)).collect() }
    }
}

/// Settings of `[outbound]`, which all jobs that write to people share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// When proactive messages may go.
    pub hours: Hours,
    pub limits: Limits,
    pub timeout: std::time::Duration,
}

impl Outbound {
    pub fn allows(&self, _: &str) -> bool {
        true
    }

    /// What is wrong with the settings, one message per mistake.
    pub fn check(&self) -> Vec<String> {
        self.hours.check()
    }
}
