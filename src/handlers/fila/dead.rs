//! Dead letters: messages that were given up, for a person to look at, to send again or to discard.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect,
        team::{
            self, Adopted, Param, Row,
            tables::{CLIENTES, FILA_MENSAGENS, FILA_MENSAGENS_DLQ},
        },
    },
};

/// Digits of a number that are shown to everybody.
const SHOWN_DIGITS: usize = 4;

/// A message in state `erro`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    pub id: String,
    /// Why it was given up, in one word; `unknown` = it may have been delivered.
    pub reason: String,
    pub error: Option<String>,
    pub attempts: i64,
    pub tipo: Option<String>,
    /// All but the last digits hidden, unless the whole number was asked for.
    pub phone: Option<String>,
    pub given_up_at: Option<DateTime<Utc>>,
    pub age_seconds: Option<i64>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone)]
pub struct Which {
    /// `None` = whatever the reason.
    pub reason: Option<String>,
    /// Given up at this instant or before: what dies while a person's wish is carried out is not meant.
    pub until: DateTime<Utc>,
    pub limit: u32,
}

/// What a person decided over dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be sent again, with all its attempts, and at once.
    Retry,
    /// Never to be sent.
    Discard,
}

/// Who decided, and when; kept in `metadata` of the message.
#[derive(Debug, Clone)]
pub struct Decision {
    pub verdict: Verdict,
    pub by: String,
    pub at: DateTime<Utc>,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    Done,
    /// It is in this state, and stays there.
    NotDead(String),
    /// There is no such message.
    Absent,
}

/// The tables of dead letters as they were found.
pub struct DeadLetters {
    adopted: Adopted,
    has_clients: bool,
    keeps_letters: bool,
}

impl DeadLetters {
    /// `None` = there is no message queue yet. Creates nothing.
    pub async fn find(tx: &mut AppTx) -> Result<Option<Self>, Failure> {
        if team::look_at(tx, &FILA_MENSAGENS).await?.is_none() {
            return Ok(None);
        }
        let has_clients = team::look_at(tx, &CLIENTES).await?.is_some();
        let keeps_letters = team::look_at(tx, &FILA_MENSAGENS_DLQ).await?.is_some();
        let mut tables = vec![&FILA_MENSAGENS];
        if has_clients {
            tables.push(&CLIENTES);
        }
        if keeps_letters {
            tables.push(&FILA_MENSAGENS_DLQ);
        }
        let adopted = team::adopt(tx, &tables, false).await?;
        Ok(Some(Self { adopted, has_clients, keeps_letters }))
    }

    /// How many there are.
    pub async fn count(&self, tx: &mut AppTx, which: &Which) -> Result<u64, Failure> {
        let statement = format!("select count(*) as n {}", self.chosen());
        self.adopted.count(tx, &statement, &which.params()).await
    }

    /// The oldest first. `whole_phones` = numbers are shown as they are.
    pub async fn list(&self, tx: &mut AppTx, which: &Which, whole_phones: bool) -> Result<Vec<DeadLetter>, Failure> {
        let phone = match (self.adopted.has("fila_mensagens", "telefone"), self.has_clients) {
            (true, true) => "coalesce(f.telefone, c.telefone)",
            (true, false) => "f.telefone",
            (false, true) => "c.telefone",
            (false, false) => "cast(null as text)",
        };
        let statement = format!(
            "select cast(f.id as text) as id, {} as reason, f.erro as error, f.tentativas as attempts,
                    cast(f.tipo as text) as tipo, {phone} as phone,
                    @instant(coalesce(f.outcome_at, f.created_at)) as given_up_at
             {} order by @instant(coalesce(f.outcome_at, f.created_at)), f.id limit {}",
            self.reason(),
            self.chosen(),
            which.limit
        );
        let rows = self.adopted.rows(tx, &statement, &which.params()).await?;
        Ok(rows.iter().map(|row| letter(row, which.until, whole_phones)).collect())
    }

    /// Decides over the oldest of them, each guarded by the state it leaves; their ids.
    pub async fn decide_many(
        &self,
        tx: &mut AppTx,
        which: &Which,
        decision: &Decision,
    ) -> Result<Vec<String>, Failure> {
        let mut decided = Vec::new();
        for letter in self.list(tx, which, false).await? {
            if self.decide(tx, &letter.id, decision).await? == Decided::Done {
                decided.push(letter.id);
            }
        }
        Ok(decided)
    }

