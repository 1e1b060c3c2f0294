//! `jobs`: the job table beside what the ledger knows of it; pause, resume, rewind.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{books::Books, runs::instant};
use crate::{
    cli::{
        exit::Exit,
        given::moment,
        output::{Column, Output, remark},
    },
    domain::{
        health::{Health, JobHealth, JobVerdict, Snapshot, assess},
        job::Job,
        run::ReplicaId,
        schedule::Schedule,
    },
};

/// Firings that `show` looks ahead.
const FIRINGS_SHOWN: usize = 5;

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List the jobs of the table with their status
    List,
    /// Show one job: its rules, its next firings, how it fared
    Show {
        /// The job
        name: String,
    },
    /// Stop planning runs of a job: its instants become `skipped: paused`
    Pause(PauseArguments),
    /// Go on with a paused job
    Resume {
        /// The job
        name: String,
    },
    /// Set back a cursor that ran ahead of the clock
    Rewind {
        /// The job
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct PauseArguments {
    /// The job
    pub name: String,
    /// Why, for those who look later
    #[arg(long, default_value = "paused by hand")]
    pub reason: String,
    /// Go on at this instant without being asked: RFC 3339 or a date
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub until: Option<DateTime<Utc>>,
}

pub async fn jobs(books: &Books, command: Jobs, output: Output) -> anyhow::Result<Exit> {
    match command {
        Jobs::List => list(books, output).await?,
        Jobs::Show { name } => show(books, &name, output).await?,
        Jobs::Pause(arguments) => {
            let job = &books.job(&arguments.name)?.name;
            books.store.pause(job, &arguments.reason, arguments.until, books.now).await?;
            remark(&format!("paused {job}"));
        }
        Jobs::Resume { name } => {
            let job = &books.job(&name)?.name;
            books.store.resume(job, books.now).await?;
            remark(&format!("resumed {job}"));
        }
        Jobs::Rewind { name } => rewind(books, &name).await?,
    }
    Ok(Exit::Ok)
}

async fn rewind(books: &Books, name: &str) -> anyhow::Result<()> {
    let job = &books.job(name)?.name;
    let rewound = books.store.rewind(job, books.now).await?;
    let (from, to) = (instant(Some(rewound.from)), instant(Some(books.now)));
    remark(&format!("the cursor of {job} went back from {from} to {to}; {} rows removed", rewound.removed));
    Ok(())
}

/// A line of `jobs list`.
#[derive(Serialize)]
struct Line {
    job: String,
    schedule: String,
    timezone: String,
    handler: &'static str,
    #[serde(flatten)]
    health: JobHealth,
}

async fn list(books: &Books, output: Output) -> anyhow::Result<()> {
    let (jobs, health) = judged(books).await?;
    let line = |(job, verdict): (&Arc<Job>, &JobVerdict)| {
        let (schedule, timezone) = schedule(job);
        Line { job: job.name.to_string(), schedule, timezone, handler: job.handler, health: verdict.health.clone() }
    };
    let lines: Vec<_> = jobs.iter().zip(&health.jobs).map(line).collect();
    Ok(output.list(&lines, &COLUMNS)?)
}

const COLUMNS: [Column<Line>; 8] = [
    ("JOB", |line| line.job.clone()),
    ("SCHEDULE", |line| line.schedule.clone()),
    ("TIMEZONE", |line| line.timezone.clone()),
    ("HANDLER", |line| line.handler.into()),
    ("STATUS", |line| line.health.status.to_string()),
    ("LAST", |line| line.health.last_outcome.map(|outcome| outcome.to_string()).unwrap_or_default()),
    ("LAST RUN", |line| instant(line.health.last_run)),
    ("NEXT RUN", |line| instant(line.health.next_run)),
];

/// What the service would say of the jobs, from the same figures and by the same judge.
async fn judged(books: &Books) -> anyhow::Result<(Vec<Arc<Job>>, Health)> {
    let jobs: Vec<_> = books.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
    let mut look = Snapshot::starting(ReplicaId(Uuid::nil()), env!("CARGO_PKG_VERSION"), books.now);
    look.jobs = books.store.figures(books.now).await?.jobs;
    let health = assess(&jobs, &look, books.now);
    Ok((jobs, health))
}

/// The schedule as the ledger writes it, and its zone.
fn schedule(job: &Job) -> (String, String) {
    let spec = job.schedule.as_ref().map(Schedule::spec);
    spec.map_or_else(|| ("queue".into(), String::new()), |spec| (spec.schedule, spec.timezone))
}

async fn show(books: &Books, name: &str, output: Output) -> anyhow::Result<()> {
    let job = books.job(name)?;
    let (_, health) = judged(books).await?;
    let row = books.store.job_rows().await?.into_iter().find(|row| row.name == job.name);
    let verdict = health.job(name);
    let (spec, timezone) = schedule(job);
    let firings = firings(job, books.now);
    let paused = row.as_ref().filter(|row| row.paused_at.is_some()).map(|row| {
        let until = row.paused_until.map(|until| format!(" until {}", instant(Some(until)))).unwrap_or_default();
        format!("{}{until}", row.paused_reason.clone().unwrap_or_default())
    });
    let policy = &job.policy;
    let shown = json!({
        "job": job.name, "schedule": spec, "timezone": timezone, "handler": job.handler, "about": job.about,
        "next": firings, "paused": paused, "disabled": job.disabled, "health": verdict,
        "timeout_seconds": policy.timeout.as_secs_f64(), "max_attempts": policy.retry.max_attempts,
        "overlap": policy.overlap, "catch_up": policy.catch_up, "delivery": policy.delivery, "critical": policy.critical,
        "planned_until": row.as_ref().and_then(|row| row.planned_until).map(|at| instant(Some(at))),
        "audited_until": row.as_ref().and_then(|row| row.audited_until).map(|at| instant(Some(at))),
    });
    let field = |name: &str| shown[name].as_str().map_or_else(|| shown[name].to_string(), str::to_owned);
    let lines = [
        ("job", job.name.to_string()),
        ("description", job.about.description.clone()),
        ("schedule", format!("{spec} {timezone}").trim_end().to_owned()),
        ("next", firings.join("  ")),
        ("handler", job.handler.to_owned()),
        ("status", verdict.map(|verdict| verdict.status.to_string()).unwrap_or_default()),
        ("paused", paused.unwrap_or_default()),
        ("disabled", job.disabled.clone().unwrap_or_default()),
        ("timeout", format!("{} s", policy.timeout.as_secs_f64())),
        ("attempts", policy.retry.max_attempts.to_string()),
        ("overlap", field("overlap")),
        ("catch up", field("catch_up")),
        ("delivery", field("delivery")),
        ("critical", field("critical")),
        ("planned until", instant(row.as_ref().and_then(|row| row.planned_until))),
        ("audited until", instant(row.as_ref().and_then(|row| row.audited_until))),
        ("last run", instant(verdict.and_then(|verdict| verdict.last_run))),
        ("runs 24h", verdict.map(|verdict| verdict.runs_24h.to_string()).unwrap_or_default()),
        ("failed 24h", verdict.map(|verdict| verdict.failures_24h.to_string()).unwrap_or_default()),
    ];
    Ok(output.thing(&shown, &lines)?)
}

fn firings(job: &Job, now: DateTime<Utc>) -> Vec<String> {
    let Some(schedule) = &job.schedule else { return Vec::new() };
    let next = |moment: &DateTime<Utc>| schedule.next_after(*moment);
    std::iter::successors(next(&now), next).take(FIRINGS_SHOWN).map(|at| instant(Some(at))).collect()
}
