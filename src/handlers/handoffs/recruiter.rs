//! Whose a recruiter's number is: that of a client, or of one who wants to be left alone; asked for all of a run at once.

use std::collections::BTreeMap;

use super::{Attempt, Handoff};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect,
        team::{Param, Row},
    },
};

/// Country code of Brazil, which a number may be written with or without.
const COUNTRY: &str = "55";
/// Area code and number have 10 or 11 digits.
const LEAST_NATIONAL: usize = 10;
/// What people write between digits, as SQL.
const SIGNS: [&str; 8] = ["'+'", "' '", "'-'", "'('", "')'", "'.'", "'/'", "char(9)"];

/// What is known of a recruiter from the client with the same number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Recruiter {
    /// A client with that number.
    pub cliente_id: Option<String>,
    /// One of the clients with that number wants to be left alone.
    pub has_opted_out: bool,
}

/// The clients who want to be left alone; ids are compared as text, as the tables may have different ones.
const OPTED_OUT: &str = "\
    cast(id as text) in (
      select cast(cliente_id as text) from doctor_state
      where cliente_id is not null and cast(permission_state as text) = 'opted_out'
    )";

/// Whether there is a number to write to.
pub(super) fn is_reachable(own: Dialect) -> &'static str {
    match own {
        Dialect::Postgres => "coalesce(cast(divulgador_telefone as text), '') ~ '[0-9]'",
        Dialect::Sqlite => "coalesce(cast(divulgador_telefone as text), '') glob '*[0-9]*'",
    }
}

/// The digits of a column without the country code.
fn short_in(own: Dialect, column: &str) -> String {
    let text = format!("cast({column} as text)");
    let digits = match own {
        Dialect::Postgres => format!("regexp_replace({text}, '[^0-9]', '', 'g')"),
        Dialect::Sqlite => SIGNS.iter().fold(text, |text, sign| format!("replace({text}, {sign}, '')")),
    };
    let least = COUNTRY.len() + LEAST_NATIONAL;
    format!(
        "case when {digits} like '{COUNTRY}%' and {least} <= length({digits}) then substr({digits}, 3) else {digits} end"
    )
}

/// The digits of a number without its country code: people write both.
fn short(number: &str) -> &str {
    number.strip_prefix(COUNTRY).filter(|rest| LEAST_NATIONAL <= rest.len()).unwrap_or(number)
}

/// The digits of a number, as it is written to.
pub(super) fn digits(written: Option<&str>) -> String {
    written.unwrap_or_default().chars().filter(char::is_ascii_digit).collect()
}

impl Attempt {
    /// Whether a recruiter wants to be left alone, as a condition; `None` = nobody can have said so.
    pub fn has_opted_out(&self) -> Option<String> {
        let (Ok(Some(_)), Ok(Some(_))) = (&self.clients, &self.permissions) else { return None };
        let own = self.adopted.dialect();
        let (recruiter, client) = (short_in(own, "divulgador_telefone"), short_in(own, "telefone"));
        Some(format!("{recruiter} in (select {client} from clientes where telefone is not null and {OPTED_OUT})"))
    }

    /// Says of each handoff whose its recruiter's number is.
    pub async fn know_recruiters(&self, tx: &mut AppTx, handoffs: &mut [Handoff]) -> Result<(), Failure> {
        let Ok(Some(clients)) = &self.clients else { return Ok(()) };
        let numbers: Vec<_> = handoffs.iter().map(|it| digits(it.divulgador_telefone.as_deref())).collect();
        let params: Vec<Param> = numbers.iter().map(|number| short(number).into()).collect();
        if params.is_empty() {
            return Ok(());
        }
        let number = short_in(clients.dialect(), "telefone");
        let opted_out = if matches!(self.permissions, Ok(Some(_))) { OPTED_OUT } else { "1 = 0" };
        let asked: Vec<_> = (1..=params.len()).map(|at| format!("${at}")).collect();
        let query = format!(
            "select {number} as number, min(cast(id as text)) as id, max(case when {opted_out} then 1 else 0 end) as opted_out
            from clientes where {number} in ({}) group by 1",
            asked.join(", ")
        );
        let rows = clients.rows(tx, &query, &params).await?;
        let known: BTreeMap<_, _> = rows.iter().map(|row| (row.text("number"), Recruiter::read(row))).collect();
        for (handoff, number) in handoffs.iter_mut().zip(&numbers) {
            handoff.recruiter = known.get(&Some(short(number).to_owned())).cloned().unwrap_or_default();
        }
        Ok(())
    }
}

impl Recruiter {
    fn read(row: &Row) -> Self {
        Self { cliente_id: row.text("id"), has_opted_out: row.whole("opted_out") == Some(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_known_with_and_without_its_country_code() {
        for (number, known) in [
            ("+55 (11) 98765-4321", "11987654321"),
            ("11987654321", "11987654321"),
            ("551134567890", "1134567890"),
            // An area code that looks like the country's.
            ("55987654321", "55987654321"),
            ("5555987654321", "55987654321"),
            ("12025550123", "12025550123"),
            ("190", "190"),
            (" - ", ""),
        ] {
            assert_eq!(short(&digits(Some(number))), known, "{number}");
        }
    }
}
