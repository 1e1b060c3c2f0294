//! `status` and `health`: ask the running service over HTTP.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::output::{Column, Exit, Output, Stop, line, remark};

/// Longest time the service may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the service answers.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// Address of the service; by default where the configuration lets it listen.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Debug, Args)]
pub struct HealthArguments {
    #[command(flatten)]
    pub at: At,
    /// Ask only whether the process lives: for HEALTHCHECK.
    #[arg(long, conflicts_with_all = ["ready", "strict"])]
    pub live: bool,
    /// Ask only whether it can work.
    #[arg(long, conflicts_with = "strict")]
    pub ready: bool,
    /// Degraded is unhealthy too.
    #[arg(long)]
    pub strict: bool,
}

impl HealthArguments {
    fn path(&self) -> &'static str {
        match (self.live, self.ready, self.strict) {
            (true, ..) => "/livez",
            (_, true, _) => "/readyz",
            (_, _, true) => "/health/workers?strict=1",
            _ => "/health/workers",
        }
    }
}

/// Exit 0 when the service is well, 5 when it is not, 4 when it does not answer.
pub async fn health(arguments: &HealthArguments, base: &str) -> anyhow::Result<Exit> {
    let (code, body) = ask(base, arguments.path()).await?;
    let status = body.get("status").and_then(Value::as_str).unwrap_or("unknown");
    line(status)?;
    for alert in body.get("alerts").and_then(Value::as_array).into_iter().flatten() {
        remark(&format!("{}: {}", text(alert, "name"), text(alert, "message")));
    }
    Ok(if code == 200 { Exit::Ok } else { Exit::Unhealthy })
}

/// `/health/workers` as a table; the exit code is that of `health`.
pub async fn status(output: Output, base: &str) -> anyhow::Result<Exit> {
    let (code, body) = ask(base, "/health/workers").await?;
    let exit = if code == 200 { Exit::Ok } else { Exit::Unhealthy };
    if output != Output::Table {
        output.thing(&body, &[])?;
        return Ok(exit);
    }
    let summary = ["status", "scheduler", "queue_size", "lag_seconds", "replicas", "last_job_at", "version"];
    output.thing(&body, &summary.map(|name| (name, text(&body, name))))?;
    line("")?;
    let jobs = body.get("jobs").and_then(Value::as_object).into_iter().flatten();
    let rows: Vec<(String, Value)> = jobs.map(|(name, job)| (name.clone(), job.clone())).collect();
    output.list(&rows, &COLUMNS)?;
    for alert in body.get("alerts").and_then(Value::as_array).into_iter().flatten() {
        line(&format!("\n{} {}: {}", text(alert, "severity"), text(alert, "name"), text(alert, "message")))?;
    }
    Ok(exit)
}

const COLUMNS: [Column<(String, Value)>; 9] = [
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

/// A field as text; empty when it is null or absent.
fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

async fn ask(base: &str, path: &str) -> anyhow::Result<(u16, Value)> {
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let client =
        reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().context("cannot make an HTTP client")?;
    let silent =
        |error: reqwest::Error| Stop::new(Exit::Unreachable, format!("no answer from {url}: {}", root(&error)));
    let response = client.get(&url).send().await.map_err(silent)?;
    let code = response.status().as_u16();
    let body = response.text().await.map_err(silent)?;
    let body = serde_json::from_str(&body).map_err(|_| {
        Stop::new(Exit::Unreachable, format!("{url} answered {code} and no JSON: is this the workers service?"))
    })?;
    Ok((code, body))
}

/// The innermost cause: `connection refused` says more than `error sending request`.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
