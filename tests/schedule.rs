//! When jobs are due: cron, at and every, in zones whose clocks change.

mod schedule {
    pub mod oracle;

    mod changes;
    mod commands;
    mod exact;
    mod golden;
    mod properties;
    mod refused;
    mod zones;
}

use chrono::{DateTime, Utc};
use emponto::domain::schedule::{Dst, Gap, Repeat, Schedule, Zone};

const AFTER_FIRST: Dst = Dst { gap: Gap::After, repeat: Repeat::First };
const AFTER_BOTH: Dst = Dst { gap: Gap::After, repeat: Repeat::Both };
const SKIP_FIRST: Dst = Dst { gap: Gap::Skip, repeat: Repeat::First };
const SKIP_BOTH: Dst = Dst { gap: Gap::Skip, repeat: Repeat::Both };
const POLICIES: [Dst; 4] = [AFTER_FIRST, AFTER_BOTH, SKIP_FIRST, SKIP_BOTH];

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is an instant"))
}

#[track_caller]
fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap()
}

#[track_caller]
fn cron(text: &str, zone_name: &str, dst: Dst) -> Schedule {
    Schedule::cron(text, &zone(zone_name), dst).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The instants in `(after, until]`.
fn due(schedule: &Schedule, after: &str, until: &str) -> Vec<DateTime<Utc>> {
    schedule.instants(instant(after), instant(until)).collect()
}

/// The same as local times with their offset, `2025-03-09T03:00-04`, so that a test reads like a wall clock.
fn local(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
    let rules = schedule.zone().map_or(jiff::tz::TimeZone::UTC, |zone| zone.rules().clone());
    let shown = |moment: DateTime<Utc>| {
        let moment = jiff::Timestamp::from_millisecond(moment.timestamp_millis()).unwrap();
        moment.to_zoned(rules.clone()).strftime("%Y-%m-%dT%H:%M%:::z").to_string()
    };
    due(schedule, after, until).into_iter().map(shown).collect()
}
