//! `temperature_decay`: a lead that stops answering cools day by day, so that the warm ones are talked to first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Ending, Handler, Scope};
use crate::domain::run::Failure;

/// Settings of `run.temperature_decay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What a lead loses for each whole day of silence, from 0.01 to 1.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub per_day: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_day: 0.05 }
    }
}

impl Handler for Settings {
    fn check(&mut self, _: &Scope<'_>) -> Vec<String> {
        if (0.01..=1.0).contains(&self.per_day) {
            return Vec::new();
        }
        vec![format!("per_day is {}, and must be between 0.01 and 1", self.per_day)]
    }

    async fn run(&self, ctx: Context) -> Ending {
        drop(ctx);
        Err(Failure::permanent("not built yet"))
    }
}
