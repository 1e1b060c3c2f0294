//! SIGTERM and SIGINT.

/// SIGTERM and SIGINT: the first drains, the second ends at once. Works as PID 1, where neither has a default.
#[derive(Clone)]
struct Signals {
    first: CancellationToken,
    second: CancellationToken,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
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
