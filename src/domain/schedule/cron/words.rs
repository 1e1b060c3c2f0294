//! A cron expression in words.

use crate::domain::schedule::at::{list, text_of};

/// Up to so many times of day are written out.
const TIMES_SHOWN: usize = 6;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Six sound fields in capitals, seconds first.
pub fn words([second, minute, hour, of_month, month, of_week]: &[String; 6]) -> String {
    let times = fixed_times(second, minute, hour);
    let days = days(of_month, of_week);
    let every_day = times.is_some() && days.is_none() && month == "*";
    let time = times.unwrap_or_else(|| readings(second, minute, hour));
    let days = if every_day { Some("every day".into()) } else { days };
    let months = (month != "*")
        .then(|| format!("in {}", items(month, "month", &|value| MONTHS[index(value, 1, &MONTHS)].into())));
    [Some(time), days, months].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// `at 08:00 and 20:00`, when there are few of them and the hours are no pattern.
fn fixed_times(second: &str, minute: &str, hour: &str) -> Option<String> {
    let plain = |field: &str| field.split(',').map(|item| item.parse::<u32>().ok()).collect::<Option<Vec<_>>>();
    let (seconds, minutes, hours) = (plain(second)?, plain(minute)?, plain(hour)?);
    if TIMES_SHOWN < seconds.len() * minutes.len() * hours.len() {
        return None;
    }
    let in_hour = |hour: &u32| minutes.iter().map(move |minute| hour * 3600 + minute * 60).collect::<Vec<_>>();
    let in_day = hours.iter().flat_map(in_hour);
    let mut times = in_day.flat_map(|time| seconds.iter().map(move |second| time + second)).collect::<Vec<_>>();
    times.sort_unstable();
    times.dedup();
    Some(format!("at {}", list(times.into_iter().map(text_of).collect())))
}

/// `every 30 minutes from 9:00 to 17:59`.
fn readings(second: &str, minute: &str, hour: &str) -> String {
    let steps = |field: &str, unit: &str| match field.strip_prefix("*/") {
        Some(step) if !step.contains(',') => Some(counted(step, unit)),
        _ => None,
    };
    let at = |field: &str, unit: &str| match steps(field, unit) {
        Some(words) => words,
        None if field == "*" => format!("every {unit}"),
        None => format!("at {}", items(field, unit, &str::to_owned)),
    };
    let full_hour = second == "0" && minute.parse::<u32>() == Ok(0);
    match (full_hour, second == "0", minute == "*") {
        (true, ..) if hour == "*" => "every hour".into(),
        (true, ..) => steps(hour, "hour").unwrap_or_else(|| format!("on the hour{}", hours(hour))),
        (_, true, _) if hour == "*" && minute.parse::<u32>().is_ok() => format!("every hour {}", at(minute, "minute")),
        (_, true, _) => at(minute, "minute") + &hours(hour),
        (.., true) => at(second, "second") + &hours(hour),
        _ => format!("{} {}{}", at(second, "second"), at(minute, "minute"), hours(hour)),
    }
}

/// ` from 9:00 to 17:59`; nothing when it is all of them.
fn hours(field: &str) -> String {
    let (range, step) = field.split_once('/').unwrap_or((field, "1"));
    let each = if step == "1" { String::new() } else { format!(" in each {} hour", ordinal(step)) };
    match range.split_once('-') {
        _ if field.contains(',') => format!(" in {}", items(field, "hour", &str::to_owned)),
        _ if range == "*" && step == "1" => String::new(),
        _ if range == "*" => format!("{each} from midnight"),
        Some((first, last)) => format!("{each} from {first}:00 to {last}:59"),
        None => format!(" in hour {field}"),
    }
}

/// `every 5 minutes`; a step of 1 is every one.
fn counted(step: &str, unit: &str) -> String {
    if step.parse::<u32>() == Ok(1) { format!("every {unit}") } else { format!("every {step} {unit}s") }
}

/// `minutes 0 to 10, 30 and 45`.
fn items(field: &str, unit: &str, name: &dyn Fn(&str) -> String) -> String {
    let words = field.split(',').map(|item| {
        let (base, step) = item.split_once('/').unwrap_or((item, "1"));
        let range = match base.split_once('-') {
            Some((first, last)) => format!("{} to {}", name(first), name(last)),
            None if base == "*" => "all".into(),
            None => name(base),
        };
        if step == "1" { range } else { format!("each {} of {range}", ordinal(step)) }
    });
    let words = list(words.collect());
    let plural = if field.parse::<u32>().is_ok() { "" } else { "s" };
    if unit == "month" { words } else { format!("{unit}{plural} {words}") }
}

/// The two day fields; `None` when both mean any day.
fn days(of_month: &str, of_week: &str) -> Option<String> {
    let any = |field: &str| field == "*" || field == "?";
    let both = of_week.starts_with('+');
    let week = weekdays(of_week.trim_start_matches('+'));
    match (any(of_month), any(of_week)) {
        (true, true) => None,
        (true, false) => Some(format!("on {week}")),
        (false, true) => Some(format!("on {} of the month", month_days(of_month))),
        (false, false) if both => Some(format!("on {} of the month that is also {week}", month_days(of_month))),
        (false, false) => Some(format!("on {} of the month or on {week}", month_days(of_month))),
    }
}

fn month_days(field: &str) -> String {
    let special = field.split(',').map(|item| match (item, item.strip_suffix('W')) {
        ("LW", _) => "the last weekday".into(),
        ("L", _) => "the last day".into(),
        (_, Some(day)) => format!("the weekday nearest to day {day}"),
        _ => format!("day {item}"),
    });
    match field.strip_prefix("*/") {
        Some(step) if !step.contains(',') => format!("each {} day from day 1", ordinal(step)),
        _ if field.contains(['L', 'W']) => list(special.collect()),
        _ => items(field, "day", &str::to_owned),
    }
}

fn weekdays(field: &str) -> String {
    let name = |value: &str| WEEKDAYS[index(value, 0, &WEEKDAYS) % 7].to_owned();
    let special = |item: &str| match (item.split_once('#'), item.strip_suffix('L')) {
        (Some((day, "L")), _) | (None, Some(day)) => Some(format!("the last {} of the month", name(day))),
        (Some((day, which)), _) => Some(format!("the {} {} of the month", ordinal(which), name(day))),
        (None, None) => None,
    };
    let words = field.split(',').map(|item| {
        special(item).unwrap_or_else(|| match item.split_once('/') {
            Some(("*", step)) => format!("each {} day of the week from Sunday", ordinal(step)),
            Some((range, step)) => format!("each {} day of {}", ordinal(step), weekdays(range)),
            None => match item.split_once('-') {
                Some((first, last)) => format!("{} to {}", name(first), name(last)),
                None => name(item),
            },
        })
    });
    list(words.collect())
}

/// Where a number or a three-letter name stands in a list whose first entry is number `base`.
fn index(value: &str, base: usize, names: &[&str]) -> usize {
    let named = || names.iter().position(|name| name[..3].eq_ignore_ascii_case(value)).unwrap_or_default();
    value.parse::<usize>().map_or_else(|_| named(), |number| number - base)
}

fn ordinal(number: &str) -> String {
    let end = match number.trim_start_matches('0') {
        "11" | "12" | "13" => "th",
        digits => match digits.chars().last() {
            Some('1') => "st",
            Some('2') => "nd",
            Some('3') => "rd",
            _ => "th",
        },
    };
    format!("{number}{end}")
}
