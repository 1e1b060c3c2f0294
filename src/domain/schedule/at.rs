//! `at` and `days`: times of day on days of the week.

use super::{ScheduleError, calendar::Calendar};

/// In the order of a week that begins on Monday, as people read it.
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const EVERY_DAY: u8 = 0b111_1111;

/// Times of day on weekdays.
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    /// Seconds from midnight, sorted, without doubles, never empty.
    times: Vec<u32>,
    /// Bit 0 = Monday; never 0.
    days: u8,
}

impl At {
    /// Times as `08:00` or `08:00:30`; days as `mon`, `Friday`, `mon-fri`, `sat,sun` or `all`, none meaning all.
    pub fn parse(times: &[&str], days: &[&str]) -> Result<Self, ScheduleError> {
        let mut seconds = times.iter().map(|time| second_of(time)).collect::<Result<Vec<_>, _>>()?;
        seconds.sort_unstable();
        seconds.dedup();
        if seconds.is_empty() {
            return Err(ScheduleError::new("no time of day is given").with_help("write a time such as `08:00`"));
        }
        let mut mask = if days.is_empty() { EVERY_DAY } else { 0 };
        for item in days.iter().flat_map(|days| days.split(',')) {
            mask |= days_of(item.trim())?;
        }
        Ok(Self { times: seconds, days: mask })
    }

    pub fn calendar(&self) -> Calendar {
        let from_sunday = (0..7).filter(|day| self.days & 1 << ((day + 6) % 7) != 0);
        Calendar::weekly(from_sunday.fold(0, |mask, day| mask | 1 << day), self.times.clone())
    }

    /// `08:00,12:00 mon-fri`; no days when it is all.
    pub fn text(&self) -> String {
        let short = |day: usize| WEEKDAYS[day][..3].to_lowercase();
        let days = self.day_ranges().into_iter().map(|(first, last)| match last - first {
            0 => short(first),
            _ => format!("{}-{}", short(first), short(last)),
        });
        let times = self.times.iter().map(|time| text_of(*time)).collect::<Vec<_>>().join(",");
        if self.days == EVERY_DAY { times } else { format!("{times} {}", days.collect::<Vec<_>>().join(",")) }
    }

    /// Reads what `text` wrote.
    pub fn from_text(text: &str) -> Result<Self, ScheduleError> {
        let (times, days) = text.split_once(' ').unwrap_or((text, "all"));
        Self::parse(&times.split(',').collect::<Vec<_>>(), &[days])
    }

    /// `at 08:00 and 12:00 on Monday to Friday`.
    pub fn words(&self) -> String {
        let times = list(self.times.iter().map(|time| text_of(*time)).collect());
        let days = self.day_ranges().into_iter().map(|(first, last)| match last - first {
            0 => WEEKDAYS[first].to_owned(),
            1 => format!("{} and {}", WEEKDAYS[first], WEEKDAYS[last]),
            _ => format!("{} to {}", WEEKDAYS[first], WEEKDAYS[last]),
        });
        let days = days.collect::<Vec<_>>();
        let ranges = days.iter().any(|range| range.contains(' '));
        let days = if ranges { days.join(", ") } else { list(days) };
        if self.days == EVERY_DAY { format!("at {times} every day") } else { format!("at {times} on {days}") }
    }

    /// Runs of neighbouring days, first and last, counted from Monday.
    fn day_ranges(&self) -> Vec<(usize, usize)> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for day in (0..7).filter(|day| self.days & 1 << day != 0) {
            match ranges.last_mut().filter(|(_, last)| last + 1 == day) {
                Some((_, last)) => *last = day,
                None => ranges.push((day, day)),
            }
        }
        ranges
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(mut words: Vec<String>) -> String {
    let last = words.pop().unwrap_or_default();
    if words.is_empty() { last } else { format!("{} and {last}", words.join(", ")) }
}

/// A time of day as `08:00`, with seconds when it has any.
pub fn text_of(time: u32) -> String {
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

fn second_of(text: &str) -> Result<u32, ScheduleError> {
    let part = |text: &str, end: u32| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten().filter(|value| *value < end)
    };
    let parts = text.split(':').collect::<Vec<_>>();
    let time = match parts[..] {
        [hour, minute] => part(hour, 24).zip(part(minute, 60)).map(|(hour, minute)| hour * 3600 + minute * 60),
        [hour, minute, second] => part(hour, 24)
            .zip(part(minute, 60))
            .zip(part(second, 60))
            .map(|((hour, minute), second)| hour * 3600 + minute * 60 + second),
        _ => None,
    };
    time.ok_or_else(|| {
        let help = if text.starts_with("24:") {
            "midnight is `00:00` of the day it begins"
        } else {
            "a time of day is `00:00` to `23:59`, such as `08:00`"
        };
        ScheduleError::new(format!("{text:?} is not a time of day")).with_help(help)
    })
}

fn days_of(text: &str) -> Result<u8, ScheduleError> {
    if text == "all" {
        return Ok(EVERY_DAY);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day_of(first.trim(), text)?, day_of(last.trim(), text)?);
    // A range may go over the end of the week: `fri-mon` is four days.
    let length = (last + 7 - first) % 7;
    Ok((0..=length).fold(0, |mask, day| mask | 1 << ((first + day) % 7)))
}

fn day_of(word: &str, text: &str) -> Result<usize, ScheduleError> {
    let word = word.to_lowercase();
    let names = WEEKDAYS.map(str::to_lowercase);
    let found = names.iter().position(|name| *name == word || name[..3] == word);
    found.ok_or_else(|| {
        let near =
            names.iter().max_by(|a, b| strsim::jaro_winkler(a, &word).total_cmp(&strsim::jaro_winkler(b, &word)));
        let near = near.filter(|name| 0.75 < strsim::jaro_winkler(name, &word));
        let help = match near {
            Some(name) => format!("did you mean `{}`?", &name[..3]),
            None => "days are mon, tue, wed, thu, fri, sat, sun, ranges such as `mon-fri`, or `all`".into(),
        };
        ScheduleError::new(format!("unknown day {text:?}")).with_help(help)
    })
}
