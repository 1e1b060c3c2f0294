//! A schedule in words, and what people should be told about it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Gap, Local, Repeat, Rule, Schedule, Text, bounded, cron::CronText, every, zone::Shift};

/// From here on, an interval fires at multiples of UTC midnight, which is rarely what is meant.
const LONG_INTERVAL: Duration = Duration::from_secs(86_400);
/// Below this, the ledger grows by more than 8,640 rows a day.
const SHORT_INTERVAL: Duration = Duration::from_secs(10);

impl Schedule {
    /// The schedule in words: `every 30 seconds`, `at 08:00 on Monday to Friday (America/Sao_Paulo)`.
    pub fn words(&self) -> String {
        let words = match &self.rule {
            Rule::Every(rule) => {
                let words = |ms| every::words_of(Duration::from_millis(ms as u64));
                let interval = words(rule.interval_ms);
                // `every hour`, but `every 1 hour 30 minutes`.
                let interval = interval.strip_prefix("1 ").filter(|unit| !unit.contains(' ')).unwrap_or(&interval);
                let offset =
                    if rule.offset_ms == 0 { String::new() } else { format!(", {} later", words(rule.offset_ms)) };
                format!("every {interval}{offset}")
            }
            Rule::Local(local) => match &local.text {
                Text::Cron(cron) => format!("{} ({})", cron.words(), local.zone.name()),
                Text::At(at) => format!("{} ({})", at.words(), local.zone.name()),
            },
        };
        if self.jitter.is_zero() { words } else { format!("{words}, spread over {}", every::words_of(self.jitter)) }
    }

    /// What `check` warns of, whatever the date.
    pub fn warnings(&self) -> Vec<String> {
        match &self.rule {
            Rule::Every(_) => {
                let interval = self.shortest_distance();
                let words = every::words_of(interval);
                if LONG_INTERVAL <= interval {
                    return vec![format!(
                        "an interval of {words} is counted from 1970-01-01 00:00 UTC; use `at` for a time of day"
                    )];
                }
                let rows = LONG_INTERVAL.as_millis() / interval.as_millis();
                let fast = format!("an interval of {words} writes up to {rows} ledger rows a day");
                if interval < SHORT_INTERVAL { vec![fast] } else { Vec::new() }
            }
            Rule::Local(_) => {
                let ambiguous = self.cron_text().filter(|cron| cron.has_ambiguous_days());
                let warning = |cron: &CronText| {
                    format!("`{}` fires when either day field matches; only a bare `*` means any day", cron.as_str())
                };
                ambiguous.map(warning).into_iter().collect()
            }
        }
    }

    /// The clock changes of the year after `from` that meet fixed clock times of this schedule, and what follows.
    pub fn clock_change_notes(&self, from: DateTime<Utc>) -> Vec<String> {
        const AHEAD: TimeDelta = TimeDelta::days(366);
        let Rule::Local(local) = &self.rule else {
            return Vec::new();
        };
        let from = bounded(from);
        let shifts = local.zone.shifts(from.timestamp(), bounded(from + AHEAD).timestamp());
        shifts.into_iter().filter_map(|shift| local.note(shift)).collect()
    }

    /// Name and text of each field of a cron expression, seconds first; empty for other schedules.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let owned = |(name, text): (&'static str, &str)| (name, text.to_owned());
        self.cron_text().map(|cron| cron.fields().map(owned).collect()).unwrap_or_default()
    }

    /// Whether hours are elapsed time, so that clock changes neither move nor repeat anything.
    pub fn counts_elapsed_time(&self) -> bool {
        match &self.rule {
            Rule::Every(_) => true,
            Rule::Local(local) => local.counts_elapsed_time(),
        }
    }

    fn cron_text(&self) -> Option<&CronText> {
        match &self.rule {
            Rule::Every(_) => None,
            Rule::Local(local) => match &local.text {
                Text::Cron(cron) => Some(cron),
                Text::At(_) => None,
            },
        }
    }
}

impl Local {
    fn counts_elapsed_time(&self) -> bool {
        matches!(&self.text, Text::Cron(cron) if cron.counts_elapsed_time())
    }

    fn note(&self, Shift { at, before, after }: Shift) -> Option<String> {
        if self.counts_elapsed_time() {
            return None;
        }
        let (first, end) = (at + before.min(after), at + before.max(after));
        let reading = self.calendar.next(first, end)?;
        let shown = |reading: i64| {
            DateTime::from_timestamp(reading, 0)
                .map_or_else(String::new, |civil| civil.format("%Y-%m-%d %H:%M").to_string())
        };
        let more = match self.calendar.count(first, end) {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let (change, effect) = match (before < after, self.dst.gap, self.dst.repeat) {
            (true, Gap::After, _) => {
                ("is skipped by the clock", format!("due at {} instead", &shown(at + after)[11..]))
            }
            (true, Gap::Skip, _) => ("is skipped by the clock", "not due".into()),
            (false, _, Repeat::First) => ("comes twice", "due the first time only".into()),
            (false, _, Repeat::Both) => ("comes twice", "due both times".into()),
        };
        Some(format!("{}{more} {change} in {}: {effect}", shown(reading), self.zone.name()))
    }
}
