//! One job: from its keys to `Job` and `Work`.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    Entry, Environment,
    file::{job_name, refuse_later, sha256, unknown_handler},
    policy,
    problem::Code,
    raw::{LATER_JOB_KEYS, RawDefaults, RawDst, RawGap, RawJob, RawRepeat},
    reading::{
        deserialize::Reader,
        tree::{self, Node, Step, Value},
    },
    site::Site,
};
use crate::{
    domain::{
        job::{About, Gate, Job},
        schedule::{Dst, Gap, Repeat, Schedule, ScheduleError, Zone},
    },
    handlers::{Outbound, Scope, Targets, Work},
};

/// Keys that decide when a job is due.
const SCHEDULE_KEYS: [&str; 8] = ["every", "offset", "cron", "at", "days", "timezone", "dst", "jitter"];

/// Builds the jobs of one file.
pub struct Builder<'a> {
    defaults: &'a RawDefaults,
    environment: &'a Environment,
    targets: &'a Targets,
    outbound: &'a Outbound,
    folder: &'a Path,
    zones: BTreeMap<String, Result<Zone, ScheduleError>>,
}

impl<'a> Builder<'a> {
    /// Relative paths start at `folder`.
    pub fn new(
        defaults: &'a RawDefaults,
        environment: &'a Environment,
        (targets, outbound): (&'a Targets, &'a Outbound),
        folder: &'a Path,
    ) -> Self {
        Self { defaults, environment, targets, outbound, folder, zones: BTreeMap::new() }
    }

    /// The job, or `None` when it told problems that leave nothing to go on with.
    pub fn build(&mut self, site: &Site<'_>, reader: &mut Reader<'_>) -> Option<Entry> {
        let name = job_name(site, reader);
        let mut table = site.table().clone();
        refuse_later(&mut table, &LATER_JOB_KEYS, reader);
        let work = self.work(table.take("run"), site, reader);
        let mut node = Node { span: site.header(), value: Value::Table(table) };
        let mut raw = reader.read(&mut node, |node| RawJob::deserialize(node))?;
        let is_schedule_whole = SCHEDULE_KEYS.iter().all(|key| !site.gives(key) || is_left(&node, key));
        policy::inherit(&mut raw, self.defaults);
        let schedule = match is_schedule_whole {
            true => self.schedule(&raw, site, reader)?,
            false => return None,
        };
        let zone = self.zone(&raw, site, reader)?;
        let policy = policy::resolve(&raw, &self.environment.team, schedule.as_ref());
        let gate = raw.when.as_ref().map(|rule| rule.resolve(|name| self.environment.value_of(name)));
        let disabled = self.why_disabled(&raw);
        let payload = raw.payload.unwrap_or(Json::Null);
        let work = work?;
        let work_hash = sha256(&json!({
            "work": work.canonical(),
            "payload": payload,
            "policy": policy::canonical(&policy),
            "gate": canonical_gate(gate.as_ref()),
            "zone": zone.name(),
            "disabled": disabled,
        }));
        let about = About {
            description: raw.description.unwrap_or_default(),
            owner: raw.owner.unwrap_or_default(),
            runbook: raw.runbook.unwrap_or_default(),
            tags: raw.tags.unwrap_or_default(),
        };
        let previous_names = raw.previous_names.unwrap_or_default().into_iter().map(|former| former.0).collect();
        let handler = work.name();
        let job =
            Job { name, schedule, zone, handler, disabled, gate, policy, payload, about, previous_names, work_hash };
        let line = reader.source.line_of(site.header().start);
        Some(Entry { job: Arc::new(job), work: Arc::new(work), line })
    }

    fn why_disabled(&self, raw: &RawJob) -> Option<String> {
        if raw.enabled == Some(false) {
            return Some("enabled = false".into());
        }
        let wanted = &raw.only_in.as_ref()?.0;
        let here = self.environment.app_env();
        if here.is_some_and(|here| wanted.iter().any(|name| name == here)) {
            return None;
        }
        let here = here.map_or("APP_ENV is not set".into(), |here| format!("APP_ENV is {here}"));
        Some(format!("only in {}, and {here}", wanted.join(", ")))
    }

    /// `run`: exactly one handler, with settings it accepts.
    fn work(&self, run: Option<tree::Entry>, site: &Site<'_>, reader: &mut Reader<'_>) -> Option<Work> {
        let example = || Some("write one line like run.http = { post = \"/jobs/cleanup\" }".to_string());
        let Some(run) = run else {
            let message = format!("job `{}` has no handler", site.name());
            reader.tell(Code::Handlers, site.header(), message, example());
            return None;
        };
        let mut handlers = match run.node.value {
            Value::Table(table) => table.entries,
            Value::Broken => return None,
            _ => {
                reader.tell(Code::Handlers, run.node.span, "`run` is a table of one handler", example());
                return None;
            }
        };
        handlers.sort_by_key(|entry| entry.key_span.start);
        if handlers.is_empty() {
            reader.tell(Code::Handlers, run.key_span, format!("job `{}` has no handler", site.name()), example());
            return None;
        }
        for second in &handlers[1..] {
            let message = format!("`run` takes one handler, and `{}` is there already", handlers[0].key);
            let help = Some("make a job of its own for the second".into());
            reader.tell(Code::Handlers, second.key_span.clone(), message, help);
        }
        self.settings(handlers.swap_remove(0), reader)
    }

