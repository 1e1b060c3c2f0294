//! A schedule as text: what the `schedules` table holds, and back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Dst, Gap, Repeat, Rule, Schedule, ScheduleError, Text,
    at::At,
    zone::{self, Zone},
};
use crate::domain::duration;

/// A schedule as text, as the `schedules` table holds it; `Schedule::from_spec` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// `every 30s offset 5s jitter 1s`, `cron 0 8 * * 1-5`, `at 08:00,12:00 mon-fri`.
    pub schedule: String,
    /// IANA name; `UTC` for `every`.
    pub timezone: String,
    /// `gap=after repeat=first`.
    pub dst: String,
    /// Version of the zone data in use, such as `2026e`; the epoch hash holds the zone's own transitions.
    pub zone_data_version: String,
}

impl Schedule {
    /// The schedule as text.
    pub fn spec(&self) -> ScheduleSpec {
        let mut schedule = match &self.rule {
            Rule::Every(every) => {
                let text = |ms| duration::format(Duration::from_millis(ms as u64));
                let offset =
                    if every.offset_ms == 0 { String::new() } else { format!(" offset {}", text(every.offset_ms)) };
                format!("every {}{offset}", text(every.interval_ms))
            }
            Rule::Local(local) => match &local.text {
                Text::Cron(cron) => format!("cron {}", cron.as_str()),
                Text::At(at) => format!("at {}", at.text()),
            },
        };
        if !self.jitter.is_zero() {
            schedule += &format!(" jitter {}", duration::format(self.jitter));
        }
        let dst = match &self.rule {
            Rule::Every(_) => Dst::default(),
            Rule::Local(local) => local.dst,
        };
        let timezone = self.zone().map_or("UTC", Zone::name).to_owned();
        let zone_data_version = self.zone().map_or(zone::version(), Zone::version).to_owned();
        ScheduleSpec { schedule, timezone, dst: dst.text(), zone_data_version }
    }

    /// Reads what `spec` writes as `schedule`: `every 30s offset 5s`, `cron 0 8 * * 1-5`, `at 08:00 mon-fri`, each
    /// with `jitter 10s` after it or not.
    pub fn from_text(text: &str, zone: &Zone, dst: Dst) -> Result<Self, ScheduleError> {
        let (rule, jitter) = text.split_once(" jitter ").unwrap_or((text, "0s"));
        let (kind, rule) = rule.split_once(' ').unwrap_or((rule, ""));
        let schedule = match kind {
            "every" => {
                let (interval, offset) = rule.split_once(" offset ").unwrap_or((rule, "0s"));
                Self::every(length(interval)?, length(offset)?)?
            }
            "cron" => Self::cron(rule, zone, dst)?,
            "at" => Self::from_at(At::from_text(rule)?, zone, dst)?,
            _ => return Err(ScheduleError::new(format!("{text:?} begins with neither every, cron nor at"))),
        };
        match length(jitter)? {
            Duration::ZERO => Ok(schedule),
            jitter => schedule.with_jitter(jitter),
        }
    }

    /// Reads a `spec` back, with the zone data of today; the error says what cannot be read.
    pub fn from_spec(spec: &ScheduleSpec) -> Result<Self, String> {
        read(spec).map_err(|error| format!("schedule {:?}: {error}", spec.schedule))
    }
}

fn read(spec: &ScheduleSpec) -> Result<Schedule, ScheduleError> {
    let zone = Zone::parse(&spec.timezone)?;
    Schedule::from_text(&spec.schedule, &zone, Dst::from_text(&spec.dst)?)
}

fn length(text: &str) -> Result<Duration, ScheduleError> {
    duration::parse(text).map_err(|error| match error.split_once("\nhelp: ") {
        Some((message, help)) => ScheduleError::new(message).with_help(help),
        None => ScheduleError::new(error),
    })
}

impl Dst {
    /// `gap=after repeat=first`.
    pub fn text(&self) -> String {
        let gap = match self.gap {
            Gap::After => "after",
            Gap::Skip => "skip",
        };
        let repeat = match self.repeat {
            Repeat::First => "first",
            Repeat::Both => "both",
        };
        format!("gap={gap} repeat={repeat}")
    }

    fn from_text(text: &str) -> Result<Self, ScheduleError> {
        let all = [Gap::After, Gap::Skip].map(|gap| [Repeat::First, Repeat::Both].map(|repeat| Dst { gap, repeat }));
        let found = all.as_flattened().iter().find(|dst| dst.text() == text);
        found.copied().ok_or_else(|| ScheduleError::new(format!("{text:?} is no dst policy")))
    }
}
