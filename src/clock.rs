//! The only asker of the time: the database's time, carried forward by a clock that counts suspended time too.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};

/// A sample that took longer to fetch says too little about when it was taken.
pub const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(250);
/// A larger step forward between two samples holds planning.
pub const LARGEST_STEP_FORWARD: TimeDelta = TimeDelta::minutes(10);
/// A larger step back between two samples holds planning.
pub const LARGEST_STEP_BACK: TimeDelta = TimeDelta::seconds(1);
/// Samples that must agree before a held clock is believed.
pub const AGREEING_SAMPLES: u32 = 3;

/// Where the time comes from. Every instant is UTC, truncated to milliseconds.
#[derive(Debug, Clone)]
pub enum Clock {
    System(Arc<Mutex<Reckoning>>),
    /// Stands still until a test moves it.
    Manual(Arc<Mutex<DateTime<Utc>>>),
}

/// One reading of the database's clock, with the boot-clock readings around it.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub database: DateTime<Utc>,
    pub sent: Duration,
    pub received: Duration,
}

/// What a sample did to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    Adopted,
    /// The round trip was too long: nothing changed.
    Refused,
    /// The sample lies too far off: planning holds until it is confirmed or disproved.
    Held,
}

/// The last believed sample, and the doubted one when there is one.
#[derive(Debug)]
pub struct Reckoning {
    database: DateTime<Utc>,
    boot: Duration,
    sampled: bool,
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    database: DateTime<Utc>,
    boot: Duration,
    agreeing: u32,
}

impl Clock {
    /// Starts from the host's clock; the first sample replaces it.
    pub fn system() -> Self {
        let reckoning = Reckoning { database: host_now(), boot: boot_now(), sampled: false, doubt: None };
        Self::System(Arc::new(Mutex::new(reckoning)))
    }

    pub fn manual(start: DateTime<Utc>) -> Self {
        Self::Manual(Arc::new(Mutex::new(start.trunc_subsecs(3))))
    }

    /// The database's time: last believed sample plus what the boot clock counted since.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System(reckoning) => lock(reckoning).at(boot_now()).trunc_subsecs(3),
            Self::Manual(now) => *lock(now),
        }
    }

    /// The host's own wall clock.
    pub fn host(&self) -> DateTime<Utc> {
        match self {
            Self::System(_) => host_now(),
            Self::Manual(now) => *lock(now),
        }
    }

    /// Time since boot, suspended time included: for deadlines that no clock step may move.
    pub fn boot(&self) -> Duration {
        match self {
            Self::System(_) => boot_now(),
            Self::Manual(now) => Duration::from_millis(u64::try_from(lock(now).timestamp_millis()).unwrap_or(0)),
        }
    }

    /// Takes a sample in. A manual clock believes no one.
    pub fn observe(&self, sample: Sample) -> Observation {
        match self {
            Self::System(reckoning) => lock(reckoning).observe(sample),
            Self::Manual(_) => Observation::Adopted,
        }
    }

    /// Planning must wait: the last samples jumped and are not confirmed yet.
    pub fn is_held(&self) -> bool {
        match self {
            Self::System(reckoning) => lock(reckoning).doubt.is_some(),
            Self::Manual(_) => false,
        }
    }

    /// Database time minus host time.
    pub fn skew(&self) -> TimeDelta {
        self.now() - self.host()
    }

    /// Waits. A manual clock is moved by as much instead: who waits in a test lives through the time and loses none.
    pub async fn pause(&self, length: Duration) {
        match self {
            Self::System(_) => tokio::time::sleep(length).await,
            Self::Manual(_) => {
                self.advance(length);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Moves a manual clock forward; a system clock is moved by nobody.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(now) = self {
            let mut now = lock(now);
            *now = TimeDelta::from_std(by).ok().and_then(|by| now.checked_add_signed(by)).unwrap_or(*now);
        }
    }

    /// Moves a manual clock; a system clock is moved by nobody.
    pub fn set(&self, to: DateTime<Utc>) {
        if let Self::Manual(now) = self {
            *lock(now) = to.trunc_subsecs(3);
        }
    }
}

impl Reckoning {
    fn at(&self, boot: Duration) -> DateTime<Utc> {
        forward(self.database, self.boot, boot)
    }

    fn observe(&mut self, sample: Sample) -> Observation {
        let round_trip = sample.received.saturating_sub(sample.sent);
        if LONGEST_ROUND_TRIP < round_trip {
            return Observation::Refused;
        }
        let boot = sample.sent + round_trip / 2;
        if !self.sampled || is_small(sample.database - self.at(boot)) {
            return self.adopt(sample.database, boot);
        }
        let agreeing = match &self.doubt {
            Some(doubt) if is_small(sample.database - forward(doubt.database, doubt.boot, boot)) => doubt.agreeing + 1,
            _ => 1,
        };
        if AGREEING_SAMPLES <= agreeing {
            return self.adopt(sample.database, boot);
        }
        self.doubt = Some(Doubt { database: sample.database, boot, agreeing });
        Observation::Held
    }

    fn adopt(&mut self, database: DateTime<Utc>, boot: Duration) -> Observation {
        *self = Self { database, boot, sampled: true, doubt: None };
        Observation::Adopted
    }
}

fn is_small(step: TimeDelta) -> bool {
    -LARGEST_STEP_BACK <= step && step <= LARGEST_STEP_FORWARD
}

fn forward(database: DateTime<Utc>, from: Duration, to: Duration) -> DateTime<Utc> {
    let elapsed = to.saturating_sub(from);
    database + TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::zero())
}

