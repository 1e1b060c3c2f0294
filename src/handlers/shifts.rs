//! `shifts`: a shift that is over must be confirmed by somebody before it is paid; this puts it on their list.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    AppTx, Context, Dialect, Ending, Handler, Statement, events,
    team::{
        self, Adopted, FoundColumn, Param, TeamTable,
        tables::{BUSINESS_EVENTS, VAGAS, VAGAS_WITH_TIMES},
        words::{self, Words},
    },
    transaction::in_own_database,
};
use crate::domain::{
    duration::Length,
    run::{Failure, Report},
    schedule::Zone,
};

/// How long a shift must be over unless told otherwise (spec 6).
const ENDED_FOR: Duration = Duration::from_secs(2 * 3_600);
/// The kind of event; the key of one is its kind and the id of the shift.
const DUE: &str = "shift_confirmation_due";
const TABLES: [&TeamTable; 3] = [&VAGAS, &VAGAS_WITH_TIMES, &BUSINESS_EVENTS];

const WORDS: [Words; 2] =
    [("vagas", "status", &["reservada", "pendente_confirmacao"]), ("business_events", "event_type", &[DUE])];

/// Settings of `run.shifts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a shift must be over.
    pub ended_for: Length,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ended_for: Length(ENDED_FOR) }
    }
}

impl Handler for Settings {
    async fn run(&self, ctx: Context) -> Ending {
        let (now, may_create) = (ctx.now, ctx.tools.create_team_tables);
        let ended_for = TimeDelta::from_std(self.ended_for.0).expect("a length is at most a hundred years");
        let before = not_yet_shown(&ctx.job.zone, now - ended_for);
        in_own_database(&ctx, move |tx| {
            Box::pin(async move {
                let adopted = team::adopt(tx, &TABLES, may_create).await?;
                adopted.must_know_all(&WORDS)?;
                let shifts = Shifts { adopted, before, now };
                shifts.ask(tx).await
            })
        })
        .await
    }

    fn statements(&self, own: Dialect) -> Vec<Statement> {
        let text = format!("{ASK} where {}", is_due(own, |column| column.to_owned()));
        [words::as_statement(&WORDS), text].map(|text| Statement { text, line: 1, database: None }).to_vec()
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        TABLES.to_vec()
    }
}

/// The change of a shift; `$2` is now.
const ASK: &str = "update vagas set status = 'pendente_confirmacao', pendente_confirmacao_em = $2";

/// The first reading that the local clock has not shown by a moment, as text. A reading that a change of the clocks
/// jumps over counts as shown, and one that they show twice counts from the first time.
fn not_yet_shown(zone: &Zone, moment: DateTime<Utc>) -> String {
    let local = zone.local(moment) + TimeDelta::milliseconds(1);
    let passed = DateTime::from_timestamp(zone.passed_before(moment.timestamp()), 0).map(|it| it.naive_utc());
    local.max(passed.unwrap_or(local)).format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// When a shift ends on the clocks of the business, from columns as `part` writes them: a day later when it ends at or
/// before the time it begins. Null when a part is missing or cannot be read.
fn civil_end(own: Dialect, part: impl Fn(&str) -> String) -> String {
    let (date, begin, end) = (part("data"), part("hora_inicio"), part("hora_fim"));
    match own {
        Dialect::Postgres => format!(
            "(({date})::date + ({end})::time
              + case when ({end})::time <= ({begin})::time then interval '1 day' else interval '0 days' end)"
        ),
        Dialect::Sqlite => format!(
            "(unixepoch(date({date}) || ' ' || time({end}))
              + case when time({end}) <= time({begin}) then 86400 else 0 end)"
        ),
    }
}

/// Whether a shift has ended before the reading `$1`.
fn is_due(own: Dialect, part: impl Fn(&str) -> String) -> String {
    let before = match own {
        Dialect::Postgres => "($1)::timestamp",
        Dialect::Sqlite => "unixepoch($1, 'subsec')",
    };
    format!("status = 'reservada' and {} < {before}", civil_end(own, part))
}

/// A date that exists, at the beginning of a text: PostgreSQL has no cast that answers null for the 30th of February.
const A_DATE: &str = "^(?!0000)(?:\
    [0-9]{4}-(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|\
    [0-9]{4}-(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|\
    [0-9]{4}-02-(?:0[1-9]|1[0-9]|2[0-8])|\
    (?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";

/// Shifts as they were found, and the moments that decide.
struct Shifts {
    adopted: Adopted,
    /// Shifts that ended before this reading of the local clock are due.
    before: String,
    now: DateTime<Utc>,
}

impl Shifts {
    /// Puts all shifts that are due on the list, each with its event.
    async fn ask(&self, tx: &mut AppTx) -> Result<Report, Failure> {
        let asked = match self.adopted.dialect() {
            Dialect::Postgres => self.in_one_statement(tx).await?,
            Dialect::Sqlite => self.in_two_statements(tx).await?,
        };
        let end = civil_end(self.adopted.dialect(), |column| self.part(column));
        let undated = format!("select count(*) from vagas where status = 'reservada' and {end} is null");
        let undated = self.adopted.count(tx, &undated, &[]).await?;
        let result = json!({ "asked": asked, "undated": undated });
        Ok(Report { items: Some(asked), result: Some(result), ..Report::default() })
    }

