//! Dead letters: messages that were given up, for a person to look at, to send again or to let go.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{decide::Transition, message::Claimed, send::metadata_is_text};
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

/// A message in state `erro`, with what its row among the dead letters says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    pub id: String,
    /// Why it was given up, in one word; `unknown` = it may have been delivered.
    pub reason: String,
    /// Words for people, without number and text of the message.
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
    /// Only those with a row among the dead letters, and none that may have been delivered unless `reason` says so: what
    /// may be sent again without a look at each.
    pub is_sure: bool,
}

/// What a person decided over dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be sent again, at once and with all its attempts; also one that may have been delivered.
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

/// The messages that are chosen: `$1` = given up until, `$2` = the reason or null, `$3` = 1 for [`Which::is_sure`]. Ids are compared as text: a team's queue may
/// have other ids than the dead letters that we made beside it.
macro_rules! chosen {
    () => {
        "from fila_mensagens f
        left join clientes c on cast(c.id as text) = cast(f.cliente_id as text)
        left join fila_mensagens_dlq d on cast(d.mensagem_id as text) = cast(f.id as text)
        where f.status = 'erro'
          and @instant(coalesce(f.outcome_at, f.created_at)) <= @instant($1)
          and ($2 is null or $2 = coalesce(f.outcome_reason_code, d.motivo, 'none'))
          and ($3 = 0 or d.mensagem_id is not null
               and ($2 is not null or coalesce(f.outcome_reason_code, d.motivo, 'none') <> 'unknown'))"
    };
}

const COUNT: &str = concat!("select count(*) ", chosen!());

const BY_REASON: &str = concat!(
    "select coalesce(f.outcome_reason_code, d.motivo, 'none') as reason, count(*) as letters ",
    chosen!(),
    " group by coalesce(f.outcome_reason_code, d.motivo, 'none')"
);

/// `$4` = the most rows.
const LIST: &str = concat!(
    "select cast(f.id as text) as id,
            coalesce(f.outcome_reason_code, d.motivo, 'none') as reason,
            f.erro as error,
            f.tentativas as attempts,
            cast(f.tipo as text) as tipo,
            coalesce(cast(f.telefone as text), cast(c.telefone as text)) as phone,
            @instant(coalesce(f.outcome_at, f.created_at)) as given_up_at ",
    chosen!(),
    "
    order by @instant(coalesce(f.outcome_at, f.created_at)), f.id
    limit $4"
);

/// Due now, and not when it once was: else it would be given up as too old. `$1` = its id, `$2` = now, `$3` = the note.
const RETRY: &str = "\
    update fila_mensagens
    set status = 'pendente',
        tentativas = 0,
        agendar_para = $2,
        erro = null,
        outcome = null,
        outcome_reason_code = 'retried',
        outcome_at = $2,
        processando_desde = null,
        metadata = <note>
    where id = @type(fila_mensagens.id, $1)
      and status = 'erro'";

const DISCARD: &str = "\
    update fila_mensagens
    set status = 'cancelada',
        outcome_reason_code = 'discarded',
        outcome_at = $2,
        metadata = <note>
    where id = @type(fila_mensagens.id, $1)
      and status = 'erro'";

const STATE: &str = "select cast(status as text) as status from fila_mensagens where id = @type(fila_mensagens.id, $1)";

const FORGET: &str = "\
    delete from fila_mensagens_dlq where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)";

/// For `workers check`; what stands on optional columns is left out.
pub(super) fn statements(own: Dialect) -> [String; 4] {
    [COUNT.into(), noted(RETRY, own), noted(DISCARD, own), FORGET.into()]
}

/// The statement with the note added to `metadata`, whatever that holds.
fn noted(statement: &str, own: Dialect) -> String {
    let note = match own {
        Dialect::Postgres => "@type(fila_mensagens.metadata, coalesce(metadata::jsonb, '{}') || ($3)::jsonb)",
        Dialect::Sqlite => "case when json_valid(metadata) then json_patch(metadata, $3) else $3 end",
    };
    statement.replace("<note>", note)
}

