//! `temperature_decay`: a lead that stops answering cools day by day, so that the warm ones are talked to first.

mod statements;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    AppTx, Context, Dialect, Ending, Handler, Scope, Statement, TeamTable,
    team::{self, Adopted, TeamColumn, tables::DOCTOR_STATE},
    transaction,
};
use crate::domain::{
    run::{Failure, Report},
    schedule::Zone,
};
use statements::{Change, RECOUNT_CONTACTS, RESET_UNRECORDED, WORDS};

/// A lead that has not written for so long has left (spec 6).
const CHURNED_AFTER: TimeDelta = TimeDelta::days(90);

/// `contact_count_7d` counts the contacts of so long.
const CONTACT_WINDOW: TimeDelta = TimeDelta::days(7);
/// Where contacts are recorded, when the team has it: never created here, and of no use without the columns of `NEEDED`.
static TOUCHES: TeamTable = TeamTable {
    name: "fila_mensagens",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::optional("cliente_id", "uuid", "text"),
        TeamColumn::optional("status", "text", "text"),
        TeamColumn::optional("enviada_em", "timestamptz", "text"),
        TeamColumn::optional("tipo", "text", "text"),
    ],
};

/// What a contact is known by; without `tipo` each message is one.
const NEEDED: [&str; 3] = ["cliente_id", "status", "enviada_em"];

/// Settings of `run.temperature_decay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What a lead loses for each whole day of silence: hundredths, from 0.01 to 1.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub per_day: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_day: 0.05 }
    }
}

impl Settings {
    /// `per_day` in hundredths, when it is a whole number of them from 1 to 100.
    fn cents_per_day(&self) -> Option<i64> {
        let cents = (self.per_day * 100.0).round();
        // Finer steps would be rounded once per run, and how often the job runs would change the sum.
        let is_whole = (self.per_day * 100.0 - cents).abs() < 1e-9;
        // The bounds make the cast exact.
        (is_whole && (1.0..=100.0).contains(&cents)).then_some(cents as i64)
    }
}

impl Handler for Settings {
    fn check(&mut self, _: &Scope<'_>) -> Vec<String> {
        match self.cents_per_day() {
            Some(_) => Vec::new(),
            None => vec![format!("per_day is {}, and must be hundredths between 0.01 and 1", self.per_day)],
        }
    }

    async fn run(&self, ctx: Context) -> Ending {
        let Some(cents_per_day) = self.cents_per_day() else {
            return Err(Failure::permanent(format!("per_day cannot be {}", self.per_day)).before_effect());
        };
        let (may_create, now) = (ctx.tools.create_team_tables, ctx.now);
        let week = week_start(&ctx.job.zone, now);
        transaction::in_own_database(&ctx, move |tx| {
            Box::pin(async move {
                let leads = team::adopt(tx, &[&DOCTOR_STATE], may_create).await?;
                leads.must_know_all(&WORDS)?;
                cool(tx, &leads, (Moments { now, week }, cents_per_day)).await
            })
        })
        .await
    }

    fn statements(&self, own: Dialect) -> Vec<Statement> {
        statements::texts(own)
    }

    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        vec![&TOUCHES]
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        vec![&DOCTOR_STATE]
    }
}

/// The instants that decide what is due.
struct Moments {
    now: DateTime<Utc>,
    /// The week began here.
    week: DateTime<Utc>,
}

/// Each statement looks at the whole table and names the state it leaves, so a second run at once changes nothing.
async fn cool(tx: &mut AppTx, leads: &Adopted, (moments, cents_per_day): (Moments, i64)) -> Result<Report, Failure> {
    let reactivated = Change::Reactivate.apply(tx, moments.now).await?;
    let churned = Change::Churn.apply(tx, moments.now - CHURNED_AFTER).await?;
    let (recounted, reset) = count_contacts(tx, leads, &moments).await?;
    // Last, because it may write every row: the others would read each of them twice.
    let cooled = Change::Cool { cents_per_day }.apply(tx, moments.now).await?;
    let result = json!({
        "cooled": cooled, "reactivated": reactivated, "churned": churned, "contacts_recounted": recounted, "contacts_reset": reset,
    });
    Ok(Report { items: Some(cooled), result: Some(result), ..Report::default() })
}

/// Counts anew what is recorded, and begins the week anew for the others: leads recounted, leads reset.
async fn count_contacts(tx: &mut AppTx, leads: &Adopted, moments: &Moments) -> Result<(u64, u64), Failure> {
    let messages = team::look_at(tx, &TOUCHES).await?;
    let is_recorded = |messages: &Adopted| {
        NEEDED.iter().all(|column| messages.has(TOUCHES.name, column)) && leads.has(DOCTOR_STATE.name, "cliente_id")
    };
    let Some(messages) = messages.filter(is_recorded) else {
        return Ok((0, Change::ResetContacts.apply(tx, moments.week).await?));
    };
    let (begin, end) = (moments.now - CONTACT_WINDOW, moments.now);
    let recounted = messages.change(tx, RECOUNT_CONTACTS, &[begin.into(), end.into()]).await?;
    let reset = messages.change(tx, RESET_UNRECORDED, &[moments.week.into(), begin.into(), end.into()]).await?;
    Ok((recounted, reset))
}

/// Monday 00:00 of the week of `moment`, on the clocks of a zone.
fn week_start(zone: &Zone, moment: DateTime<Utc>) -> DateTime<Utc> {
    let today = zone.local(moment).date();
    let monday = today - TimeDelta::days(today.weekday().num_days_from_monday().into());
    zone.instant_of(monday.and_time(chrono::NaiveTime::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday_on_the_local_clock() {
        let utc = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant");
        for (zone, moment, start) in [
            ("UTC", "2025-01-08T10:00:00Z", "2025-01-06T00:00:00Z"),
            ("UTC", "2025-01-06T00:00:00Z", "2025-01-06T00:00:00Z"),
            ("UTC", "2025-01-05T23:59:59Z", "2024-12-30T00:00:00Z"),
            ("America/Sao_Paulo", "2025-01-06T02:59:59Z", "2024-12-30T03:00:00Z"),
            ("America/Sao_Paulo", "2025-01-06T03:00:00Z", "2025-01-06T03:00:00Z"),
            // The clocks of New York changed on Sunday, 2025-03-09, within this week.
            ("America/New_York", "2025-03-09T20:00:00Z", "2025-03-03T05:00:00Z"),
            ("America/New_York", "2025-03-10T20:00:00Z", "2025-03-10T04:00:00Z"),
        ] {
            let zone = Zone::parse(zone).expect("a zone");

            assert_eq!(week_start(&zone, utc(moment)), utc(start), "{moment} in {}", zone.name());
        }
    }

    #[test]
    fn a_day_costs_whole_hundredths() {
        for (per_day, cents) in [(0.05, Some(5)), (0.01, Some(1)), (0.07, Some(7)), (0.29, Some(29)), (1.0, Some(100))]
        {
            assert_eq!(Settings { per_day }.cents_per_day(), cents, "{per_day}");
        }
        for per_day in [0.0, -0.05, 0.005, 0.033, 1.01, f64::NAN, f64::INFINITY] {
            assert_eq!(Settings { per_day }.cents_per_day(), None, "{per_day}");
        }
    }
}
