//! `noop`: does nothing, for drills, benches, tests and jobs whose real work comes later.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Done, Ending, Handler, Scope};
use crate::domain::{
    duration::LengthOrZero,
    run::{Failure, Report},
};

/// Settings of `run.noop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long the attempt takes.
    pub sleep: LengthOrZero,
    /// The share of attempts that fail, from 0 (none) to 1 (all).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fail: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sleep: LengthOrZero(Duration::ZERO), fail: 0.0 }
    }
}

impl Handler for Settings {
    fn check(&mut self, _: &Scope<'_>) -> Vec<String> {
        if (0.0..=1.0).contains(&self.fail) {
            return Vec::new();
        }
        vec![format!("fail is {}, and must be between 0 and 1", self.fail)]
    }

    async fn run(&self, _: Context) -> Ending {
        if !self.sleep.0.is_zero() {
            // It has nothing to hand over, so it listens to nothing: a sleep that fits into the grace ends well.
            tokio::time::sleep(self.sleep.0).await;
        }
        // 1.0 must always fail and 0.0 never: `f64()` is in [0, 1).
        if fastrand::f64() < self.fail {
            return Err(Failure::retry("failed on purpose").before_effect());
        }
        Ok(Done::Report(Report::default()))
    }
}