/// The row's `metadata` as text, which stays as it is until the transaction ends; for a database that fails to cast
/// what is no JSON.
const METADATA: &str = "\
    select cast(metadata as text) as metadata from fila_mensagens where id = @type(fila_mensagens.id, $1) for update";

/// The tables of dead letters as they were found.
pub struct DeadLetters(Adopted);

impl DeadLetters {
    /// `None` = there is no message queue. Creates nothing.
    pub async fn find(tx: &mut AppTx) -> Result<Option<Self>, Failure> {
        if team::look_at(tx, &FILA_MENSAGENS).await?.is_none() {
            return Ok(None);
        }
        for table in [&CLIENTES, &FILA_MENSAGENS_DLQ] {
            if team::look_at(tx, table).await?.is_none() {
                let missing =
                    format!("table {} is missing: the first run of the job that drains the queue makes it", table.name);
                return Err(Failure::permanent(missing));
            }
        }
        team::adopt(tx, &[&FILA_MENSAGENS, &CLIENTES, &FILA_MENSAGENS_DLQ], false).await.map(|found| Some(Self(found)))
    }

    /// How many there are, whatever the limit.
    pub async fn count(&self, tx: &mut AppTx, which: &Which) -> Result<u64, Failure> {
        self.0.count(tx, COUNT, &which.params()).await
    }

    /// How many there are for each reason.
    pub async fn by_reason(&self, tx: &mut AppTx, which: &Which) -> Result<BTreeMap<String, i64>, Failure> {
        let rows = self.0.rows(tx, BY_REASON, &which.params()).await?;
        let of = |row: &Row| (row.text("reason").unwrap_or_default(), row.whole("letters").unwrap_or(0));
        Ok(rows.iter().map(of).collect())
    }

    /// The oldest first. `whole_phones` = numbers are shown as they are.
    pub async fn list(&self, tx: &mut AppTx, which: &Which, whole_phones: bool) -> Result<Vec<DeadLetter>, Failure> {
        let [until, reason, is_sure] = which.params();
        let params = [until, reason, is_sure, which.limit.into()];
        // The column of the number is optional.
        let phone = if self.0.has(FILA_MENSAGENS.name, "telefone") { "f.telefone" } else { "null" };
        let rows = self.0.rows(tx, &LIST.replace("f.telefone", phone), &params).await?;
        Ok(rows.iter().map(|row| letter(row, which.until, whole_phones)).collect())
    }

    /// Decides over the oldest of them, each guarded by the state it leaves; how many.
    pub async fn decide_many(&self, tx: &mut AppTx, which: &Which, decision: &Decision) -> Result<u64, Failure> {
        let mut decided = 0;
        for letter in self.list(tx, which, false).await? {
            decided += u64::from(self.decide(tx, &letter.id, decision).await? == Decided::Done);
        }
        Ok(decided)
    }

    /// Decides over one message, if it is dead.
    pub async fn decide(&self, tx: &mut AppTx, id: &str, decision: &Decision) -> Result<Decided, Failure> {
        if !self.fits(FILA_MENSAGENS.name, "id", id) {
            return Ok(Decided::Absent);
        }
        let transition = match decision.verdict {
            Verdict::Retry => RETRY,
            Verdict::Discard => DISCARD,
        };
        let (statement, note) = match metadata_is_text(&self.0) {
            true => (
                transition.replace("<note>", "@type(fila_mensagens.metadata, $3)"),
                self.merged(tx, id, decision).await?,
            ),
            false => (noted(transition, self.0.dialect()), Param::Json(decision.note())),
        };
        if self.0.change(tx, &statement, &[id.into(), decision.at.into(), note]).await? == 0 {
            return self.state_of(tx, id).await;
        }
        if self.fits(FILA_MENSAGENS_DLQ.name, "mensagem_id", id) {
            self.mark(tx, id, decision).await?;
        }
        Ok(Decided::Done)
    }

