//! Dead letters: messages that were given up, one row each, until a person sends them again or lets them go.

use chrono::{DateTime, Utc};

use super::{decide::Transition, fits, message::Claimed};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        team::{
            Adopted, Param,
            tables::{FILA_MENSAGENS, FILA_MENSAGENS_DLQ},
        },
    },
};

/// Most dead letters that are listed or sent again at once.
pub const MOST: u32 = 10_000;

/// A message that was given up and not sent again since.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The id of its row in `fila_mensagens`, as text.
    pub message: String,
    /// The word of `outcome_reason_code` at its end; `unknown` = it may have been sent.
    pub reason: String,
    /// Words for people, without number and text of the message.
    pub error: Option<String>,
    pub tries: Option<i64>,
    pub died_at: Option<DateTime<Utc>>,
}

const LIST: &str = "\
    select mensagem_id,
           motivo,
           @optional(fila_mensagens_dlq.erro) as erro,
           @optional(fila_mensagens_dlq.tentativas) as tentativas,
           @instant(created_at) as created_at
    from fila_mensagens_dlq
    where @optional(fila_mensagens_dlq.reenviada_em) is null
    order by @instant(created_at), mensagem_id
    limit $1";

/// Due at once and as if it had never been tried: `$1` its id, `$2` now. Only what has failed and lies among the dead.
const RETRY: &str = "\
    update fila_mensagens
    set status = 'pendente',
        tentativas = 0,
        agendar_para = $2,
        erro = null,
        outcome_reason_code = 'retried',
        outcome_at = $2,
        processando_desde = null
    where id = @type(fila_mensagens.id, $1)
      and status = 'erro'
      and exists (
        select 1 from fila_mensagens_dlq where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)
      )";

const DISCARD: &str = "\
    update fila_mensagens
    set status = 'cancelada', outcome_reason_code = 'discarded', outcome_at = $2
    where id = @type(fila_mensagens.id, $1)
      and status = 'erro'
      and exists (
        select 1 from fila_mensagens_dlq where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)
      )";

const FORGET: &str = "\
    delete from fila_mensagens_dlq where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)";

/// For `workers check`.
pub(super) const STATEMENTS: [&str; 4] = [LIST, RETRY, DISCARD, FORGET];

/// Dead letters that nobody has sent again, oldest first. `adopted` must hold `FILA_MENSAGENS_DLQ`.
pub async fn list(tx: &mut AppTx, adopted: &Adopted, most: u32) -> Result<Vec<DeadLetter>, Failure> {
    let rows = adopted.rows(tx, LIST, &[Param::Whole(Some(most.min(MOST).into()))]).await?;
    let letter = |row: &crate::handlers::team::Row| DeadLetter {
        message: row.text("mensagem_id").unwrap_or_default(),
        reason: row.text("motivo").unwrap_or_default(),
        error: row.text("erro"),
        tries: row.whole("tentativas"),
        died_at: row.instant("created_at"),
    };
    Ok(rows.iter().map(letter).collect())
}

/// Puts a message back into the queue, due at once and with all its tries before it; a person decides that, also for
/// one that may have been sent. `false` = there is no such dead letter. `adopted` must hold `FILA_MENSAGENS` and
/// `FILA_MENSAGENS_DLQ`.
pub async fn retry(tx: &mut AppTx, adopted: &Adopted, message: &str, now: DateTime<Utc>) -> Result<bool, Failure> {
    if !is_id(adopted, message) || adopted.change(tx, RETRY, &[message.into(), now.into()]).await? == 0 {
        return Ok(false);
    }
    if !adopted.has(FILA_MENSAGENS_DLQ.name, "reenviada_em") {
        return adopted.change(tx, FORGET, &[message.into()]).await.map(|_| true);
    }
    let resent =
        "update fila_mensagens_dlq set reenviada_em = $2 where mensagem_id = @type(fila_mensagens_dlq.mensagem_id, $1)";
    adopted.change(tx, resent, &[message.into(), now.into()]).await.map(|_| true)
}

/// Lets a message go: it becomes `cancelada` and leaves the dead letters. `false` = there is no such dead letter.
/// `adopted` must hold `FILA_MENSAGENS` and `FILA_MENSAGENS_DLQ`.
pub async fn discard(tx: &mut AppTx, adopted: &Adopted, message: &str, now: DateTime<Utc>) -> Result<bool, Failure> {
    if !is_id(adopted, message) || adopted.change(tx, DISCARD, &[message.into(), now.into()]).await? == 0 {
        return Ok(false);
    }
    adopted.change(tx, FORGET, &[message.into()]).await.map(|_| true)
}

fn is_id(adopted: &Adopted, message: &str) -> bool {
    let of = |table, column| adopted.column(table, column).is_some_and(|found| fits(found, message));
    of(FILA_MENSAGENS.name, "id") && of(FILA_MENSAGENS_DLQ.name, "mensagem_id")
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
