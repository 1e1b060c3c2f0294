//! A week and a half of a table in virtual minutes: nights, weekends, a change of the clocks, a restart, long and short
//! periods, failing spells and real silences. At no minute is a silence reported that is none, and none is missed.

mod health_week {
    pub mod sim;
}

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::domain::{
    health::{AlertName, Health, JobStatus, JobsHealth, Severity, Status, assess},
    job::Job,
    run::{Failure, Outcome, Reason, Report, Run},
    settle::Ended,
};
use health_week::sim::{Fortune, Script, Sim, Worker, jobs};
use serde_json::json;

/// New York changes its clocks on Sunday, the 8th of March 2026, from 02:00 to 03:00 (07:00 UTC).
const TABLE: &str = r#"
[defaults]
timezone = "America/New_York"

[jobs.fila_worker]
every = "30s"
critical = true
[jobs.grupos]
every = "10min"
catch_up = "none"
[jobs.handoff]
every = "5min"
timeout = "30min"
[jobs.retomada]
at = "08:00"
days = "mon-fri"
critical = true
[jobs.decay]
every = "1h"
[jobs.briefing]
cron = "0 * * * *"
catch_up = "all"
[jobs.report]
cron = "0 8 * * 1-5"
[jobs.shifts]
cron = "*/30 * * * *"
[jobs.nightly]
cron = "30 2 * * *"
[jobs.weekend]
at = ["08:00", "18:00"]
days = "sat,sun"
[jobs.business]
cron = "*/15 9-17 * * mon-fri"
[jobs.weekly]
cron = "0 6 * * mon"
[jobs.monthly]
cron = "0 0 1 * *"
[jobs.rare]
every = "3d"
[jobs.skipper]
every = "15min"
[jobs.gated]
every = "10min"
[jobs.held]
every = "20min"
[jobs.poller]
every = "1h"
[jobs.queued]
every = "10min"
timeout = "1h"
overlap = "queue"
[jobs.flaky]
every = "5min"
[jobs.patient]
every = "10min"
stale_after = "2h"
[jobs.novo]
at = "12:00"
critical = true
"#;

const START: &str = "03-04 05:00";
const END: &str = "03-13 04:00";
/// Nothing lives here: the process is down.
const DOWN: (&str, &str) = ("03-06 23:30", "03-07 01:10");
const PAUSED: (&str, &str) = ("03-06 00:00", "03-08 15:00");
/// A job of the table comes later.
const NEW: (&str, &str) = ("novo", "03-09 13:00");

#[derive(Clone, Copy)]
enum Kind {
    Fails,
    Hangs,
    Unclaimed,
}

/// What goes wrong: which job, how, from when, until when.
const SILENCES: &[(&str, Kind, &str, &str)] = &[
    ("fila_worker", Kind::Hangs, "03-05 10:00", "03-05 10:20"),
    ("handoff", Kind::Unclaimed, "03-05 14:00", "03-05 15:00"),
    ("skipper", Kind::Fails, "03-05 18:00", "03-05 19:00"),
    ("gated", Kind::Fails, "03-05 12:00", "03-05 13:00"),
    ("decay", Kind::Fails, "03-06 03:00", "03-06 03:30"),
    ("business", Kind::Fails, "03-06 21:00", "03-06 23:00"),
    ("weekend", Kind::Fails, "03-07 23:00", "03-07 23:30"),
    ("nightly", Kind::Unclaimed, "03-08 06:00", "03-08 08:00"),
    ("held", Kind::Fails, "03-08 15:00", "03-08 17:00"),
    ("weekly", Kind::Unclaimed, "03-09 10:00", "03-09 10:30"),
    ("retomada", Kind::Fails, "03-09 12:00", "03-09 13:00"),
    ("novo", Kind::Unclaimed, "03-09 13:00", "03-11 17:00"),
    ("poller", Kind::Fails, "03-10 03:00", "03-10 06:00"),
    ("patient", Kind::Fails, "03-10 10:00", "03-10 13:30"),
    ("queued", Kind::Unclaimed, "03-11 01:00", "03-11 04:00"),
];

