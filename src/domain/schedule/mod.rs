//! When a job is due: `every`, `cron` or `at`, in a zone, with a stated policy for DST.

mod at;
mod calendar;
mod cron;
mod every;
mod spec;
pub mod second_opinion;
mod walk;
mod words;
pub mod zone;

use std::{fmt, iter, ops::Range, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use self::{at::At, calendar::Calendar, cron::CronText, every::Every};
use super::job::JobName;

pub use spec::ScheduleSpec;
pub use zone::Zone;

/// A schedule; a pure function from instants to instants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schedule {
    rule: Rule,
    /// Starts are spread over this long, itself excluded; below the period.
    jitter: Duration,
}

#[derive(Debug, Clone)]
enum Rule {
    Every(Every),
    Local(Arc<Local>),
}

/// A rule that reads a local clock.
#[derive(Debug)]
struct Local {
    text: Text,
    calendar: Calendar,
    zone: Zone,
    dst: Dst,
}

#[derive(Debug)]
enum Text {
    Cron(CronText),
    At(At),
}

/// What happens to fixed clock times when the clock changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dst {
    pub gap: Gap,
    pub repeat: Repeat,
}

/// A clock time that does not exist on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gap {
    /// Is due at the first instant after the gap.
    #[default]
    After,
    /// Is not due on that day.
    Skip,
}

/// A clock time that comes twice on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// Is due the first time only.
    #[default]
    First,
    /// Is due both times.
    Both,
}

/// The due instants of a stretch of time, summed up. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: DateTime<Utc>,
    pub last: DateTime<Utc>,
    pub count: i64,
}

/// Why a schedule was refused, in one line without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The bytes of the expression at fault, when known.
    pub span: Option<Range<usize>>,
}

