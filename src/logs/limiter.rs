//! Keeps the log under the rate above which hosts throw lines away on their own, and unseen.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tracing::Level;

/// Most lines in one second, beside the one that says what was dropped; Railway drops what comes above 500.
pub const LINES_A_SECOND: u32 = 498;
/// Of these, lines that only warnings and errors get: a flood of good news must not drown the bad.
const KEPT_FOR_TROUBLE: u32 = 99;

/// Lines that this process has dropped.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines this process has dropped since its start, by all limiters together.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

#[derive(Default)]
pub struct Limiter(Mutex<Second>);

/// The second that runs now, and what is still to be said of those before.
#[derive(Default)]
struct Second {
    number: i64,
    written: u32,
    dropped: u64,
    untold: u64,
}

impl Second {
    fn turn_to(&mut self, number: i64) {
        if self.number != number {
            *self = Self { number, untold: self.untold + self.dropped, ..Self::default() };
        }
    }
}

impl Limiter {
    /// Whether a line may be written in this second, counted from 1970.
    pub fn admits(&self, second: i64, level: Level) -> bool {
        let mut now = self.now();
        now.turn_to(second);
        let limit = if level <= Level::WARN { LINES_A_SECOND } else { LINES_A_SECOND - KEPT_FOR_TROUBLE };
        let admitted = now.written < limit;
        now.written += u32::from(admitted);
        now.dropped += u64::from(!admitted);
        DROPPED.fetch_add(u64::from(!admitted), Ordering::Relaxed);
        admitted
    }

    /// A line that was admitted found no room on its way out.
    pub fn lost(&self) {
        self.now().dropped += 1;
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }

    /// How many lines were dropped in the seconds before this one and not told yet; they count as told now.
    pub fn untold(&self, second: i64) -> u64 {
        let mut now = self.now();
        now.turn_to(second);
        std::mem::take(&mut now.untold)
    }

    /// The same, with the second that runs: nothing may come after.
    pub fn untold_at_the_end(&self) -> u64 {
        let mut now = self.now();
        std::mem::take(&mut now.untold) + std::mem::take(&mut now.dropped)
    }

    fn now(&self) -> MutexGuard<'_, Second> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
