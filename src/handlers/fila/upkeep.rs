//! What every run does first: ends what is too old, rescues what lost its worker, and claims what is due.

use chrono::{DateTime, Utc};

use super::{
    dead,
    decide::{Transition, abandoned, unreadable_time},
    message::Claimed,
    send::{Held, Room, Settling, settle},
    statements::{ABANDONED, CLAIM, EXPIRE, STAMP, UNREADABLE},
};
use crate::{
    domain::run::Failure,
    handlers::{AppTx, team::Param},
    outbound::SendOutcome,
};

/// Most messages that expire, and that are rescued, in one run: what is left over is next.
const MOST_EXPIRED: i64 = 1_000;
const MOST_RESCUED: i64 = 200;
/// The same for messages that wait for a time that is none.
const MOST_UNREADABLE: i64 = 200;

/// The moments that decide what is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub now: DateTime<Utc>,
    /// What fell due before is too old.
    pub expired_before: DateTime<Utc>,
    /// What was taken before has lost its worker.
    pub stuck_before: DateTime<Utc>,
}

/// What a run begins with.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub claimed: Vec<Claimed>,
    pub expired: u64,
    /// Messages that had lost their worker, and what became of them.
    pub rescued: Vec<(String, Transition)>,
    /// Messages whose time is none, which are dead now.
    pub unreadable: Vec<(String, Transition)>,
}

/// In one transaction.
pub(super) async fn open(tx: &mut AppTx, room: &Room, moments: Moments, batch: u32) -> Result<Opening, Failure> {
    let expired = expire(tx, room, moments).await?;
    let unreadable = end_unreadable(tx, room, moments.now).await?;
    room.tables.change(tx, STAMP, &[moments.now.into(), Param::Whole(Some(MOST_RESCUED))]).await?;
    let rescued = rescue(tx, room, moments).await?;
    let claimed = claim(tx, room, moments, batch).await?;
    Ok(Opening { claimed, expired, rescued, unreadable })
}

async fn expire(tx: &mut AppTx, room: &Room, moments: Moments) -> Result<u64, Failure> {
    let outcome = super::send::outcome(&room.tables, SendOutcome::FailedExpired);
    let params =
        [moments.now.into(), moments.expired_before.into(), Param::from(outcome), Param::Whole(Some(MOST_EXPIRED))];
    room.tables.change(tx, EXPIRE, &params).await
}

/// Only SQLite holds times that are none.
async fn end_unreadable(tx: &mut AppTx, room: &Room, now: DateTime<Utc>) -> Result<Vec<(String, Transition)>, Failure> {
    let end = unreadable_time();
    let outcome = super::send::outcome(&room.tables, end.outcome);
    let params = [now.into(), Param::from(outcome), end.why.clone().into(), Param::Whole(Some(MOST_UNREADABLE))];
    let mut ended = Vec::new();
    for row in room.tables.rows(tx, UNREADABLE, &params).await? {
        let mut message = Claimed::read(&row);
        // The row has counted this try already.
        message.tries -= 1;
        dead::bury(tx, &room.tables, &message, (&end, now)).await?;
        ended.push((message.id, end.clone()));
    }
    Ok(ended)
}

/// A row whose worker did not write since when is in the hands of somebody we do not know, and may have been sent.
async fn rescue(tx: &mut AppTx, room: &Room, moments: Moments) -> Result<Vec<(String, Transition)>, Failure> {
    let params = [moments.stuck_before.into(), Param::Whole(Some(MOST_RESCUED))];
    let mut rescued = Vec::new();
    for row in room.tables.rows(tx, ABANDONED, &params).await? {
        let message = Claimed::read(&row);
        let reason = row.text("reason").unwrap_or_default();
        let held = if reason == "sending" { Held::Begun } else { Held::Waiting };
        let begun = held == Held::Begun || reason == "foreign";
        let end = abandoned(&message, begun, room.rules.resend_unknown, moments.now);
        let settling = Settling { end: &end, held, now: moments.now };
        if settle(tx, &room.tables, &message, &settling).await? {
            rescued.push((message.id, end));
        }
    }
    Ok(rescued)
}

pub(super) async fn claim(tx: &mut AppTx, room: &Room, moments: Moments, batch: u32) -> Result<Vec<Claimed>, Failure> {
    let params = [moments.now.into(), moments.expired_before.into(), Param::Whole(Some(batch.into()))];
    let rows = room.tables.rows(tx, CLAIM, &params).await?;
    let mut claimed: Vec<_> = rows.iter().map(|row| (Claimed::read(row), row.instant("created_at"))).collect();
    // A statement that changes rows answers them in no order of its own.
    claimed.sort_by(|(a, a_made), (b, b_made)| {
        let order = b.priority.cmp(&a.priority).then(a.is_proactive().cmp(&b.is_proactive()));
        order.then(a_made.cmp(b_made)).then_with(|| a.id.cmp(&b.id))
    });
    Ok(claimed.into_iter().map(|(message, _)| message).collect())
}
