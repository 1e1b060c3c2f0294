//! The steps of one message: what must be written before its call, and what after it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    dead,
    decide::{Decision, Known, Rules, Status, Transition, decide, not_begun},
    limits::{self, Place, Refused},
    message::{Claimed, Lead},
    statements::{
        CLIENT_NUMBER, LEAD, MARK_SENDING, RELEASE, SAME_KEY_IN_TEXT, SETTLE_BEGUN, SETTLE_WAITING, TOUCH,
        UNDO_SENDING, key_pattern, same_key,
    },
};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect,
        team::{
            Adopted, FoundColumn, Param, TeamColumn, TeamTable,
            tables::{CLIENTES, FILA_MENSAGENS, FILA_MENSAGENS_DLQ},
        },
    },
    outbound::{Message, SendOutcome},
};

/// How long a message waits whose twin is just being sent: its end decides about both.
const TWIN_WAIT: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// What the queue needs of `doctor_state`: less than those who keep it, so that it goes on where they could not. It is
/// looked at and never made.
pub(super) static LEADS: TeamTable = TeamTable {
    name: "doctor_state",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::new("cliente_id", "text primary key", "text"),
        TeamColumn::new("permission_state", "text not null default 'active'", "text not null default 'active'"),
    ],
};

/// What all steps of an attempt share: the tables as they were found, and the rules.
pub(super) struct Room {
    pub tables: Adopted,
    /// `doctor_state`, where there is one.
    pub leads: Option<Adopted>,
    pub rules: Rules,
    /// Sends are written down in `doctor_state`.
    pub record_contacts: bool,
}

/// What the step before the call has decided, and written.
#[derive(Debug)]
pub(super) enum Begun {
    /// `sending` is written and the places are taken: the call may be made once the transaction is committed.
    Call(Message, Vec<Place>),
    /// It does not go now.
    Held(Transition),
    /// The row is not ours any more.
    Lost,
}

/// Which word the row must have for a transition to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// `outcome_reason_code` is `sending`.
    Begun,
    Waiting,
}

/// Why a message could not be begun.
enum Trouble {
    /// The database could not work with what stands in the tables about this message.
    Row(Failure),
    /// The limits could not be asked, which is no fault of the message.
    Limits(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Row(failure)
    }
}

/// Before the call: asks the rules, takes the places, and marks the row. A failure undoes all of it, and the message is
/// not sent. One that the database answers because of the row counts as a failure of the message, which would be tried
/// for ever before all others otherwise; where even that cannot be written, the failure is returned.
pub(super) async fn begin(
    tx: &mut AppTx,
    room: &Arc<Room>,
    message: &Claimed,
    now: DateTime<Utc>,
) -> Result<Begun, Failure> {
    room.tables.change(tx, "savepoint message", &[]).await?;
    let failure = match begin_unguarded(tx, room, message, now).await {
        Ok(begun) => return Ok(begun),
        Err(Trouble::Limits(failure)) => return Err(failure),
        Err(Trouble::Row(failure)) => failure,
    };
    // A connection that was lost cannot do this, and then nothing is said of the message.
    if room.tables.change(tx, "rollback to savepoint message", &[]).await.is_err() {
        return Err(failure);
    }
    hold(tx, room, message, (not_begun(message, now), now)).await.map_err(|_| failure)
}

async fn begin_unguarded(
    tx: &mut AppTx,
    room: &Arc<Room>,
    message: &Claimed,
    now: DateTime<Utc>,
) -> Result<Begun, Trouble> {
    let known = known(tx, room, message).await?;
    let number = match decide(message, &known, &room.rules, now) {
        Decision::Send(number) => number,
        Decision::Hold(end) => return Ok(hold(tx, room, message, (end, now)).await?),
    };
    let tables = &room.tables;
    let mut places = limits::places(message, &number, &room.rules, now);
    tables.change(tx, "savepoint places", &[]).await?;
    let refused = match limits::take(tx, tables, &mut places, now).await {
        Ok(()) => twin(tx, room, message, now).await?,
        Err(Refused::Until(until)) => Some(Transition::defer(SendOutcome::FailedRateLimit, "rate_limit", until)),
        Err(Refused::Unsure(failure)) => return Err(Trouble::Limits(failure)),
    };
    if let Some(end) = refused {
        tables.change(tx, "rollback to savepoint places", &[]).await?;
        return Ok(hold(tx, room, message, (end, now)).await?);
    }
    let marked = tables.change(tx, MARK_SENDING, &ours(message, [now.into()])).await?;
    if marked == 0 {
        tables.change(tx, "rollback to savepoint places", &[]).await?;
        return Ok(Begun::Lost);
    }
    let message = Message { id: message.id.clone(), number, text: message.text.clone(), tipo: message.tipo.clone() };
    Ok(Begun::Call(message, places))
}

async fn hold(
    tx: &mut AppTx,
    room: &Arc<Room>,
    message: &Claimed,
    (end, now): (Transition, DateTime<Utc>),
) -> Result<Begun, Failure> {
    let is_ours = settle(tx, &room.tables, message, &Settling { end: &end, held: Held::Waiting, now }).await?;
    Ok(if is_ours { Begun::Held(end) } else { Begun::Lost })
}

