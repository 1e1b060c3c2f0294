//! `health`: one question to the service and an exit code; what a container's HEALTHCHECK calls.

use clap::Args;
use serde_json::Value;

use super::{At, PATIENCE, Remote, entries, text};
use crate::{
    cli::{
        exit::{Exit, exit_of},
        load::{surroundings, whereabouts},
        output::{Output, remark},
    },
    config::Flags,
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

/// Asks the service that was named, else the daemon of our data_dir, else where the settings let it listen: an edit of
/// jobs.toml that no daemon has read must not make a well one look dead.
pub async fn find(arguments: &HealthArguments, flags: &Flags, output: Output) -> anyhow::Result<Exit> {
    let early = surroundings(flags);
    if arguments.at.url.is_some() {
        return health(arguments, &Remote::find(&arguments.at, early)?, output).await;
    }
    if let Some(remote) = Remote::written(&early?)? {
        match health(arguments, &remote, output).await {
            Err(error) if exit_of(&error) == Exit::Unreachable => remark(&format!("{error:#}")),
            ended => {
                remark(&format!("asked {}, where the daemon wrote that it listens", remote.shown()));
                return ended;
            }
        }
    }
    let remote = Remote::find(&arguments.at, whereabouts(flags))?;
    remark(&format!("asked {}, where the settings let it listen", remote.shown()));
    health(arguments, &remote, output).await
}

/// Exit 0 when the service is well, 5 when it is not; the error of a silent one is exit 4.
async fn health(arguments: &HealthArguments, remote: &Remote, output: Output) -> anyhow::Result<Exit> {
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
