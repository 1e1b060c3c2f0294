//! SIGTERM and SIGINT.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT: the first drains, the second ends at once. Works as PID 1, where neither has a default.
#[derive(Clone)]
pub struct Signals {
    pub first: CancellationToken,
    pub second: CancellationToken,
}

impl Signals {
    /// From here on neither signal ends the process by itself.
    pub fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let signals = Self { first: CancellationToken::new(), second: CancellationToken::new() };
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
