//! The stretch of time that a report is about, on the clocks of a zone.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{domain::schedule::Zone, outbound::Hours};

/// Days that are looked back for one of business: longer than any run of holidays.
const MOST_DAYS_BACK: u64 = 31;

/// Which days a report is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Midnight until now.
    Today,
    /// The calendar day before today.
    #[default]
    Yesterday,
    /// From the last day of business before today up to yesterday: on a Monday Friday, Saturday and Sunday.
    SinceLastBusinessDay,
    /// The seven whole days before today.
    #[serde(rename = "last_7_days")]
    Last7Days,
    /// Monday to Sunday of the week before this one.
    LastWeek,
}

/// Whole days, but for `today`, as instants: `[from, until)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub first: NaiveDate,
    pub last: NaiveDate,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

impl Period {
    /// The key in jobs.toml and in results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Today => "today",
            Self::Yesterday => "yesterday",
            Self::SinceLastBusinessDay => "since_last_business_day",
            Self::Last7Days => "last_7_days",
            Self::LastWeek => "last_week",
        }
    }

    /// The days as seen from `moment`. `hours` says which are of business; none of them within a month is an error.
    pub fn span(self, moment: DateTime<Utc>, zone: &Zone, hours: &Hours) -> Result<Span, String> {
        let today = zone.local(moment).date();
        let (first, last) = match self {
            Self::Today => (today, today),
            Self::Yesterday => (back(today, 1), back(today, 1)),
            Self::SinceLastBusinessDay => (last_business_day(today, zone, hours)?, back(today, 1)),
            Self::Last7Days => (back(today, 7), back(today, 1)),
            Self::LastWeek => {
                let monday = back(today, today.weekday().num_days_from_monday().into());
                (back(monday, 7), back(monday, 1))
            }
        };
        let until = if self == Self::Today { moment } else { beginning(last + Days::new(1), zone) };
        Ok(Span { first, last, from: beginning(first, zone), until })
    }
}

/// The first instant of a day: 00:00, or what the clocks show instead where they jump over it.
fn beginning(day: NaiveDate, zone: &Zone) -> DateTime<Utc> {
    zone.instant_of(day.and_time(NaiveTime::MIN))
}

fn back(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).expect("the daemon lives after the year 0")
}

