//! When silence becomes staleness: derived from the schedule, so nights and weekends are not silence.

use chrono::{DateTime, TimeDelta, Utc};

use super::snapshot::JobStats;
use crate::domain::job::Job;

/// Grace beyond the time-out: an instant may be 30 s late and still live, and a dead replica's lease takes 30 s to end.
pub const STALE_SLACK: TimeDelta = TimeDelta::seconds(60);
/// Facts from further in the future were written under a wrong clock, and say nothing about silence.
const CLOCK_SLACK: TimeDelta = TimeDelta::seconds(60);

/// Until when a job may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The silence counts from here: the last success, or what excuses the job since.
    pub since: DateTime<Utc>,
    /// The instant at which the job is stale unless it succeeds before.
    pub until: DateTime<Utc>,
}

/// How long the job may be silent: until the first firing expected after its last success (or after it was last excused),
/// plus its time-out, plus [`STALE_SLACK`]. `stale_after` replaces all three, and asks for a success: an answer that
/// there is nothing to do excuses a job only without it. `None` = for ever: a queue, or a schedule without a further
/// instant.
pub fn patience(job: &Job, stats: &JobStats, now: DateTime<Utc>) -> Option<Patience> {
    let schedule = job.schedule.as_ref()?;
    if let Some(stale_after) = job.policy.stale_after {
        let since = latest(stats, &[stats.last_success, stats.epoch_since, stats.excused_until], now);
        let until = since.checked_add_signed(TimeDelta::from_std(stale_after).ok()?)?;
        return Some(Patience { since, until });
    }
    let excuses = [stats.last_success, stats.epoch_since, stats.excused_until, stats.answered_until];
    let since = latest(stats, &excuses, now);
    let expected = schedule.next_after(since)?;
    let allowed =
        TimeDelta::from_std(job.policy.timeout).ok()? + STALE_SLACK + schedule.start_delay(&job.name, expected);
    let until = expected.checked_add_signed(allowed)?;
    // Work that was begun in time and goes on elsewhere is not silence. Its handler ends it; a snooze may last as long
    // at most.
    let polled = stats.polling_since.filter(|started| *started <= until);
    let polled = polled.map(|started| started + job.policy.catch_up_within);
    Some(Patience { since, until: polled.map_or(until, |polled| polled.max(until)) })
}

/// No firing up to here is waited for any more.
fn latest(stats: &JobStats, excuses: &[Option<DateTime<Utc>>], now: DateTime<Utc>) -> DateTime<Utc> {
    let known = excuses.iter().flatten().copied().filter(|at| *at <= now + CLOCK_SLACK);
    known.fold(stats.first_seen, DateTime::max)
}
