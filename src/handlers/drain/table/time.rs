//! How a table keeps its instants, and whether what it holds looks like that.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::Cell;

/// Numbers from here on are milliseconds: as seconds they would be beyond the year 5000.
const FIRST_MS: i64 = 100_000_000_000;
/// Smaller numbers are no instants of our days, in any unit: 1973 in seconds.
const FIRST_SECOND: i64 = 100_000_000;

/// The form of instants in the columns of a table. PostgreSQL has types for them, so there the two forms of text stand
/// for `timestamp` and `timestamptz`; numbers are numbers on both databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Time {
    /// `2025-01-08 12:00:00`, in UTC, as `datetime()` of SQLite writes it.
    Text,
    /// `2025-01-08T12:00:00.000Z`.
    #[default]
    Rfc3339,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
}

impl Time {
    pub const ALL: [Self; 4] = [Self::Text, Self::Rfc3339, Self::Unix, Self::UnixMs];

    /// As the setting says it.
    pub(in crate::handlers::drain) fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Rfc3339 => "rfc3339",
            Self::Unix => "unix",
            Self::UnixMs => "unix_ms",
        }
    }

    /// The number that stands for an instant; `None` = it is text.
    pub(in crate::handlers::drain) fn number(self, instant: DateTime<Utc>) -> Option<i64> {
        match self {
            Self::Text | Self::Rfc3339 => None,
            Self::Unix => Some(instant.timestamp()),
            Self::UnixMs => Some(instant.timestamp_millis()),
        }
    }

    /// An instant as SQLite keeps it.
    pub(in crate::handlers::drain) fn cell(self, instant: DateTime<Utc>) -> Cell {
        match self {
            Self::Text => Cell::Text(instant.format("%Y-%m-%d %H:%M:%S").to_string()),
            Self::Rfc3339 => Cell::Text(instant.to_rfc3339_opts(SecondsFormat::Millis, true)),
            Self::Unix | Self::UnixMs => self.number(instant).map_or(Cell::Null, Cell::Whole),
        }
    }

    /// The form of a value; `None` = none that is known.
    pub(in crate::handlers::drain) fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Text(text) => Self::of_text(text),
            Cell::Whole(number) => Self::of_number(*number),
            // A cast cuts the fraction, and stops at the bounds.
            Cell::Real(number) => Self::of_number(*number as i64),
            Cell::Null | Cell::Bytes(_) => None,
        }
    }

    /// The instant that a value stands for, whatever its form.
    pub(in crate::handlers::drain) fn instant(cell: &Cell) -> Option<DateTime<Utc>> {
        let form = match cell {
            // PostgreSQL gives numbers as text.
            Cell::Text(_) => cell.whole().map_or_else(|| Self::of(cell), Self::of_number),
            other => Self::of(other),
        };
        match (form?, cell) {
            (Self::Unix, cell) => DateTime::from_timestamp(cell.whole()?, 0),
            (Self::UnixMs, cell) => DateTime::from_timestamp_millis(cell.whole()?),
            (Self::Text, Cell::Text(text)) => {
                NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|at| at.and_utc())
            }
            (_, Cell::Text(text)) => text.parse().ok(),
            _ => None,
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        let is_instant = |form: &str| NaiveDateTime::parse_from_str(text, form).is_ok();
        if is_instant("%Y-%m-%d %H:%M:%S%.f") {
            return Some(Self::Text);
        }
        is_instant("%Y-%m-%dT%H:%M:%S%.fZ").then_some(Self::Rfc3339)
    }

    fn of_number(number: i64) -> Option<Self> {
        match number {
            ..FIRST_SECOND => None,
            FIRST_SECOND..FIRST_MS => Some(Self::Unix),
            FIRST_MS.. => Some(Self::UnixMs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_what_it_writes() {
        let instant: DateTime<Utc> = "2025-01-08T12:00:00.250Z".parse().expect("an instant");
        for (time, cell) in [
            (Time::Text, Cell::Text("2025-01-08 12:00:00".into())),
            (Time::Rfc3339, Cell::Text("2025-01-08T12:00:00.250Z".into())),
            (Time::Unix, Cell::Whole(1_736_337_600)),
            (Time::UnixMs, Cell::Whole(1_736_337_600_250)),
        ] {
            assert_eq!(time.cell(instant), cell);
            assert_eq!(Time::of(&cell), Some(time));
            assert_eq!(Time::instant(&cell).map(|at| at.timestamp()), Some(instant.timestamp()));
        }
        for other in ["2025-01-08T12:00:00+00:00", "2025-01-08", "08/01/2025 12:00", "", "1736337600"] {
            assert_eq!(Time::of(&Cell::Text(other.into())), None, "{other}");
        }
        assert_eq!(Time::of(&Cell::Whole(5)), None);
    }
}
