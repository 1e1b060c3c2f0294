//! How commands read instants and lengths of time.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::domain::duration;

/// An instant, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    At(DateTime<Utc>),
    Ago(Duration),
}

impl Since {
    /// The instant it means at `now`; the earliest there is when it lies before all time.
    pub fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(instant) => instant,
            Self::Ago(length) => TimeDelta::from_std(length)
                .ok()
                .and_then(|length| now.checked_sub_signed(length))
                .unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

/// An instant (RFC 3339), a date (00:00 UTC), or a length of time such as `24h`, counted back from now.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(instant) = instant(text) {
        return Ok(Since::At(instant));
    }
    let neither = "is neither an instant such as 2027-03-14T08:00:00Z, nor a date, nor a length of time such as 24h";
    duration::parse(text).map(Since::Ago).map_err(|_| neither.into())
}

/// An instant (RFC 3339) or a date (00:00 UTC).
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let date = |text: &str| text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN).and_utc());
    let moment = DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()).or_else(|_| date(text));
    moment.map_err(|_| "is neither an instant such as 2027-03-14T08:00:00Z nor a date such as 2027-03-14".into())
}

/// A length of time such as `90s` or `1h30min`.
pub fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text)
}
