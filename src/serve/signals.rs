//! SIGTERM and SIGINT end the process, SIGHUP reloads the job table.

use anyhow::Context as _;
use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT: the first drains, the second ends at once. Works as PID 1, where neither has a default.
#[derive(Clone)]
pub struct Signals {
    pub first: CancellationToken,
    pub second: CancellationToken,
    /// Rings at each SIGHUP; one that comes before anybody listens is kept.
    pub hangup: Arc<Notify>,
}

impl Signals {
    /// From here on none of these signals ends the process by itself.
    pub fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let signals =
            Self { first: CancellationToken::new(), second: CancellationToken::new(), hangup: Arc::new(Notify::new()) };
        let bell = Arc::clone(&signals.hangup);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                bell.notify_one();
            }
        });
        let heard = signals.clone();
        tokio::spawn(async move {
            for token in [heard.first, heard.second] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}