    fn settings(&self, mut handler: tree::Entry, reader: &mut Reader<'_>) -> Option<Work> {
        let name = handler.key.as_str();
        let span = handler.key_span.clone();
        if !Work::NAMES.contains(&name) {
            unknown_handler(name, span, reader);
            return None;
        }
        let told = reader.problems.len();
        let mut work = reader.read(&mut handler.node, |node| Work::parse(name, node))?;
        if told < reader.problems.len() {
            return None;
        }
        let mistakes = work.check(&Scope {
            targets: self.targets,
            outbound: self.outbound,
            folder: self.folder,
            variables: &self.environment.variables,
        });
        for mistake in &mistakes {
            let (message, help) = match mistake.split_once("\nhelp: ") {
                Some((message, help)) => (message, Some(help.to_string())),
                None => (mistake.as_str(), None),
            };
            reader.tell(Code::BadWork, span.clone(), format!("run.{name}: {message}"), help);
        }
        for warning in work.warnings() {
            reader.tell(Code::DoubtfulWork, span.clone(), format!("run.{name}: {warning}"), None);
        }
        mistakes.is_empty().then_some(work)
    }

    /// `Some(None)` = a queue; `None` = problems were told.
    fn schedule(&mut self, raw: &RawJob, site: &Site<'_>, reader: &mut Reader<'_>) -> Option<Option<Schedule>> {
        if !check_schedule_keys(site, reader) {
            return None;
        }
        // An unknown zone must not hide what else is wrong with the schedule.
        let zone = self.zone(raw, site, reader);
        let made = made(raw, zone.as_ref().unwrap_or(&Zone::utc()), site, reader)?;
        zone?;
        let (Some(schedule), Some(jitter)) = (&made, raw.jitter) else { return Some(made) };
        match schedule.clone().with_jitter(jitter.0) {
            Ok(spread) => Some(Some(spread)),
            Err(error) => {
                site.tell(reader, Code::BadSchedule, "jitter", error.message);
                None
            }
        }
    }

    fn zone(&mut self, raw: &RawJob, site: &Site<'_>, reader: &mut Reader<'_>) -> Option<Zone> {
        let Some(name) = &raw.timezone else { return Some(Zone::utc()) };
        match self.zones.entry(name.clone()).or_insert_with(|| Zone::parse(name)) {
            Ok(zone) => Some(zone.clone()),
            Err(error) => {
                reader.tell(Code::UnknownZone, site.value("timezone"), error.message.clone(), error.help.clone());
                None
            }
        }
    }
}

/// The schedule that the keys give, without jitter.
fn made(raw: &RawJob, zone: &Zone, site: &Site<'_>, reader: &mut Reader<'_>) -> Option<Option<Schedule>> {
    let dst = dst(raw.dst.unwrap_or_default());
    let result = if let Some(every) = raw.every {
        let offset = raw.offset.map_or(Duration::ZERO, |offset| offset.0);
        Schedule::every(every.0, offset).map_err(|error| (site.value("every"), error))
    } else if let Some(cron) = &raw.cron {
        Schedule::cron(cron, zone, dst).map_err(|error| {
            let whole = site.value("cron");
            let span = error.span.clone().map_or(whole.clone(), |part| reader.source.inside(whole, cron, part));
            let message = format!("cron {cron:?}: {}", error.message);
            (span, ScheduleError { message, ..error })
        })
    } else if let Some(at) = &raw.at {
        let times: Vec<&str> = at.0.iter().map(String::as_str).collect();
        let days: Vec<&str> = raw.days.iter().flat_map(|days| days.0.iter().map(String::as_str)).collect();
        Schedule::at(&times, &days, zone, dst).map_err(|error| {
            // The days are at fault when the times alone are good, else the first bad time is.
            let is_good = |times: &[&str]| Schedule::at(times, &[], zone, dst).is_ok();
            let key = if is_good(&times) { "days" } else { "at" };
            let bad = times.iter().position(|time| !is_good(&[time])).unwrap_or_default();
            let path = [Step::Key(key.into()), Step::Index(bad)];
            (site.place_of(if key == "at" { &path } else { &path[..1] }), error)
        })
    } else {
        return Some(None);
    };
    result.map(Some).map_err(|(span, error)| reader.tell(Code::BadSchedule, span, error.message, error.help)).ok()
}

/// The key is still there after what could not be read was taken out.
fn is_left(node: &Node, key: &str) -> bool {
    matches!(&node.value, Value::Table(table) if table.get(key).is_some())
}

/// One of `every`, `cron` and `at` at most, and each other key beside the one it belongs to.
fn check_schedule_keys(site: &Site<'_>, reader: &mut Reader<'_>) -> bool {
    let told = reader.problems.len();
    let mut given: Vec<&str> = ["every", "cron", "at"].into_iter().filter(|key| site.gives(key)).collect();
    given.sort_by_key(|key| site.key(key).start);
    for second in given.iter().skip(1) {
        let message = format!("job `{}` has two schedules: `{}` and `{second}`", site.name(), given[0]);
        let help = Some("keep one; a second rhythm is a job of its own".into());
        reader.tell(Code::TwoSchedules, site.key(second), message, help);
    }
    for (key, owner) in [("days", "at"), ("offset", "every")] {
        if site.gives(key) && !site.gives(owner) {
            let message = format!("`{key}` belongs to `{owner}`, which is not there");
            reader.tell(Code::TwoSchedules, site.key(key), message, None);
        }
    }
    told == reader.problems.len()
}

fn dst(raw: RawDst) -> Dst {
    Dst {
        gap: match raw.gap {
            Some(RawGap::Skip) => Gap::Skip,
            Some(RawGap::After) | None => Gap::After,
        },
        repeat: match raw.repeat {
            Some(RawRepeat::Both) => Repeat::Both,
            Some(RawRepeat::First) | None => Repeat::First,
        },
    }
}

fn canonical_gate(gate: Option<&Gate>) -> Json {
    match gate {
        None => Json::Null,
        Some(Gate::Environment { variable, open }) => json!(["env", variable, open]),
        Some(Gate::Sql { text }) => json!(["sql", text]),
    }
}