    /// Decides over one message, if it is dead.
    pub async fn decide(&self, tx: &mut AppTx, id: &str, decision: &Decision) -> Result<Decided, Failure> {
        let changed = self.adopted.change(tx, &self.transition(decision.verdict), &decision.params(id)).await?;
        if changed == 0 {
            return self.state_of(tx, id).await;
        }
        if decision.verdict == Verdict::Retry && self.adopted.has("fila_mensagens_dlq", "reenviada_em") {
            let statement = "update fila_mensagens_dlq set reenviada_em = $2 where cast(mensagem_id as text) = $1";
            self.adopted.change(tx, statement, &[id.into(), decision.at.into()]).await?;
        }
        Ok(Decided::Done)
    }

    /// `$1` = id, `$2` = now, `$3` = the note. Ids are compared as text: what is no id of this table finds nothing.
    fn transition(&self, verdict: Verdict) -> String {
        let note = match self.adopted.dialect() {
            Dialect::Postgres => "@type(fila_mensagens.metadata, coalesce(metadata::jsonb, '{}'::jsonb) || ($3)::jsonb)",
            Dialect::Sqlite => "case when json_valid(metadata) then json_patch(metadata, $3) else $3 end",
        };
        let change = match verdict {
            // Due now and not when it once was: else it would be given up as too old.
            Verdict::Retry => {
                "status = 'pendente', agendar_para = $2, tentativas = 0, erro = null, processando_desde = null,
                 outcome = null, outcome_reason_code = null, outcome_at = null"
            }
            Verdict::Discard => "status = 'cancelada', outcome_reason_code = 'discarded', outcome_at = $2",
        };
        format!(
            "update fila_mensagens set {change}, metadata = {note} where cast(id as text) = $1 and status = 'erro'"
        )
    }

    async fn state_of(&self, tx: &mut AppTx, id: &str) -> Result<Decided, Failure> {
        let statement = "select cast(status as text) as status from fila_mensagens where cast(id as text) = $1";
        let rows = self.adopted.rows(tx, statement, &[id.into()]).await?;
        Ok(rows.first().and_then(|row| row.text("status")).map_or(Decided::Absent, Decided::NotDead))
    }

    /// From whom they are chosen; `$1` = until, `$2` = the reason, or null.
    fn chosen(&self) -> String {
        let clients = if self.has_clients { "left join clientes c on cast(c.id as text) = cast(f.cliente_id as text)" } else { "" };
        let letters = match self.keeps_letters {
            true => "left join fila_mensagens_dlq d on cast(d.mensagem_id as text) = cast(f.id as text)",
            false => "",
        };
        format!(
            "from fila_mensagens f {clients} {letters}
             where f.status = 'erro' and @instant(coalesce(f.outcome_at, f.created_at)) <= @instant($1)
               and ($2 is null or $2 = {})",
            self.reason()
        )
    }

    /// The newest word, else the one that was kept with the letter.
    fn reason(&self) -> &'static str {
        if self.keeps_letters {
            "coalesce(cast(f.outcome_reason_code as text), d.motivo, 'none')"
        } else {
            "coalesce(cast(f.outcome_reason_code as text), 'none')"
        }
    }
}

impl Which {
    fn params(&self) -> [Param; 2] {
        [self.until.into(), Param::Text(self.reason.clone())]
    }
}

impl Decision {
    fn params(&self, id: &str) -> [Param; 3] {
        [id.into(), self.at.into(), Param::Json(self.note())]
    }

    fn note(&self) -> Value {
        let word = match self.verdict {
            Verdict::Retry => "reenviada",
            Verdict::Discard => "descartada",
        };
        json!({ word: { "em": self.at, "por": self.by } })
    }
}

fn letter(row: &Row, now: DateTime<Utc>, whole_phones: bool) -> DeadLetter {
    let given_up_at = row.instant("given_up_at");
    DeadLetter {
        id: row.text("id").unwrap_or_default(),
        reason: row.text("reason").unwrap_or_default(),
        error: row.text("error"),
        attempts: row.whole("attempts").unwrap_or(0),
        tipo: row.text("tipo"),
        phone: row.text("phone").map(|phone| if whole_phones { phone } else { masked(&phone) }),
        given_up_at,
        age_seconds: given_up_at.map(|at| (now - at).num_seconds().max(0)),
    }
}

/// `***1234`; a number that is hardly longer shows nothing.
fn masked(phone: &str) -> String {
    let letters: Vec<char> = phone.chars().collect();
    let shown = if SHOWN_DIGITS * 2 < letters.len() { &letters[letters.len() - SHOWN_DIGITS..] } else { &[] };
    format!("***{}", shown.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_its_end_alone_and_a_short_one_nothing() {
        for (phone, shown) in [("5511999990001", "***0001"), ("12345678", "***"), ("", "***"), ("123456789", "***6789")] {
            assert_eq!(masked(phone), shown, "{phone}");
        }
    }
}