fn last_business_day(today: NaiveDate, zone: &Zone, hours: &Hours) -> Result<NaiveDate, String> {
    let is_of_business = |day: &NaiveDate| {
        let opening = hours.next_open(beginning(*day, zone), zone);
        opening.is_some_and(|opening| zone.local(opening).date() == *day)
    };
    let mut days = (1..=MOST_DAYS_BACK).map(|days| back(today, days));
    days.find(is_of_business)
        .ok_or_else(|| format!("[outbound] hours has no day of business in the {MOST_DAYS_BACK} days before {today}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn span(period: Period, moment: &str, zone: &str, hours: &Hours) -> String {
        let zone = Zone::parse(zone).expect("a zone");
        let moment = moment.parse().expect("an instant");
        let span = period.span(moment, &zone, hours).expect("a span");
        let instant = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M").to_string();
        format!("{}..{} {}..{}", span.first, span.last, instant(span.from), instant(span.until))
    }

    const SAO_PAULO: &str = "America/Sao_Paulo";
    const NEW_YORK: &str = "America/New_York";

    /// Period, moment, zone, and the days and instants that come of them.
    #[rustfmt::skip]
    const DAYS: [(Period, &str, &str, &str); 12] = [
        // 2025-01-08 is a Wednesday; Sao Paulo is three hours behind UTC.
        (Period::Yesterday, "2025-01-08T11:00:00Z", SAO_PAULO, "2025-01-07..2025-01-07 2025-01-07T03:00..2025-01-08T03:00"),
        (Period::Yesterday, "2025-01-08T02:59:59Z", SAO_PAULO, "2025-01-06..2025-01-06 2025-01-06T03:00..2025-01-07T03:00"),
        (Period::Yesterday, "2025-01-08T03:00:00Z", SAO_PAULO, "2025-01-07..2025-01-07 2025-01-07T03:00..2025-01-08T03:00"),
        (Period::Today, "2025-01-08T02:30:00Z", SAO_PAULO, "2025-01-07..2025-01-07 2025-01-07T03:00..2025-01-08T02:30"),
        (Period::Last7Days, "2025-01-08T11:00:00Z", SAO_PAULO, "2025-01-01..2025-01-07 2025-01-01T03:00..2025-01-08T03:00"),
        (Period::LastWeek, "2025-01-08T11:00:00Z", SAO_PAULO, "2024-12-30..2025-01-05 2024-12-30T03:00..2025-01-06T03:00"),
        (Period::LastWeek, "2025-01-06T11:00:00Z", SAO_PAULO, "2024-12-30..2025-01-05 2024-12-30T03:00..2025-01-06T03:00"),
        // New York: the day of the change to summer time has 23 hours, the day back 25.
        (Period::Yesterday, "2025-03-10T12:00:00Z", NEW_YORK, "2025-03-09..2025-03-09 2025-03-09T05:00..2025-03-10T04:00"),
        (Period::Yesterday, "2025-11-03T13:00:00Z", NEW_YORK, "2025-11-02..2025-11-02 2025-11-02T04:00..2025-11-03T05:00"),
        // Sao Paulo had no midnight on 2018-11-04, and 23:00 twice on 2019-02-16.
        (Period::Yesterday, "2018-11-05T12:00:00Z", SAO_PAULO, "2018-11-04..2018-11-04 2018-11-04T03:00..2018-11-05T02:00"),
        (Period::Yesterday, "2018-11-04T12:00:00Z", SAO_PAULO, "2018-11-03..2018-11-03 2018-11-03T03:00..2018-11-04T03:00"),
        (Period::Yesterday, "2019-02-17T12:00:00Z", SAO_PAULO, "2019-02-16..2019-02-16 2019-02-16T02:00..2019-02-17T03:00"),
    ];

    #[test]
    fn days_begin_and_end_at_midnight_on_the_clocks_of_the_zone() {
        for (period, moment, zone, expected) in DAYS {
            assert_eq!(span(period, moment, zone, &Hours::default()), expected, "{period:?} at {moment} in {zone}");
        }
    }

    #[test]
    fn on_a_monday_the_weekend_comes_with_the_friday_and_holidays_with_the_day_before() {
        let holidays = BTreeSet::from([NaiveDate::from_ymd_opt(2025, 1, 1).expect("a date")]);
        let hours = Hours { holidays, ..Hours::default() };
        for (moment, expected) in [
            ("2025-01-06T11:00:00Z", "2025-01-03..2025-01-05 2025-01-03T03:00..2025-01-06T03:00"),
            ("2025-01-07T11:00:00Z", "2025-01-06..2025-01-06 2025-01-06T03:00..2025-01-07T03:00"),
            ("2025-01-02T11:00:00Z", "2024-12-31..2025-01-01 2024-12-31T03:00..2025-01-02T03:00"),
        ] {
            assert_eq!(span(Period::SinceLastBusinessDay, moment, "America/Sao_Paulo", &hours), expected, "{moment}");
        }
    }

    #[test]
    fn a_month_without_business_is_told() {
        let january = NaiveDate::from_ymd_opt(2025, 1, 1).expect("a date");
        let hours = Hours { holidays: january.iter_days().take(31).collect(), ..Hours::default() };
        let moment = "2025-02-01T11:00:00Z".parse().expect("an instant");

        let error = Period::SinceLastBusinessDay.span(moment, &Zone::utc(), &hours).expect_err("no business");

        assert_eq!(error, "[outbound] hours has no day of business in the 31 days before 2025-02-01");
    }
}
