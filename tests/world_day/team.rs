//! The team of the World: who is written to, what is queued when, and what stands in its tables in the end.

use chrono::{DateTime, TimeDelta, Utc};
use emponto::handlers::{
    AppTx,
    team::{
        self, Adopted, Param, Row,
        tables::{CLIENTES, DOCTOR_STATE, FILA_MENSAGENS, FILA_MENSAGENS_DLQ},
    },
};
use fastrand::Rng;

use crate::attempt::Home;

pub const CLIENTS: usize = 150;
/// The last clients share the numbers of the first.
const NUMBERS: usize = 140;
/// Every so many clients opted out.
const OPTED_OUT_EACH: usize = 23;
/// What people are written about, and how often in a hundred.
const KINDS: [(&str, usize); 6] =
    [("prospeccao", 25), ("resposta", 25), ("followup", 20), ("campanha", 10), ("sistema", 10), ("lembrete", 10)];

/// Everything that is queued, and for whom: what a person could know who has never seen a table.
pub struct Roster {
    /// By the number in their texts, in the order in which they are queued.
    pub messages: Vec<Message>,
    /// So many are in the queue.
    queued: usize,
    /// The ids that the clients got.
    ids: Vec<String>,
    pub start: DateTime<Utc>,
    /// The tables, looked at once: asking the catalog at each tick would take most of the day.
    tables: Option<Adopted>,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub client: usize,
    pub tipo: &'static str,
    queued_at: DateTime<Utc>,
    /// `None` = at once.
    due: Option<DateTime<Utc>>,
}

/// What became of a message, by its own row.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its number in the roster.
    pub message: usize,
    pub status: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub due: Option<DateTime<Utc>>,
    /// When its outcome was written.
    pub at: Option<DateTime<Utc>>,
    pub tries: i64,
    /// Rows among the dead letters.
    pub dead: i64,
}

impl Message {
    /// When it first fell due.
    pub fn due(&self) -> DateTime<Utc> {
        self.due.unwrap_or(self.queued_at)
    }
}

impl Roster {
    pub fn new(start: DateTime<Utc>, days: i64, per_day: usize) -> Self {
        let mut dice = Rng::with_seed(4);
        let mut messages = Vec::new();
        for day in 0..days {
            let midnight = start + TimeDelta::days(day);
            let mut of_day = Vec::new();
            while of_day.len() < per_day {
                of_day.extend(some(&mut dice, midnight));
            }
            of_day.truncate(per_day);
            messages.extend(of_day);
        }
        // Some were due yesterday already: in the afternoon, so that they may still go, or too long ago.
        for (index, message) in messages.iter_mut().take(24).enumerate() {
            let hours = if index < 4 { 26 } else { 2 + index as i64 % 8 };
            message.queued_at = start;
            message.due = Some(start - TimeDelta::hours(hours));
        }
        messages.sort_by_key(|message| message.queued_at);
        Self { messages, queued: 0, ids: Vec::new(), start, tables: None }
    }

    /// A transaction, and the tables as they were found.
    async fn open(&self, home: &Home) -> (AppTx, Adopted) {
        let tables = self.tables.clone().expect("the team has settled in");
        ((home.app().begin)().await.unwrap(), tables)
    }

    /// The message that a text tells of.
    pub fn message(&self, text: &str) -> &Message {
        &self.messages[number_in(text)]
    }
}

/// One message, or several at once to one client.
fn some(dice: &mut Rng, midnight: DateTime<Utc>) -> Vec<Message> {
    let queued_at = midnight + TimeDelta::seconds(dice.i64(0..86_400));
    let client = dice.usize(0..CLIENTS);
    let count = if dice.u8(0..12) == 0 { 5 } else { 1 };
    let due = (dice.u8(0..4) == 0).then(|| queued_at + TimeDelta::minutes(dice.i64(1..300)));
    (0..count).map(|_| Message { client, tipo: kind(dice), queued_at, due }).collect()
}

fn kind(dice: &mut Rng) -> &'static str {
    let mut at = dice.usize(0..100);
    for (kind, share) in KINDS {
        if at < share {
            return kind;
        }
        at -= share;
    }
    unreachable!("the shares make a hundred")
}

pub fn number_in(text: &str) -> usize {
    let digits = text.strip_prefix("mensagem ").and_then(|rest| rest.get(..5));
    digits.and_then(|digits| digits.parse().ok()).expect("the text begins with its number")
}

pub fn has_opted_out(client: usize) -> bool {
    client % OPTED_OUT_EACH == OPTED_OUT_EACH - 1
}

