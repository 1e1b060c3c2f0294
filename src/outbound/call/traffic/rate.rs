//! `rate = "50/s"`: how often a target is called, as a token bucket with a line behind it.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most calls that a rate may name, in any unit.
const MOST_CALLS: u32 = 1_000_000;
/// The bucket holds what comes in this time, and one call at least.
const BURST: Duration = Duration::from_secs(1);
/// A turn that comes within this time is waited for in place; a later one gives the slot back.
pub(super) const LONGEST_WAIT_IN_PLACE: Duration = Duration::from_secs(1);
/// The line is no longer than this. Those who would come later share its turns, and ask again when they come.
const LONGEST_LINE: Duration = Duration::from_secs(3_600);
/// Units of a rate.
const UNITS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("min", Duration::from_secs(60)), ("h", Duration::from_secs(3_600))];

/// So many calls in a second, a minute or an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    per: Duration,
}

/// When a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// After this wait, which is 0 or short enough to be waited for in place. The turn is taken.
    In(Duration),
    /// Not soon: the place in the line comes up after this time. Nothing is taken.
    Later(Duration),
}

/// The calls of one target. Instants are readings of a clock that only goes forward.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    /// Between two calls.
    interval: Duration,
    /// How far ahead of an even pace calls may run.
    burst: Duration,
    /// When the next call would come at an even pace.
    next: Duration,
    /// Where the line of those that were sent away ends, so that each comes back at a turn of its own.
    line: Duration,
}

impl Rate {
    fn interval(self) -> Duration {
        self.per / self.calls
    }
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        let interval = rate.interval();
        Self { interval, burst: BURST.saturating_sub(interval), next: Duration::ZERO, line: Duration::ZERO }
    }

    /// Takes a turn, or a place in the line.
    pub fn ask(&mut self, now: Duration) -> Turn {
        let next = self.next.max(now);
        let wait = next.saturating_sub(self.burst).saturating_sub(now);
        if wait <= LONGEST_WAIT_IN_PLACE {
            self.next = next + self.interval;
            return Turn::In(wait);
        }
        let first = now + wait;
        let place = if (first..now + LONGEST_LINE).contains(&self.line) { self.line } else { first };
        self.line = place + self.interval;
        Turn::Later(place - now)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, per)| *per == self.per).map_or("s", |(unit, _)| unit);
        write!(f, "{}/{unit}", self.calls)
    }
}

fn parse(text: &str) -> Result<Rate, String> {
    let refused = |fault: &str| format!("the rate {text:?} {fault}\nhelp: write calls and a unit: 50/s, 600/min, 20/h");
    let (calls, unit) = text.trim().split_once('/').ok_or_else(|| refused("is not understood"))?;
    let per = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| refused("has an unknown unit"))?.1;
    let calls: u32 = calls.parse().map_err(|_| refused("does not begin with a whole number"))?;
    if (1..=MOST_CALLS).contains(&calls) {
        Ok(Rate { calls, per })
    } else {
        Err(refused(&format!("is not from 1 to {MOST_CALLS}")))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "calls per second, minute or hour", "type": "string", "pattern": "^[0-9]+/(s|min|h)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Turn::{In, Later};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn bucket(rate: &str) -> Bucket {
        Bucket::new(parse(rate).expect("a rate"))
    }

    #[test]
    fn rates_read_as_people_write_them() {
        for (text, calls, per) in [("50/s", 50, 1), ("600/min", 600, 60), (" 20/h ", 20, 3_600)] {
            assert_eq!(parse(text), Ok(Rate { calls, per: Duration::from_secs(per) }), "{text}");
        }
        for text in
            ["", "50", "/s", "0/s", "-1/s", "1.5/s", "50/d", "50/S", "1000001/s", "99999999999/s", "s/50", "5 / s"]
        {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(&format!("the rate {text:?} ")), "{error}");
        }
        assert_eq!(parse("600/min").expect("a rate").to_string(), "600/min");
    }

    #[test]
    fn calls_go_at_once_then_wait_in_place_then_are_sent_away() {
        // Each case: the rate, then when somebody asks and what they are told.
        let cases: [(&str, &[(u64, Turn)]); 6] = [
            // One call at a time, and the second is a minute off.
            ("60/h", &[(0, In(ms(0))), (0, Later(ms(60_000))), (59_000, In(ms(1_000))), (59_000, Later(ms(61_000)))]),
            // What was not used is kept for a second, no longer.
            ("2/s", &[(60_000, In(ms(0))), (60_000, In(ms(0))), (60_000, In(ms(500))), (60_000, In(ms(1_000)))]),
            ("2/s", &[(0, In(ms(0))), (0, In(ms(0))), (500, In(ms(0))), (1_000, In(ms(0))), (1_100, In(ms(400)))]),
            // Those that are sent away come back one after another.
            (
                "1/s",
                &[
                    (0, In(ms(0))),
                    (0, In(ms(1_000))),
                    (0, Later(ms(2_000))),
                    (0, Later(ms(3_000))),
                    (0, Later(ms(4_000))),
                    (2_000, In(ms(0))),
                    (3_000, In(ms(0))),
                    (4_000, In(ms(0))),
                ],
            ),
            // A line of an hour begins anew: a longer wait could be longer than a run may be snoozed.
            (
                "2/h",
                &[
                    (0, In(ms(0))),
                    (0, Later(ms(1_800_000))),
                    (0, Later(ms(1_800_000))),
                    (1_800_000, In(ms(0))),
                    (1_800_000, Later(ms(1_800_000))),
                ],
            ),
            // The line is forgotten when it has passed.
            ("60/min", &[(0, In(ms(0))), (0, In(ms(1_000))), (0, Later(ms(2_000))), (60_000, In(ms(0)))]),
        ];
        for (rate, steps) in cases {
            let mut bucket = bucket(rate);
            for (step, (now, turn)) in steps.iter().enumerate() {
                assert_eq!(bucket.ask(ms(*now)), *turn, "{rate}, step {step}");
            }
        }
    }

    #[test]
    fn no_second_sees_more_than_twice_the_rate_and_a_long_time_sees_the_rate() {
        let mut bucket = bucket("50/s");
        let mut sent = Vec::new();
        for now in 0..10_000 {
            while let Turn::In(wait) = bucket.ask(ms(now)) {
                sent.push(ms(now) + wait);
            }
        }

        let in_second = |from: u64| sent.iter().filter(|at| ms(from) <= **at && **at < ms(from + 1_000)).count();
        assert!((0..10_000).step_by(100).all(|from| in_second(from) <= 100));
        assert!(sent.len() <= 50 * 11 + 51, "{}", sent.len());
        assert!(50 * 10 <= sent.len(), "{}", sent.len());
    }
}
