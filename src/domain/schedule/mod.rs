//! When a job is due: `every`, `cron` or `at`, in a zone, with a stated policy for DST.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::job::JobName;

/// A schedule; a pure function from instants to instants.
#[derive(Debug, Clone)]
pub struct Schedule {}

/// A schedule as text, as the `schedules` table holds it; `Schedule::from_spec` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// `every 30s offset 5s jitter 1s`, `cron 0 8 * * 1-5`, `at 08:00,12:00 mon-fri`.
    pub schedule: String,
    /// IANA name.
    pub timezone: String,
    /// `gap=after repeat=first`.
    pub dst: String,
    /// Version of the zone data in use, such as `2026e`; the epoch hash holds the zone's own transitions.
    pub zone_data_version: String,
}

/// The due instants of a stretch of time, summed up. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: DateTime<Utc>,
    pub last: DateTime<Utc>,
    pub count: i64,
}

impl Schedule {
    /// The first due instant after `moment`; `None` when there is none before the year 9999.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let _ = moment;
        None
    }

    /// The due instants in `(after, until]`, in order.
    pub fn instants(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let _ = (after, until);
        std::iter::empty()
    }

    /// First, last and number of due instants in `(after, until]`; constant time for `every`.
    pub fn span(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<Span> {
        let _ = (after, until);
        None
    }

    /// How much later than its instant a run may start, by jitter: a hash of (job, instant), below the period.
    pub fn start_delay(&self, job: &JobName, instant: DateTime<Utc>) -> TimeDelta {
        let _ = (job, instant);
        TimeDelta::zero()
    }

    /// The shortest distance between two due instants found in the days after `from`.
    pub fn period(&self, from: DateTime<Utc>) -> Option<Duration> {
        let _ = from;
        None
    }

    pub fn spec(&self) -> ScheduleSpec {
        ScheduleSpec { schedule: String::new(), timezone: String::new(), dst: String::new(), zone_data_version: String::new() }
    }

    pub fn from_spec(spec: &ScheduleSpec) -> Result<Self, String> {
        Err(spec.schedule.clone())
    }

    /// SHA-256 (hex) over schedule, zone, dst, offset, jitter and the zone's transitions: what an epoch stands for.
    pub fn hash(&self) -> String {
        String::new()
    }
}