/// Every stretch of silence that is reported, in UTC, by its first and its last minute. Each begins in the minute after
/// the missed instant + time-out + 60 s and ends with the next success: nobody was there from 23:30 to 01:10.
const REPORTED: &str = "\
fila_worker stale 03-05 10:07 .. 03-05 10:20
gated stale 03-05 12:07 .. 03-05 13:00
handoff stale 03-05 14:32 .. 03-05 15:00
skipper stale 03-05 18:07 .. 03-05 19:00
decay stale 03-06 03:07 .. 03-06 04:00
business stale 03-06 21:07 .. 03-06 23:29
briefing stale 03-07 01:10 .. 03-07 01:10
business stale 03-07 01:10 .. 03-09 13:00
decay stale 03-07 01:10 .. 03-07 01:10
fila_worker stale 03-07 01:10 .. 03-07 01:10
flaky stale 03-07 01:10 .. 03-07 01:10
grupos stale 03-07 01:10 .. 03-07 01:10
handoff stale 03-07 01:10 .. 03-07 01:10
queued stale 03-07 01:10 .. 03-07 01:34
shifts stale 03-07 01:10 .. 03-07 01:10
skipper stale 03-07 01:10 .. 03-07 01:10
weekend stale 03-07 23:07 .. 03-08 12:00
nightly stale 03-08 07:07 .. 03-08 08:00
held stale 03-08 15:07 .. 03-08 17:00
weekly never_ran 03-09 10:07 .. 03-09 10:29
weekly stale 03-09 10:30 .. 03-09 10:30
retomada stale 03-09 12:07 .. 03-10 12:00
novo never_ran 03-09 16:07 .. 03-11 16:59
poller stale 03-10 03:07 .. 03-10 06:40
patient stale 03-10 11:51 .. 03-10 13:30
queued stale 03-11 02:12 .. 03-11 04:24
novo stale 03-11 17:00 .. 03-11 17:00
";

fn with_handlers(table: &str) -> String {
    let line = |line: &str| match line.starts_with("[jobs.") {
        true => format!("{line}\nrun.http = {{ post = \"http://app/\" }}\n"),
        false => format!("{line}\n"),
    };
    table.lines().map(line).collect()
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("2026-{}:00Z", text.replace(' ', "T")).parse().expect("month, day and time")
}

fn within(now: DateTime<Utc>, (from, until): (&str, &str)) -> bool {
    utc(from) <= now && now < utc(until)
}

fn done(after: TimeDelta) -> Fortune {
    Fortune::Ends(after, Ended::Answered(Ok(Report::items(1))))
}

fn refused(failure: Failure) -> Fortune {
    Fortune::Ends(TimeDelta::seconds(1), Ended::Answered(Err(failure)))
}

/// How a job goes when nothing is wrong.
fn usual(name: &str, run: &Run, now: DateTime<Utc>) -> Fortune {
    match name {
        "skipper" => refused(Failure::skipped(Reason::Handler, "nothing to do")),
        // Closed at night, New York time.
        "gated" if within_hours(now, 1, 11) => Fortune::Ends(TimeDelta::zero(), Ended::GateClosed),
        // Posted, and done by the application forty minutes later.
        "poller" => match run.started_at.filter(|_| run.resume.is_some()) {
            Some(started) if started + TimeDelta::minutes(40) <= now => done(TimeDelta::seconds(1)),
            _ => refused(Failure::pending(Duration::from_secs(60), json!({ "location": "/jobs/7" }))),
        },
        "queued" => done(TimeDelta::minutes(25)),
        "flaky" if run.attempt == 0 => refused(Failure::retry("not this time")),
        _ => done(TimeDelta::seconds(2)),
    }
}

fn within_hours(now: DateTime<Utc>, from: u32, until: u32) -> bool {
    let hour = chrono::Timelike::hour(&now);
    from <= hour && hour < until
}

fn script(name: &'static str) -> Script {
    Box::new(move |run, now| {
        let silence = SILENCES.iter().find(|(job, _, from, until)| *job == name && within(now, (from, until)));
        match silence {
            Some((_, Kind::Unclaimed, ..)) => Fortune::Unclaimed,
            Some((_, Kind::Hangs, ..)) => Fortune::Ends(TimeDelta::seconds(300), Ended::TimedOut),
            Some((_, Kind::Fails, ..)) => refused(Failure::retry("no")),
            None => usual(name, run, now),
        }
    })
}

/// The truth: an instant came due while something was wrong, its time is over, and nothing has made up for it since.
struct Oracle {
    due_in_silence: Vec<DateTime<Utc>>,
    allowed: TimeDelta,
}

impl Oracle {
    fn new(job: &Job) -> Self {
        let schedule = job.schedule.as_ref().expect("no queues here");
        let own =
            SILENCES.iter().filter(|(name, ..)| *name == job.name.as_str()).map(|(.., from, until)| (*from, *until));
        // What an application works on goes on without us.
        let down = Some(DOWN).filter(|_| job.name.as_str() != "poller");
        let windows: Vec<_> = own.chain(down).collect();
        let is_wrong = |at: &DateTime<Utc>| windows.iter().any(|window| within(*at, *window));
        let timeout = TimeDelta::from_std(job.policy.timeout).unwrap();
        Self {
            due_in_silence: schedule.instants(utc(START), utc(END)).filter(is_wrong).collect(),
            allowed: timeout + TimeDelta::seconds(60),
        }
    }

    fn is_silent(&self, worker: &Worker, now: DateTime<Utc>) -> bool {
        if worker.paused {
            return false;
        }
        if let Some(stale_after) = worker.job.policy.stale_after {
            let last = worker.successes().next_back();
            return last.is_some_and(|last| last + TimeDelta::from_std(stale_after).unwrap() < now);
        }
        let reasons = &[Reason::Handler, Reason::Gate, Reason::Paused];
        let made_up = worker.successes().next_back().max(worker.excuses(reasons).next_back());
        let blamed = |due: &DateTime<Utc>| *due + self.allowed < now && made_up.is_none_or(|at| at < *due);
        self.due_in_silence.iter().any(blamed)
    }
}