    async fn in_one_statement(&self, tx: &mut AppTx) -> Result<u64, Failure> {
        let owner = if self.has_owner() { ", cliente_id" } else { "" };
        let statement = format!(
            "with due as (
              {} where {} returning id{owner}
            ),
            told as (
              {}
            )
            select from due",
            self.change(),
            self.due(),
            self.events("from due where 1 = 1")
        );
        // The server says how many rows the query gave: one for each shift.
        self.adopted.change(tx, &statement, &self.moments()).await
    }

    /// SQLite changes nothing inside of a query. Nobody else writes meanwhile, so both statements see the same shifts.
    async fn in_two_statements(&self, tx: &mut AppTx) -> Result<u64, Failure> {
        let due = self.due();
        let events = self.events(&format!("from (select * from vagas where {due}) due where 1 = 1"));
        self.adopted.change(tx, &events, &self.moments()).await?;
        self.adopted.change(tx, &format!("{} where {due}", self.change()), &self.moments()).await
    }

    /// The events of the shifts in `due`.
    fn events(&self, source: &str) -> String {
        let columns = events::columns(&self.adopted, |column| match column {
            "event_type" => format!("'{DUE}'"),
            "cliente_id" if self.has_owner() => self.id_for(column, "cliente_id"),
            "cliente_id" => "null".into(),
            "vaga_id" => self.id_for(column, "id"),
            "event_props" => "'{}'".into(),
            _ => "$2".into(),
        });
        events::insert(&columns, &format!("'{DUE}:' || cast(due.id as text)"), source)
    }

    /// An id of a shift for a column of the events. Of another type, and no value of that column's, it would spoil the whole
    /// statement: then the event is told without.
    fn id_for(&self, column: &str, from: &str) -> String {
        let (own, events) = (self.adopted.column(VAGAS.name, from), self.adopted.column(BUSINESS_EVENTS.name, column));
        let is_same = own.map(|it| &it.kind) == events.map(|it| &it.kind);
        let pattern = events.filter(|_| self.adopted.dialect() == Dialect::Postgres && !is_same);
        match pattern.and_then(FoundColumn::pattern) {
            Some(pattern) => {
                format!("case when cast(due.{from} as text) ~ '{pattern}' then cast(due.{from} as text) end")
            }
            None => format!("due.{from}"),
        }
    }

    fn has_owner(&self) -> bool {
        self.adopted.has(VAGAS.name, "cliente_id")
    }

    fn change(&self) -> String {
        let touched = if self.adopted.has(VAGAS.name, "updated_at") { ", updated_at = $2" } else { "" };
        format!("{ASK}{touched}")
    }

    fn due(&self) -> String {
        is_due(self.adopted.dialect(), |column| self.part(column))
    }

    fn moments(&self) -> [Param; 2] {
        [self.before.as_str().into(), self.now.into()]
    }

    /// A part of the end as it is read from its column. In a column of texts PostgreSQL would refuse the whole statement
    /// for one that is no date or time.
    fn part(&self, column: &str) -> String {
        let found = self.adopted.column(VAGAS.name, column);
        let is_text = found.is_some_and(|found| found.kind == "text" || found.kind.starts_with("character"));
        match (self.adopted.dialect(), column) {
            (Dialect::Postgres, "data") if is_text => {
                format!("substring({column} from '{A_DATE}')")
            }
            (Dialect::Postgres, _) if is_text => {
                format!("substring({column} from '^(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?')")
            }
            // SQLite takes the 30th of February for the 2nd of March.
            (Dialect::Sqlite, "data") => {
                format!("(case when date(substr({column}, 1, 10)) = substr({column}, 1, 10) then {column} end)")
            }
            _ => column.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_clock_has_shown_what_it_passed_or_jumped_over() {
        for (zone, moment, reading) in [
            ("America/Sao_Paulo", "2026-11-23T10:00:00Z", "2026-11-23 07:00:00.001"),
            ("UTC", "2026-11-23T10:00:00.500Z", "2026-11-23 10:00:00.501"),
            // New York, 2025-11-02: 01:59:59 was followed by 01:00:00, at 06:00 UTC.
            ("America/New_York", "2025-11-02T05:30:00Z", "2025-11-02 01:30:00.001"),
            ("America/New_York", "2025-11-02T06:00:00Z", "2025-11-02 02:00:00.000"),
            ("America/New_York", "2025-11-02T06:30:00Z", "2025-11-02 02:00:00.000"),
            ("America/New_York", "2025-11-02T07:00:00Z", "2025-11-02 02:00:00.001"),
            // New York, 2025-03-09: 01:59:59 was followed by 03:00:00, at 07:00 UTC.
            ("America/New_York", "2025-03-09T06:59:59Z", "2025-03-09 01:59:59.001"),
            ("America/New_York", "2025-03-09T07:00:00Z", "2025-03-09 03:00:00.001"),
        ] {
            let zone = Zone::parse(zone).expect("a zone");
            assert_eq!(not_yet_shown(&zone, moment.parse().expect("an instant")), reading, "{moment}");
        }
    }
}
