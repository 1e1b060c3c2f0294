//! The shift that a handoff is about, in words for people, and its way back to those who look for one.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use super::Handoff;
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        team::{Adopted, Param, Row, tables::VAGAS},
    },
};

/// What a shift is called that says nothing about itself, or is gone.
const NAMELESS: &str = "plantão";

/// The shift as people call it: `Cardiologia (23/11, 19:00 às 07:00)`.
pub(super) async fn words(tx: &mut AppTx, adopted: &Adopted, vaga_id: Option<&str>) -> Result<String, Failure> {
    let Some(vaga_id) = vaga_id.filter(|id| adopted.fits(VAGAS.name, "id", id)) else { return Ok(NAMELESS.into()) };
    let there = |column: &str| if adopted.has(VAGAS.name, column) { column.to_owned() } else { "null".into() };
    let (titulo, data, begin, end) = (there("titulo"), there("data"), there("hora_inicio"), there("hora_fim"));
    let query = format!(
        "select {titulo} as titulo, {data} as data, {begin} as hora_inicio, {end} as hora_fim
        from vagas
        where id = @type(vagas.id, $1)
        limit 1"
    );
    let rows = adopted.rows(tx, &query, &[vaga_id.into()]).await?;
    Ok(rows.first().map_or_else(|| NAMELESS.into(), phrase))
}

/// Opens a reserved shift again; `false` = it is gone, in another state, or reserved for somebody else by now.
pub(super) async fn reopen(
    tx: &mut AppTx,
    adopted: &Adopted,
    handoff: &Handoff,
    now: DateTime<Utc>,
) -> Result<bool, Failure> {
    // What is no id of a shift is the id of none.
    let vaga_id = handoff.vaga_id.as_deref().filter(|id| adopted.fits(VAGAS.name, "id", id));
    let Some(vaga_id) = vaga_id else { return Ok(false) };
    let mut params = vec![Param::from(vaga_id)];
    let mut statement = REOPEN.to_owned();
    // Where the shift says whose it is, a late handoff must not take it from the next one.
    if let Some(cliente_id) = handoff.cliente_id.as_deref().filter(|_| adopted.has(VAGAS.name, "cliente_id")) {
        params.push(cliente_id.into());
        statement.push_str(" and (cliente_id is null or cast(cliente_id as text) = $2)");
    }
    if adopted.has(VAGAS.name, "updated_at") {
        params.push(now.into());
        let touched = format!("update vagas set updated_at = ${}, ", params.len());
        statement = statement.replacen("update vagas set ", &touched, 1);
    }
    Ok(adopted.change(tx, &statement, &params).await? == 1)
}

pub(super) const REOPEN: &str = "\
    update vagas set status = 'aberta'
    where id = @type(vagas.id, $1)
      and status = 'reservada'";

fn phrase(row: &Row) -> String {
    let title = row.text("titulo").filter(|title| !title.trim().is_empty()).unwrap_or_else(|| NAMELESS.into());
    let date = row.text("data").as_deref().and_then(date_in).map(|date| date.format("%d/%m").to_string());
    let hour = |column| row.text(column).as_deref().and_then(time_in).map(|time| time.format("%H:%M").to_string());
    let hours = match (hour("hora_inicio"), hour("hora_fim")) {
        (Some(begin), Some(end)) => Some(format!("{begin} às {end}")),
        (Some(begin), None) => Some(begin),
        _ => None,
    };
    let when: Vec<String> = date.into_iter().chain(hours).collect();
    let title = title.trim();
    if when.is_empty() { title.to_owned() } else { format!("{title} ({})", when.join(", ")) }
}

/// The date at the beginning of a text, such as `2026-11-23` or `2026-11-23T00:00:00Z`.
fn date_in(text: &str) -> Option<NaiveDate> {
    text.get(..10)?.parse().ok()
}

/// A time of day: `19:00`, `19:00:00`, or that of a date with a time.
fn time_in(text: &str) -> Option<NaiveTime> {
    let of_day = |text: &str| NaiveTime::parse_from_str(text.get(..5)?, "%H:%M").ok();
    let dated = |text: &str| text.trim_end_matches('Z').replace(' ', "T").parse::<NaiveDateTime>().ok();
    dated(text).map(|moment| moment.time()).or_else(|| of_day(text))
}
