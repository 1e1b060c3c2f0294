//! `mensagens_fora_horario`: what waits for an answer, and the one step that queues an answer and marks its message.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    domain::{clean, run::Failure},
    handlers::{
        AppTx, Context,
        team::{
            self, Adopted, Outgoing, Param, Row,
            tables::{FILA_MENSAGENS, MENSAGENS_FORA_HORARIO},
        },
        transaction,
    },
};

/// Tries of one message, at most one a run (spec 6).
pub(super) const MOST_TRIES: u32 = 3;
/// The kind of message that an answer is (spec 6).
const TIPO: &str = "resposta";
/// Answers go before what nobody waits for.
const PRIORIDADE: i32 = Outgoing::PRIORIDADE + 2;
/// Characters that `processada_resultado` must hold: the mark of a try and the beginning of its reason.
const LEAST_WIDTH: u32 = 40;
/// Most of a reason that is kept with a row, in characters.
const MAX_WHY_CHARS: usize = 200;

/// Not answered yet, whether the column is a boolean or a number.
macro_rules! waiting {
    () => {
        "coalesce(cast(processada as text), 'false') in ('false', '0')"
    };
}

const COUNT: &str = concat!("select count(*) from mensagens_fora_horario where ", waiting!());

/// Those that this attempt of this run has tried in vain.
const COUNT_TRIED: &str =
    concat!("select count(*) from mensagens_fora_horario where ", waiting!(), " and processada_resultado like $1");

/// Leaves the waiting state; whoever comes second changes nothing.
const PROCESS: &str = concat!(
    "update mensagens_fora_horario
    set processada = @type(mensagens_fora_horario.processada, '1'),
        processada_em = @type(mensagens_fora_horario.processada_em, $2),
        processada_resultado = @type(mensagens_fora_horario.processada_resultado, $3)
    where id = @type(mensagens_fora_horario.id, $1)
      and ",
    waiting!()
);

/// What else waits of a client whose oldest message is being answered.
const PROCESS_REST: &str = concat!(
    "update mensagens_fora_horario
    set processada = @type(mensagens_fora_horario.processada, '1'),
        processada_em = @type(mensagens_fora_horario.processada_em, $2),
        processada_resultado = @type(mensagens_fora_horario.processada_resultado, $3)
    where cliente_id = @type(mensagens_fora_horario.cliente_id, $1)
      and ",
    waiting!()
);

const COUNT_TRY: &str = concat!(
    "update mensagens_fora_horario
    set processada_resultado = @type(mensagens_fora_horario.processada_resultado, $2)
    where id = @type(mensagens_fora_horario.id, $1)
      and ",
    waiting!()
);

/// Asked when a statement by the id changed nothing: is it done, or can the id not find its row?
const STILL_WAITS: &str =
    concat!("select count(*) from mensagens_fora_horario where cast(id as text) = $1 and ", waiting!());

/// For `workers check`.
pub(super) const TEXTS: [&str; 6] = [COUNT, COUNT_TRIED, PROCESS, PROCESS_REST, COUNT_TRY, STILL_WAITS];

/// A message that came in while nobody was there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiting {
    /// Empty when the row has none, as a team's table on SQLite may.
    pub id: String,
    pub cliente_id: Option<String>,
    conversa_id: Option<String>,
    mensagem: Option<String>,
    recebida_em: Option<DateTime<Utc>>,
    contexto: Value,
    inbound_message_id: Option<String>,
    /// Runs that have tried in vain to answer it.
    tries: u32,
    /// The last of them is this one.
    is_tried_by_this_run: bool,
}

/// How a message was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The application's own text, to be queued.
    Text(String),
    /// The greeting, to be queued once for all that a client wrote.
    Greeting(String),
    /// The application says that it has sent an answer itself.
    SentItself,
    /// The application says that there is nothing to say.
    Nothing,
}

/// What became of a message that could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It waits for the next run.
    Waiting,
    /// Its tries are used up.
    GivenUp,
    /// It waits, and its row takes no mark.
    Unmarkable,
    /// It does not wait any more: somebody else has answered it.
    Gone,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many messages were processed with it.
    Processed(u64),
    /// Somebody else was first.
    Gone,
    /// Nothing was queued, because the row takes no mark and would be answered again and again.
    Unmarkable,
}

/// The table as one attempt works on it.
pub(super) struct Inbox<'a> {
    ctx: &'a Context,
    adopted: Adopted,
}

impl<'a> Inbox<'a> {
    pub async fn open(ctx: &'a Context) -> Result<Self, Failure> {
        let may_create = ctx.tools.create_team_tables;
        let adopting = transaction::apart(ctx, move |tx| {
            Box::pin(async move { team::adopt(tx, &[&MENSAGENS_FORA_HORARIO, &FILA_MENSAGENS], may_create).await })
        });
        let adopted = adopting.await?;
        match too_narrow(&adopted) {
            Some(why) => Err(Failure::permanent(why)),
            None => Ok(Self { ctx, adopted }),
        }
    }

