//! What a producer or a person asks for: the body of `POST /api/v1/jobs/{name}/runs`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::body;
use crate::{
    domain::{duration, job::Job, run::Trigger},
    http::problem::Problem,
    store::NewRun,
};

/// Furthest a run may be put off: what lies further away is a calendar, and belongs into one.
const MAX_DELAY: TimeDelta = TimeDelta::days(366);
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// As in the job table.
const PRIORITIES: std::ops::RangeInclusive<i64> = -10..=10;
const KNOWN: &str = "payload, due_at, in, key, priority, dedupe_key";

/// The run that these members ask for. Errors name the member.
pub fn new_run(job: &Job, mut members: Map<String, Value>, now: DateTime<Utc>) -> Result<NewRun, Problem> {
    let payload = members.remove("payload").unwrap_or_else(|| job.payload.clone());
    let due_at = due(members.remove("due_at"), members.remove("in"), now)?;
    let priority = members.remove("priority").filter(|value| !value.is_null()).map(priority).transpose()?;
    let key = text("key", members.remove("key"))?;
    let dedupe_key = text("dedupe_key", members.remove("dedupe_key"))?;
    body::refuse_others(&members, KNOWN)?;
    // A run of a schedule that a person asks for consumes no instant; a queue has no others.
    let trigger = if job.schedule.is_some() { Trigger::Manual } else { Trigger::Enqueue };
    let job = job.name.clone();
    Ok(NewRun { job, trigger, payload, due_at, priority, key, dedupe_key, max_attempts: None, retry_of: None })
}

/// Now, when neither is given or the instant has passed.
fn due(at: Option<Value>, after: Option<Value>, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    let due = match (at.filter(|value| !value.is_null()), after.filter(|value| !value.is_null())) {
        (None, None) => now,
        (Some(_), Some(_)) => return Err(Problem::field("in", "give due_at or in, not both")),
        (Some(at), None) => instant(&at).ok_or_else(|| {
            Problem::field("due_at", "not an instant with its offset, such as 2026-11-22T08:00:00-03:00")
        })?,
        (None, Some(after)) => now + TimeDelta::from_std(length(&after)?).unwrap_or(TimeDelta::MAX.min(MAX_DELAY * 2)),
    };
    if now + MAX_DELAY < due {
        return Err(Problem::field("due_at", format!("more than {} days from now", MAX_DELAY.num_days())));
    }
    Ok(due.max(now))
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    let instant = DateTime::parse_from_rfc3339(value.as_str()?).ok()?.to_utc();
    // In whole milliseconds, as everywhere; the later one, so that nothing starts before it is due.
    DateTime::from_timestamp_millis(instant.timestamp_millis())
}

fn length(value: &Value) -> Result<Duration, Problem> {
    let given = match value {
        Value::String(text) if text.len() <= MAX_KEY_BYTES => duration::parse(text).map_err(|why| first_line(&why)),
        Value::Number(seconds) => {
            seconds.as_u64().map(Duration::from_secs).ok_or_else(|| "not a whole number of seconds".into())
        }
        _ => Err("not a length of time, such as \"10min\"".into()),
    };
    match given {
        Ok(length) if length <= MAX_DELAY.to_std().unwrap_or_default() => Ok(length),
        Ok(_) => Err(Problem::field("in", format!("longer than {} days", MAX_DELAY.num_days()))),
        Err(why) => Err(Problem::field("in", why)),
    }
}

/// The remedy stands below, for terminals.
pub fn first_line(why: &str) -> String {
    why.lines().next().unwrap_or_default().to_owned()
}

fn priority(value: Value) -> Result<i16, Problem> {
    let number = value.as_i64().filter(|number| PRIORITIES.contains(number));
    number.and_then(|number| i16::try_from(number).ok()).ok_or_else(|| {
        let (least, most) = (PRIORITIES.start(), PRIORITIES.end());
        Problem::field("priority", format!("not a whole number from {least} to {most}"))
    })
}

fn text(name: &str, value: Option<Value>) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_KEY_BYTES => Ok(Some(text)),
        Some(_) => Err(Problem::field(name, format!("not a text of 1 to {MAX_KEY_BYTES} bytes"))),
    }
}
