//! `fila`: messages to people wait in a queue, so that each is sent once, in its time, and no failure loses one.

pub mod dead;
mod decide;
pub mod figures;
mod limits;
mod message;
mod send;
mod statements;
mod tally;
mod upkeep;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Context, Dialect, Done, Ending, Handler, Outbound, QueueLook, Scope, Statement, TeamTable, people,
    team::{
        self, Adopted,
        tables::{CLIENTES, FILA_MENSAGENS, FILA_MENSAGENS_DLQ, OUTBOUND_LIMITS},
    },
    transaction,
};
use crate::{
    clock::Clock,
    domain::{
        duration::Length,
        health::QueueFigures,
        job::Job,
        run::{Failure, FailureKind},
    },
    outbound::Delivery,
};
use decide::{Rules, answered};
use message::Claimed;
use send::{Begun, Ended, Recorded, Room};
use tally::Tally;
use upkeep::{Moments, Opening};

/// Most messages that one run may claim.
const MOST_BATCH: u32 = 1_000;
/// How often one run claims at most: the messages that it holds cost little, and it must end.
const MOST_CLAIMS: u32 = 20;
/// Rows that somebody works on are never taken away from him: he ends at his time-out, and a little later for sure.
const AFTER_THE_TIMEOUT: Duration = Duration::from_secs(60);
/// What the end of a call may take to be written when an attempt is cancelled.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// What an attempt has begun it writes down, also when the database is away for a while: tried again after these waits, the
/// last of them repeated.
const WAITS_TO_WRITE: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];
/// About a minute: as long as a database may take to fail over.
const MOST_TRIES_TO_WRITE: usize = 20;

/// Settings of `run.fila`. When and how often people are written to stands in `[outbound]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Messages that one run sends at most.
    #[schemars(range(min = 1, max = 1_000))]
    pub batch: u32,
    /// Whether a message that may have been sent is sent again; else a person decides.
    pub resend_unknown: bool,
    /// A message that could not go for so long after it fell due does not go any more.
    pub expire_after: Length,
    /// A message in `processando` for so long has lost its worker. Never less than the job's `timeout` and 60 s.
    pub stuck_after: Length,
    /// Most proactive messages to one client in a week, as `doctor_state` counts them; none unless given.
    pub contact_cap: Option<u32>,
    /// Whether sends are written down in `doctor_state`.
    pub record_contacts: bool,
    /// `[outbound]` as it was when the settings were checked.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    resolved: Option<Outbound>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 20,
            resend_unknown: false,
            expire_after: Length(Duration::from_secs(24 * 3600)),
            stuck_after: Length(Duration::from_secs(3600)),
            contact_cap: None,
            record_contacts: true,
            resolved: None,
        }
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = Some(scope.outbound.clone());
        if (1..=MOST_BATCH).contains(&self.batch) {
            return Vec::new();
        }
        vec![format!("batch is {}, and must be between 1 and {MOST_BATCH}", self.batch)]
    }

    async fn run(&self, ctx: Context) -> Ending {
        let time = Time::of(&ctx);
        let (room, opening) = self.open(&ctx, time.now()).await?;
        let mut tally = Tally::default();
        tally.count_expired(opening.expired);
        opening.unreadable.iter().for_each(|(id, end)| tally.count(id, end));
        opening.rescued.iter().for_each(|(id, end)| tally.count_rescued(id, end));
        let round = Round { ctx: &ctx, time, room };
        let unsent = self.send_all(&round, opening.claimed, &mut tally).await;
        let left = round.close(unsent).await;
        match left {
            Ok(left) => tally.report(Some(left)).map(Done::Report),
            // What was not put back is rescued later: the end of each message that was sent is written.
            Err(failure) => Err(match tally.report(None) {
                Ok(report) => failure.with_report(report),
                Err(failed) => Failure { report: failed.report, ..failure },
            }),
        }
    }

    async fn look(&self, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
        let (now, stuck_before) = (look.now, before(look.now, self.stuck_after(&look.job)));
        let ask = transaction::only_reading(&look, move |tx| {
            Box::pin(async move { figures::ask(tx, now, stuck_before).await })
        });
        Some(ask.await)
    }

    fn stop_grace(&self) -> Duration {
        STOP_GRACE
    }

    fn statements(&self, own: Dialect) -> Vec<Statement> {
        statements::all(own)
    }

    fn doubts(&self, found: &Adopted) -> Vec<String> {
        send::misfit(found).into_iter().chain(send::missing_labels(found)).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.resolved.as_ref().map(Outbound::warnings).unwrap_or_default()
    }

    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        vec![&send::LEADS]
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        TABLES.to_vec()
    }
}

