//! Keeps the log under the rate above which hosts throw lines away on their own, and unseen.

use std::sync::{Mutex, PoisonError};

use tracing::Level;

/// Most lines in one second; Railway drops what comes above 500.
pub const LINES_A_SECOND: u32 = 499;
/// Of these, lines that only warnings and errors get: a flood of good news must not drown the bad.
const KEPT_FOR_TROUBLE: u32 = 99;

#[derive(Default)]
pub struct Limiter(Mutex<Second>);

/// The second that runs now.
#[derive(Default)]
struct Second {
    number: i64,
    written: u32,
    dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it, after a line about those that were dropped before.
    Write {
        dropped: u64,
    },
    Drop,
}

impl Limiter {
    /// `second` counts from 1970.
    pub fn admit(&self, second: i64, level: Level) -> Verdict {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0;
        if now.number != second {
            dropped = now.dropped;
            *now = Second { number: second, written: u32::from(0 < dropped), dropped: 0 };
        }
        let limit = if level <= Level::WARN { LINES_A_SECOND } else { LINES_A_SECOND - KEPT_FOR_TROUBLE };
        if limit <= now.written {
            now.dropped += 1;
            return Verdict::Drop;
        }
        now.written += 1;
        Verdict::Write { dropped }
    }
}
