//! `breaker = { failures = 5, open_for = "5min..30min" }`: leaves a target alone that only fails.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::duration;

/// Most failures in a row that a breaker may wait for.
const MOST_FAILURES: u32 = 1_000;

/// Settings of a target's breaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// So many failures in a row open it: no connection, no answer in time, 5xx; 5.
    pub failures: u32,
    /// How long it stays open; twice as long after each probe that fails, up to the most; `5min..30min`.
    pub open_for: OpenFor,
}

/// The shortest and the longest time that a breaker stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFor {
    first: Duration,
    most: Duration,
}

/// What a call found out about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It answered, whatever it said, short of 5xx.
    Sound,
    /// No connection, no whole answer, or 5xx.
    Failed,
    /// Nothing: it was not called, or asked for time.
    Nothing,
}

/// Whether a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Go(Kind),
    /// Not before this instant.
    OpenUntil(Duration),
    /// One call is out to see whether the target is back.
    Probing,
}

/// Which findings count: those of calls that went while the breaker was closed, while it is; and that of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    Probe,
}

/// The breaker of one target. Instants are readings of a clock that only goes forward.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration, length: Duration },
    Probing { length: Duration },
}

impl BreakerSettings {
    pub(crate) fn check(&self) -> Option<String> {
        let fits = (1..=MOST_FAILURES).contains(&self.failures);
        (!fits).then(|| format!("breaker: failures is {}, and must be from 1 to {MOST_FAILURES}", self.failures))
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        let open_for = OpenFor { first: Duration::from_secs(5 * 60), most: Duration::from_secs(30 * 60) };
        Self { failures: 5, open_for }
    }
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Lets a call pass; the first after the open time is the probe, and its finding must be told.
    pub fn ask(&mut self, now: Duration) -> Pass {
        match self.state {
            State::Closed { .. } => Pass::Go(Kind::Ordinary),
            State::Open { until, .. } if now < until => Pass::OpenUntil(until),
            State::Open { length, .. } => {
                self.state = State::Probing { length };
                Pass::Go(Kind::Probe)
            }
            State::Probing { .. } => Pass::Probing,
        }
    }

    /// Takes in what a call that passed found out.
    pub fn tell(&mut self, kind: Kind, finding: Finding, now: Duration) {
        self.state = match (self.state, kind, finding) {
            (State::Closed { .. }, _, Finding::Sound) => State::Closed { failures: 0 },
            (State::Closed { failures }, _, Finding::Failed) if failures + 1 < self.settings.failures => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, _, Finding::Failed) => open(self.settings.open_for.first, now),
            (State::Probing { .. }, Kind::Probe, Finding::Sound) => State::Closed { failures: 0 },
            (State::Probing { length }, Kind::Probe, Finding::Failed) => {
                open((length * 2).min(self.settings.open_for.most), now)
            }
            // The next one may probe at once.
            (State::Probing { length }, Kind::Probe, Finding::Nothing) => State::Open { until: now, length },
            (state, _, _) => state,
        };
    }
}

fn open(length: Duration, now: Duration) -> State {
    State::Open { until: now + length, length }
}

impl fmt::Display for OpenFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", duration::format(self.first), duration::format(self.most))
    }
}

fn parse(text: &str) -> Result<OpenFor, String> {
    let (first, most) = text.split_once("..").unwrap_or((text, text));
    let (first, most) = (duration::parse(first)?, duration::parse(most)?);
    if first.is_zero() || most < first {
        return Err(format!("open_for {text:?} must go from a shorter time above 0 to a longer one: 5min..30min"));
    }
    Ok(OpenFor { first, most })
}

impl<'de> Deserialize<'de> for OpenFor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for OpenFor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for OpenFor {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OpenFor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "length of time, or two with .. between",
            "type": "string",
            "pattern": "^([0-9]+(ms|s|min|m|h|d)?)+([.][.]([0-9]+(ms|s|min|m|h|d)?)+)?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Finding::{Failed, Nothing, Sound};