impl ScheduleError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, span: None }
    }

    fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn at(self, span: Range<usize>) -> Self {
        Self { span: Some(span), ..self }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ScheduleError {}

/// Making one.
impl Schedule {
    /// Due at `offset + n * interval` since the Unix epoch: 100 ms to 366 d, the offset below the interval.
    pub fn every(interval: Duration, offset: Duration) -> Result<Self, ScheduleError> {
        Ok(Self { rule: Rule::Every(Every::new(interval, offset)?), jitter: Duration::ZERO })
    }

    /// Due when the zone's clock matches a cron expression of 5 fields, or 6 with seconds first.
    /// An hour field that begins with `*` counts elapsed time and heeds no `dst`.
    pub fn cron(text: &str, zone: &Zone, dst: Dst) -> Result<Self, ScheduleError> {
        let (text, calendar) = CronText::parse(text)?;
        let dst = if text.counts_elapsed_time() { Dst { gap: Gap::Skip, repeat: Repeat::Both } } else { dst };
        Ok(Self::local(Local { text: Text::Cron(text), calendar, zone: zone.clone(), dst }))
    }

    /// Due at clock times (`08:00`, `08:00:30`) on days (`mon`, `mon-fri`, `sat,sun`, `all`; none means all).
    pub fn at(times: &[&str], days: &[&str], zone: &Zone, dst: Dst) -> Result<Self, ScheduleError> {
        Self::from_at(At::parse(times, days)?, zone, dst)
    }

    fn from_at(at: At, zone: &Zone, dst: Dst) -> Result<Self, ScheduleError> {
        Ok(Self::local(Local { calendar: at.calendar(), text: Text::At(at), zone: zone.clone(), dst }))
    }

    /// Spreads the starts; refused unless below the period.
    pub fn with_jitter(self, jitter: Duration) -> Result<Self, ScheduleError> {
        let period = self.shortest_distance();
        if period <= jitter {
            let (jitter, period) = (every::words_of(jitter), every::words_of(period));
            return Err(ScheduleError::new(format!("jitter of {jitter} is not below the period of {period}")));
        }
        Ok(Self { jitter, ..self })
    }

    fn local(local: Local) -> Self {
        Self { rule: Rule::Local(Arc::new(local)), jitter: Duration::ZERO }
    }
}

/// Asking it.
impl Schedule {
    /// The first due instant after `moment`; `None` when there is none before the year 9999.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = match &self.rule {
            Rule::Every(every) => every.next_after(bounded(moment).timestamp_millis()),
            Rule::Local(local) => local.next(bounded(moment).timestamp() + 1)? * 1000,
        };
        instant(next)
    }

    /// The due instants in `(after, until]`, in order.
    pub fn instants(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let within = move |moment: &DateTime<Utc>| *moment <= until;
        let following = move |last: &DateTime<Utc>| self.next_after(*last).filter(within);
        iter::successors(self.next_after(after).filter(within), following)
    }

    /// First, last and number of due instants in `(after, until]`, without walking through them.
    pub fn span(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<Span> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        let until = bounded(until);
        let (last, count) = match &self.rule {
            Rule::Every(every) => {
                let until_ms = until.timestamp_millis().min(zone::END * 1000 - 1);
                (every.last_until(until_ms), every.count(bounded(after).timestamp_millis(), until_ms))
            }
            Rule::Local(local) => {
                let (last, count) = local.last_and_count(first.timestamp(), until.timestamp() + 1);
                (last * 1000, count)
            }
        };
        Some(Span { first, last: instant(last)?, count })
    }

    /// How much later than its instant a run may start, by jitter: a hash of (job, instant), below the jitter.
    pub fn start_delay(&self, job: &JobName, instant: DateTime<Utc>) -> TimeDelta {
        let jitter_ms = self.jitter.as_millis() as u64;
        if jitter_ms == 0 {
            return TimeDelta::zero();
        }
        let hash = Sha256::digest(format!("{job}\n{}", instant.timestamp_millis()));
        let number = hash.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        TimeDelta::milliseconds((number % jitter_ms) as i64)
    }

    /// The shortest distance between two due instants, clock changes aside, found in the days after `from`;
    /// `None` when fewer than two are left.
    pub fn period(&self, from: DateTime<Utc>) -> Option<Duration> {
        let second = self.next_after(from).and_then(|first| self.next_after(first));
        second.map(|_| self.shortest_distance())
    }

    /// The zone whose clock it reads; `None` for `every`, which reads none.
    pub fn zone(&self) -> Option<&Zone> {
        match &self.rule {
            Rule::Every(_) => None,
            Rule::Local(local) => Some(&local.zone),
        }
    }

    /// Starts are spread over this long.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// SHA-256 (hex) over schedule, zone, dst, offset, jitter and the zone's transitions: what an epoch stands for.
    pub fn hash(&self) -> String {
        let spec = self.spec();
        let fingerprint = self.zone().map_or("", Zone::fingerprint);
        hex(&Sha256::digest([&spec.schedule, &spec.timezone, &spec.dst, fingerprint].join("\n")))
    }

    fn shortest_distance(&self) -> Duration {
        match &self.rule {
            Rule::Every(every) => Duration::from_millis(every.interval_ms as u64),
            Rule::Local(local) => Duration::from_secs(local.calendar.shortest_distance() as u64),
        }
    }
}

impl Local {
    /// The first instant at or after `second`.
    fn next(&self, second: i64) -> Option<i64> {
        walk::next(&self.calendar, &self.zone, self.dst, second)
    }

    /// The last instant and the number of instants in `first..before`, where `first` is one.
    fn last_and_count(&self, first: i64, before: i64) -> (i64, i64) {
        let count = |from| walk::count(&self.calendar, &self.zone, self.dst, (from, before));
        // Bisection: the last instant is the last point from which there is still one to come.
        let (mut last, mut none) = (first, before);
        while last + 1 < none {
            let middle = last + (none - last) / 2;
            if count(middle) == 0 { none = middle } else { last = middle }
        }
        (last, count(first))
    }
}

/// Moves moments far outside of people's lives to where arithmetic is safe and the answer is the same.
fn bounded(moment: DateTime<Utc>) -> DateTime<Utc> {
    let bound = |second| DateTime::from_timestamp(second, 0).expect("years 1 to 9999 are within chrono's range");
    moment.clamp(bound(zone::START), bound(zone::END))
}

/// An instant from milliseconds since the epoch, unless it is past the end of what we plan.
fn instant(ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(ms).filter(|moment| moment.timestamp() < zone::END)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
