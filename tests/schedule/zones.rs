//! Every zone and its clock changes, where the zone data come from, and the second opinion on them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::domain::schedule::{
    Gap, Repeat, Schedule, Zone, second_opinion,
    zone::{self, version_in},
};
use jiff::tz::TimeZoneDatabase;

use crate::{
    AFTER_FIRST, POLICIES, instant,
    schedule::oracle::{self, Fields},
};

/// One zone of each set of rules: most names share theirs with another.
fn zones() -> Vec<Zone> {
    let names = TimeZoneDatabase::bundled();
    let zones = names.available().filter_map(|name| Zone::parse(name.as_str()).ok());
    let distinct = zones.map(|zone| {
        (zone.shifts(946_684_800, 2_145_916_800).into_iter().map(|s| (s.at, s.after)).collect::<Vec<_>>(), zone)
    });
    distinct.collect::<BTreeMap<_, _>>().into_values().collect()
}

#[test]
fn every_clock_change_from_2000_to_2037_keeps_the_order_and_the_count_of_instants() {
    let expressions = ["*/30 * * * *", "15,45 0-4,22,23 * * *", "30 2 * * *"];
    let mut changes = 0;
    for zone in zones() {
        let schedules = expressions.map(|text| Schedule::cron(text, &zone, AFTER_FIRST).unwrap());
        for shift in zone.shifts(946_684_800, 2_145_916_800) {
            changes += 1;
            let (after, until) = around(shift.at, TimeDelta::hours(14));
            for schedule in &schedules {
                let found = schedule.instants(after, until).collect::<Vec<_>>();

                assert!(found.is_sorted_by(|a, b| a < b), "{} around {after}: {found:?}", schedule.words());
                let counted = schedule.span(after, until).map_or(0, |span| span.count);
                assert_eq!(counted, found.len() as i64, "{} around {after}", schedule.words());
            }
        }
    }
    assert!(3_000 < changes, "only {changes} clock changes seen");
}

#[test]
fn a_sample_of_all_clock_changes_matches_a_minute_scan() {
    const EACH: usize = 29;
    let expressions = ["*/20 * * * *", "10,50 0-4,22,23 * * *", "30 2 * * *", "0 0 * * *"];
    let changes = zones().into_iter().flat_map(|zone| {
        let shifts = zone.shifts(946_684_800, 2_145_916_800);
        shifts.into_iter().map(move |shift| (zone.clone(), shift))
    });
    for (index, (zone, shift)) in changes.enumerate().filter(|(index, _)| index % EACH == 0) {
        let (after, until) = around(shift.at, TimeDelta::hours(8));
        let minutes = oracle::minutes(zone.rules(), after, until);
        let dst = POLICIES[index / EACH % POLICIES.len()];
        for text in expressions {
            let expected = oracle::due(&Fields::new(text), &minutes, dst.gap == Gap::After, dst.repeat == Repeat::Both);

            let found = Schedule::cron(text, &zone, dst).unwrap().instants(after, until).collect::<Vec<_>>();

            assert_eq!(found, expected, "{text} in {zone:?} under {dst:?} after {after}");
        }
    }
}

fn around(second: i64, distance: TimeDelta) -> (DateTime<Utc>, DateTime<Utc>) {
    let moment = DateTime::from_timestamp(second, 0).unwrap();
    (moment - distance, moment + distance)
}

#[test]
fn the_second_opinion_differs_only_where_its_data_are_known_to_be_old() {
    // Changed by IANA after the data of chrono-tz 0.10.4 (2025b): Morocco and western Canada keep one offset since
    // autumn 2026, and Moldova's clocks change at the hour of the European Union.
    let expected = [
        "Africa/Casablanca",
        "Africa/El_Aaiun",
        "America/Edmonton",
        "America/Inuvik",
        "America/Rainy_River",
        "America/Vancouver",
        "America/Winnipeg",
        "America/Yellowknife",
        "Canada/Central",
        "Canada/Mountain",
        "Canada/Pacific",
        "Europe/Chisinau",
        "Europe/Tiraspol",
    ];

    let differing = Vec::from_iter(TimeZoneDatabase::bundled().available().filter_map(|name| {
        let zone = Zone::parse(name.as_str()).ok()?;
        second_opinion::difference(&zone, instant("2026-11-20T00:00:00Z"))
    }));

    // Newer data on either side may settle a difference; a new one must be looked at.
    let found = differing.iter().map(|difference| difference.zone.as_str()).collect::<BTreeSet<_>>();
    if zone::version() == "2026e" && second_opinion::version() == "2025b" {
        assert_eq!(found, BTreeSet::from(expected));
    }
    assert!(found.len() < 50, "{} zones differ: is one of the two sources broken?", found.len());
}