#[test]
fn a_week_with_nights_weekends_and_a_clock_change_has_no_false_silence_and_misses_none() {
    let all = jobs(&with_handlers(TABLE));
    let mut sim = Sim::new(utc(START));
    let add = |sim: &mut Sim, job: &Arc<Job>| {
        let name: &'static str = job.name.as_str().to_owned().leak();
        sim.add(Arc::clone(job), script(name));
    };
    all.iter().filter(|job| job.name.as_str() != NEW.0).for_each(|job| add(&mut sim, job));
    let oracles: BTreeMap<_, _> = all.iter().map(|job| (job.name.clone(), Oracle::new(job))).collect();
    let mut stretches = Stretches::default();
    let mut now = utc(START);

    while now < utc(END) {
        if now == utc(NEW.1) {
            all.iter().filter(|job| job.name.as_str() == NEW.0).for_each(|job| add(&mut sim, job));
        }
        if now == utc(DOWN.0) {
            sim.stop();
        }
        sim.down = within(now, DOWN);
        sim.worker("held").paused = within(now, PAUSED);
        sim.tick(now);
        if now.timestamp() % 60 == 0 && !sim.down {
            sim.look();
            let health = assess(&sim.jobs(), &sim.snapshot, now);
            let jobs = JobsHealth::new(&sim.jobs(), &sim.snapshot, &health);
            for worker in &sim.workers {
                let name = worker.job.name.as_str();
                let (said, is_silent) = (status_of(&health, name), oracles[&worker.job.name].is_silent(worker, now));
                assert_eq!(is_silence(said), is_silent, "{name} at {now}: {said}");
                stretches.note(name, said, now);
            }
            assert_agreement(&sim, &health, &jobs);
        }
        now += TimeDelta::seconds(15);
    }

    assert_eq!(stretches.text(), REPORTED, "\n{}", stretches.text());
    // The week was a busy one.
    assert!(20_000 < sim.worker("fila_worker").count(Outcome::Success));
    assert!(200 < sim.worker("poller").count(Outcome::Success));
}

fn status_of(health: &Health, name: &str) -> JobStatus {
    health.job(name).expect("every job is judged").status
}

fn is_silence(status: JobStatus) -> bool {
    matches!(status, JobStatus::Stale | JobStatus::NeverRan)
}

/// The two answers say the same, and the status follows from the rules.
#[track_caller]
fn assert_agreement(sim: &Sim, health: &Health, jobs: &JobsHealth) {
    assert_eq!(jobs.status, health.status);
    assert_eq!(jobs.jobs.len(), sim.workers.len());
    for ((name, executions), worker) in jobs.jobs.iter().zip(&sim.workers) {
        let silent = is_silence(status_of(health, name.as_str()));
        let alerted = health.alerts.iter().any(|alert| {
            matches!(alert.name, AlertName::JobStale | AlertName::JobNeverRan) && alert.job.as_ref() == Some(name)
        });
        let is_critical = worker.job.policy.critical;
        assert_eq!((executions.is_stale, alerted), (silent, silent), "{name} at {}", sim.now);
        assert_eq!(jobs.alerts.stale_jobs.contains(name), silent, "{name}");
        assert_eq!(jobs.alerts.critical_stale.contains(name), silent && is_critical, "{name}");
        assert!(!(silent && is_critical) || health.status == Status::Critical, "{name}");
    }
    let worst = health.alerts.iter().map(|alert| alert.severity).max();
    let expected = match worst {
        None => Status::Healthy,
        Some(Severity::Warning) => Status::Degraded,
        Some(Severity::Critical) => Status::Critical,
    };
    assert_eq!(health.status, expected);
}

/// Minutes that follow one another with the same word of silence.
#[derive(Default)]
struct Stretches(Vec<(String, JobStatus, DateTime<Utc>, DateTime<Utc>)>);

impl Stretches {
    fn note(&mut self, name: &str, status: JobStatus, now: DateTime<Utc>) {
        if !is_silence(status) {
            return;
        }
        let goes_on = |(job, word, _, last): &&mut (String, JobStatus, _, DateTime<Utc>)| {
            job == name && *word == status && now - *last == TimeDelta::minutes(1)
        };
        match self.0.iter_mut().rev().find(goes_on) {
            Some((.., last)) => *last = now,
            None => self.0.push((name.into(), status, now, now)),
        }
    }

    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, status, from, until)| {
            let (from, until) = (from.format("%m-%d %H:%M"), until.format("%m-%d %H:%M"));
            writeln!(text, "{name} {status} {from} .. {until}").expect("a string takes all");
            text
        })
    }
}
