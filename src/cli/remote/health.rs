//! `health`: one question to the service and an exit code; what a container's HEALTHCHECK calls.

use clap::Args;
use serde_json::Value;

use super::{At, PATIENCE, Remote, entries, text};
use crate::cli::{
    exit::Exit,
    output::{Output, remark},
};

#[derive(Debug, Args)]
pub struct HealthArguments {
    #[command(flatten)]
    pub at: At,
    /// Ask only whether the process lives: for HEALTHCHECK
    #[arg(long, conflicts_with_all = ["ready", "strict"])]
    pub live: bool,
    /// Ask only whether it can work
    #[arg(long, conflicts_with = "strict")]
    pub ready: bool,
    /// Degraded is unhealthy too
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

/// Exit 0 when the service is well, 5 when it is not; the error of a silent one is exit 4.
pub async fn health(arguments: &HealthArguments, remote: &Remote, output: Output) -> anyhow::Result<Exit> {
    let answer = remote.get(arguments.path(), PATIENCE).await?;
    let Some(status) = answer.body.get("status").and_then(Value::as_str) else { return Err(answer.refusal().into()) };
    output.text_or(&answer.body, || status.to_owned())?;
    for reason in entries(&answer.body, "reasons").filter_map(Value::as_str) {
        remark(reason);
    }
    for alert in entries(&answer.body, "alerts") {
        remark(&format!("{}: {}", text(alert, "name"), text(alert, "message")));
    }
    Ok(if answer.code == 200 { Exit::Ok } else { Exit::Unhealthy })
}