#[test]
fn a_difference_is_found_to_the_second() {
    let casablanca = Zone::parse("Africa/Casablanca").unwrap();

    let difference = second_opinion::difference(&casablanca, instant("2026-09-01T00:00:00Z"));

    if zone::version() == "2026e" && second_opinion::version() == "2025b" {
        let difference = difference.unwrap();
        assert_eq!(difference.at, instant("2026-09-20T01:00:00Z"));
        assert_eq!((difference.ours, difference.theirs), (0, Some(3600)));
    }
    let utc = second_opinion::difference(&Zone::utc(), instant("2026-09-01T00:00:00Z"));
    assert_eq!(utc, None);
}

#[test]
fn the_version_of_system_data_is_read_strictly() {
    assert_eq!(version_in("# version 2025b\n# This zic input file is in the public domain."), Some("2025b"));
    assert_eq!(version_in("# version 2026aa"), Some("2026aa"));
    for text in
        ["", "# version", "# version unknown", "# version 2025", "2025b", "\n# version 2025b", "# version 2025B"]
    {
        assert_eq!(version_in(text), None, "{text:?}");
    }
}

#[test]
fn versions_are_compared_by_year_and_letter() {
    let year: u32 = zone::bundled_version()[..4].parse().unwrap();
    let letter = &zone::bundled_version()[4..];

    for newer in [format!("{}a", year + 1), format!("{year}{letter}a"), format!("{}aa", year + 1)] {
        assert!(zone::is_newer(&newer), "{newer}");
    }
    let older = [zone::bundled_version().to_owned(), format!("{}z", year - 1), format!("{}aa", year - 1)];
    for other in older.into_iter().chain(["".into(), "unknown".into(), "9999".into(), "é026a".into()]) {
        assert!(!zone::is_newer(&other), "{other}");
    }
}

#[test]
fn older_system_data_are_not_chosen() {
    // The choice is made once for a process, so only what is safe for the other tests is chosen here.
    assert_eq!(zone::choose(Some("2019c")), zone::bundled_version());
    assert_eq!(zone::choose(Some("9999z")), zone::bundled_version(), "the first choice stands");
    assert_eq!(zone::version(), zone::bundled_version());
    assert_eq!(Zone::utc().version(), zone::bundled_version());
}

#[test]
fn a_fingerprint_stands_for_the_rules_of_2020_to_2046() {
    let fingerprint = |name| Zone::parse(name).unwrap().fingerprint().to_owned();

    assert_eq!(fingerprint("America/New_York"), fingerprint("US/Eastern"));
    assert_eq!(fingerprint("UTC"), fingerprint("Etc/UTC"));
    // They parted in 1986 and keep the same time since: only the window counts.
    assert_eq!(fingerprint("Europe/Berlin"), fingerprint("Europe/Paris"));
    assert_ne!(fingerprint("Europe/Berlin"), fingerprint("Europe/Lisbon"));
    assert_ne!(fingerprint("America/Sao_Paulo"), fingerprint("America/New_York"));
}

#[test]
fn a_reading_of_the_local_clock_is_an_instant() {
    let utc = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant");
    for (zone, local, instant) in [
        ("UTC", "2025-01-08T12:00:00", "2025-01-08T12:00:00Z"),
        ("America/Sao_Paulo", "2025-01-08T00:00:00", "2025-01-08T03:00:00Z"),
        ("Pacific/Kiritimati", "2025-01-08T00:00:00", "2025-01-07T10:00:00Z"),
        // New York: forward over 02:00 to 03:00 on 2025-03-09, back from 02:00 to 01:00 on 2025-11-02.
        ("America/New_York", "2025-03-09T01:59:00", "2025-03-09T06:59:00Z"),
        ("America/New_York", "2025-03-09T02:30:00", "2025-03-09T07:30:00Z"),
        ("America/New_York", "2025-03-09T03:00:00", "2025-03-09T07:00:00Z"),
        ("America/New_York", "2025-11-02T01:30:00", "2025-11-02T05:30:00Z"),
        ("America/New_York", "2025-11-02T02:00:00", "2025-11-02T07:00:00Z"),
        // The day that São Paulo's summer time began had no midnight.
        ("America/Sao_Paulo", "2018-11-04T00:00:00", "2018-11-04T03:00:00Z"),
    ] {
        let zone = Zone::parse(zone).unwrap();
        let reading = local.parse().expect("a reading");

        assert_eq!(zone.instant_of(reading), utc(instant), "{local} in {}", zone.name());
    }
}