    /// What happens, at a minute; and what a call that asks right after is told.
    enum Step {
        Tell(u64, Kind, Finding, Pass),
        Ask(u64, Pass),
    }
    use Step::{Ask, Tell};

    const fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    const GO: Pass = Pass::Go(Kind::Ordinary);
    const PROBE: Pass = Pass::Go(Kind::Probe);

    const fn open_until(minute: u64) -> Pass {
        Pass::OpenUntil(minutes(minute))
    }

    /// Three failures open it, for 5 to 15 minutes.
    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings { failures: 3, open_for: parse("5min..15min").expect("two lengths") })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let call = |finding, then| Tell(0, Kind::Ordinary, finding, then);
        let probe = |minute, finding, then| Tell(minute, Kind::Probe, finding, then);
        let opened = || vec![call(Failed, GO), call(Failed, GO), call(Failed, open_until(5))];
        let then = |more: Vec<Step>| opened().into_iter().chain(more).collect::<Vec<_>>();
        let cases = [
            // A sound answer in between begins the count anew; what found nothing does not.
            vec![call(Failed, GO), call(Failed, GO), call(Sound, GO), call(Failed, GO), call(Failed, GO)],
            vec![call(Failed, GO), call(Nothing, GO), call(Failed, GO), call(Nothing, GO), call(Failed, open_until(5))],
            // Open until the instant, then one at a time.
            then(vec![Ask(4, open_until(5)), Ask(5, PROBE), Ask(5, Pass::Probing), Ask(60, Pass::Probing)]),
            // A sound probe closes it, and the count begins anew.
            then(vec![Ask(5, PROBE), probe(6, Sound, GO), call(Failed, GO), call(Failed, GO)]),
            // A failed one doubles the time, up to the most.
            then(vec![
                Ask(5, PROBE),
                probe(6, Failed, open_until(16)),
                Ask(16, PROBE),
                probe(17, Failed, open_until(32)),
                Ask(32, PROBE),
                probe(32, Failed, open_until(47)),
            ]),
            // Closed once, it opens for the shortest time again.
            then(vec![
                Ask(5, PROBE),
                probe(6, Failed, open_until(16)),
                Ask(16, PROBE),
                probe(16, Sound, GO),
                call(Failed, GO),
                call(Failed, GO),
                call(Failed, open_until(5)),
            ]),
            // A probe that found nothing leaves its place to the next.
            then(vec![Ask(5, PROBE), probe(6, Nothing, PROBE), Ask(6, Pass::Probing)]),
            // Calls that were out when it opened change nothing, whatever they bring.
            then(vec![call(Failed, open_until(5)), call(Sound, open_until(5))]),
            then(vec![Ask(5, PROBE), call(Sound, Pass::Probing), call(Failed, Pass::Probing)]),
        ];
        for (case, steps) in cases.into_iter().enumerate() {
            let mut breaker = breaker();
            for (step, what) in steps.into_iter().enumerate() {
                let (minute, pass) = match what {
                    Ask(minute, pass) => (minute, pass),
                    Tell(minute, kind, finding, pass) => {
                        breaker.tell(kind, finding, minutes(minute));
                        (minute, pass)
                    }
                };
                assert_eq!(breaker.ask(minutes(minute)), pass, "case {case}, step {step}");
            }
        }
    }

    #[test]
    fn open_times_are_one_length_or_two() {
        for (text, first, most, written) in
            [("5min..30min", 5, 30, "5min..30min"), ("5min", 5, 5, "5min..5min"), ("60s..1h", 1, 60, "1min..1h")]
        {
            let open_for = parse(text).expect(text);
            assert_eq!(open_for, OpenFor { first: minutes(first), most: minutes(most) }, "{text}");
            assert_eq!(open_for.to_string(), written);
        }
        for text in ["", "..", "0s", "0s..5min", "30min..5min", "5min..", "soon"] {
            parse(text).expect_err(text);
        }
    }
}