/// The number and the state of the client.
async fn known(tx: &mut AppTx, room: &Room, message: &Claimed) -> Result<Known, Failure> {
    let mut known = Known { number: message.number.clone().filter(|number| !number.trim().is_empty()), lead: None };
    let Some(client) = message.client.as_deref() else { return Ok(known) };
    let has = |adopted: &Adopted, table, column| {
        // A client that cannot be one of the table is not looked for: the cast would fail the whole transaction.
        adopted.column(table, column).is_some_and(|found| found.takes(client))
    };
    if known.number.is_none() && has(&room.tables, CLIENTES.name, "id") {
        let rows = room.tables.rows(tx, CLIENT_NUMBER, &[client.into()]).await?;
        known.number = rows.first().and_then(|row| row.text("telefone"));
    }
    let leads = room.leads.as_ref().filter(|leads| has(leads, LEADS.name, "cliente_id"));
    if let Some(leads) = leads {
        let rows = leads.rows(tx, LEAD, &[client.into()]).await?;
        known.lead = rows.first().map(|row| Lead {
            permission: row.text("permission_state").unwrap_or_default(),
            cooling_off_until: row.instant("cooling_off_until"),
            next_allowed_at: row.instant("next_allowed_at"),
            contacts_of_week: row.whole("contact_count_7d").unwrap_or(0),
        });
    }
    Ok(known)
}

/// What a message with the same `dedupe_key` says of this one. Asked after the places are taken: all messages need the
/// place of the hour, so of two twins only one can be here, and the other finds it marked.
async fn twin(
    tx: &mut AppTx,
    room: &Room,
    message: &Claimed,
    now: DateTime<Utc>,
) -> Result<Option<Transition>, Failure> {
    let Some(key) = message.dedupe_key() else { return Ok(None) };
    let (statement, key) = match metadata_is_text(&room.tables) {
        true => (SAME_KEY_IN_TEXT.to_owned(), key_pattern(key)),
        false => (same_key(room.tables.dialect()), key.to_owned()),
    };
    let rows = room.tables.rows(tx, &statement, &[key.into(), message.id.as_str().into()]).await?;
    Ok(rows.first().map(|row| match row.text("found").as_deref() {
        Some("sending") => Transition::defer(SendOutcome::Deduped, "twin_is_sending", now + TWIN_WAIT),
        _ => Transition::new(Status::Bloqueada, SendOutcome::Deduped, "deduped"),
    }))
}

/// A transition to be written.
pub(super) struct Settling<'a> {
    pub end: &'a Transition,
    pub held: Held,
    pub now: DateTime<Utc>,
}

/// Writes a transition, and the row of a message that has died. `false` = the row is not ours any more, and nothing is
/// written.
pub(super) async fn settle(
    tx: &mut AppTx,
    tables: &Adopted,
    message: &Claimed,
    settling: &Settling<'_>,
) -> Result<bool, Failure> {
    let Settling { end, held, now } = *settling;
    let statement = match held {
        Held::Begun => SETTLE_BEGUN,
        Held::Waiting => SETTLE_WAITING,
    };
    let sent_at = (end.status == Status::Enviada).then_some(now);
    let params = ours(
        message,
        [
            end.status.word().into(),
            end.again_at.into(),
            Param::Whole(Some(end.spends_try.into())),
            end.why.clone().into(),
            outcome(tables, end.outcome).into(),
            end.reason.into(),
            now.into(),
            end.provider_message_id.clone().into(),
            sent_at.into(),
        ],
    );
    if tables.change(tx, statement, &params).await? == 0 {
        return Ok(false);
    }
    if end.is_dead() {
        dead::bury(tx, tables, message, (end, now)).await?;
    }
    Ok(true)
}

/// What is known after a call.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// `None` = nothing was sent, and the message goes back as it was.
    pub end: Option<Transition>,
    pub places: Vec<Place>,
    pub now: DateTime<Utc>,
}

/// Whether the end of a call was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Written,
    /// The end is written; why the contact in `doctor_state` is not.
    WithoutContact(String),
    /// The row is not ours any more, and nothing is written.
    Lost,
}

