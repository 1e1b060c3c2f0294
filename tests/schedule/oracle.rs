//! What is due, found by looking at each minute in turn: independent of croner and of the code under test.
//!
//! It knows jiff's zones and civil times, its own reading of cron fields, and the policy in the words of the manual.

use chrono::{DateTime, Utc};
use jiff::{Timestamp, civil, tz::TimeZone};

/// A cron expression of five fields.
pub struct Fields<'a> {
    text: [&'a str; 5],
    /// The minutes and hours that match, looked up often enough to be worked out once.
    minutes: Vec<bool>,
    hours: Vec<bool>,
}

/// One minute of a zone's clock.
pub struct Minute {
    second: i64,
    reading: civil::DateTime,
    /// The clock has shown this reading before.
    again: bool,
    /// The readings that the clock jumped over to get here.
    skipped: Vec<civil::DateTime>,
}

/// Every minute of `after..until` as the zone's clock shows it. Offsets must be whole minutes in that time.
pub fn minutes(zone: &TimeZone, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Minute> {
    let reading_at = |second: i64| zone.to_datetime(Timestamp::from_second(second).unwrap());
    let first = after.timestamp().div_euclid(60) * 60 + 60;
    let seconds = (first..=until.timestamp()).step_by(60);
    let minute = |second: i64| {
        let reading = reading_at(second);
        let mut skipped = Vec::new();
        let mut next = reading_at(second - 60).checked_add(jiff::Span::new().minutes(1)).unwrap();
        while next < reading {
            skipped.push(next);
            next = next.checked_add(jiff::Span::new().minutes(1)).unwrap();
        }
        let first_time = zone.to_ambiguous_timestamp(reading).earlier().unwrap().as_second();
        Minute { second, reading, again: first_time < second, skipped }
    };
    seconds.map(minute).collect()
}

/// The due instants among the minutes: `gap_after` and `repeat_both` are the policy for fixed clock times.
pub fn due(fields: &Fields, minutes: &[Minute], gap_after: bool, repeat_both: bool) -> Vec<DateTime<Utc>> {
    let elapsed = fields.text[1].starts_with('*');
    let is_due = |minute: &&Minute| {
        if elapsed {
            return fields.match_reading(minute.reading);
        }
        let jumped_over = gap_after && minute.skipped.iter().any(|reading| fields.match_reading(*reading));
        let shown = fields.match_reading(minute.reading) && (repeat_both || !minute.again);
        jumped_over || shown
    };
    minutes.iter().filter(is_due).map(|minute| DateTime::from_timestamp(minute.second, 0).unwrap()).collect()
}

impl<'a> Fields<'a> {
    pub fn new(text: &'a str) -> Self {
        let text: [&str; 5] = text.split_whitespace().collect::<Vec<_>>().try_into().expect("five fields");
        let matching = |field, last| (0..=last).map(|value| number(field, value, (0, last))).collect();
        Self { text, minutes: matching(text[0], 59), hours: matching(text[1], 23) }
    }

    fn match_reading(&self, reading: civil::DateTime) -> bool {
        let [_, _, of_month, month, of_week] = self.text;
        let date = reading.date();
        self.minutes[reading.minute() as usize]
            && self.hours[reading.hour() as usize]
            && number(month, date.month().into(), (1, 12))
            && match (of_month == "*", of_week == "*") {
                (true, true) => true,
                (false, true) => day_of_month(of_month, date),
                (true, false) => day_of_week(of_week, date),
                (false, false) => day_of_month(of_month, date) || day_of_week(of_week, date),
            }
    }
}

fn number(field: &str, value: i64, (min, max): (i64, i64)) -> bool {
    field.split(',').any(|item| {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => (value_of(first), value_of(last)),
            None => (value_of(range), value_of(range)),
        };
        first <= value && value <= last && (value - first) % step.parse::<i64>().unwrap() == 0
    })
}

fn value_of(word: &str) -> i64 {
    const NAMES: [(&str, i64); 10] = [
        ("sun", 0),
        ("mon", 1),
        ("tue", 2),
        ("wed", 3),
        ("thu", 4),
        ("fri", 5),
        ("sat", 6),
        ("jan", 1),
        ("jul", 7),
        ("dec", 12),
    ];
    let named = NAMES.iter().find(|(name, _)| *name == word.to_lowercase());
    named.map_or_else(|| word.parse().unwrap(), |(_, value)| *value)
}

fn day_of_month(field: &str, date: civil::Date) -> bool {
    field.split(',').any(|item| match item.strip_suffix('W') {
        _ if item == "L" => date == date.last_of_month(),
        Some("L") => date == nearest_weekday(date.last_of_month()),
        Some(day) => {
            let wanted = civil::Date::new(date.year(), date.month(), day.parse().unwrap());
            wanted.is_ok_and(|wanted| date == nearest_weekday(wanted))
        }
        None => number(item, date.day().into(), (1, 31)),
    })
}

/// The Monday to Friday nearest to a date, within its month.
fn nearest_weekday(date: civil::Date) -> civil::Date {
    let candidates = [0, -1, 1, -2, 2].map(|days| date.checked_add(jiff::Span::new().days(days)).unwrap());
    let works = |other: &civil::Date| other.weekday().to_monday_one_offset() <= 5 && other.month() == date.month();
    candidates.into_iter().find(works).unwrap()
}

fn day_of_week(field: &str, date: civil::Date) -> bool {
    let today = i64::from(date.weekday().to_sunday_zero_offset());
    let is = |name: &str| value_of(name) % 7 == today;
    field.split(',').any(|item| match (item.split_once('#'), item.strip_suffix('L')) {
        (Some((day, "L")), _) | (None, Some(day)) => is(day) && date.days_in_month() < date.day() + 7,
        (Some((day, which)), _) => is(day) && (date.day() - 1) / 7 + 1 == which.parse::<i8>().unwrap(),
        // Sunday is 0 and 7.
        (None, None) => number(item, today, (0, 6)) || (today == 0 && number(item, 7, (0, 7))),
    })
}
