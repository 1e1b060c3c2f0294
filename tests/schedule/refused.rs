//! What is refused when the table is read, and what the message says to write instead.

use std::time::Duration;

use emponto::domain::schedule::{Dst, Schedule, ScheduleError, Zone};

use crate::{AFTER_FIRST, zone};

#[track_caller]
fn refused(text: &str) -> ScheduleError {
    let found = Schedule::cron(text, &zone("America/Sao_Paulo"), AFTER_FIRST);
    found.expect_err(text)
}

/// Expression, message, help, and the text that is marked; empty = not given.
const BAD_CRON: [(&str, &str, &str, &str); 42] = [
    ("", "has 0 fields, not 5 or 6", "", ""),
    ("* * * *", "has 4 fields, not 5 or 6", "", ""),
    ("0 0 8 * * 1-5 2027", "has 7 fields: a year field is not supported", "", ""),
    ("0 22-2 * * *", "the hour field has a range that runs backwards: `22-2`", "write `22-23,0-2`", "22-2"),
    ("0 22-4/2 * * *", "the hour field has a range that runs backwards: `22-4`", "write `22,0,2,4`", "22-4/2"),
    ("50-10 * * * *", "the minute field has a range that runs backwards: `50-10`", "write `50-59,0-10`", "50-10"),
    ("0 8 * * FRI-MON", "the day-of-week field has a range that runs backwards: `FRI-MON`", "write `5-7,1`", "FRI-MON"),
    ("0 8 * * 6-1", "the day-of-week field has a range that runs backwards: `6-1`", "write `6-7,1`", "6-1"),
    ("0 8 * * 5-0", "the day-of-week field has a range that runs backwards: `5-0`", "write `5-7`", "5-0"),
    ("0 8 * nov-feb *", "the month field has a range that runs backwards: `nov-feb`", "write `11-12,1-2`", "nov-feb"),
    ("5/15 * * * *", "the minute field has a step from a single value: `5/15`", "write `5-59/15`", "5/15"),
    ("0 8 * * 1/2", "the day-of-week field has a step from a single value: `1/2`", "write `1-6/2`", "1/2"),
    ("/10 * * * *", "the minute field has a step without a start: `/10`", "write `*/10`", "/10"),
    (
        "*/90 * * * *",
        "the minute field has a step of 90, larger than the field",
        "for a fixed interval use `every = \"90min\"`",
        "*/90",
    ),
    (
        "0 */36 * * *",
        "the hour field has a step of 36, larger than the field",
        "for a fixed interval use `every = \"36h\"`",
        "*/36",
    ),
    ("0 0 * */13 *", "the month field has a step of 13, larger than the field", "", "*/13"),
    ("*/0 * * * *", "the minute field has a step of 0", "", "*/0"),
    ("*/ * * * *", "the minute field has `` as a step", "", "*/"),
    ("0 8 1,,2 * *", "the day-of-month field has an empty item", "take the extra comma out", ","),
    ("1, * * * *", "the minute field has an empty item", "take the extra comma out", ","),
    (",1 * * * *", "the minute field has an empty item", "take the extra comma out", ""),
    ("*,5 * * * *", "the minute field has `*` beside other items", "`*` alone is all of them", "*,5"),
    ("60 * * * *", "the minute field goes from 0 to 59, not to 60", "", "60"),
    ("0 24 * * *", "the hour field goes from 0 to 23, not to 24", "", "24"),
    ("0 0 0 * *", "the day-of-month field goes from 1 to 31, not to 0", "", "0"),
    ("0 0 * 13 *", "the month field goes from 1 to 12, not to 13", "", "13"),
    ("0 0 * * 8", "the day-of-week field goes from 0 to 7, not to 8", "", "8"),
    ("0 8 * * Sunday", "the day-of-week field has `Sunday`, which is no value of it", "did you mean `SUN`?", "Sunday"),
    ("0 0 1 MON *", "the month field has `MON`, which is no value of it", "", "MON"),
    ("0 SUN * * *", "the hour field has `SUN`, which is no value of it", "", "SUN"),
    ("H * * * *", "the minute field has `H`, which is no value of it", "", "H"),
    ("é8 * * * *", "the minute field has `é8`, which is no value of it", "", "é8"),
    ("+5 * * * *", "the minute field has `+5`, which is no value of it", "", "+5"),
    ("0 0 L-3 * *", "the day-of-month field has `L`, which is no value of it", "", "L-3"),
    ("0 0 L,LW * *", "`L` and `LW` cannot stand in one list", "", "L,LW"),
    (
        "0 0 * * L",
        "the day-of-week field has `L` without a weekday",
        "write `6L` for the last Saturday of the month",
        "L",
    ),
    ("0 0 * * 5#6", "the day-of-week field cannot count `5#6`", "after `#` comes 1 to 5, or L", "5#6"),
    ("0 0 30 2 *", "never fires: no year has a day 30 in month 2", "", ""),
    ("0 0 31 4,6,9,11 *", "never fires: no year has a day 31 in month 4,6,9,11", "", ""),
    ("@reboot", "unknown name \"@reboot\"", "", "@reboot"),
    ("@every 90s", "unknown name \"@every 90s\"", "use `every = \"90s\"`", "@every 90s"),
    ("@dayly", "unknown name \"@dayly\"", "did you mean `@daily`?", "@dayly"),
];

