//! What must hold for any expression, zone and moment.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::domain::schedule::{Dst, Gap, Repeat, Schedule, Zone};
use proptest::{prelude::*, sample::select};

use crate::{
    POLICIES,
    schedule::oracle::{self, Fields},
};

const ZONES: [&str; 12] = [
    "UTC",
    "America/Sao_Paulo",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "Europe/Lisbon",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
];

/// A list of items of one field, in the dialect that the oracle reads too.
fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = (min..=max).prop_map(|value| value.to_string());
    let range = (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let step = (min..=max, min..=max, 1..=max / 2).prop_map(|(a, b, step)| format!("{}-{}/{step}", a.min(b), a.max(b)));
    let star_step = (1..=max).prop_map(|step| format!("*/{step}"));
    let item = prop_oneof![6 => value, 2 => range, 1 => step, 1 => star_step];
    let list = prop::collection::vec(item, 1..4).prop_map(|items| items.join(","));
    prop_oneof![2 => Just("*".to_owned()), 3 => list]
}

fn day_of_month() -> impl Strategy<Value = String> {
    let special = select(vec!["L", "LW", "1W", "15W", "31W,3"]).prop_map(str::to_owned);
    prop_oneof![4 => Just("*".to_owned()), 3 => field(1, 31), 1 => special]
}

fn day_of_week() -> impl Strategy<Value = String> {
    let special = select(vec!["5#2", "0#5,3", "5L", "7L", "mon-fri", "SUN", "6-7"]).prop_map(str::to_owned);
    prop_oneof![4 => Just("*".to_owned()), 2 => field(0, 6), 1 => special]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), day_of_month(), field(1, 12), day_of_week())
        .prop_map(|(minute, hour, of_month, month, of_week)| format!("{minute} {hour} {of_month} {month} {of_week}"))
}

fn zone() -> impl Strategy<Value = Zone> {
    select(ZONES.to_vec()).prop_map(|name| Zone::parse(name).unwrap())
}

fn dst() -> impl Strategy<Value = Dst> {
    select(POLICIES.to_vec())
}

/// A moment of 1995 to 2037, to the millisecond.
fn moment() -> impl Strategy<Value = DateTime<Utc>> {
    (788_918_400_000..2_145_916_800_000_i64).prop_map(|ms| DateTime::from_timestamp_millis(ms).unwrap())
}

/// A moment up to 20 hours before or 3 hours after one of the zone's clock changes, or any, when it has none.
fn near_change(zone: &Zone, moment: DateTime<Utc>) -> DateTime<Utc> {
    let shifts = zone.shifts(788_918_400, 2_145_916_800);
    let chosen = shifts.get(moment.timestamp() as usize % shifts.len().max(1));
    // Half of the moments are in the three hours after the change, where a search can begin in a second pass.
    let distance = moment.timestamp_millis() % 360 - 180;
    let minutes = if distance < 0 { distance * 20 / 3 } else { distance };
    chosen.map_or(moment, |shift| DateTime::from_timestamp(shift.at, 0).unwrap() + TimeDelta::minutes(minutes))
}

/// A schedule of any kind; expressions that never fire are left out.
fn schedule() -> impl Strategy<Value = Schedule> {
    let every = (100..10_000_000_u64, 0..100_u64).prop_map(|(interval, offset)| {
        Schedule::every(Duration::from_millis(interval), Duration::from_millis(offset)).ok()
    });
    let cron = (expression(), zone(), dst()).prop_map(|(text, zone, dst)| Schedule::cron(&text, &zone, dst).ok());
    prop_oneof![1 => every, 4 => cron].prop_filter_map("never fires", |schedule| schedule)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_matches_a_minute_scan_near_clock_changes(
        text in expression(), zone in zone(), dst in dst(), moment in moment(),
    ) {
        let Ok(schedule) = Schedule::cron(&text, &zone, dst) else { return Ok(()) };
        let after = near_change(&zone, moment);
        let until = after + TimeDelta::hours(30);
        let minutes = oracle::minutes(zone.rules(), after, until);

        let found = schedule.instants(after, until).collect::<Vec<_>>();

        let expected = oracle::due(&Fields::new(&text), &minutes, dst.gap == Gap::After, dst.repeat == Repeat::Both);
        prop_assert_eq!(&found, &expected, "{} in {:?} under {:?} after {}", text, zone, dst, after);
        let counted = schedule.span(after, until).map_or(0, |span| span.count);
        prop_assert_eq!(counted, expected.len() as i64);
    }

    #[test]
    fn the_next_instant_is_later_and_nothing_lies_between(schedule in schedule(), moment in moment()) {
        let Some(next) = schedule.next_after(moment) else { return Ok(()) };

        prop_assert!(moment < next);
        prop_assert_eq!(next.timestamp_subsec_nanos() % 1_000_000, 0);
        prop_assert_eq!(schedule.next_after(next - TimeDelta::milliseconds(1)), Some(next));
        prop_assert_eq!(schedule.span(moment, next).map(|span| (span.first, span.last, span.count)), Some((next, next, 1)));
        prop_assert_eq!(schedule.span(moment, next - TimeDelta::milliseconds(1)), None);
    }

    #[test]
    fn a_later_moment_never_has_an_earlier_next_instant(
        schedule in schedule(), moment in moment(), distance in 0..4_000_000_000_i64,
    ) {
        let later = moment + TimeDelta::milliseconds(distance);

        let (next, next_of_later) = (schedule.next_after(moment), schedule.next_after(later));

        prop_assert!(next <= next_of_later || next_of_later.is_none());
    }

    #[test]
    fn the_instants_of_two_halves_are_the_instants_of_the_whole(
        schedule in schedule(), moment in moment(), first in 0..400_000_000_i64, second in 0..400_000_000_i64,
    ) {
        let middle = moment + TimeDelta::milliseconds(first);
        let end = middle + TimeDelta::milliseconds(second);
        let count = |after, until| schedule.span(after, until).map_or(0, |span| span.count);

        prop_assert_eq!(count(moment, middle) + count(middle, end), count(moment, end));
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in "[ -~é\\t]{0,24}", field in "[0-9*/,#LWlw?+-]{1,8}") {
        let zone = Zone::utc();
        let answers = [text.clone(), format!("@{text}"), format!("{field} {field} * * *"), format!("0 0 {field} * {field}")];
        for text in answers {
            if let Err(error) = Schedule::cron(&text, &zone, Dst::default()) {
                prop_assert!(!error.message.is_empty() && !error.message.ends_with('.'));
                prop_assert!(error.span.is_none_or(|span| text.get(span).is_some()));
            }
        }
        let _ = Schedule::at(&[&text], &[&field], &zone, Dst::default());
        let _ = Zone::parse(&text);
    }
}
