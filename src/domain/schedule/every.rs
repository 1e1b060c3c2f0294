//! Fixed intervals, anchored to the Unix epoch.

use std::time::Duration;

use super::ScheduleError;

/// The shortest interval: below it, the ledger costs more than the work.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// The longest interval: a leap year.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The instants `offset + n * interval` since the Unix epoch, for every whole n, before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Every {
    pub interval_ms: i64,
    pub offset_ms: i64,
}

impl Every {
    pub fn new(interval: Duration, offset: Duration) -> Result<Self, ScheduleError> {
        if interval < SHORTEST || LONGEST < interval {
            let message = format!("interval of {} is outside 100ms to 366d", words_of(interval));
            return Err(ScheduleError::new(message));
        }
        if interval <= offset {
            let message = format!("offset of {} is not below the interval of {}", words_of(offset), words_of(interval));
            return Err(ScheduleError::new(message));
        }
        for length in [interval, offset] {
            if length.subsec_nanos() % 1_000_000 != 0 {
                return Err(ScheduleError::new(format!("{length:?} is not a whole number of milliseconds")));
            }
        }
        Ok(Self { interval_ms: interval.as_millis() as i64, offset_ms: offset.as_millis() as i64 })
    }

    /// The first instant after `ms`, in milliseconds since the epoch.
    pub fn next_after(&self, ms: i64) -> i64 {
        (self.index_of(ms) + 1) * self.interval_ms + self.offset_ms
    }

    /// The last instant at or before `ms`.
    pub fn last_until(&self, ms: i64) -> i64 {
        self.index_of(ms) * self.interval_ms + self.offset_ms
    }

    /// How many instants there are in `(after, until]`.
    pub fn count(&self, after: i64, until: i64) -> i64 {
        (self.index_of(until) - self.index_of(after)).max(0)
    }

    fn index_of(&self, ms: i64) -> i64 {
        (ms - self.offset_ms).div_euclid(self.interval_ms)
    }
}

/// A duration as people say it: `30 seconds`, `1 hour 30 minutes`.
pub fn words_of(duration: Duration) -> String {
    const UNITS: [(&str, u64); 5] =
        [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1)];
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut words = Vec::new();
    for (word, size) in UNITS {
        let count = rest / size;
        rest %= size;
        match count {
            0 => {}
            1 => words.push(format!("1 {word}")),
            _ => words.push(format!("{count} {word}s")),
        }
    }
    if words.is_empty() { "0 seconds".into() } else { words.join(" ") }
}
