//! Days on which clocks change, compared with the minute scan, and the named failures of other schedulers.

use crate::{
    AFTER_BOTH, AFTER_FIRST, POLICIES, SKIP_BOTH, SKIP_FIRST, cron, instant, local,
    schedule::oracle::{self, Fields},
    zone,
};
use emponto::domain::schedule::{Dst, Gap, Repeat, Schedule};

/// Days around clock changes: one-hour, half-hour, at midnight, a day that never was.
const DAYS: [(&str, &str, &str); 12] = [
    ("America/New_York", "2025-03-08T00:00:00Z", "2025-03-11T00:00:00Z"),
    ("America/New_York", "2025-11-01T00:00:00Z", "2025-11-04T00:00:00Z"),
    ("Europe/Lisbon", "2027-03-27T00:00:00Z", "2027-03-30T00:00:00Z"),
    ("Europe/Lisbon", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z"),
    ("Australia/Lord_Howe", "2025-04-04T00:00:00Z", "2025-04-07T00:00:00Z"),
    ("Australia/Lord_Howe", "2025-10-04T00:00:00Z", "2025-10-07T00:00:00Z"),
    ("America/Sao_Paulo", "2018-11-03T00:00:00Z", "2018-11-06T00:00:00Z"),
    ("America/Sao_Paulo", "2018-02-16T12:00:00Z", "2018-02-19T12:00:00Z"),
    ("Africa/Cairo", "2025-04-24T00:00:00Z", "2025-04-27T00:00:00Z"),
    ("Africa/Cairo", "2025-10-30T00:00:00Z", "2025-11-02T00:00:00Z"),
    ("Pacific/Apia", "2011-12-28T12:00:00Z", "2012-01-01T12:00:00Z"),
    ("Asia/Kathmandu", "2025-06-01T00:00:00Z", "2025-06-04T00:00:00Z"),
];

const EXPRESSIONS: [&str; 34] = [
    "* * * * *",
    "*/7 * * * *",
    "0 * * * *",
    "30 * * * *",
    "15,45 */2 * * *",
    "0 */3 * * *",
    "*/30 */4,2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "59 23 * * *",
    "30 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "0 8 * * *",
    "0 2,14 * * *",
    "0 1,14 * * *",
    "0 0-23 * * *",
    "*/15 0-3 * * *",
    "* 1-3 * * *",
    "5-55/10 23,0,1,2 * * *",
    "10 1-23/2 * * *",
    "0 8 * * 1-5",
    "30 2 * * sun",
    "0 0 * * 0,7",
    "30 1 1-7 * *",
    "0 0 30 12 *",
    "0 8 * * 5",
    "0 12 13 * 5",
    "15 23 L * *",
    "45 1 LW,2W * 0#1",
    "0 3 */2 * mon",
    "30 2 * 3,4,10,11 sunL",
];

#[test]
fn days_with_a_clock_change_match_a_minute_scan_under_every_policy() {
    for (zone_name, after, until) in DAYS {
        let zone = zone(zone_name);
        let (after, until) = (instant(after), instant(until));
        let minutes = oracle::minutes(zone.rules(), after, until);
        for (text, dst) in EXPRESSIONS.iter().flat_map(|text| POLICIES.map(|dst| (text, dst))) {
            let schedule = Schedule::cron(text, &zone, dst).unwrap();
            let expected = oracle::due(&Fields::new(text), &minutes, dst.gap == Gap::After, dst.repeat == Repeat::Both);

            let found = schedule.instants(after, until).collect::<Vec<_>>();

            assert_eq!(found, expected, "{text} in {zone_name} under {dst:?} after {after}");
            let counted = schedule.span(after, until).map_or(0, |span| span.count);
            assert_eq!(counted, expected.len() as i64, "span of {text} in {zone_name} under {dst:?} after {after}");
        }
    }
}

#[test]
fn a_list_of_hours_neither_loses_two_oclock_nor_doubles_one_oclock_in_new_york() {
    let two = cron("0 2,14 * * *", "America/New_York", AFTER_FIRST);
    let one = cron("0 1,14 * * *", "America/New_York", AFTER_FIRST);

    let spring = local(&two, "2025-03-09T00:00:00Z", "2025-03-10T12:00:00Z");
    let autumn = local(&one, "2025-11-02T00:00:00Z", "2025-11-03T12:00:00Z");

    assert_eq!(spring, ["2025-03-09T03:00-04", "2025-03-09T14:00-04", "2025-03-10T02:00-04"]);
    assert_eq!(autumn, ["2025-11-02T01:00-04", "2025-11-02T14:00-05", "2025-11-03T01:00-05"]);
}

#[test]
fn eight_oclock_stays_eight_oclock_when_sao_paulo_changes_its_clocks() {
    let schedule = cron("0 8 * * *", "America/Sao_Paulo", AFTER_FIRST);

    let november = local(&schedule, "2018-11-03T00:00:00Z", "2018-11-05T23:00:00Z");

    assert_eq!(november, ["2018-11-03T08:00-03", "2018-11-04T08:00-02", "2018-11-05T08:00-02"]);
}

#[test]
fn a_midnight_that_does_not_exist_comes_at_one_or_not_at_all() {
    let after = cron("0 0 * * *", "America/Sao_Paulo", AFTER_FIRST);
    let skip = cron("0 0 * * *", "America/Sao_Paulo", SKIP_FIRST);

    let moved = local(&after, "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z");
    let left_out = local(&skip, "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z");

    assert_eq!(moved, ["2018-11-04T01:00-02", "2018-11-05T00:00-02"]);
    assert_eq!(left_out, ["2018-11-05T00:00-02"]);
}

#[test]
fn a_half_hour_change_moves_only_the_half_hour_it_takes() {
    let schedule = Schedule::at(&["02:10", "02:45", "08:00"], &[], &zone("Australia/Lord_Howe"), AFTER_BOTH).unwrap();

    let spring = local(&schedule, "2025-10-04T13:00:00Z", "2025-10-05T12:00:00Z");
    let once = cron("45 1 * * *", "Australia/Lord_Howe", AFTER_FIRST);
    let twice = cron("45 1 * * *", "Australia/Lord_Howe", AFTER_BOTH);
    let autumn = |schedule| local(schedule, "2025-04-05T12:00:00Z", "2025-04-06T12:00:00Z");

    assert_eq!(spring, ["2025-10-05T02:30+11", "2025-10-05T02:45+11", "2025-10-05T08:00+11"]);
    assert_eq!(autumn(&once), ["2025-04-06T01:45+11"]);
    assert_eq!(autumn(&twice), ["2025-04-06T01:45+11", "2025-04-06T01:45+10:30"]);
}

#[test]
fn a_day_that_never_was_is_due_at_its_end_or_not_at_all() {
    let on_friday = |dst| Schedule::at(&["08:00"], &["fri"], &zone("Pacific/Apia"), dst).unwrap();

    let after = local(&on_friday(AFTER_FIRST), "2011-12-24T00:00:00Z", "2012-01-07T00:00:00Z");
    let skip = local(&on_friday(SKIP_FIRST), "2011-12-24T00:00:00Z", "2012-01-07T00:00:00Z");

    assert_eq!(after, ["2011-12-31T00:00+14", "2012-01-06T08:00+14"]);
    assert_eq!(skip, ["2012-01-06T08:00+14"]);
}

#[test]
fn a_search_that_begins_in_the_second_pass_of_an_hour_knows_of_the_first() {
    let half_past_one = |dst| {
        let schedule = cron("30 1 * * *", "America/New_York", dst);
        // 01:10 for the second time.
        local(&schedule, "2025-11-02T06:10:00Z", "2025-11-03T12:00:00Z")
    };

    assert_eq!(half_past_one(AFTER_FIRST), ["2025-11-03T01:30-05"]);
    assert_eq!(half_past_one(AFTER_BOTH), ["2025-11-02T01:30-05", "2025-11-03T01:30-05"]);
}

#[test]
fn elapsed_time_knows_no_clock_change() {
    for dst in POLICIES {
        let hourly = cron("0 * * * *", "America/New_York", dst);

        let spring = local(&hourly, "2025-03-09T05:30:00Z", "2025-03-09T08:00:00Z");
        let autumn = local(&hourly, "2025-11-02T04:30:00Z", "2025-11-02T07:00:00Z");

        assert_eq!(spring, ["2025-03-09T01:00-05", "2025-03-09T03:00-04", "2025-03-09T04:00-04"]);
        assert_eq!(autumn, ["2025-11-02T01:00-04", "2025-11-02T01:00-05", "2025-11-02T02:00-05"]);
    }
}

#[test]
fn two_instants_that_meet_after_a_gap_are_one() {
    let schedule = cron("0,30 2,3 * * *", "America/New_York", AFTER_FIRST);

    let spring = local(&schedule, "2025-03-09T05:00:00Z", "2025-03-09T12:00:00Z");
    let span = schedule.span(instant("2025-03-09T05:00:00Z"), instant("2025-03-09T12:00:00Z")).unwrap();

    assert_eq!(spring, ["2025-03-09T03:00-04", "2025-03-09T03:30-04"]);
    assert_eq!(span.count, 2);
}

#[test]
fn seconds_follow_the_policy_too() {
    let schedule = |dst| cron("*/20 59 1 * * *", "America/New_York", dst);
    let counts = POLICIES.map(|dst: Dst| {
        let span = schedule(dst).span(instant("2025-11-02T00:00:00Z"), instant("2025-11-03T00:00:00Z"));
        span.unwrap().count
    });

    assert_eq!(counts, [3, 6, 3, 6]);
}

#[test]
fn the_coming_clock_changes_are_told_with_what_follows() {
    let from = instant("2025-01-01T00:00:00Z");
    let notes = |text, dst| cron(text, "America/New_York", dst).clock_change_notes(from);

    assert_eq!(
        notes("30 2 * * *", AFTER_FIRST),
        ["2025-03-09 02:30 is skipped by the clock in America/New_York: due at 03:00 instead"]
    );
    assert_eq!(
        notes("0,30 1 * * *", SKIP_BOTH),
        ["2025-11-02 01:00 (and 1 more) comes twice in America/New_York: due both times"]
    );
    assert!(notes("0 8 * * *", AFTER_FIRST).is_empty());
    assert!(notes("30 * * * *", AFTER_FIRST).is_empty());
}
