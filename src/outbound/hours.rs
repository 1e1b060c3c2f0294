//! Business hours: when people may be written to who did not write first.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::schedule::{Dst, Schedule, Zone};

/// Openings looked at before the next one is given up: over two years of holidays.
const MOST_OPENINGS: usize = 1_000;

/// `hours` of `[outbound]`, on the clocks of the job's zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hours {
    /// Time of day at which business begins.
    pub opens: String,
    /// Time of day at which it ends, on the same day.
    pub closes: String,
    /// `mon-fri`, a list, or `all`.
    pub days: String,
    /// Dates without business, such as `2026-12-25`.
    #[schemars(with = "BTreeSet<String>")]
    pub holidays: BTreeSet<NaiveDate>,
}

impl Default for Hours {
    fn default() -> Self {
        Self { opens: "08:00".into(), closes: "20:00".into(), days: "mon-fri".into(), holidays: BTreeSet::new() }
    }
}

impl Hours {
    /// What is wrong with them, one message per mistake.
    pub fn check(&self) -> Vec<String> {
        let zone = Zone::utc();
        let edges = [("opens", &self.opens), ("closes", &self.closes)];
        let mistake = |(name, time): (&str, &String)| {
            let error = self.edge(time, &zone).err()?;
            Some(format!("hours: {name}: {error}"))
        };
        let mut mistakes: Vec<String> = edges.into_iter().filter_map(mistake).collect();
        // As times of the day: as texts, 9:00 would be later than 10:00.
        let at = |time| self.edge(time, &zone).ok().and_then(|edge| Some(edge.next_after(before_days())?.time()));
        if mistakes.is_empty() && at(&self.closes) <= at(&self.opens) {
            let (opens, closes) = (&self.opens, &self.closes);
            mistakes.push(format!("hours: closes is {closes:?}, and must be later in the day than opens, {opens:?}"));
        }
        mistakes
    }

    /// Whether there is business at a moment.
    pub fn is_open(&self, moment: DateTime<Utc>, zone: &Zone) -> bool {
        let Some(opened) = self.last_opening(moment, zone) else { return false };
        let closed = self.edge(&self.closes, zone).ok().and_then(|closing| closing.next_after(opened));
        closed.is_some_and(|closed| moment < closed)
    }

    /// The moment itself when there is business, else the next opening; `None` = none within years.
    pub fn next_open(&self, moment: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        if self.is_open(moment, zone) {
            return Some(moment);
        }
        let opening = self.edge(&self.opens, zone).ok()?;
        let openings = std::iter::successors(opening.next_after(moment), |last| opening.next_after(*last));
        openings.take(MOST_OPENINGS).find(|opened| !self.is_holiday(*opened, zone))
    }

    /// The opening of the day of a moment, when it has been and the day is no holiday.
    fn last_opening(&self, moment: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        let opening = self.edge(&self.opens, zone).ok()?;
        let midnight = zone.instant_of(zone.local(moment).date().and_time(chrono::NaiveTime::MIN));
        let opened = opening.next_after(midnight - chrono::TimeDelta::milliseconds(1))?;
        (opened <= moment && !self.is_holiday(opened, zone)).then_some(opened)
    }

    fn is_holiday(&self, moment: DateTime<Utc>, zone: &Zone) -> bool {
        self.holidays.contains(&zone.local(moment).date())
    }

    /// A time of day on the days of business, as a schedule.
    fn edge(&self, time: &str, zone: &Zone) -> Result<Schedule, String> {
        Schedule::at(&[time], &[&self.days], zone, Dst::default()).map_err(|error| error.to_string())
    }
}

/// The last moment before the first midnight, for asking what time of day a time is.
fn before_days() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH - chrono::TimeDelta::milliseconds(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    #[test]
    fn business_is_open_on_its_days_between_its_times() {
        let zone = Zone::parse("America/Sao_Paulo").expect("a zone");
        let holidays = BTreeSet::from([NaiveDate::from_ymd_opt(2026, 11, 2).expect("a date")]);
        let hours = Hours { holidays, ..Hours::default() };
        for (moment, next) in [
            // Thursday 29 October 2026, 08:00 local to 20:00.
            ("2026-10-29T10:59:59.999Z", "2026-10-29T11:00:00Z"),
            ("2026-10-29T11:00:00Z", "2026-10-29T11:00:00Z"),
            ("2026-10-29T22:59:59.999Z", "2026-10-29T22:59:59.999Z"),
            ("2026-10-29T23:00:00Z", "2026-10-30T11:00:00Z"),
            // Friday night: the Monday is a holiday.
            ("2026-10-31T02:00:00Z", "2026-11-03T11:00:00Z"),
            ("2026-11-02T15:00:00Z", "2026-11-03T11:00:00Z"),
        ] {
            assert_eq!(hours.next_open(utc(moment), &zone), Some(utc(next)), "{moment}");
            assert_eq!(hours.is_open(utc(moment), &zone), moment == next, "{moment}");
        }
    }

    #[test]
    fn hours_that_make_no_day_are_refused() {
        let hours = |opens: &str, closes: &str, days: &str| Hours {
            opens: opens.into(),
            closes: closes.into(),
            days: days.into(),
            holidays: BTreeSet::new(),
        };
        assert_eq!(Hours::default().check(), Vec::<String>::new());
        assert_eq!(hours("00:00", "23:59", "all").check(), Vec::<String>::new());
        assert_eq!(hours("8:00", "20:00", "mon-fri").check(), Vec::<String>::new());
        assert_eq!(hours("9:59:59", "10:00", "sat").check(), Vec::<String>::new());
        for (hours, words) in [
            (hours("20:00", "08:00", "mon-fri"), "must be later in the day than opens"),
            (hours("08:00", "08:00", "mon-fri"), "must be later in the day than opens"),
            (hours("10:00", "9:00", "mon-fri"), "must be later in the day than opens"),
            (hours("8:00", "08:00", "mon-fri"), "must be later in the day than opens"),
            (hours("8 o'clock", "20:00", "mon-fri"), "hours: opens: "),
            (hours("08:00", "20:00", "workdays"), "hours: closes: "),
        ] {
            assert!(hours.check().iter().any(|mistake| mistake.contains(words)), "{hours:?}: {:?}", hours.check());
        }
    }
}
