//! A second opinion on zones: where chrono-tz, whose data are compiled elsewhere, disagrees with the data we use.

use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::{bounded, zone::Zone};

/// How far ahead the two are compared: more than a year, so that each yearly rule is met.
const AHEAD: TimeDelta = TimeDelta::days(400);
/// No zone keeps an offset for less than this between two changes of those days.
const STEP: i64 = 3 * 3600;

/// The first moment at which the two disagree about a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub zone: String,
    pub at: DateTime<Utc>,
    /// Local time minus UTC in seconds, as we plan with it.
    pub ours: i64,
    /// The same by chrono-tz; `None` = it does not know the zone.
    pub theirs: Option<i64>,
}

/// The IANA version of the data in chrono-tz.
pub fn version() -> &'static str {
    chrono_tz::IANA_TZDB_VERSION
}

/// The first difference between our offsets and those of chrono-tz in the 400 days after `from`.
pub fn difference(zone: &Zone, from: DateTime<Utc>) -> Option<Difference> {
    let first = bounded(from).timestamp();
    let Ok(theirs) = zone.name().parse::<Tz>() else {
        let ours = zone.offset_at(first);
        return Some(Difference { zone: zone.name().into(), at: bounded(from), ours, theirs: None });
    };
    let offset = |second: i64| {
        let moment = DateTime::from_timestamp(second, 0).expect("years 1 to 9999 are within chrono's range");
        i64::from(theirs.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc())
    };
    let differs = |second: &i64| offset(*second) != zone.offset_at(*second);
    let end = bounded(bounded(from) + AHEAD).timestamp();
    let found = (first..=end).step_by(STEP as usize).find(differs)?;
    let (mut same, mut differing) = (found - STEP, found);
    // A difference at the very start has nothing before it to search.
    while first <= same && same + 1 < differing {
        let middle = same + (differing - same) / 2;
        if differs(&middle) { differing = middle } else { same = middle }
    }
    let at = DateTime::from_timestamp(differing, 0)?;
    Some(Difference { zone: zone.name().into(), at, ours: zone.offset_at(differing), theirs: Some(offset(differing)) })
}
