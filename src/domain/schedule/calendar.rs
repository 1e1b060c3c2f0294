//! Which clock readings of a civil calendar match: months, days and times of day, without any zone.

use croner::{CronPattern, Weekday};

/// Seconds of a civil day; clocks know no leap seconds.
pub const DAY: i64 = 86_400;

/// The Gregorian calendar repeats after this many years, so a rule without a day in them has none at all.
const CYCLE_YEARS: i32 = 400;

/// A set of civil seconds, counted like Unix time but on the local clock: 1970-01-01T00:00:00 is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// Bit 1 = January.
    months: u32,
    /// Days of a month, bit 1 = the first, by its length less 28 and the weekday of its first day (0 = Sunday).
    /// A day rule depends on nothing else, so the table is the rule.
    days: [[u32; 7]; 4],
    clock: Clock,
}

/// The times of day, as seconds from midnight. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Clock {
    /// Every combination of the three masks.
    Product { hours: u64, minutes: u64, seconds: u64 },
    /// Sorted, without doubles.
    List(Vec<u32>),
}

impl Calendar {
    /// The days that croner finds in its pattern, at the given times.
    pub fn from_cron(pattern: &CronPattern) -> Self {
        let months = (1..=12).filter(|month| matches!(pattern.month_match(*month), Ok(true)));
        let months = months.fold(0, |mask, month| mask | 1 << month);
        let clock = Clock::Product {
            hours: mask(&pattern.hours.values()),
            minutes: mask(&pattern.minutes.values()),
            seconds: mask(&pattern.seconds.values()),
        };
        Self { months, days: day_table(|month, day| matches_day(pattern, month, day)), clock }
    }

    /// Every week on the given days (bit 0 = Sunday), at the given times.
    pub fn weekly(weekdays: u32, times: Vec<u32>) -> Self {
        let days = day_table(|month, day| weekdays & 1 << month.weekday_of(day) != 0);
        Self { months: 0b1_1111_1111_1110, days, clock: Clock::List(times) }
    }

    /// Whether any day of any year matches.
    pub fn ever_matches(&self) -> bool {
        let mut month = Month::containing(0).0;
        let last_year = month.year + CYCLE_YEARS;
        while month.year < last_year {
            if self.days_in(&month) != 0 {
                return true;
            }
            month = month.next();
        }
        false
    }

    /// The first match in `from..before`.
    pub fn next(&self, from: i64, before: i64) -> Option<i64> {
        if before <= from {
            return None;
        }
        let (day, second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
        let today = self.day_matches(day).then(|| self.clock.next(second)).flatten();
        let found = match today {
            Some(second) => day * DAY + second,
            None => self.next_day(day + 1, before.div_euclid(DAY))? * DAY + self.clock.first(),
        };
        (found < before).then_some(found)
    }

    /// How many matches there are in `from..before`.
    pub fn count(&self, from: i64, before: i64) -> i64 {
        if before <= from {
            return 0;
        }
        let (first, last) = (from.div_euclid(DAY), before.div_euclid(DAY));
        let before_from = self.matches_of_day(first, from.rem_euclid(DAY));
        let in_last = self.matches_of_day(last, before.rem_euclid(DAY));
        self.count_days(first, last) * self.clock.below(DAY) + in_last - before_from
    }

    /// The shortest distance between two matches that follow each other, in seconds.
    pub fn shortest_distance(&self) -> i64 {
        // Long enough to see each minute of some day meet the next one, and each day of a week its neighbour.
        const STEPS: usize = 2_000;
        // 2024-01-01, a Monday; the end is that of the calendar's cycle.
        const FROM: i64 = 19_723 * DAY;
        const BEFORE: i64 = FROM + 146_097 * DAY;
        let following = |last: &i64| self.next(last + 1, BEFORE);
        let matches = std::iter::successors(self.next(FROM, BEFORE), following).take(STEPS);
        let distances = matches.scan(None, |last: &mut Option<i64>, at| Some(last.replace(at).map(|last| at - last)));
        distances.flatten().min().unwrap_or(DAY)
    }

    fn matches_of_day(&self, day: i64, before: i64) -> i64 {
        if self.day_matches(day) { self.clock.below(before) } else { 0 }
    }

    fn day_matches(&self, day: i64) -> bool {
        let (month, day) = Month::containing(day);
        self.days_in(&month) & 1 << day != 0
    }

    /// The first matching day in `from..=last`.
    fn next_day(&self, from: i64, last: i64) -> Option<i64> {
        let (mut month, day) = Month::containing(from);
        let mut days = self.days_in(&month) & (u32::MAX << day);
        while days == 0 {
            month = month.next();
            if last < month.first {
                return None;
            }
            days = self.days_in(&month);
        }
        Some(month.first + i64::from(days.trailing_zeros()) - 1)
    }

    /// Matching days in `from..before`.
    fn count_days(&self, from: i64, before: i64) -> i64 {
        let (mut month, day) = Month::containing(from);
        let (last, end) = Month::containing(before);
        let mut days = 0;
        let mut mask = u32::MAX << day;
        while month.first < last.first {
            days += (self.days_in(&month) & mask).count_ones();
            mask = u32::MAX;
            month = month.next();
        }
        i64::from(days + (self.days_in(&month) & mask & !(u32::MAX << end)).count_ones())
    }

    fn days_in(&self, month: &Month) -> u32 {
        if self.months & 1 << month.month == 0 { 0 } else { self.days[month.length as usize - 28][month.weekday] }
    }
}

impl Clock {
    /// The earliest time of day.
    pub fn first(&self) -> i64 {
        self.next(0).expect("a clock has at least one time of day")
    }

