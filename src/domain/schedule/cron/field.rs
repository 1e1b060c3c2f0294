//! The grammar of one cron field: what croner should refuse or explains badly is refused here, with the fix.

use std::ops::Range;

use crate::domain::schedule::ScheduleError;

/// One of the six fields of a cron expression.
#[derive(Debug, PartialEq)]
pub struct Field {
    pub name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
    special: Special,
    /// How jobs.toml writes this field's unit, where a large step is really an interval.
    unit: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
enum Special {
    None,
    DayOfMonth,
    DayOfWeek,
}

/// Seconds first, as in an expression of six fields.
pub const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[], special: Special::None, unit: Some("s") },
    Field { name: "minute", min: 0, max: 59, names: &[], special: Special::None, unit: Some("min") },
    Field { name: "hour", min: 0, max: 23, names: &[], special: Special::None, unit: Some("h") },
    Field { name: "day-of-month", min: 1, max: 31, names: &[], special: Special::DayOfMonth, unit: Some("d") },
    Field { name: "month", min: 1, max: 12, names: &MONTHS, special: Special::None, unit: None },
    Field { name: "day-of-week", min: 0, max: 7, names: &WEEKDAYS, special: Special::DayOfWeek, unit: None },
];

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Field {
    /// Checks a field's text, which begins at byte `start` of the expression.
    pub fn check(&self, text: &str, start: usize) -> Result<(), ScheduleError> {
        let list = match self.special {
            // `+MON` asks for both day fields at once.
            Special::DayOfWeek => text.strip_prefix('+').unwrap_or(text),
            _ => text,
        };
        let mut at = start + text.len() - list.len();
        for item in list.split(',') {
            self.check_item(item).map_err(|error| error.at(marked(item, at)))?;
            at += item.len() + 1;
        }
        if list != "*" && list.split(',').any(|item| item == "*") {
            let error = self.error("has `*` beside other items").with_help("`*` alone is all of them");
            return Err(error.at(start..start + text.len()));
        }
        // croner keeps one flag for both and forgets the plain one.
        let has = |word: &str| list.split(',').any(|item| item.eq_ignore_ascii_case(word));
        if has("L") && has("LW") {
            return Err(ScheduleError::new("`L` and `LW` cannot stand in one list").at(start..start + text.len()));
        }
        Ok(())
    }

    fn check_item(&self, item: &str) -> Result<(), ScheduleError> {
        if item.is_empty() {
            return Err(self.error("has an empty item").with_help("take the extra comma out"));
        }
        let Some((base, step)) = item.split_once('/') else {
            return if self.is_special(item)? { Ok(()) } else { self.check_base(item, 1) };
        };
        let step = self.check_step(step)?;
        match base {
            "" => {
                Err(self.error(format!("has a step without a start: `{item}`")).with_help(format!("write `*{item}`")))
            }
            "*" => Ok(()),
            _ if base.contains('-') => self.check_base(base, step),
            _ => {
                let value = self.value(base)?;
                let last = if self.special == Special::DayOfWeek { 6 } else { self.max };
                let help = format!("write `{}/{step}`", range_text(value, last.max(value)));
                Err(self.error(format!("has a step from a single value: `{item}`")).with_help(help))
            }
        }
    }

    /// `?`, `L`, `LW`, `15W`, `5L`, `5#2`, `FRI#L`: whether it is one, and a sound one.
    fn is_special(&self, item: &str) -> Result<bool, ScheduleError> {
        let upper = item.to_ascii_uppercase();
        match self.special {
            Special::None => Ok(false),
            _ if upper == "?" => Ok(true),
            Special::DayOfMonth if upper == "L" || upper == "LW" => Ok(true),
            Special::DayOfMonth => match upper.strip_suffix('W') {
                Some(day) => self.value(day).map(|_| true),
                None => Ok(false),
            },
            Special::DayOfWeek if upper == "L" => {
                let help = "write `6L` for the last Saturday of the month";
                Err(self.error("has `L` without a weekday").with_help(help))
            }
            Special::DayOfWeek => match (upper.split_once('#'), upper.strip_suffix('L')) {
                (Some((day, "1" | "2" | "3" | "4" | "5" | "L")), _) | (None, Some(day)) => {
                    self.value(day).map(|_| true)
                }
                (Some(_), _) => {
                    Err(self.error(format!("cannot count `{item}`")).with_help("after `#` comes 1 to 5, or L"))
                }
                (None, None) => Ok(false),
            },
        }
    }

    fn check_step(&self, text: &str) -> Result<u32, ScheduleError> {
        let step = number(text).ok_or_else(|| self.error(format!("has `{text}` as a step")))?;
        let size = if self.special == Special::DayOfWeek { 7 } else { self.max - self.min + 1 };
        if step == 0 {
            return Err(self.error("has a step of 0"));
        }
        if size < step {
            let error = self.error(format!("has a step of {step}, larger than the field"));
            return Err(match self.unit {
                Some(unit) => error.with_help(format!("for a fixed interval use `every = \"{step}{unit}\"`")),
                None => error,
            });
        }
        Ok(step)
    }

    /// `*`, a value, or a range, with the step it carries.
    fn check_base(&self, base: &str, step: u32) -> Result<(), ScheduleError> {
        if base == "*" {
            return Ok(());
        }
        let Some((first, last)) = base.split_once('-') else {
            return self.value(base).map(|_| ());
        };
        let (first, last_word) = (self.value(first)?, last);
        let last = self.value(last)?;
        // croner reads a Sunday at the end of a range as 7.
        let last = if last_word.eq_ignore_ascii_case("SUN") { 7 } else { last };
        if last < first {
            let error = self.error(format!("has a range that runs backwards: `{base}`"));
            return Err(error.with_help(format!("write `{}`", self.unwrapped(first, last, step))));
        }
        Ok(())
    }

    /// What a wrap range means, as ranges that run forwards.
    fn unwrapped(&self, first: u32, last: u32, step: u32) -> String {
        let week = self.special == Special::DayOfWeek;
        if step != 1 {
            let end = if week { 6 } else { self.max };
            let values = (first..=end).chain(self.min..=last).step_by(step as usize);
            return values.map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        }
        match (week, first, last) {
            (true, 7, _) => range_text(0, last),
            (true, _, 0) => range_text(first, 7),
            (true, ..) => format!("{},{}", range_text(first, 7), range_text(1, last)),
            (false, ..) => format!("{},{}", range_text(first, self.max), range_text(self.min, last)),
        }
    }

    fn value(&self, text: &str) -> Result<u32, ScheduleError> {
        let named = || self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(index) = named() {
            return Ok(self.min + index as u32);
        }
        let Some(value) = number(text) else {
            return Err(self.unreadable(text));
        };
        if value < self.min || self.max < value {
            return Err(self.error(format!("goes from {} to {}, not to {text}", self.min, self.max)));
        }
        Ok(value)
    }

    fn unreadable(&self, text: &str) -> ScheduleError {
        let error = self.error(format!("has `{text}`, which is no value of it"));
        let start: String = text.chars().take(3).collect();
        match self.names.iter().find(|name| name.eq_ignore_ascii_case(&start)) {
            Some(name) => error.with_help(format!("did you mean `{name}`?")),
            None => error,
        }
    }

    fn error(&self, what: impl AsRef<str>) -> ScheduleError {
        ScheduleError::new(format!("the {} field {}", self.name, what.as_ref()))
    }
}

/// Decimal digits only; croner's own reading would also take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn range_text(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// The bytes of an item; one byte before an empty item at the end, so that there is something to mark.
fn marked(item: &str, at: usize) -> Range<usize> {
    if item.is_empty() && 0 < at { at - 1..at } else { at..at + item.len() }
}
