//! When silence becomes staleness: derived from the schedule, so nights and weekends are not silence.

use chrono::{DateTime, TimeDelta, Utc};

use super::snapshot::JobStats;
use crate::domain::job::Job;

/// Grace beyond the time-out: an instant may be 30 s late and still live, and a dead replica's lease takes 30 s to end.
pub const STALE_SLACK: TimeDelta = TimeDelta::seconds(60);

/// The instant at which the job is stale unless it succeeds before: the first firing expected after its last success
/// (or after it was last excused), plus its time-out, plus [`STALE_SLACK`]; `stale_after` replaces all three.
/// `None` = never: a queue, or a schedule without a further instant.
pub fn stale_at(job: &Job, stats: &JobStats) -> Option<DateTime<Utc>> {
    let schedule = job.schedule.as_ref()?;
    let base = expected_from(stats);
    if let Some(stale_after) = job.policy.stale_after {
        return base.checked_add_signed(TimeDelta::from_std(stale_after).ok()?);
    }
    let expected = schedule.next_after(base)?;
    let allowed =
        TimeDelta::from_std(job.policy.timeout).ok()? + STALE_SLACK + schedule.start_delay(&job.name, expected);
    expected.checked_add_signed(allowed)
}

/// No firing up to here is waited for any more.
fn expected_from(stats: &JobStats) -> DateTime<Utc> {
    [stats.last_success, stats.epoch_since, stats.excused_until]
        .into_iter()
        .flatten()
        .fold(stats.first_seen, DateTime::max)
}
