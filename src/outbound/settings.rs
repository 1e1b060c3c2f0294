//! `[outbound]` of jobs.toml: how and when people are written to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Hours;

/// Settings of `[outbound]`, which all jobs that write to people share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// When proactive messages may go.
    pub hours: Hours,
}

impl Outbound {
    /// What is wrong with the settings, one message per mistake.
    pub fn check(&self) -> Vec<String> {
        self.hours.check()
    }
}