    /// The first time of day at or after `second`.
    pub fn next(&self, second: i64) -> Option<i64> {
        match self {
            Clock::List(times) => {
                let at = times.partition_point(|time| i64::from(*time) < second);
                times.get(at).map(|time| i64::from(*time))
            }
            Clock::Product { hours, minutes, seconds } => {
                let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
                let in_minute = || Some((hour, minute, next_bit(*seconds, second)?));
                let in_hour = || Some((hour, next_bit(*minutes, minute + 1)?, next_bit(*seconds, 0)?));
                let later = || Some((next_bit(*hours, hour + 1)?, next_bit(*minutes, 0)?, next_bit(*seconds, 0)?));
                let this_hour = hours & 1 << hour != 0;
                let this_minute = this_hour && minutes & 1 << minute != 0;
                let found = this_minute.then(in_minute).flatten();
                let found = found.or_else(|| this_hour.then(in_hour).flatten()).or_else(later);
                found.map(|(hour, minute, second)| hour * 3600 + minute * 60 + second)
            }
        }
    }

    /// How many times of day are before `second`, which may be the end of the day.
    pub fn below(&self, second: i64) -> i64 {
        match self {
            Clock::List(times) => times.partition_point(|time| i64::from(*time) < second) as i64,
            Clock::Product { hours, minutes, seconds } => {
                let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
                let per_minute = i64::from(seconds.count_ones());
                let per_hour = i64::from(minutes.count_ones()) * per_minute;
                let mut count = bits_below(*hours, hour) * per_hour;
                if hours & 1 << hour != 0 {
                    count += bits_below(*minutes, minute) * per_minute;
                }
                if hours & 1 << hour != 0 && minutes & 1 << minute != 0 {
                    count += bits_below(*seconds, second);
                }
                count
            }
        }
    }
}

/// One month of the Gregorian calendar.
struct Month {
    year: i32,
    /// 1 = January.
    month: u32,
    /// Days since 1970-01-01 of its first day.
    first: i64,
    /// Of its first day, 0 = Sunday.
    weekday: usize,
    length: u32,
}

impl Month {
    /// The month around a day (counted from 1970-01-01), and which of its days that is, from 1.
    fn containing(day: i64) -> (Self, u32) {
        // Shifted so that a year begins in March and an era of 400 years on a multiple: leap days come last.
        let shifted = day + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        let year = (era * 400 + year_of_era) as i32 + i32::from(month <= 2);
        let first = day - (day_of_month - 1);
        // 1970-01-01 was a Thursday.
        let weekday = (first + 4).rem_euclid(7) as usize;
        (Self { year, month, first, weekday, length: month_length(year, month) }, day_of_month as u32)
    }

    fn next(&self) -> Self {
        let (year, month) = if self.month == 12 { (self.year + 1, 1) } else { (self.year, self.month + 1) };
        let weekday = self.weekday_of(self.length + 1);
        Self { year, month, first: self.first + i64::from(self.length), weekday, length: month_length(year, month) }
    }

    fn weekday_of(&self, day: u32) -> usize {
        (self.weekday + day as usize - 1) % 7
    }
}

fn month_length(year: i32, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Asks the rule for each day of one month of every shape.
fn day_table(rule: impl Fn(&Month, u32) -> bool) -> [[u32; 7]; 4] {
    let mut table = [[0; 7]; 4];
    let mut seen = [[false; 7]; 4];
    let mut month = Month::containing(0).0;
    while seen != [[true; 7]; 4] {
        let (shape, weekday) = (month.length as usize - 28, month.weekday);
        if !seen[shape][weekday] {
            let days = (1..=month.length).filter(|day| rule(&month, *day));
            table[shape][weekday] = days.fold(0, |mask, day| mask | 1 << day);
            seen[shape][weekday] = true;
        }
        month = month.next();
    }
    table
}

fn matches_day(pattern: &CronPattern, month: &Month, day: u32) -> bool {
    const WEEKDAYS: [Weekday; 7] = [
        Weekday::Sunday,
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
    ];
    matches!(pattern.day_match(month.year, month.month, day, WEEKDAYS[month.weekday_of(day)]), Ok(true))
}

fn mask(values: &[u16]) -> u64 {
    values.iter().fold(0, |mask, value| mask | 1 << value)
}

fn next_bit(mask: u64, from: i64) -> Option<i64> {
    let rest = mask & u64::MAX.checked_shl(from as u32).unwrap_or(0);
    (rest != 0).then(|| i64::from(rest.trailing_zeros()))
}

fn bits_below(mask: u64, end: i64) -> i64 {
    i64::from((mask & !u64::MAX.checked_shl(end as u32).unwrap_or(0)).count_ones())
}