#[test]
fn bad_expressions_are_refused_with_the_place_and_the_fix() {
    for (text, message, help, marked) in BAD_CRON {
        let error = refused(text);

        assert_eq!(error.message, message, "{text}");
        if !help.is_empty() {
            assert_eq!(error.help.as_deref(), Some(help), "{text}");
        }
        assert_eq!(error.span.map_or("", |span| &text[span]), marked, "{text}");
    }
}

#[test]
fn what_a_help_line_says_to_write_is_accepted() {
    let fixes = BAD_CRON.iter().filter_map(|(text, _, help, marked)| {
        let fix = help.strip_prefix("write `").filter(|_| !marked.is_empty())?;
        Some(text.replace(marked, &fix[..fix.find('`')?]))
    });
    let fixes = fixes.collect::<Vec<_>>();

    assert!(10 <= fixes.len(), "{fixes:?}");
    for fix in fixes {
        Schedule::cron(&fix, &zone("UTC"), AFTER_FIRST).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
    }
}

#[test]
fn the_dialect_of_the_manual_is_accepted() {
    let accepted = [
        "0 8 * * 1-5",
        "0 8 * * MON-FRI",
        "0 8 * * mon-sun",
        "0 8 * * 5-7",
        "0 8 * * 7",
        "*/60 * * * *",
        "0 0 ? * 1",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 15W,1 * *",
        "0 0 * * 5#2",
        "0 0 * * FRI#L",
        "0 0 * * 5L",
        "0 0 13 * +FRI",
        "0 0 29 2 *",
        "0 0 29 2 +MON",
        "08 09 01 01 *",
        "  */10   9-17 * * *  ",
        "*/10 * 9-17 * * *",
        "@MIDNIGHT",
        " @hourly ",
        "@annually",
    ];

    for text in accepted {
        let schedule =
            Schedule::cron(text, &zone("UTC"), AFTER_FIRST).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(schedule.next_after(crate::instant("2026-11-20T00:00:00Z")).is_some(), "{text}");
    }
}

#[test]
fn a_zone_must_exist_and_the_nearest_are_named() {
    let error = |name| Zone::parse(name).unwrap_err();

    assert_eq!(error("America/Sao_Paolo").message, "unknown zone \"America/Sao_Paolo\"");
    assert!(error("America/Sao_Paolo").help.unwrap().starts_with("did you mean `America/Sao_Paulo`"));
    assert_eq!(error("Sao Paulo").help.unwrap(), "did you mean `America/Sao_Paulo`?");
    assert!(error("UTC-3").help.unwrap().contains("a fixed distance is not one"));
    for name in [
        "",
        "Factory",
        "FACTORY",
        "Etc/Unknown",
        "posix/UTC",
        "right/UTC",
        "localtime",
        "../UTC",
        "/etc/passwd",
        "xyzzy",
        "\0",
        "é",
    ] {
        assert!(error(name).help.is_some(), "{name:?}");
    }
    assert_eq!(zone("america/SAO_PAULO").name(), "America/Sao_Paulo");
}

#[test]
fn times_and_days_are_read_strictly() {
    let parse = |times: &[&str], days: &[&str]| Schedule::at(times, days, &zone("UTC"), Dst::default());
    let message = |times: &[&str], days: &[&str]| parse(times, days).unwrap_err().message;
    let help = |times: &[&str], days: &[&str]| parse(times, days).unwrap_err().help.unwrap();

    for time in
        ["", "8", "8h", "08:60", "24:00", "08:00:60", "-1:00", "08:00:00:00", " 08:00", "08:000", "+8:00", "é:00"]
    {
        assert_eq!(message(&[time], &[]), format!("{time:?} is not a time of day"));
    }
    assert_eq!(help(&["24:00"], &[]), "midnight is `00:00` of the day it begins");
    assert_eq!(message(&[], &[]), "no time of day is given");
    assert_eq!(message(&["08:00"], &["mon-fry"]), "unknown day \"mon-fry\"");
    assert_eq!(help(&["08:00"], &["wensday"]), "did you mean `wed`?");
    assert_eq!(message(&["08:00"], &["mon,,tue"]), "unknown day \"\"");
}

#[test]
fn intervals_have_bounds() {
    let ms = Duration::from_millis;
    let message = |interval, offset| Schedule::every(interval, offset).unwrap_err().message;

    assert_eq!(message(ms(99), ms(0)), "interval of 99 milliseconds is outside 100ms to 366d");
    assert_eq!(message(ms(366 * 86_400_000 + 1), ms(0)), "interval of 366 days 1 millisecond is outside 100ms to 366d");
    assert_eq!(message(ms(1000), ms(1000)), "offset of 1 second is not below the interval of 1 second");
    assert_eq!(message(Duration::from_micros(100_500), ms(0)), "100.5ms is not a whole number of milliseconds");
    assert!(message(Duration::MAX, ms(0)).ends_with("is outside 100ms to 366d"));
    assert!(Schedule::every(ms(100), ms(99)).is_ok());
    assert!(Schedule::every(ms(366 * 86_400_000), ms(0)).is_ok());
}

#[test]
fn jitter_stays_below_the_period() {
    let minute = |jitter| crate::cron("* * * * *", "UTC", AFTER_FIRST).with_jitter(Duration::from_secs(jitter));

    assert_eq!(minute(60).unwrap_err().message, "jitter of 1 minute is not below the period of 1 minute");
    assert!(minute(59).is_ok());
    assert!(crate::cron("0 0 29 2 *", "UTC", AFTER_FIRST).with_jitter(Duration::from_secs(86_400)).is_ok());
}