    /// The text of `metadata` with the note in it; what is no object gives way to the note.
    async fn merged(&self, tx: &mut AppTx, id: &str, decision: &Decision) -> Result<Param, Failure> {
        let rows = self.0.rows(tx, METADATA, &[id.into()]).await?;
        let text = rows.first().and_then(|row| row.text("metadata")).unwrap_or_default();
        let mut metadata: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
        if let Value::Object(note) = decision.note() {
            metadata.extend(note);
        }
        Ok(Value::Object(metadata).to_string().into())
    }

    /// Its row among the dead letters says when it was sent again, or goes.
    async fn mark(&self, tx: &mut AppTx, id: &str, decision: &Decision) -> Result<(), Failure> {
        if decision.verdict == Verdict::Discard || !self.0.has(FILA_MENSAGENS_DLQ.name, "reenviada_em") {
            return self.0.change(tx, FORGET, &[id.into()]).await.map(drop);
        }
        let resent = "update fila_mensagens_dlq set reenviada_em = $2
                      where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)";
        self.0.change(tx, resent, &[id.into(), decision.at.into()]).await.map(drop)
    }

    async fn state_of(&self, tx: &mut AppTx, id: &str) -> Result<Decided, Failure> {
        let rows = self.0.rows(tx, STATE, &[id.into()]).await?;
        Ok(rows.first().and_then(|row| row.text("status")).map_or(Decided::Absent, Decided::NotDead))
    }

    fn fits(&self, table: &str, column: &str, id: &str) -> bool {
        self.0.column(table, column).is_some_and(|found| found.takes(id))
    }
}

impl Which {
    /// As the statements number them.
    fn params(&self) -> [Param; 3] {
        [self.until.into(), Param::Text(self.reason.clone()), Param::Whole(Some(self.is_sure.into()))]
    }
}

impl Decision {
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
    let digits: Vec<char> = phone.chars().collect();
    let shown = if SHOWN_DIGITS * 2 < digits.len() { &digits[digits.len() - SHOWN_DIGITS..] } else { &[] };
    format!("***{}", shown.iter().collect::<String>())
}

/// Writes the row of a message that has just died, in the same transaction. One that died before has its row already,
/// which now tells of this death: a message has one row, whether or not the team's table says so.
pub(super) async fn bury(
    tx: &mut AppTx,
    adopted: &Adopted,
    message: &Claimed,
    (end, now): (&Transition, DateTime<Utc>),
) -> Result<(), Failure> {
    adopted.change(tx, FORGET, &[message.id.as_str().into()]).await?;
    let optional = [
        ("erro", Param::from(end.why.clone())),
        ("tentativas", Param::Whole(Some(message.tries + i64::from(end.spends_try)))),
        ("mensagem", message.as_it_stood().into()),
    ];
    let mut columns = vec![
        ("mensagem_id", Param::from(message.id.as_str())),
        ("motivo", end.reason.into()),
        ("created_at", now.into()),
    ];
    columns.extend(optional.into_iter().filter(|(column, _)| adopted.has(FILA_MENSAGENS_DLQ.name, column)));
    let (names, params): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    // A cast cuts words that are too long for a team's column; the end of a message must be written.
    let value = |(at, name): (usize, &&str)| format!("@type(fila_mensagens_dlq.{name}, ${})", at + 1);
    let values: Vec<_> = names.iter().enumerate().map(value).collect();
    let insert = format!("insert into fila_mensagens_dlq ({}) values ({})", names.join(", "), values.join(", "));
    adopted.change(tx, &insert, &params).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_its_end_alone_and_a_short_one_nothing() {
        for (phone, shown) in [("5511999990001", "***0001"), ("12345678", "***"), ("", "***"), ("123456789", "***6789")]
        {
            assert_eq!(masked(phone), shown, "{phone}");
        }
    }
}
