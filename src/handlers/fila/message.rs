//! A message of the queue as a claim read it, and what is known of whom it is for.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::handlers::team::Row;

/// Digits of a number with its country code: E.164 allows 15, and no country with its code has fewer than these.
const DIGITS: std::ops::RangeInclusive<usize> = 10..=15;
/// What people write between the digits of a number.
const BETWEEN_DIGITS: [char; 6] = ['+', ' ', '-', '(', ')', '.'];
/// Kinds that answer somebody or that the system must say: they go at any time. Every other kind is proactive.
const NOT_PROACTIVE: [&str; 2] = ["resposta", "sistema"];
/// `max_tentativas` of a row that says nothing (spec 6).
const MAX_TRIES: i64 = 3;

/// A row that this attempt has claimed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claimed {
    pub id: String,
    pub client: Option<String>,
    pub conversation: Option<String>,
    /// As the row has it; it may be the client's instead.
    pub number: Option<String>,
    pub text: String,
    pub tipo: String,
    pub priority: i64,
    pub metadata: Value,
    /// `tentativas`: tries that are over.
    pub tries: i64,
    pub max_tries: i64,
    /// `processando_desde` as the claim wrote it, which makes the row ours: a row that somebody else has taken over
    /// meanwhile, an hour later at the soonest, has another one. Read back and not remembered, because a column may keep
    /// less than milliseconds. `None` = in the hands of somebody who does not write it.
    pub since: Option<DateTime<Utc>>,
}

/// What `doctor_state` says of a client.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lead {
    pub permission: String,
    pub cooling_off_until: Option<DateTime<Utc>>,
    pub next_allowed_at: Option<DateTime<Utc>>,
    pub contacts_of_week: i64,
}

impl Claimed {
    /// Of a row that was read with [`super::statements::COLUMNS`].
    pub fn read(row: &Row) -> Self {
        let metadata = row.text("metadata").and_then(|text| serde_json::from_str(&text).ok());
        Self {
            id: row.text("id").unwrap_or_default(),
            client: row.text("cliente_id"),
            conversation: row.text("conversa_id"),
            number: row.text("telefone"),
            text: row.text("conteudo").unwrap_or_default(),
            tipo: row.text("tipo").unwrap_or_default(),
            priority: row.whole("prioridade").unwrap_or_default(),
            metadata: metadata.unwrap_or_default(),
            tries: row.whole("tentativas").unwrap_or_default(),
            max_tries: row.whole("max_tentativas").unwrap_or(MAX_TRIES),
            since: row.instant("processando_desde"),
        }
    }

    /// Written to somebody who did not write first.
    pub fn is_proactive(&self) -> bool {
        !NOT_PROACTIVE.contains(&self.tipo.as_str())
    }

    /// A person has decided that it goes now: `"bypass": true` in its metadata.
    pub fn is_bypass(&self) -> bool {
        self.metadata.get("bypass") == Some(&Value::Bool(true))
    }

    /// What it shares with messages that say the same: `dedupe_key` in its metadata.
    pub fn dedupe_key(&self) -> Option<&str> {
        self.metadata.get("dedupe_key").and_then(Value::as_str).filter(|key| !key.is_empty())
    }

    /// As the table of dead letters keeps it.
    pub fn as_it_stood(&self) -> Value {
        json!({
            "cliente_id": self.client,
            "conversa_id": self.conversation,
            "telefone": self.number,
            "conteudo": self.text,
            "tipo": self.tipo,
            "prioridade": self.priority,
            "metadata": self.metadata,
        })
    }
}

/// The digits of a number that can be written to; `None` = it is none. A number without its country code cannot be told
/// from one with another code, so nothing is added to it.
pub(super) fn usable(number: &str) -> Option<String> {
    let is_plain = number.chars().all(|c| c.is_ascii_digit() || BETWEEN_DIGITS.contains(&c));
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    (is_plain && DIGITS.contains(&digits.len())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_digits_with_the_country_code() {
        for (number, digits) in [
            ("5511955550100", Some("5511955550100")),
            (" +55 (11) 95555-0100 ", Some("5511955550100")),
            ("+1.202.555.0100", Some("12025550100")),
            ("955550100", None),
            ("1234567890123456", None),
            ("5511955550100@s.whatsapp.net", None),
            ("5511 9555O-0100", None),
            ("٥٥١١٩٥٥٥٥٠١٠٠", None),
            ("", None),
        ] {
            assert_eq!(usable(number).as_deref(), digits, "{number:?}");
        }
    }
}