/// Until when a client wants to be left alone, counted from the first midnight.
pub fn left_alone_for(client: usize) -> Option<TimeDelta> {
    match client % 31 {
        11 => Some(TimeDelta::hours(15)),
        12 => Some(TimeDelta::days(400)),
        _ => None,
    }
}

async fn adopted(home: &Home) -> (AppTx, Adopted) {
    let mut tx = (home.app().begin)().await.unwrap();
    let tables = [&CLIENTES, &FILA_MENSAGENS, &FILA_MENSAGENS_DLQ, &DOCTOR_STATE];
    let adopted = team::adopt(&mut tx, &tables, true).await.unwrap();
    (tx, adopted)
}

/// Clients and what is known of them.
pub async fn settle_in(home: &Home, roster: &mut Roster) {
    let (mut tx, adopted) = adopted(home).await;
    for client in 0..CLIENTS {
        let number = format!("55009{:08}", client % NUMBERS);
        let insert =
            "insert into clientes (telefone, primeiro_nome) values ($1, 'Ninguém') returning cast(id as text) as id";
        let rows = adopted.rows(&mut tx, insert, &[number.into()]).await.unwrap();
        let id = rows[0].text("id").unwrap();
        let permission = if has_opted_out(client) { "opted_out" } else { "active" };
        let until = left_alone_for(client).map(|length| roster.start + length);
        // One wish in two is a date alone, the other says why.
        let (cooling, next) = if client % 2 == 0 { (until, None) } else { (None, until) };
        let insert = "insert into doctor_state (cliente_id, permission_state, cooling_off_until, next_allowed_at) \
            values (@type(doctor_state.cliente_id, $1), $2, $3, $4)";
        let params = [id.as_str().into(), permission.into(), Param::Instant(cooling), Param::Instant(next)];
        adopted.change(&mut tx, insert, &params).await.unwrap();
        roster.ids.push(id);
    }
    tx.commit().await.unwrap();
    roster.tables = Some(adopted);
}

/// Queues what is queued by now.
pub async fn queue_until(home: &Home, roster: &mut Roster, now: DateTime<Utc>) {
    let ready = roster.messages[roster.queued..].iter().take_while(|message| message.queued_at <= now).count();
    if ready == 0 {
        return;
    }
    let (mut tx, adopted) = roster.open(home).await;
    for index in roster.queued..roster.queued + ready {
        let message = &roster.messages[index];
        let insert = "insert into fila_mensagens (cliente_id, conteudo, tipo, agendar_para, created_at, prioridade) \
            values (@type(fila_mensagens.cliente_id, $1), $2, $3, $4, $5, $6)";
        let params = [
            roster.ids[message.client].as_str().into(),
            format!("mensagem {index:05}: nada de mais").into(),
            message.tipo.into(),
            Param::Instant(message.due),
            message.queued_at.into(),
            (index as i64 % 11).into(),
        ];
        adopted.change(&mut tx, insert, &params).await.unwrap();
    }
    tx.commit().await.unwrap();
    roster.queued += ready;
}

/// How many messages a run would find to do, expiry and rescue included.
pub async fn due(home: &Home, roster: &Roster, now: DateTime<Utc>) -> u64 {
    let (mut tx, adopted) = roster.open(home).await;
    let query = "select count(*) from fila_mensagens where status = 'processando' \
        or (status = 'pendente' and coalesce(@instant(agendar_para) <= @instant($1), 1 = 1))";
    adopted.count(&mut tx, query, &[now.into()]).await.unwrap()
}

/// Every row of the queue.
pub async fn rows(home: &Home) -> Vec<Ended> {
    let (mut tx, adopted) = adopted(home).await;
    let query = "select conteudo, status, outcome, outcome_reason_code as reason, @instant(agendar_para) as due, \
        @instant(outcome_at) as at, coalesce(tentativas, 0) as tries, \
        (select count(*) from fila_mensagens_dlq d where d.mensagem_id = @type(fila_mensagens_dlq.mensagem_id, f.id)) as dead \
        from fila_mensagens f";
    let rows = adopted.rows(&mut tx, query, &[]).await.unwrap();
    let ended = |row: &Row| Ended {
        message: number_in(&row.text("conteudo").unwrap()),
        status: row.text("status").unwrap(),
        outcome: row.text("outcome"),
        reason: row.text("reason"),
        due: row.instant("due"),
        at: row.instant("at"),
        tries: row.whole("tries").unwrap(),
        dead: row.whole("dead").unwrap(),
    };
    rows.iter().map(ended).collect()
}
