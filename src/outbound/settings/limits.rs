//! `limits` of `[outbound]`: how often people are written to.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::duration::LengthOrZero;

/// Messages in an hour and in a day, over all numbers (spec 6, Rate limits).
const PER_HOUR: u32 = 20;
const PER_DAY: u32 = 100;
/// Between two messages to one number.
const BETWEEN: Duration = Duration::from_secs(45);
/// Messages to one client in an hour.
const PER_CLIENT_HOUR: u32 = 3;
/// Messages of one kind in an hour.
const PER_TIPO_HOUR: [(&str, u32); 5] =
    [("prospeccao", 10), ("followup", 15), ("resposta", 50), ("campanha", 20), ("sistema", 1_000)];

/// How often people are written to, in calendar hours and days of the job's zone. 0 = no message goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Messages in an hour, to whomever.
    pub per_hour: u32,
    /// Messages in a day, to whomever.
    pub per_day: u32,
    /// Least time between two messages to one number; 0 = none.
    pub between: Duration,
    /// Messages to one client in an hour.
    pub per_client_hour: u32,
    /// Messages of one kind in an hour; a kind that is not listed has no limit of its own.
    pub per_tipo_hour: BTreeMap<String, u32>,
}

/// `limits` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Messages in a calendar hour of the job's zone, to whomever; `MAX_MSGS_POR_HORA`, else 20. 0 = none go out.
    pub per_hour: Option<u32>,
    /// Messages in a calendar day, to whomever; `MAX_MSGS_POR_DIA`, else 100. 0 = none go out.
    pub per_day: Option<u32>,
    /// Least time between two messages to one number.
    #[schemars(extend("default" = "45s"))]
    pub between: Option<LengthOrZero>,
    /// Messages to one client in a calendar hour.
    #[schemars(extend("default" = 3))]
    pub per_client_hour: Option<u32>,
    /// Messages of one `tipo` in a calendar hour. What is not given stays at prospeccao 10, followup 15, resposta 50,
    /// campanha 20, sistema 1000; other kinds have no limit of their own.
    pub per_tipo_hour: BTreeMap<String, u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_hour: PER_HOUR,
            per_day: PER_DAY,
            between: BETWEEN,
            per_client_hour: PER_CLIENT_HOUR,
            per_tipo_hour: PER_TIPO_HOUR.into_iter().map(|(tipo, most)| (tipo.to_owned(), most)).collect(),
        }
    }
}

impl LimitsTable {
    /// With what is built in where nothing is given; `team` are the messages in an hour and in a day that the team's
    /// variables give.
    pub fn resolve(&self, team: (Option<u32>, Option<u32>)) -> Limits {
        let built_in = Limits::default();
        let mut per_tipo_hour = built_in.per_tipo_hour;
        per_tipo_hour.extend(self.per_tipo_hour.clone());
        Limits {
            per_hour: self.per_hour.or(team.0).unwrap_or(built_in.per_hour),
            per_day: self.per_day.or(team.1).unwrap_or(built_in.per_day),
            between: self.between.map_or(built_in.between, |length| length.0),
            per_client_hour: self.per_client_hour.unwrap_or(built_in.per_client_hour),
            per_tipo_hour,
        }
    }
}
