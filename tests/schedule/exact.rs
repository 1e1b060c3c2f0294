//! Intervals, spans, limits, text and hashes: what the rest of the house relies on.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::domain::{
    job::JobName,
    schedule::{Dst, Schedule, ScheduleSpec, Span},
};

use crate::{AFTER_FIRST, POLICIES, SKIP_BOTH, cron, due, instant, zone};

fn every(interval_ms: u64, offset_ms: u64) -> Schedule {
    Schedule::every(Duration::from_millis(interval_ms), Duration::from_millis(offset_ms)).unwrap()
}

fn samples() -> Vec<Schedule> {
    let new_york = zone("America/New_York");
    vec![
        every(100, 0),
        every(30_000, 5_000),
        every(5_400_000, 0),
        every(366 * 86_400_000, 0),
        cron("* * * * *", "UTC", AFTER_FIRST),
        cron("*/10 * * * * *", "America/Sao_Paulo", AFTER_FIRST),
        cron("0 8 * * mon-fri", "America/Sao_Paulo", SKIP_BOTH),
        cron("@midnight", "Australia/Lord_Howe", AFTER_FIRST),
        cron("0 0 29 2 +MON", "Europe/Lisbon", AFTER_FIRST),
        cron("0 8 * * *", "America/Sao_Paulo", AFTER_FIRST).with_jitter(Duration::from_secs(90)).unwrap(),
        Schedule::at(&["12:00", "8:00", "08:00"], &["mon-fri"], &new_york, AFTER_FIRST).unwrap(),
        Schedule::at(&["23:59:59"], &["fri-mon", "wed"], &new_york, SKIP_BOTH).unwrap(),
        Schedule::at(&["00:00"], &["all"], &new_york, AFTER_FIRST).unwrap(),
    ]
}

#[test]
fn intervals_are_anchored_to_the_epoch() {
    let schedule = every(600_000, 5_000);

    let found = due(&schedule, "2026-11-20T10:00:05Z", "2026-11-20T10:20:05Z");
    let before_1970 = due(&schedule, "1969-12-31T23:49:00Z", "1970-01-01T00:00:05Z");

    assert_eq!(found, [instant("2026-11-20T10:10:05Z"), instant("2026-11-20T10:20:05Z")]);
    assert_eq!(before_1970, [instant("1969-12-31T23:50:05Z"), instant("1970-01-01T00:00:05Z")]);
}

#[test]
fn a_moment_inside_a_millisecond_or_a_second_does_not_repeat_an_instant() {
    let moment = instant("2026-11-20T10:00:00.000900Z");

    assert_eq!(every(100, 0).next_after(moment), Some(instant("2026-11-20T10:00:00.100Z")));
    assert_eq!(cron("* * * * *", "UTC", AFTER_FIRST).next_after(moment), Some(instant("2026-11-20T10:01:00Z")));
    let just_before = instant("2026-11-20T09:59:59.999999Z");
    assert_eq!(cron("* * * * *", "UTC", AFTER_FIRST).next_after(just_before), Some(instant("2026-11-20T10:00:00Z")));
}