#[expect(clippy::disallowed_methods, reason = "this file is the one place that asks")]
fn host_now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

fn boot_now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// A panic under this lock leaves whole values behind, so its poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reckoning() -> (Reckoning, DateTime<Utc>) {
        let start = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let mut reckoning = Reckoning { database: start, boot: Duration::ZERO, sampled: false, doubt: None };
        assert_eq!(reckoning.observe(sample(start, 0)), Observation::Adopted);
        (reckoning, start)
    }

    fn sample(database: DateTime<Utc>, boot_seconds: u64) -> Sample {
        let boot = Duration::from_secs(boot_seconds);
        Sample { database, sent: boot, received: boot }
    }

    #[test]
    fn a_slow_answer_is_refused() {
        let (mut reckoning, start) = reckoning();
        let slow = Sample { database: start, sent: Duration::ZERO, received: Duration::from_millis(251) };

        assert_eq!(reckoning.observe(slow), Observation::Refused);
    }

    #[test]
    fn a_jump_holds_until_three_samples_agree() {
        let (mut reckoning, start) = reckoning();
        let jumped = |boot: u64| sample(start + TimeDelta::hours(1) + TimeDelta::seconds(boot as i64), boot);

        assert_eq!(reckoning.observe(jumped(10)), Observation::Held);
        assert_eq!(reckoning.observe(jumped(20)), Observation::Held);
        assert_eq!(reckoning.at(Duration::from_secs(20)), start + TimeDelta::seconds(20));
        assert_eq!(reckoning.observe(jumped(30)), Observation::Adopted);
        assert_eq!(reckoning.at(Duration::from_secs(30)), start + TimeDelta::seconds(3_630));
    }

    #[test]
    fn a_jump_that_goes_away_is_forgotten() {
        let (mut reckoning, start) = reckoning();

        assert_eq!(reckoning.observe(sample(start - TimeDelta::seconds(5), 10)), Observation::Held);
        assert_eq!(reckoning.observe(sample(start + TimeDelta::seconds(20), 20)), Observation::Adopted);
        assert!(reckoning.doubt.is_none());
    }

    #[test]
    fn small_steps_are_followed_and_constant_skew_is_no_jump() {
        let (mut reckoning, start) = reckoning();

        assert_eq!(reckoning.observe(sample(start + TimeDelta::seconds(309), 10)), Observation::Adopted);
        assert_eq!(reckoning.observe(sample(start + TimeDelta::seconds(318), 20)), Observation::Adopted);
    }
}
