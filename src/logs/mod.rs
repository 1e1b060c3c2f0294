//! Log lines: aligned and coloured for a terminal, else JSON with a closed set of keys (spec 7, Logs).

mod limiter;
mod line;
mod pen;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::clock::Clock;
use limiter::Limiter;
use line::Line;
use pen::Pen;

pub use limiter::dropped_lines;
pub use pen::finish;

/// The replica named in each line; set once it is known.
static REPLICA: OnceLock<String> = OnceLock::new();

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Json,
    /// For people at a terminal.
    Text {
        color: bool,
    },
}

/// Starts logging to stderr for the rest of the process. `level` is `LOG_LEVEL`: a level in any case (`WARNING` and
/// `CRITICAL` of other worlds included), or directives such as `warn,emponto::engine=debug`.
/// The error says what is wrong with it.
pub fn start(level: &str, look: Look, clock: Clock) -> Result<(), String> {
    let filter = filter(level)?;
    let limiter = Arc::new(Limiter::default());
    let pen = Pen::start(Arc::clone(&limiter), look, clock.clone())
        .map_err(|error| format!("logging cannot start: {error}"))?;
    let format = Lines { clock, look, limiter };
    let layer = tracing_subscriber::fmt::layer().event_format(format).with_writer(move || pen.clone());
    let started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(|error| format!("logging cannot start: {error}"))?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// With its place. It may be the last thing that this process says.
fn log_panic(panic: &PanicHookInfo<'_>) {
    tracing::error!(component = "panic", "{panic}");
    finish();
}

/// Names the replica in every line from now on. Only the first name counts.
pub fn name_replica(replica: impl fmt::Display) {
    let _ = REPLICA.set(replica.to_string());
}

/// Told by a dependency what a handler tells as well: a failure is logged once, where it is settled.
const TOLD_TWICE: &str = "rustls_platform_verifier=off";

/// Our own lines from this level up; those of our dependencies from `WARN`.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let plain = match level.trim().to_ascii_lowercase().as_str() {
        "" => Some(LevelFilter::INFO),
        "warning" => Some(LevelFilter::WARN),
        "critical" | "fatal" => Some(LevelFilter::ERROR),
        other => other.parse().ok(),
    };
    let directives = match plain {
        Some(level) => format!("{},{TOLD_TWICE},emponto={level},workers={level}", level.min(LevelFilter::WARN)),
        None => level.to_owned(),
    };
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| format!("LOG_LEVEL {level:?}: {error}; use error, warn, info, debug, trace or off"))
}

/// Writes events as lines, at most as many as the limiter lets through.
struct Lines {
    clock: Clock,
    look: Look,
    limiter: Arc<Limiter>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = self.clock.now();
        let level = *event.metadata().level();
        if !self.limiter.admits(now.timestamp(), level) {
            return Ok(());
        }
        writer.write_str(&Line::from_event(now, event).render(self.look))
    }
}

/// For the tests of this room: the same lines into another place.
#[cfg(test)]
fn lines_into<W>(level: &str, look: Look, clock: Clock, place: W) -> impl Subscriber
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let format = Lines { clock, look, limiter: Arc::default() };
    let layer = tracing_subscriber::fmt::layer().event_format(format).with_writer(place);
    tracing_subscriber::registry().with(filter(level).unwrap()).with(layer)
}
