//! What is allowed and probably not meant (spec 3, Rules).

use std::{collections::BTreeMap, time::Duration};

use super::{Entry, Environment, policy, problem::Code, reading::deserialize::Reader, site::Site};
use crate::domain::{
    duration,
    job::{Job, JobName, Overlap},
    schedule::Schedule,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Keys that say nothing about a queue.
const SCHEDULED_ONLY: [&str; 6] = ["overlap", "catch_up", "catch_up_within", "timezone", "dst", "jitter"];

/// Warns about one job.
pub fn of_job(job: &Job, site: &Site<'_>, environment: &Environment, reader: &mut Reader<'_>) {
    if let Some(schedule) = &job.schedule {
        warn_schedule(job, schedule, site, reader);
    }
    if site.gives("only_in") && environment.app_env().is_none() {
        let help = "set APP_ENV; unset counts as not production".to_string();
        let message = format!("job `{}` is off: `only_in` is given and APP_ENV is not set", job.name);
        reader.tell(Code::NoEnvironment, site.key("only_in"), message, Some(help));
    }
    if job.schedule.is_none() {
        for key in SCHEDULED_ONLY.into_iter().filter(|key| site.gives(key)) {
            let message = format!("`{key}` has no effect: job `{}` is a queue", job.name);
            reader.tell(Code::NoEffect, site.key(key), message, None);
        }
    } else if site.gives("concurrency") && job.policy.overlap != Overlap::Allow {
        let message = format!("`concurrency` has no effect: one run of job `{}` goes at once", job.name);
        reader.tell(Code::NoEffect, site.key("concurrency"), message, Some("write overlap = \"allow\"".into()));
    }
}

fn warn_schedule(job: &Job, schedule: &Schedule, site: &Site<'_>, reader: &mut Reader<'_>) {
    let Some(period) = policy::period(schedule) else { return };
    let words = duration::format(period);
    let key = ["every", "cron", "at"].into_iter().find(|key| site.gives(key)).unwrap_or("every");
    let code = match key {
        "every" if DAY <= period => Code::LongInterval,
        "every" => Code::ShortInterval,
        _ => Code::DayFields,
    };
    for warning in schedule.warnings() {
        reader.tell(code, site.value(key), warning, None);
    }
    if period < job.policy.timeout {
        let timeout = duration::format(job.policy.timeout);
        let message = format!("the time-out of {timeout} is longer than the period of {words}");
        let key = if site.gives("timeout") { "timeout" } else { key };
        let help = format!("with overlap = \"{}\" a slow run meets the next instants", word(job.policy.overlap));
        reader.tell(Code::LongTimeout, site.value(key), message, Some(help));
    }
}

fn word(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::Queue => "queue",
        Overlap::Allow => "allow",
        Overlap::Replace => "replace",
    }
}

/// Warns about the table as a whole: once, at the first job that reads a local clock without having a zone.
pub fn of_table(entries: &BTreeMap<JobName, Entry>, sites: &[Site<'_>], reader: &mut Reader<'_>) {
    let lacks_zone = |site: &&Site<'_>| {
        let local = site.gives("cron") || site.gives("at");
        local
            && !site.gives("timezone")
            && !site.inherits("timezone")
            && entries.contains_key(&JobName::from_store(site.name()))
    };
    let first = sites.iter().filter(lacks_zone).min_by_key(|site| site.header().start);
    if let Some(site) = first {
        let key = if site.gives("cron") { "cron" } else { "at" };
        let count = sites.iter().filter(lacks_zone).count();
        let message = match count {
            1 => format!("job `{}` has no time zone, so it is in UTC", site.name()),
            _ => format!("job `{}` and {} more have no time zone, so they are in UTC", site.name(), count - 1),
        };
        let help = "write timezone = \"America/Sao_Paulo\" under [defaults], or \"UTC\" when it is meant".to_string();
        reader.tell(Code::NoZone, site.value(key), message, Some(help));
    }
}