#[test]
fn a_span_sums_up_what_the_instants_are() {
    let stretches = [
        ("2025-03-01T00:00:00Z", "2025-03-10T07:00:00Z"),
        ("2025-03-09T06:59:59Z", "2025-03-09T07:00:00Z"),
        ("2025-10-25T00:00:00.5Z", "2025-11-03T00:00:00Z"),
        ("1969-12-31T00:00:00Z", "1970-01-01T12:00:00Z"),
        ("2025-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ];
    for schedule in &samples()[1..] {
        for (after, until) in stretches {
            let found = due(schedule, after, until);
            let expected = found.first().zip(found.last());
            let expected = expected.map(|(first, last)| Span { first: *first, last: *last, count: found.len() as i64 });

            assert_eq!(schedule.span(instant(after), instant(until)), expected, "{} after {after}", schedule.words());
        }
    }
}

#[test]
fn thirty_years_are_summed_up_at_once() {
    let (after, until) = (instant("2000-01-01T00:00:00Z"), instant("2030-01-01T00:00:00Z"));
    let days = (until - after).num_days();

    let tenths = every(100, 0).span(after, until).unwrap();
    let seconds = cron("* * * * * *", "America/New_York", AFTER_FIRST).span(after, until).unwrap();
    let daily = cron("0 8 * * *", "America/New_York", AFTER_FIRST).span(after, until).unwrap();

    assert_eq!(tenths, Span { first: after + TimeDelta::milliseconds(100), last: until, count: days * 864_000 });
    assert_eq!(seconds, Span { first: after + TimeDelta::seconds(1), last: until, count: days * 86_400 });
    assert_eq!((daily.count, daily.last), (days, instant("2029-12-31T13:00:00Z")));
}

#[test]
fn nothing_panics_at_the_ends_of_time() {
    let moments = [
        DateTime::<Utc>::MIN_UTC,
        instant("0001-01-01T00:00:00Z"),
        instant("1900-01-01T00:00:00Z"),
        instant("1969-12-31T23:59:59.999Z"),
        instant("9998-12-31T23:59:59.999Z"),
        instant("9999-01-01T00:00:00Z"),
        DateTime::<Utc>::MAX_UTC,
    ];
    let job = JobName::parse("end").unwrap();
    for schedule in samples() {
        for moment in moments {
            let next = schedule.next_after(moment);

            assert_eq!(next.is_some(), moment < instant("9990-01-01T00:00:00Z"), "{} at {moment}", schedule.words());
            assert!(next.is_none_or(|next| moment < next));
            schedule.span(moment, moment + TimeDelta::days(1).min(DateTime::<Utc>::MAX_UTC - moment));
            schedule.start_delay(&job, moment);
            schedule.period(moment);
            schedule.clock_change_notes(moment);
            assert_eq!(schedule.instants(moment, moment).count(), 0);
        }
        assert!(schedule.span(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC).is_some());
    }
}

#[test]
fn the_period_is_the_shortest_distance_between_two_instants() {
    let seconds =
        |text| cron(text, "America/New_York", AFTER_FIRST).period(instant("2025-03-08T00:00:00Z")).unwrap().as_secs();

    assert_eq!(seconds("* * * * *"), 60);
    assert_eq!(seconds("*/7 * * * *"), 4 * 60);
    assert_eq!(seconds("0 8 * * *"), 86_400);
    assert_eq!(seconds("0 8 * * 1-5"), 86_400);
    assert_eq!(seconds("0 0 1 * *"), 28 * 86_400);
    assert_eq!(seconds("0,5 0 1 1 *"), 300);
    assert_eq!(seconds("59 23 1 * *"), 28 * 86_400);
    assert_eq!(seconds("0 9-17 * * mon"), 3600);
    assert_eq!(seconds("*/25 * * * * *"), 10);
    assert_eq!(every(250, 0).period(instant("2025-03-08T00:00:00Z")), Some(Duration::from_millis(250)));
}

#[test]
fn a_schedule_survives_its_own_text() {
    for schedule in samples() {
        let spec = schedule.spec();

        let back = Schedule::from_spec(&spec).unwrap_or_else(|error| panic!("{error}"));

        assert_eq!(back.spec(), spec);
        assert_eq!(back.hash(), schedule.hash());
        let after = instant("2025-03-01T00:00:00Z");
        assert_eq!(
            back.instants(after, after + TimeDelta::days(9)).take(500).collect::<Vec<_>>(),
            schedule.instants(after, after + TimeDelta::days(9)).take(500).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_text_is_what_the_schedules_table_documents() {
    let texts = samples().iter().map(|schedule| schedule.spec().schedule).collect::<Vec<_>>();

    assert_eq!(
        texts,
        [
            "every 100ms",
            "every 30s offset 5s",
            "every 1h30min",
            "every 366d",
            "cron * * * * *",
            "cron */10 * * * * *",
            "cron 0 8 * * mon-fri",
            "cron @midnight",
            "cron 0 0 29 2 +MON",
            "cron 0 8 * * * jitter 1min30s",
            "at 08:00,12:00 mon-fri",
            "at 23:59:59 mon,wed,fri-sun",
            "at 00:00",
        ]
    );
}

#[test]
fn a_text_that_is_no_schedule_is_refused_in_words() {
    let bad = [
        "",
        "every",
        "every 30x",
        "every 5y",
        "cron",
        "cron x",
        "at",
        "at 25:00",
        "never",
        "every 30s jitter 30s",
        "every 99999999999999999999s",
        "every 18446744073709551615d",
        "cron * * * * * jitter x",
    ];
    for text in bad {
        let spec = ScheduleSpec {
            schedule: text.into(),
            timezone: "UTC".into(),
            dst: "gap=after repeat=first".into(),
            zone_data_version: String::new(),
        };

        let error = Schedule::from_spec(&spec).unwrap_err();

        assert!(error.starts_with(&format!("schedule {text:?}: ")), "{error}");
    }
}

#[test]
fn the_hash_changes_with_each_thing_an_epoch_stands_for_and_with_nothing_else() {
    let base = |dst| Schedule::at(&["08:00"], &["mon-fri"], &zone("America/New_York"), dst).unwrap();
    let mut hashes = POLICIES.map(|dst| base(dst).hash()).to_vec();
    hashes.push(base(AFTER_FIRST).with_jitter(Duration::from_secs(1)).unwrap().hash());
    hashes.push(Schedule::at(&["08:01"], &["mon-fri"], &zone("America/New_York"), AFTER_FIRST).unwrap().hash());
    hashes.push(Schedule::at(&["08:00"], &[], &zone("America/New_York"), AFTER_FIRST).unwrap().hash());
    hashes.push(Schedule::at(&["08:00"], &["mon-fri"], &zone("America/Toronto"), AFTER_FIRST).unwrap().hash());
    hashes.extend([every(1000, 0), every(1000, 1), every(2000, 0)].map(|schedule| schedule.hash()));
    let distinct = hashes.iter().collect::<BTreeSet<_>>();

    assert_eq!(distinct.len(), hashes.len());
    assert!(hashes.iter().all(|hash| hash.len() == 64));
    let written_otherwise =
        Schedule::at(&["8:00", "08:00"], &["mon,tue", "wed-fri"], &zone("america/new_york"), AFTER_FIRST);
    assert_eq!(written_otherwise.unwrap().hash(), base(AFTER_FIRST).hash());
    // Elapsed time heeds no policy, so editing the policy opens no epoch.
    let hourly = |dst: Dst| cron("0 * * * *", "America/New_York", dst).hash();
    assert_eq!(hourly(AFTER_FIRST), hourly(SKIP_BOTH));
    // No zone, no zone data: this hash must never change, or every interval job opens a new epoch.
    assert_eq!(every(30_000, 0).hash(), "194224095ca52fe7b9a8728df3fbcda71b864e6cb271eb675c1fd96f8d8af24a");
}

#[test]
fn jitter_is_stable_spread_out_and_below_its_bound() {
    let schedule = every(60_000, 0).with_jitter(Duration::from_secs(30)).unwrap();
    let job = |name| JobName::parse(name).unwrap();
    let from = instant("2026-11-20T00:00:00Z");
    let delays = |name| {
        let job = job(name);
        schedule
            .instants(from, from + TimeDelta::hours(10))
            .map(|at| schedule.start_delay(&job, at))
            .collect::<Vec<_>>()
    };

    let (first, second) = (delays("first"), delays("second"));

    assert_eq!(first, delays("first"));
    assert_ne!(first, second);
    assert!(first.iter().all(|delay| TimeDelta::zero() <= *delay && *delay < TimeDelta::seconds(30)));
    let mean = first.iter().sum::<TimeDelta>() / first.len() as i32;
    assert!(TimeDelta::seconds(13) < mean && mean < TimeDelta::seconds(17), "{mean}");
    assert_eq!(every(60_000, 0).start_delay(&job("first"), from), TimeDelta::zero());
    // Part of the plan, so the same in every release.
    assert_eq!(schedule.start_delay(&job("first"), from).num_milliseconds(), 9_459);
}

#[test]
fn schedules_are_said_in_words() {
    let words = |text| cron(text, "UTC", AFTER_FIRST).words().replace(" (UTC)", "");

    for (text, expected) in [
        ("0 8 * * 1-5", "at 08:00 on Monday to Friday"),
        ("0 0 * * *", "at 00:00 every day"),
        ("@hourly", "every hour"),
        ("*/30 * * * *", "every 30 minutes"),
        ("7 * * * *", "every hour at minute 7"),
        ("0 */2 * * *", "every 2 hours"),
        ("* * * * * *", "every second"),
        ("*/10 * 9-17 * * mon-fri", "every 10 seconds from 9:00 to 17:59 on Monday to Friday"),
        ("*/5 9-17/2 * * *", "every 5 minutes in each 2nd hour from 9:00 to 17:59"),
        ("30 4 1,15 * 5", "at 04:30 on days 1 and 15 of the month or on Friday"),
        ("0 0 LW * *", "at 00:00 on the last weekday of the month"),
        ("0 0 * * 5#2", "at 00:00 on the 2nd Friday of the month"),
        ("0 0 1 jan,jul *", "at 00:00 on day 1 of the month in January and July"),
        ("15 8,20 * * sat,sun", "at 08:15 and 20:15 on Saturday and Sunday"),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
    let said = samples().iter().map(Schedule::words).collect::<Vec<_>>();
    assert_eq!(said[0], "every 100 milliseconds");
    assert_eq!(said[1], "every 30 seconds, 5 seconds later");
    assert_eq!(said[9], "at 08:00 every day (America/Sao_Paulo), spread over 1 minute 30 seconds");
    assert_eq!(said[10], "at 08:00 and 12:00 on Monday to Friday (America/New_York)");
    assert_eq!(said[11], "at 23:59:59 on Monday, Wednesday, Friday to Sunday (America/New_York)");
    assert_eq!(every(3_600_000, 0).words(), "every hour");
}

#[test]
fn check_warns_of_what_is_rarely_meant() {
    assert!(every(86_400_000, 0).warnings()[0].contains("use `at` for a time of day"));
    assert!(every(5_000, 0).warnings()[0].contains("up to 17280 ledger rows a day"));
    assert!(every(30_000, 0).warnings().is_empty());
    assert!(cron("0 0 */2 * 1", "UTC", AFTER_FIRST).warnings()[0].contains("only a bare `*` means any day"));
    assert!(cron("0 0 1 * 1", "UTC", AFTER_FIRST).warnings().is_empty());
    assert!(cron("0 0 */2 * *", "UTC", AFTER_FIRST).warnings().is_empty());
}
