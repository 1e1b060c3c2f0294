//! Lengths of time as people write them: `250ms`, `30s`, `5min`, `1h30min`, `7d`; a bare number is seconds.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest length a file may give: a hundred years of 365 days.
pub const LONGEST: Duration = Duration::from_secs(36_500 * DAY_SECONDS);

const DAY_SECONDS: u64 = 86_400;

/// Units from large to small, each with its length in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time longer than 0 and at most [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

/// A length of time of 0 or more and at most [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LengthOrZero(pub Duration);

/// Reads a length of time of 0 or more. The error says what is wrong with the text, which it quotes; after a line
/// break it may go on with `help: ` and a remedy.
pub fn parse(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(refused(text, "is empty", "write a number and a unit: 30s, 5min, 1h30min, 7d"));
    }
    if trimmed.starts_with('-') {
        return Err(refused(text, "is negative", "a length of time is 0 or more"));
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return from_seconds(trimmed.parse().map_err(|_| too_long(text))?);
    }
    let mut total_ms: u64 = 0;
    let mut last_unit_ms = u64::MAX;
    let mut rest = trimmed;
    while !rest.is_empty() {
        let (amount, unit_ms, after) = next_part(text, rest)?;
        if last_unit_ms <= unit_ms {
            return Err(refused(text, "has its units out of order", "write large units first and each once: 1h30min"));
        }
        total_ms =
            amount.checked_mul(unit_ms).and_then(|part| total_ms.checked_add(part)).ok_or_else(|| too_long(text))?;
        last_unit_ms = unit_ms;
        rest = after;
    }
    within_bounds(Duration::from_millis(total_ms), text)
}

/// The shortest text that `parse` reads back to the same length: `90min` is `1h30min`. Cuts below a millisecond.
pub fn format(length: Duration) -> String {
    let mut left = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS.into_iter().filter(|(unit, _)| *unit != "m") {
        if unit_ms <= left {
            text.push_str(&format!("{}{unit}", left / unit_ms));
            left %= unit_ms;
        }
    }
    text
}

/// One amount with its unit, and what follows it.
fn next_part<'a>(whole: &str, rest: &'a str) -> Result<(u64, u64, &'a str), String> {
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (amount, after) = rest.split_at(digits);
    if digits == 0 || after.starts_with(['.', ',']) {
        let fault = if after.starts_with(['.', ',']) { "has a fraction" } else { "is not a length of time" };
        return Err(refused(whole, fault, "write whole numbers with a unit: 250ms, 30s, 5min, 1h30min, 7d"));
    }
    let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(letters);
    let amount = amount.parse().map_err(|_| too_long(whole))?;
    match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, unit_ms)) => Ok((amount, *unit_ms, after)),
        None => Err(unknown_unit(whole, unit)),
    }
}

fn unknown_unit(whole: &str, unit: &str) -> String {
    let lower = unit.trim().to_ascii_lowercase();
    if unit.is_empty() {
        return refused(whole, "ends in a number without a unit", "the units are ms, s, min (or m), h, d");
    }
    if unit == "M"
        || ["mo", "y", "yr"].contains(&lower.as_str())
        || lower.starts_with("month")
        || lower.starts_with("year")
    {
        return refused(whole, "uses months or years, which have no fixed length", "count in days: 30d, 365d");
    }
    refused(
        whole,
        &format!("has the unknown unit {unit:?}"),
        "the units are ms, s, min (or m), h, d; no spaces: 1h30min",
    )
}

fn from_seconds(seconds: u64) -> Result<Duration, String> {
    within_bounds(Duration::from_secs(seconds), &seconds.to_string())
}

fn within_bounds(length: Duration, text: &str) -> Result<Duration, String> {
    if length <= LONGEST { Ok(length) } else { Err(too_long(text)) }
}

fn too_long(text: &str) -> String {
    refused(text, "is too long", "the longest length of time is 36500d")
}

fn refused(text: &str, fault: &str, help: &str) -> String {
    format!("the length of time {text:?} {fault}\nhelp: {help}")
}

/// Takes text, and whole seconds.
struct LengthVisitor;

impl de::Visitor<'_> for LengthVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time, such as \"30s\", \"5min\" or a number of seconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        from_seconds(seconds).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        parse(&seconds.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
        Err(E::custom(refused(&seconds.to_string(), "has a fraction", "a bare number is whole seconds; write 500ms")))
    }
}

impl<'de> Deserialize<'de> for LengthOrZero {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LengthVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let length = deserializer.deserialize_any(LengthVisitor)?;
        if length.is_zero() {
            return Err(de::Error::custom("a length of time of 0 is not possible here\nhelp: write 1ms or more"));
        }
        Ok(Self(length))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0))
    }
}

impl fmt::Display for LengthOrZero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0))
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for LengthOrZero {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Length {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        length_schema("length of time", 1)
    }
}

impl JsonSchema for LengthOrZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LengthOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        length_schema("length of time, 0 too", 0)
    }
}

fn length_schema(title: &str, least: u64) -> Schema {
    json_schema!({
        "title": title,
        "anyOf": [
            { "type": "string", "pattern": "^([0-9]+|([0-9]+(ms|s|min|m|h|d))+)$" },
            { "type": "integer", "minimum": least, "maximum": LONGEST.as_secs() }
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_write_them() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h30min", 5_400_000),
            ("1d", 86_400_000),
            ("7d", 604_800_000),
            ("1d2h3min4s5ms", 93_784_005),
            ("300", 300_000),
            (" 90s ", 90_000),
            ("0s", 0),
            ("36500d", 3_153_600_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("-5s", "is negative"),
            ("1.5h", "has a fraction"),
            ("0,5s", "has a fraction"),
            ("2 h", "unknown unit \" h\""),
            ("1month", "months or years"),
            ("2y", "months or years"),
            ("1M", "months or years"),
            ("3w", "unknown unit \"w\""),
            ("30min1h", "out of order"),
            ("5m5min", "out of order"),
            ("1h30", "without a unit"),
            ("soon", "is not a length of time"),
            ("18446744073709551616", "is too long"),
            ("99999999999999999999d", "is too long"),
            ("213503982335d", "is too long"),
            ("36501d", "is too long"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_formatted_length_reads_back_as_itself() {
        for ms in [0, 1, 999, 1_000, 61_000, 90 * 60_000, 86_400_000, 93_784_005] {
            let length = Duration::from_millis(ms);

            assert_eq!(parse(&format(length)), Ok(length));
        }
        assert_eq!(format(Duration::from_secs(5_400)), "1h30min");
    }

    #[test]
    fn zero_is_refused_where_a_length_must_pass() {
        let nothing = serde_json::from_str::<Length>("\"0s\"");
        let zero = serde_json::from_str::<LengthOrZero>("0");
        let fraction = serde_json::from_str::<Length>("0.5");

        assert!(nothing.expect_err("zero").to_string().contains("0 is not possible"));
        assert_eq!(zero.expect("zero").0, Duration::ZERO);
        assert!(fraction.expect_err("fraction").to_string().contains("500ms"));
    }
}
