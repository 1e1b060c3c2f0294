//! The rows of the invented team, decided before any is written: the same moment gives the same rows.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use serde_json::json;

use super::{Moment, invented, queue, shifts};
use crate::handlers::team::{
    Param, TeamTable,
    tables::{CLIENTES, DOCTOR_STATE, MENSAGENS_FORA_HORARIO},
};

/// Any number does: it makes two fillings alike.
const SEED: u64 = 20_260_309;
/// People of the invented team.
pub(super) const CLIENTS: usize = 60;
/// Those of them who said that nobody should write to them.
pub(super) const OPTED_OUT: std::ops::Range<usize> = 50..54;
/// Those who want to be left alone for some days more.
pub(super) const COOLING_OFF: std::ops::Range<usize> = 54..58;
/// Messages that came in while nobody was there.
const OFF_HOURS: usize = 14;
/// Of these the oldest were answered long ago.
const ANSWERED: usize = 4;
/// Between two looks for an hour in which nobody is there.
const NIGHT_STEP: TimeDelta = TimeDelta::minutes(47);

/// All rows, in the order in which they are written: what a row points to comes before it.
pub(super) struct Plan {
    pub rows: Vec<PlannedRow>,
    pub moment: Moment,
    pub dice: Rng,
}

pub(super) struct PlannedRow {
    pub table: &'static TeamTable,
    pub values: Vec<(&'static str, Value)>,
}

/// What stands in a column.
pub(super) enum Value {
    Is(Param),
    /// The id that an earlier row got.
    IdOf(usize),
    /// The same inside a text.
    Naming {
        before: &'static str,
        row: usize,
        after: String,
    },
}

impl<T: Into<Param>> From<T> for Value {
    fn from(value: T) -> Self {
        Self::Is(value.into())
    }
}

impl Value {
    /// As it is bound, once the rows before have their ids.
    pub fn bound(&self, ids: &[Option<String>]) -> Param {
        let id = |row: &usize| ids.get(*row).cloned().flatten();
        match self {
            Self::Is(param) => param.clone(),
            Self::IdOf(row) => Param::Text(id(row)),
            Self::Naming { before, row, after } => {
                Param::from(format!("{before}{}{after}", id(row).unwrap_or_default()))
            }
        }
    }
}

impl Plan {
    pub fn around(moment: &Moment) -> Self {
        let mut plan = Self { rows: Vec::new(), moment: moment.clone(), dice: Rng::with_seed(SEED) };
        plan.people();
        plan.states();
        queue::plan(&mut plan);
        plan.off_hours();
        shifts::plan(&mut plan);
        plan
    }

    /// The tables, in the order in which they are filled.
    pub fn tables(&self) -> Vec<&'static TeamTable> {
        let mut tables: Vec<&'static TeamTable> = Vec::new();
        for row in &self.rows {
            if !tables.contains(&row.table) {
                tables.push(row.table);
            }
        }
        tables
    }

    /// Adds a row; its place, for those that point to it.
    pub fn add(&mut self, table: &'static TeamTable, values: Vec<(&'static str, Value)>) -> usize {
        self.rows.push(PlannedRow { table, values });
        self.rows.len() - 1
    }

    pub fn ago(&self, length: TimeDelta) -> DateTime<Utc> {
        self.moment.now - length
    }

    /// So many minutes before now, of which the second is anyone's.
    pub fn minutes_ago(&mut self, minutes: std::ops::Range<i64>) -> DateTime<Utc> {
        let seconds = self.dice.i64(minutes.start * 60..minutes.end * 60);
        self.ago(TimeDelta::seconds(seconds))
    }

    /// The first rows of all, so that a client's number is also the place of its row.
    fn people(&mut self) {
        for client in 0..CLIENTS {
            let since = self.ago(TimeDelta::days(120) - TimeDelta::hours(client as i64));
            self.add(
                &CLIENTES,
                vec![
                    ("telefone", invented::number(client).into()),
                    ("primeiro_nome", invented::name(client).into()),
                    ("created_at", since.into()),
                ],
            );
        }
    }

    fn states(&mut self) {
        for client in 0..CLIENTS {
            let hours_silent = self.dice.i64(2..24 * 20) + if client % 12 == 11 { 24 * 90 } else { 0 };
            let heard = self.ago(TimeDelta::hours(hours_silent));
            let permission = match client {
                _ if OPTED_OUT.contains(&client) => "opted_out",
                // The time of the last two is over: the next run of temperature_decay finds them.
                _ if (COOLING_OFF.start..COOLING_OFF.end + 2).contains(&client) => "cooling_off",
                _ => "active",
            };
            let until = match client {
                _ if COOLING_OFF.contains(&client) => Some(self.moment.now + TimeDelta::days(3)),
                _ if permission == "cooling_off" => Some(self.ago(TimeDelta::hours(5))),
                _ => None,
            };
            let temperature = f64::from(self.dice.u8(20..=95)) / 100.0;
            let written = heard + TimeDelta::hours(1);
            self.add(
                &DOCTOR_STATE,
                vec![
                    ("cliente_id", Value::IdOf(client)),
                    ("permission_state", permission.into()),
                    ("cooling_off_until", until.into()),
                    ("temperature", temperature.into()),
                    ("last_inbound_at", heard.into()),
                    ("last_outbound_at", written.into()),
                    ("contact_count_7d", i64::from(hours_silent < 24 * 7).into()),
                ],
            );
        }
    }

    /// Backwards from now, only at hours at which nobody was there.
    fn off_hours(&mut self) {
        let is_night = |at: &DateTime<Utc>| {
            use chrono::{Datelike as _, Timelike as _};
            let local = self.moment.zone.local(*at);
            !(8..20).contains(&local.hour()) || 5 <= local.weekday().num_days_from_monday()
        };
        let moments = (1..).map(|step| self.moment.now - NIGHT_STEP * step).filter(is_night);
        let moments: Vec<DateTime<Utc>> = moments.take(OFF_HOURS).collect();
        for (index, received) in moments.into_iter().enumerate() {
            let is_answered = OFF_HOURS - ANSWERED <= index;
            let client = (index * 3 + 1) % OPTED_OUT.start;
            let mut values = vec![
                ("cliente_id", Value::IdOf(client)),
                ("mensagem", invented::question(index).into()),
                ("recebida_em", received.into()),
                ("contexto", json!({ "demo": true }).into()),
                ("inbound_message_id", format!("demo-in-{index}").into()),
            ];
            if is_answered {
                values.push(("processada", "1".into()));
                values.push(("processada_em", (received + TimeDelta::minutes(30)).into()));
                values.push(("processada_resultado", "respondida".into()));
            }
            self.add(&MENSAGENS_FORA_HORARIO, values);
        }
    }
}
