//! What is allowed and probably not meant (spec 3, Rules).

use std::{collections::BTreeMap, time::Duration};

use super::{Entry, Environment, policy, problem::Code, reading::deserialize::Reader, site::Site};
use crate::domain::{
    duration,
    job::{Job, JobName, Overlap},
};

const DAY: Duration = Duration::from_secs(86_400);
const SHORT: Duration = Duration::from_secs(10);

/// Keys that say nothing about a queue.
const SCHEDULED_ONLY: [&str; 6] = ["overlap", "catch_up", "catch_up_within", "timezone", "dst", "jitter"];

/// Warns about one job.
pub fn of_job(job: &Job, site: &Site<'_>, environment: &Environment, reader: &mut Reader<'_>) {
    if let Some(period) = job.schedule.as_ref().and_then(policy::period) {
        warn_period(job, period, site, reader);
    }
    if site.gives("cron") {
        warn_day_fields(site, reader);
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

fn warn_period(job: &Job, period: Duration, site: &Site<'_>, reader: &mut Reader<'_>) {
    let words = duration::format(period);
    if site.gives("every") && DAY <= period {
        let message = format!("every {words} fires at multiples of {words} since 1970-01-01T00:00Z, not at a local time");
        reader.tell(Code::LongInterval, site.value("every"), message, Some("use at = \"08:00\" with `days`".into()));
    }
    if site.gives("every") && period < SHORT {
        let rows = DAY.as_millis() / period.as_millis().max(1);
        let message = format!("every {words} writes {rows} rows a day into the ledger");
        reader.tell(Code::ShortInterval, site.value("every"), message, Some("shorten `keep`, or fire less often".into()));
    }
    if period < job.policy.timeout {
        let timeout = duration::format(job.policy.timeout);
        let message = format!("the time-out of {timeout} is longer than the period of {words}");
        let key = if site.gives("timeout") { "timeout" } else { ["every", "cron", "at"].into_iter().find(|key| site.gives(key)).unwrap_or("timeout") };
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

/// Day of month OR day of week: `*/2` counts as restricted, which is seldom meant.
fn warn_day_fields(site: &Site<'_>, reader: &mut Reader<'_>) {
    let Some(super::reading::tree::Value::Text(text)) = site.table().get("cron").map(|entry| &entry.node.value) else {
        return;
    };
    let fields: Vec<&str> = text.text.split_whitespace().collect();
    let (day, weekday) = match fields.as_slice() {
        [_, _, day, _, weekday] | [_, _, _, day, _, weekday] => (*day, *weekday),
        _ => return,
    };
    let is_any = |field: &str| field == "*" || field == "?";
    if !is_any(day) && !is_any(weekday) && (day.starts_with("*/") || weekday.starts_with("*/")) {
        let message = format!("either day field may match: day {day:?} or weekday {weekday:?}");
        let help = "only a bare * means any day; restrict one of the two".to_string();
        reader.tell(Code::DayFields, site.value("cron"), message, Some(help));
    }
}

/// Warns about the table as a whole: once, at the first job that reads a local clock without having a zone.
pub fn of_table(entries: &BTreeMap<JobName, Entry>, sites: &[Site<'_>], reader: &mut Reader<'_>) {
    let lacks_zone = |site: &&Site<'_>| {
        let local = site.gives("cron") || site.gives("at");
        local && !site.gives("timezone") && !site.inherits("timezone") && entries.contains_key(&JobName::from_store(site.name()))
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
