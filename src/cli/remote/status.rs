//! `status`: `/health/workers` of the running service as tables, once or again and again.

use std::{
    io::{ErrorKind, IsTerminal as _, stdout},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{Answer, At, PATIENCE, Remote, entries, text};
use crate::cli::{
    exit::{Exit, Stop},
    output::{Column, Output, compact, named, raw, table},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// To the first column of the first line, and wipe what is below.
const HOME: &str = "\x1b[H\x1b[J";
/// Jobs that one line of `--watch` names.
const NAMED: usize = 5;
/// What is shown of the whole, in this order.
const SUMMARY: [&str; 7] = ["status", "scheduler", "queue_size", "lag_seconds", "replicas", "last_job_at", "version"];

#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    pub at: At,
    /// Look again each second, until Ctrl-C; without a terminal one line per look
    #[arg(long)]
    pub watch: bool,
}

/// Shows how the service is; the exit code is that of `health`.
pub async fn status(arguments: &StatusArguments, remote: &Remote, output: Output) -> anyhow::Result<Exit> {
    if arguments.watch {
        return watch(remote, output).await;
    }
    let answer = look(remote).await?;
    output.text_or(&answer.body, || tables(&answer.body))?;
    Ok(exit_of(&answer))
}

async fn look(remote: &Remote) -> Result<Answer, Stop> {
    let answer = remote.get("/health/workers", PATIENCE).await?;
    if answer.body.get("status").is_some() { Ok(answer) } else { Err(answer.refusal()) }
}

fn exit_of(answer: &Answer) -> Exit {
    if answer.code == 200 { Exit::Ok } else { Exit::Unhealthy }
}

/// Until SIGINT or SIGTERM, or until nobody reads any more; then the exit code of the last look.
async fn watch(remote: &Remote, output: Output) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let redraws = output == Output::Table && stdout().is_terminal();
    let mut last = Exit::Ok;
    loop {
        let looked = tokio::select! {
            looked = look(remote) => looked,
            _ = terminate.recv() => return Ok(last),
            _ = interrupt.recv() => return Ok(last),
        };
        last = looked.as_ref().map_or_else(|stop| stop.exit, exit_of);
        let shown = match redraws {
            true => format!("{HOME}{}\n", looked.map_or_else(|stop| stop.message, |answer| tables(&answer.body))),
            false => format!("{}\n", one_line(looked, output)),
        };
        match raw(&shown) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(last),
            other => other?,
        }
        tokio::select! {
            () = time::sleep(PERIOD) => {}
            _ = terminate.recv() => return Ok(last),
            _ = interrupt.recv() => return Ok(last),
        }
    }
}

fn one_line(looked: Result<Answer, Stop>, output: Output) -> String {
    match (looked, output) {
        (Ok(answer), Output::Table) => summed_up(&answer.body),
        (Ok(answer), _) => compact(&answer.body),
        (Err(stop), Output::Table) => stop.message,
        (Err(stop), _) => compact(&json!({ "status": "unreachable", "error": stop.message })),
    }
}

/// `2026-01-16T10:30:00.000Z degraded, scheduler running, queue 5, lag 0.004 s, 9 jobs; mail stale (no_success)`
fn summed_up(body: &Value) -> String {
    let jobs = jobs(body);
    let is_unwell = |job: &Value| !matches!(text(job, "status").as_str(), "healthy" | "idle" | "placeholder");
    let unwell: Vec<_> =
        jobs.iter().filter(|(_, job)| is_unwell(job)).map(|(name, job)| described(name, job)).collect();
    let more = unwell.len().saturating_sub(NAMED);
    let mut line = format!(
        "{} {}, scheduler {}, queue {}, lag {} s, {} jobs",
        text(body, "timestamp"),
        text(body, "status"),
        text(body, "scheduler"),
        text(body, "queue_size"),
        text(body, "lag_seconds"),
        jobs.len()
    );
    for (index, job) in unwell.iter().take(NAMED).enumerate() {
        line += if index == 0 { "; " } else { ", " };
        line += job;
    }
    if 0 < more { format!("{line} and {more} more") } else { line }
}

fn described(name: &str, job: &Value) -> String {
    let reason = text(job, "reason");
    let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
    format!("{name} {}{reason}", text(job, "status"))
}

type Named = (String, Value);

fn jobs(body: &Value) -> Vec<Named> {
    under(body, "jobs")
}

fn under(body: &Value, key: &str) -> Vec<Named> {
    let entries = body.get(key).and_then(Value::as_object).into_iter().flatten();
    entries.map(|(name, entry)| (name.clone(), entry.clone())).collect()
}

/// Everything, for people: the whole, the jobs, the queues, the alerts.
fn tables(body: &Value) -> String {
    let mut parts = vec![named(&SUMMARY.map(|name| (name, text(body, name)))), table(&jobs(body), &JOBS)];
    let queues = under(body, "queues");
    if !queues.is_empty() {
        parts.push(table(&queues, &QUEUES));
    }
    let alerts: Vec<Value> = entries(body, "alerts").cloned().collect();
    if !alerts.is_empty() {
        parts.push(table(&alerts, &ALERTS));
    }
    parts.join("\n\n")
}

const JOBS: [Column<Named>; 9] = [
    ("JOB", |(name, _)| name.clone()),
    ("STATUS", |(_, job)| text(job, "status")),
    ("REASON", |(_, job)| text(job, "reason")),
    ("LAST", |(_, job)| text(job, "last_outcome")),
    ("LAST RUN", |(_, job)| text(job, "last_run")),
    ("NEXT RUN", |(_, job)| text(job, "next_run")),
    ("RUNS 24H", |(_, job)| text(job, "runs_24h")),
    ("FAILED 24H", |(_, job)| text(job, "failures_24h")),
    ("P95 MS", |(_, job)| text(job, "p95_duration_ms")),
];

const QUEUES: [Column<Named>; 5] = [
    ("QUEUE", |(name, _)| name.clone()),
    ("SIZE", |(_, queue)| text(queue, "size")),
    ("OLDEST S", |(_, queue)| text(queue, "oldest_age_seconds")),
    ("RUNNING", |(_, queue)| text(queue, "running")),
    ("FAILED", |(_, queue)| text(queue, "failed")),
];

const ALERTS: [Column<Value>; 5] = [
    ("ALERT", |alert| text(alert, "name")),
    ("SEVERITY", |alert| text(alert, "severity")),
    ("JOB", |alert| text(alert, "job")),
    ("SINCE", |alert| text(alert, "since")),
    ("MESSAGE", |alert| text(alert, "message")),
];
