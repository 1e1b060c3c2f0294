//! Log lines: aligned and coloured for a terminal, else JSON with a closed set of keys (spec 7, Logs).

mod limiter;
mod line;
#[cfg(test)]
mod tests;

use std::{fmt, io, sync::OnceLock};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::clock::Clock;
use limiter::{Limiter, Verdict};
use line::Line;

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
    let format = Lines { clock, look, limiter: Limiter::default() };
    let layer = tracing_subscriber::fmt::layer().event_format(format).with_writer(io::stderr);
    let started = tracing_subscriber::registry().with(filter(level)?).with(layer).try_init();
    started.map_err(|error| format!("logging cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(component = "panic", "{panic}")));
    Ok(())
}

/// Names the replica in every line from now on. Only the first name counts.
pub fn name_replica(replica: impl fmt::Display) {
    let _ = REPLICA.set(replica.to_string());
}

/// Our own lines from this level up; those of our dependencies from `WARN`.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let plain = match level.trim().to_ascii_lowercase().as_str() {
        "" => Some(LevelFilter::INFO),
        "warning" => Some(LevelFilter::WARN),
        "critical" | "fatal" => Some(LevelFilter::ERROR),
        other => other.parse().ok(),
    };
    let directives = match plain {
        Some(level) => format!("{},emponto={level},workers={level}", level.min(LevelFilter::WARN)),
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
    limiter: Limiter,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = self.clock.now();
        let level = *event.metadata().level();
        match self.limiter.admit(now.timestamp(), level) {
            Verdict::Drop => return Ok(()),
            Verdict::Write { dropped: 0 } => {}
            Verdict::Write { dropped } => {
                let message = format!("dropped {dropped} log lines: more than {} in a second", limiter::LINES_A_SECOND);
                writer.write_str(&Line::about_logs(now, message).render(self.look))?;
            }
        }
        writer.write_str(&Line::from_event(now, event, REPLICA.get().map(String::as_str)).render(self.look))
    }
}

/// For the tests of this room: the same lines into another place.
#[cfg(test)]
fn lines_into<W>(level: &str, look: Look, clock: Clock, place: W) -> impl Subscriber
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let format = Lines { clock, look, limiter: Limiter::default() };
    let layer = tracing_subscriber::fmt::layer().event_format(format).with_writer(place);
    tracing_subscriber::registry().with(filter(level).unwrap()).with(layer)
}
