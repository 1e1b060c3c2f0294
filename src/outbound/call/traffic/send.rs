//! Sends one call when its target may be called, and tells the target's lane what came of it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Client;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Call, HttpClients,
        exchange::{self, Answer},
        retry_after,
    },
    Finding, Lane, Leave, Refusal, Why,
};
use crate::domain::{
    duration::Length,
    run::{Failure, FailureKind, RunId},
};

/// Who calls, and what with.
pub(crate) struct Caller<'a> {
    pub clients: &'a HttpClients,
    /// The way to what is called.
    pub lane: &'a Arc<Lane>,
    pub run: RunId,
    pub now: DateTime<Utc>,
    /// Told before the call is sent, it is not sent.
    pub cancelled: &'a CancellationToken,
}

/// An answer, and when it came.
pub(crate) struct Heard {
    pub answer: Answer,
    pub at: DateTime<Utc>,
}

/// Why there is no answer.
pub(crate) enum Unheard {
    /// Nothing was sent: the target is left alone.
    LeftAlone {
        after: Duration,
        message: String,
    },
    /// Nothing was sent: told to stop before.
    Stopped,
    Failed(Failure),
}

/// One call and its answer, within the call's own limit. `Retry-After` of a target that asks for time holds all runs back.
pub(crate) async fn send(call: &Call, caller: &Caller<'_>) -> Result<Heard, Unheard> {
    let client = caller.clients.client(call.connect_timeout, call.network);
    let no_client = |error| Failure::retry(format!("no http client: {error}")).before_effect();
    let client = client.map_err(|error| Unheard::Failed(no_client(error)))?;
    let lane = caller.lane;
    let begun = lane.boot();
    let mut leave = lane.ask(caller.run).map_err(|refusal| left_alone(lane, refusal, caller.now))?;
    wait_for_turn(&leave, caller.cancelled).await?;
    leave.sent();
    let answered = exchange_within(&client, call, caller.now).await;
    leave.tell(found(&answered));
    let mut answer = answered.map_err(Unheard::Failed)?;
    if asks_for_time(&answer) {
        answer.retry_after = answer.retry_after.map(|wait| lane.hold(wait, caller.run));
    }
    Ok(Heard { answer, at: caller.now + delta(lane.boot().saturating_sub(begun)) })
}

async fn wait_for_turn(leave: &Leave, cancelled: &CancellationToken) -> Result<(), Unheard> {
    if leave.wait.is_zero() {
        return Ok(());
    }
    tokio::select! {
        () = time::sleep(leave.wait) => Ok(()),
        () = cancelled.cancelled() => Err(Unheard::Stopped),
    }
}

async fn exchange_within(client: &Client, call: &Call, now: DateTime<Utc>) -> Result<Answer, Failure> {
    let exchange = exchange::exchange(client, call, now);
    let answered = match call.timeout {
        Some(limit) => time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            let limit = Length(limit);
            Err(Failure::retry(format!("{}: no whole answer within {limit}", call.shown())))
        }),
        None => exchange.await,
    };
    answered.map(|answer| Answer { retry_after: answer.retry_after.map(retry_after::bounded), ..answer })
}

fn asks_for_time(answer: &Answer) -> bool {
    [429, 503].contains(&answer.status) && answer.retry_after.is_some()
}

/// What a call found out about what it called: for a breaker besides that of its own lane.
pub(crate) fn finding(heard: &Result<Heard, Unheard>) -> Finding {
    match heard {
        Ok(heard) => found_by(&heard.answer),
        Err(Unheard::Failed(failure)) => found_without_answer(failure),
        Err(Unheard::LeftAlone { .. } | Unheard::Stopped) => Finding::Nothing,
    }
}

fn found(answered: &Result<Answer, Failure>) -> Finding {
    answered.as_ref().map_or_else(found_without_answer, found_by)
}

fn found_by(answer: &Answer) -> Finding {
    match answer.status {
        // It lives, and says when it wants to be called: that is the hold's business.
        _ if asks_for_time(answer) => Finding::Nothing,
        500..=599 => Finding::Failed,
        _ => Finding::Sound,
    }
}

fn found_without_answer(failure: &Failure) -> Finding {
    // A request that cannot be built, an address that is refused: nothing was sent.
    if failure.kind == FailureKind::Permanent { Finding::Nothing } else { Finding::Failed }
}

fn left_alone(lane: &Lane, refusal: Refusal, now: DateTime<Utc>) -> Unheard {
    let (shown, until) = (&lane.shown, (now + delta(refusal.left)).to_rfc3339_opts(SecondsFormat::Secs, true));
    let message = match refusal.why {
        Why::AskedToWait => format!("{shown} asked to be left alone until {until}"),
        Why::BreakerOpen => format!("{shown} failed too often in a row: its breaker is open until {until}"),
        Why::Probing => format!("{shown} failed too often in a row: another run tries whether it is back"),
        Why::Rate => format!("the rate of {shown} is used up: this run's turn comes at {until}"),
    };
    Unheard::LeftAlone { after: refusal.after, message }
}

fn delta(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::zero())
}