/// The tables that the queue needs. `doctor_state` is looked at when it is there.
const TABLES: [&TeamTable; 4] = [&FILA_MENSAGENS, &FILA_MENSAGENS_DLQ, &CLIENTES, &OUTBOUND_LIMITS];

impl Settings {
    /// Longer than any attempt of the job can still be at work.
    fn stuck_after(&self, job: &Job) -> Duration {
        self.stuck_after.0.max(job.policy.timeout + AFTER_THE_TIMEOUT)
    }

    fn moments(&self, ctx: &Context, now: DateTime<Utc>) -> Moments {
        Moments {
            now,
            expired_before: before(now, self.expire_after.0),
            stuck_before: before(now, self.stuck_after(&ctx.job)),
        }
    }

    /// Claims again for those that were held and not sent, so that thousands of them do not keep others waiting for
    /// many runs; what was not begun is returned.
    async fn send_all(&self, round: &Round<'_>, claimed: Vec<Claimed>, tally: &mut Tally) -> Vec<Claimed> {
        let (mut claimed, mut asked) = (claimed, self.batch);
        for _ in 0..MOST_CLAIMS {
            let is_all = claimed.len() < asked as usize;
            let unsent = round.send(claimed, tally).await;
            asked = self.batch.saturating_sub(tally.calls);
            if is_all || asked == 0 || !unsent.is_empty() || round.must_stop() {
                return unsent;
            }
            claimed = match round.claim(self.moments(round.ctx, round.time.now()), asked).await {
                Ok(claimed) => claimed,
                Err(failure) => {
                    tally.note(format!("no more could be claimed: {}", failure.message));
                    return Vec::new();
                }
            };
        }
        claimed
    }

    /// Adopts the tables, sees to what is old and stuck, and claims a batch, in one transaction.
    async fn open(&self, ctx: &Context, now: DateTime<Utc>) -> Result<(Arc<Room>, Opening), Failure> {
        let rules = Rules {
            outbound: self.resolved.clone().unwrap_or_default(),
            zone: ctx.job.zone.clone(),
            contact_cap: self.contact_cap,
            resend_unknown: self.resend_unknown,
        };
        let moments = self.moments(ctx, now);
        let (may_create, batch, record_contacts) = (ctx.tools.create_team_tables, self.batch, self.record_contacts);
        transaction::apart(ctx, move |tx| {
            Box::pin(async move {
                let tables = team::adopt(tx, &TABLES, may_create).await?;
                tables.must_know_all(&statements::WORDS)?;
                if let Some(misfit) = send::misfit(&tables) {
                    return Err(Failure::permanent(misfit));
                }
                let leads = team::look_at(tx, &send::LEADS).await?;
                let room = Room { tables, leads, rules, record_contacts };
                limits::sweep(tx, &room.tables, now).await?;
                let opening = upkeep::open(tx, &room, moments, batch).await?;
                Ok((Arc::new(room), opening))
            })
        })
        .await
    }
}

fn before(now: DateTime<Utc>, length: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(length).ok().and_then(|length| now.checked_sub_signed(length)).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The time within an attempt: its start, carried forward by the process's clock. A message is sent in its own moment,
/// which may be in another hour than the batch began in.
#[derive(Clone)]
struct Time {
    started: DateTime<Utc>,
    boot_at_start: Duration,
    clock: Clock,
}

impl Time {
    fn of(ctx: &Context) -> Self {
        let clock = ctx.tools.clock.clone();
        Self { started: ctx.now, boot_at_start: clock.boot(), clock }
    }

    fn now(&self) -> DateTime<Utc> {
        let passed = self.clock.boot().saturating_sub(self.boot_at_start);
        self.started + TimeDelta::milliseconds(i64::try_from(passed.as_millis()).unwrap_or(0))
    }
}

/// One attempt's way through its batch.
struct Round<'a> {
    ctx: &'a Context,
    time: Time,
    room: Arc<Room>,
}

/// Whether the batch goes on after a message.
enum Next {
    GoOn,
    /// The gateway is left alone.
    Stop,
}