/// After the call: its end, the true time of the message, and the contact.
pub(super) async fn record(tx: &mut AppTx, room: &Room, message: &Claimed, ended: &Ended) -> Result<Recorded, Failure> {
    let Ended { end, places, now } = ended;
    let now = *now;
    let Some(end) = end else {
        let is_ours = 0 < room.tables.change(tx, UNDO_SENDING, &ours(message, [])).await?;
        limits::give_back(tx, &room.tables, if is_ours { places } else { &[] }).await?;
        return Ok(if is_ours { Recorded::Written } else { Recorded::Lost });
    };
    let settling = Settling { end, held: Held::Begun, now };
    if !settle(tx, &room.tables, message, &settling).await? {
        return Ok(Recorded::Lost);
    }
    // A provider that has had enough was not written through either.
    if end.outcome == SendOutcome::FailedCircuitOpen || end.reason == "provider_rate_limit" {
        limits::give_back(tx, &room.tables, places).await?;
    } else {
        limits::arrived(tx, &room.tables, places, now).await?;
    }
    if end.status != Status::Enviada {
        return Ok(Recorded::Written);
    }
    // The team's own table may refuse: that must not undo the end of a message that was sent.
    room.tables.change(tx, "savepoint contact", &[]).await?;
    let Err(failure) = touch(tx, room, message, now).await else { return Ok(Recorded::Written) };
    room.tables.change(tx, "rollback to savepoint contact", &[]).await?;
    Ok(Recorded::WithoutContact(failure.message))
}

async fn touch(tx: &mut AppTx, room: &Room, message: &Claimed, now: DateTime<Utc>) -> Result<(), Failure> {
    let (Some(leads), Some(client)) = (room.leads.as_ref().filter(|_| room.record_contacts), &message.client) else {
        return Ok(());
    };
    let is_client = leads.column(LEADS.name, "cliente_id").is_some_and(|found| found.takes(client));
    let is_kept = ["last_outbound_at", "contact_count_7d"].iter().all(|column| leads.has(LEADS.name, column));
    if is_client && is_kept {
        let contacts = Param::Whole(Some(message.is_proactive().into()));
        leads.change(tx, TOUCH, &[client.as_str().into(), now.into(), contacts]).await?;
    }
    Ok(())
}

/// Puts messages back that were claimed and whose call was surely not made.
pub(super) async fn release(tx: &mut AppTx, tables: &Adopted, messages: &[Claimed]) -> Result<(), Failure> {
    for message in messages {
        // Marked all the same when the transaction before the call was committed and its answer was lost.
        if tables.change(tx, RELEASE, &ours(message, [])).await? == 0 {
            tables.change(tx, UNDO_SENDING, &ours(message, [])).await?;
        }
    }
    Ok(())
}

/// The parameters of a statement on a row that is ours, and what it needs beyond.
fn ours<const N: usize>(message: &Claimed, more: [Param; N]) -> Vec<Param> {
    let mut params = vec![Param::from(message.id.as_str()), message.since.into()];
    params.extend(more);
    params
}

/// Whether `metadata` may hold what is no JSON on a database that fails to read it as such.
pub(super) fn metadata_is_text(tables: &Adopted) -> bool {
    let is_json = |found: &FoundColumn| ["json", "jsonb"].contains(&found.kind.as_str());
    tables.dialect() == Dialect::Postgres && !tables.column(FILA_MENSAGENS.name, "metadata").is_some_and(is_json)
}

/// The word for an outcome that the team's column takes: one that an enumeration lacks becomes FAILED_PROVIDER, and the
/// reason code tells the rest.
pub(super) fn outcome(tables: &Adopted, outcome: SendOutcome) -> Option<&'static str> {
    let labels = tables.column(FILA_MENSAGENS.name, "outcome").map(|found| found.labels.as_slice()).unwrap_or_default();
    let takes = |word: &&str| labels.is_empty() || labels.iter().any(|label| label == word);
    [outcome.word(), SendOutcome::FailedProvider.word()].into_iter().find(takes)
}

/// For each outcome that the team's enumeration lacks, that it does and the statement that adds it.
pub(super) fn missing_labels(tables: &Adopted) -> Vec<String> {
    let column = tables.column(FILA_MENSAGENS.name, "outcome").filter(|found| !found.labels.is_empty());
    let Some(FoundColumn { kind, labels, .. }) = column else { return Vec::new() };
    let missing =
        SendOutcome::ALL.iter().map(|outcome| outcome.word()).filter(|word| !labels.iter().any(|it| it == word));
    let message = |word| {
        format!(
            "fila_mensagens.outcome cannot be {word}, and says FAILED_PROVIDER in its place; \
             add with: alter type {kind} add value '{word}'"
        )
    };
    missing.map(message).collect()
}

/// Why the dead letters cannot hold the ids of the messages, and what mends it; `None` = they can. Found out at the
/// first death, it would hold up every run.
pub(super) fn misfit(tables: &Adopted) -> Option<String> {
    let kind = |table, column| tables.column(table, column).map(|found| found.kind.as_str());
    let (id, dead) = (kind(FILA_MENSAGENS.name, "id")?, kind(FILA_MENSAGENS_DLQ.name, "mensagem_id")?);
    let takes_all = !["uuid", "smallint", "integer", "bigint"].contains(&dead);
    let is_number = |kind| ["smallint", "integer", "bigint"].contains(&kind);
    let fits = takes_all || tables.dialect() == Dialect::Sqlite || id == dead || is_number(id) && dead == "bigint";
    (!fits).then(|| {
        format!(
            "fila_mensagens_dlq.mensagem_id is {dead} and cannot hold fila_mensagens.id, which is {id}; \
             mend with: alter table fila_mensagens_dlq alter column mensagem_id type text"
        )
    })
}
