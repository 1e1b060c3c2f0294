//! The rules of a job with all defaults resolved: job, then `[defaults]`, then the team's variables, then built-in.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};

use super::{
    TeamDefaults,
    raw::{RawDefaults, RawJob, RawKeep, RawRetry},
    values::BackoffText,
};
use crate::domain::{
    job::{Backoff, CatchUp, Delivery, ExpectItems, Keep, Overlap, Policy, Retry},
    schedule::Schedule,
};

const DAY: Duration = Duration::from_secs(86_400);
const TIMEOUT: Duration = Duration::from_secs(300);
const SLOW_AFTER: Duration = Duration::from_secs(60);
const MAX_ATTEMPTS: u32 = 3;
const BACKOFF: Backoff = Backoff::Exponential { first: Duration::from_secs(5), most: Duration::from_secs(300) };
const KEEP_DONE: Duration = Duration::from_secs(7 * 86_400);
const KEEP_FAILED: Duration = Duration::from_secs(30 * 86_400);
/// Bounds of the default of `catch_up_within` (spec 4, Missed instants).
const CATCH_UP_AT_LEAST: Duration = DAY;
const CATCH_UP_AT_MOST: Duration = Duration::from_secs(7 * 86_400);

/// Periods are looked for from here on: any fixed instant does, and a fixed one keeps parsing pure.
pub fn period(schedule: &Schedule) -> Option<Duration> {
    let from: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).expect("2026-01-01 is an instant");
    schedule.period(from)
}

/// Fills every key that the job leaves out from `[defaults]`; tables are filled key by key.
pub fn inherit(job: &mut RawJob, defaults: &RawDefaults) {
    macro_rules! inherit {
        ($($key:ident)+) => { $(job.$key = job.$key.take().or_else(|| defaults.$key.clone());)+ };
    }
    inherit!(timezone timeout slow_after overlap catch_up catch_up_within delivery critical stale_after enabled);
    inherit!(expect_items only_in when priority concurrency jitter tags owner runbook);
    macro_rules! inherit_table {
        ($($table:ident { $($key:ident)+ })+) => { $(
            job.$table = Some({
                let (mut own, default) = (job.$table.take().unwrap_or_default(), defaults.$table.clone().unwrap_or_default());
                $(own.$key = own.$key.take().or(default.$key);)+
                own
            });
        )+ };
    }
    inherit_table!(dst { gap repeat } retry { max_attempts backoff jitter } keep { done failed });
}

/// The policy of a job that has inherited its defaults.
pub fn resolve(job: &RawJob, team: &TeamDefaults, schedule: Option<&Schedule>) -> Policy {
    let is_queue = schedule.is_none();
    let team_concurrency = team.queue_concurrency.filter(|_| is_queue);
    Policy {
        timeout: job.timeout.map(|length| length.0).or(team.timeout).unwrap_or(TIMEOUT),
        slow_after: job.slow_after.map_or(SLOW_AFTER, |length| length.0),
        retry: retry(job.retry.clone().unwrap_or_default()),
        overlap: job.overlap.unwrap_or(Overlap::Skip),
        catch_up: job.catch_up.unwrap_or(CatchUp::Latest),
        catch_up_within: catch_up_within(job, schedule),
        delivery: job.delivery.unwrap_or(Delivery::AtLeastOnce),
        critical: job.critical.unwrap_or(false),
        stale_after: job.stale_after.map(|length| length.0),
        expect_items: job.expect_items.unwrap_or(ExpectItems::Any),
        priority: job.priority.map_or(0, |priority| priority.0 as i16),
        concurrency: job.concurrency.map(|most| most.0 as u32).or(team_concurrency),
        keep: keep(job.keep.unwrap_or_default(), team.queue_keep_done.filter(|_| is_queue)),
    }
}

fn retry(raw: RawRetry) -> Retry {
    Retry {
        max_attempts: raw.max_attempts.map_or(MAX_ATTEMPTS, |most| most.0 as u32),
        backoff: raw.backoff.map_or(BACKOFF, |BackoffText(backoff)| backoff),
        jitter: raw.jitter.unwrap_or(true),
    }
}

fn keep(raw: RawKeep, team_done: Option<Duration>) -> Keep {
    Keep {
        done: raw.done.map(|length| length.0).or(team_done).unwrap_or(KEEP_DONE),
        failed: raw.failed.map_or(KEEP_FAILED, |length| length.0),
    }
}

fn catch_up_within(job: &RawJob, schedule: Option<&Schedule>) -> TimeDelta {
    let derived = || schedule.and_then(period).unwrap_or_default().clamp(CATCH_UP_AT_LEAST, CATCH_UP_AT_MOST);
    let within = job.catch_up_within.map_or_else(derived, |length| length.0);
    TimeDelta::from_std(within).expect("a hundred years are within chrono's range")
}

/// The policy as JSON, for hashing.
pub fn canonical(policy: &Policy) -> Json {
    let ms = |length: Duration| length.as_millis() as u64;
    let backoff = match &policy.retry.backoff {
        Backoff::Exponential { first, most } => json!(["exponential", ms(*first), ms(*most)]),
        Backoff::Linear { step } => json!(["linear", ms(*step)]),
        Backoff::List(waits) => json!(["list", waits.iter().copied().map(ms).collect::<Vec<_>>()]),
    };
    json!({
        "timeout": ms(policy.timeout),
        "slow_after": ms(policy.slow_after),
        "retry": [policy.retry.max_attempts, backoff, policy.retry.jitter],
        "overlap": policy.overlap,
        "catch_up": policy.catch_up,
        "catch_up_within": policy.catch_up_within.num_milliseconds(),
        "delivery": policy.delivery,
        "critical": policy.critical,
        "stale_after": policy.stale_after.map(ms),
        "expect_items": policy.expect_items,
        "priority": policy.priority,
        "concurrency": policy.concurrency,
        "keep": [ms(policy.keep.done), ms(policy.keep.failed)],
    })
}