    /// Messages that this attempt has not tried yet, the oldest first; those that an earlier attempt of this run has
    /// tried come last, so that they cannot keep all others waiting.
    pub async fn oldest(&self, most: u32) -> Result<Vec<Waiting>, Failure> {
        let column = |name| if self.adopted.has(MENSAGENS_FORA_HORARIO.name, name) { name } else { "null" };
        let (contexto, inbound) = (column("contexto"), column("inbound_message_id"));
        let statement = format!(
            "select id, cliente_id, conversa_id, mensagem, @instant(recebida_em) as recebida_em, \
                    {contexto} as contexto, {inbound} as inbound_message_id, processada_resultado \
             from mensagens_fora_horario \
             where {} and coalesce(processada_resultado, '') not like $1 \
             order by case when processada_resultado like $2 then 1 else 0 end, @instant(recebida_em), id \
             limit {most}",
            waiting!()
        );
        let params = [self.tried_now().into(), format!("tentativa:%:{}.%", self.run()).into()];
        let adopted = self.adopted.clone();
        let reading = transaction::apart(self.ctx, move |tx| {
            Box::pin(async move { adopted.rows(tx, &statement, &params).await })
        });
        let run = self.run();
        Ok(reading.await?.iter().map(|row| Waiting::read(row, &run)).collect())
    }

    /// All that wait, and those of them that this attempt has tried in vain.
    pub async fn counts(&self) -> Result<(u64, u64), Failure> {
        let (adopted, params) = (self.adopted.clone(), [self.tried_now().into()]);
        transaction::apart(self.ctx, move |tx| {
            Box::pin(async move {
                let waiting = adopted.count(tx, COUNT, &[]).await?;
                Ok((waiting, adopted.count(tx, COUNT_TRIED, &params).await?))
            })
        })
        .await
    }

    /// Marks the message as processed at `now` and queues its answer, both or neither.
    pub async fn answer(&self, message: &Waiting, answer: Answer, now: DateTime<Utc>) -> Result<Taken, Failure> {
        let step =
            Step { adopted: self.adopted.clone(), message: message.clone(), now, run: self.ctx.run.id.to_string() };
        transaction::apart(self.ctx, move |tx| Box::pin(async move { step.take(tx, answer).await })).await
    }

    /// Counts a try in vain with its reason, once a run; the last one ends the message.
    pub async fn count_try(&self, message: &Waiting, why: &str) -> Result<Left, Failure> {
        let tries = if message.is_tried_by_this_run { message.tries.max(1) } else { message.tries + 1 };
        let why = clean::text(why, MAX_WHY_CHARS);
        let id = Param::from(message.id.as_str());
        let (left, statement, params) = if tries < MOST_TRIES {
            let tried = format!("tentativa:{tries}:{}.{} {why}", self.run(), self.ctx.attempt);
            (Left::Waiting, COUNT_TRY, vec![id, tried.into()])
        } else {
            (Left::GivenUp, PROCESS, vec![id, self.ctx.now.into(), format!("erro:{why}").into()])
        };
        let (adopted, id) = (self.adopted.clone(), message.id.clone());
        transaction::apart(self.ctx, move |tx| {
            Box::pin(async move {
                match adopted.change(tx, statement, &params).await? {
                    0 if still_waits(tx, &adopted, &id).await? => Ok(Left::Unmarkable),
                    0 => Ok(Left::Gone),
                    _ => Ok(left),
                }
            })
        })
        .await
    }

    /// This run, short enough to stand in a row.
    fn run(&self) -> String {
        let id = self.ctx.run.id.0.simple().to_string();
        // The end of an id is random; its beginning is the time, which neighbours share.
        id[id.len() - 12..].to_owned()
    }

    /// The rows that this attempt has tried in vain.
    fn tried_now(&self) -> String {
        format!("tentativa:%:{}.{} %", self.run(), self.ctx.attempt)
    }
}

async fn still_waits(tx: &mut AppTx, adopted: &Adopted, id: &str) -> Result<bool, Failure> {
    adopted.count(tx, STILL_WAITS, &[id.into()]).await.map(|rows| 0 < rows)
}

/// Why the marks of tries do not fit where they are kept, and what mends it; `None` = they do. PostgreSQL would cut them,
/// and a message would be asked about again and again. SQLite keeps texts of any length.
pub(super) fn too_narrow(adopted: &Adopted) -> Option<String> {
    let kind = &adopted.column(MENSAGENS_FORA_HORARIO.name, "processada_resultado")?.kind;
    let limited = kind.strip_prefix("character varying(").or_else(|| kind.strip_prefix("character("));
    let width: u32 = limited?.strip_suffix(')')?.parse().ok()?;
    (width < LEAST_WIDTH).then(|| {
        format!(
            "mensagens_fora_horario.processada_resultado is {kind} and cannot hold the mark of a try, at least \
             {LEAST_WIDTH} characters; mend with: \
             alter table mensagens_fora_horario alter column processada_resultado type text"
        )
    })
}

