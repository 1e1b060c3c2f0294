//! The one place where an event of the business is recorded, at most once for each of its keys.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    AppTx,
    team::{Adopted, Param, tables::BUSINESS_EVENTS},
};
use crate::domain::run::Failure;

/// What happened, to be recorded in the transaction that makes it happen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Event {
    /// Its kind, in `event_type`.
    pub kind: &'static str,
    /// What it is about: the key is `{kind}:{about}`.
    pub about: String,
    pub cliente_id: Option<String>,
    pub vaga_id: Option<String>,
    /// More about it, an object.
    pub props: Value,
}

impl Event {
    pub fn key(&self) -> String {
        format!("{}:{}", self.kind, self.about)
    }

    /// Records it; `false` = its key was there already, and nothing was done. `adopted` must hold `BUSINESS_EVENTS`.
    pub async fn record(&self, tx: &mut AppTx, adopted: &Adopted, now: DateTime<Utc>) -> Result<bool, Failure> {
        let mut params = vec![Param::from(self.key())];
        let columns = columns(adopted, |column| {
            params.push(match column {
                "event_type" => self.kind.into(),
                "cliente_id" => id_for(adopted, column, self.cliente_id.as_deref()),
                "vaga_id" => id_for(adopted, column, self.vaga_id.as_deref()),
                "event_props" => self.props.clone().into(),
                _ => now.into(),
            });
            format!("${}", params.len())
        });
        let statement = insert(&columns, "$1", "");
        adopted.change(tx, &statement, &params).await.map(|inserted| inserted == 1)
    }
}

/// An id for a column of the events: null where a team's column has ids of another kind, as what happened is told all the
/// same.
fn id_for(adopted: &Adopted, column: &str, id: Option<&str>) -> Param {
    id.filter(|id| adopted.fits(BUSINESS_EVENTS.name, column, id)).into()
}

/// Forgets an event that only stood for something still to be done.
pub(super) async fn forget(tx: &mut AppTx, adopted: &Adopted, key: String) -> Result<(), Failure> {
    adopted.change(tx, "delete from business_events where dedupe_key = $1", &[key.into()]).await.map(drop)
}

/// The columns of a team's events beside `dedupe_key`, those that are there, each with the value given for it.
pub(super) fn columns(adopted: &Adopted, mut value: impl FnMut(&'static str) -> String) -> Vec<(&'static str, String)> {
    let names = ["event_type", "cliente_id", "vaga_id", "event_props", "created_at"];
    let there = names.into_iter().filter(|name| adopted.has(BUSINESS_EVENTS.name, name));
    let typed = |name: &'static str| {
        let value = value(name);
        let is_text = adopted.column(BUSINESS_EVENTS.name, name).is_some_and(|it| it.kind.starts_with("character"));
        // A cast to `varchar(n)` would cut the text.
        (name, if is_text { value } else { format!("@type(business_events.{name}, {value})") })
    };
    there.map(typed).collect()
}

/// The statement that records events whose key is the expression `key`, one for each row of `source` (`from ... where
/// ...`), or one alone when there is no source. A key that is there already is left out, also where a team's table has
/// no unique index.
pub(super) fn insert(columns: &[(&'static str, String)], key: &str, source: &str) -> String {
    let names: String = columns.iter().map(|(name, _)| format!(", {name}")).collect();
    let values: String = columns.iter().map(|(_, value)| format!(", {value}")).collect();
    let glue = if source.is_empty() { "where" } else { "and" };
    format!(
        "insert into business_events (dedupe_key{names})
        select {key}{values}
        {source}
        {glue} not exists (select 1 from business_events known where known.dedupe_key = {key})
        on conflict do nothing"
    )
}