impl Round<'_> {
    /// Sends one message after the other, so that a crash leaves at most one in doubt. What was not begun is returned.
    async fn send(&self, claimed: Vec<Claimed>, tally: &mut Tally) -> Vec<Claimed> {
        let mut unsent = Vec::new();
        let mut waiting = claimed.into_iter();
        while !self.must_stop()
            && let Some(message) = waiting.next()
        {
            match self.send_one(&message, tally).await {
                Ok(Next::GoOn) => {}
                Ok(Next::Stop) => break,
                Err(failure) => {
                    // Nothing was sent: when in doubt about the limits or the rules, it is not.
                    tally.fail(&message.id, &failure.message);
                    unsent.push(message);
                }
            }
        }
        unsent.extend(waiting);
        unsent
    }

    async fn claim(&self, moments: Moments, most: u32) -> Result<Vec<Claimed>, Failure> {
        let room = Arc::clone(&self.room);
        transaction::apart(self.ctx, move |tx| Box::pin(async move { upkeep::claim(tx, &room, moments, most).await }))
            .await
    }

    /// No send begins that could not end before the attempt must.
    fn must_stop(&self) -> bool {
        let half = TimeDelta::from_std(self.ctx.job.policy.timeout / 2).unwrap_or(TimeDelta::zero());
        let needed = limits::longest_send(&self.room.rules).min(half);
        self.ctx.cancelled.is_cancelled() || self.ctx.deadline - needed < self.time.now()
    }

    /// Fails only while nothing was sent.
    async fn send_one(&self, message: &Claimed, tally: &mut Tally) -> Result<Next, Failure> {
        let (room, claimed, now) = (Arc::clone(&self.room), message.clone(), self.time.now());
        let begun = transaction::apart(self.ctx, move |tx| {
            Box::pin(async move { send::begin(tx, &room, &claimed, now).await })
        })
        .await?;
        let (outgoing, places) = match begun {
            Begun::Call(outgoing, places) => {
                tally.calls += 1;
                (outgoing, places)
            }
            Begun::Held(end) => {
                tally.count(&message.id, &end);
                return Ok(Next::GoOn);
            }
            Begun::Lost => {
                tally.count_lost();
                return Ok(Next::GoOn);
            }
        };
        let delivery = people::write_to(self.ctx, &self.room.rules.outbound, &outgoing).await;
        let left_alone_for = match &delivery {
            Delivery::CircuitOpen { after } => Some(*after),
            _ => None,
        };
        let now = self.time.now();
        let ended = Ended { end: answered(message, delivery, &self.room.rules, now), places, now };
        let recorded = self.record(message, &ended).await;
        if let Ok(Recorded::WithoutContact(why)) = &recorded {
            tally.note(format!("a contact could not be written to doctor_state: {why}"));
        }
        match (recorded, &ended.end) {
            (Ok(Recorded::Lost), _) => tally.count_lost(),
            (Ok(_), Some(end)) => tally.count(&message.id, end),
            (Ok(_), None) => {}
            (Err(failure), _) => tally.fail(&message.id, &format!("its end could not be written: {}", failure.message)),
        }
        let Some(after) = left_alone_for else { return Ok(Next::GoOn) };
        tally.note(format!("the gateway is left alone for {} s", after.as_secs()));
        Ok(Next::Stop)
    }

    /// Writes the end of a call, more than once if it must be: a send whose end is not written is in doubt.
    async fn record(&self, message: &Claimed, ended: &Ended) -> Result<Recorded, Failure> {
        let mut tries = 0;
        loop {
            let (room, message, ended) = (Arc::clone(&self.room), message.clone(), ended.clone());
            let recorded = transaction::apart(self.ctx, move |tx| {
                Box::pin(async move { send::record(tx, &room, &message, &ended).await })
            })
            .await;
            tries += 1;
            match recorded {
                // The last answer was lost, and the transaction had ended: the row is as it should be.
                Ok(Recorded::Lost) if 1 < tries => return Ok(Recorded::Written),
                Err(failure) if failure.kind == FailureKind::Retry && self.waits(tries).await => {}
                end => return end,
            }
        }
    }

    /// Waits before a further try to write; `false` = the attempt must end before.
    async fn waits(&self, tries: usize) -> bool {
        let wait = WAITS_TO_WRITE[tries.min(WAITS_TO_WRITE.len()) - 1];
        let until = self.time.now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
        let there_is_time = tries < MOST_TRIES_TO_WRITE && until < self.ctx.deadline;
        if there_is_time {
            tokio::time::sleep(wait).await;
        }
        there_is_time
    }

    /// Puts back what was not begun and counts what is due.
    async fn close(&self, unsent: Vec<Claimed>) -> Result<u64, Failure> {
        let mut tries = 0;
        loop {
            let (room, now, unsent) = (Arc::clone(&self.room), self.time.now(), unsent.clone());
            let closed = transaction::apart(self.ctx, move |tx| {
                Box::pin(async move {
                    send::release(tx, &room.tables, &unsent).await?;
                    room.tables.count(tx, statements::LEFT, &[now.into()]).await
                })
            })
            .await;
            tries += 1;
            match closed {
                Err(failure) if failure.kind == FailureKind::Retry && self.waits(tries).await => {}
                end => return end,
            }
        }
    }
}