/// One message and its answer.
struct Step {
    adopted: Adopted,
    message: Waiting,
    now: DateTime<Utc>,
    run: String,
}

impl Step {
    async fn take(self, tx: &mut AppTx, answer: Answer) -> Result<Taken, Failure> {
        let result = match &answer {
            Answer::Text(_) => "resposta",
            Answer::Greeting(_) => "retomada",
            Answer::SentItself => "enviada_pela_aplicacao",
            Answer::Nothing => "sem_resposta",
        };
        let params = [self.message.id.as_str().into(), self.now.into(), result.into()];
        let processed = self.adopted.change(tx, PROCESS, &params).await?;
        if processed == 0 {
            let waits = still_waits(tx, &self.adopted, &self.message.id).await?;
            return Ok(if waits { Taken::Unmarkable } else { Taken::Gone });
        }
        let mut rest = 0;
        match answer {
            Answer::Text(text) => self.queue(tx, text).await?,
            Answer::Greeting(text) => {
                self.queue(tx, text).await?;
                rest = self.take_rest(tx).await?;
            }
            Answer::SentItself | Answer::Nothing => {}
        }
        Ok(Taken::Processed(processed + rest))
    }

    async fn queue(&self, tx: &mut AppTx, text: String) -> Result<(), Failure> {
        let message = &self.message;
        if message.cliente_id.is_none() {
            return Err(Failure::retry("the message has no cliente_id, so there is nobody to write to"));
        }
        let outgoing = Outgoing {
            cliente_id: message.cliente_id.clone(),
            conversa_id: message.conversa_id.clone(),
            telefone: None,
            conteudo: text,
            tipo: TIPO,
            prioridade: PRIORIDADE,
            agendar_para: self.now,
            metadata: json!({ "origem": "retomada", "mensagem_fora_horario_id": message.id, "run_id": self.run }),
        };
        outgoing.queue(tx, &self.adopted, self.now).await
    }

    async fn take_rest(&self, tx: &mut AppTx) -> Result<u64, Failure> {
        let Some(client) = self.message.cliente_id.as_deref() else { return Ok(0) };
        let result = format!("retomada_junto:{}", self.message.id);
        self.adopted.change(tx, PROCESS_REST, &[client.into(), self.now.into(), result.into()]).await
    }
}

impl Waiting {
    fn read(row: &Row, run: &str) -> Self {
        let contexto = row.text("contexto");
        let contexto = contexto.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        let (tries, tried_by) = tries(&row.text("processada_resultado").unwrap_or_default());
        Self {
            id: row.text("id").unwrap_or_default(),
            cliente_id: row.text("cliente_id"),
            conversa_id: row.text("conversa_id"),
            mensagem: row.text("mensagem"),
            recebida_em: row.instant("recebida_em"),
            contexto: contexto.unwrap_or_default(),
            inbound_message_id: row.text("inbound_message_id"),
            tries,
            is_tried_by_this_run: tried_by == run,
        }
    }

    /// What the application is asked.
    pub fn as_json(&self) -> Value {
        let received = self.recebida_em.map(|instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true));
        json!({
            "id": self.id,
            "cliente_id": self.cliente_id,
            "conversa_id": self.conversa_id,
            "mensagem": self.mensagem,
            "recebida_em": received,
            "contexto": self.contexto,
            "inbound_message_id": self.inbound_message_id,
        })
    }

    /// The same whenever this message is asked about, and for no other.
    pub fn key(&self) -> String {
        format!("{}:{}", MENSAGENS_FORA_HORARIO.name, self.id)
    }
}

/// How many runs have tried in vain, and the last of them, as `count_try` writes it. Any other text is of none.
fn tries(result: &str) -> (u32, String) {
    let counted = result.strip_prefix("tentativa:").and_then(|rest| rest.split_once(':'));
    let Some((tries, rest)) = counted.and_then(|(tries, rest)| Some((tries.parse().ok()?, rest))) else {
        return (0, String::new());
    };
    let run = rest.split(['.', ' ']).next().unwrap_or_default();
    (tries, run.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_read_as_they_are_written() {
        for (result, read) in [
            ("tentativa:1:0123456789ab.2 answered 500", (1, "0123456789ab")),
            ("tentativa:2:0123456789ab.1 ", (2, "0123456789ab")),
            ("tentativa:2:", (2, "")),
            ("tentativa:x:0123456789ab.1 why", (0, "")),
            ("pendente", (0, "")),
            ("", (0, "")),
        ] {
            assert_eq!(tries(result), (read.0, read.1.to_owned()), "{result}");
        }
    }
}
