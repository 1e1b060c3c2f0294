//! The ways out: whom a message is given to, how often that is tried, and when a gateway is left alone.

mod answer;
mod evolution;
mod log;
mod webhook;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, GatewayChoice, Message, Outbound, SendOutcome,
    call::{BreakerSettings, Call, Caller, Heard, HttpClients, Lane, Traffic, Unheard, finding, send},
    settings::digits,
};
use crate::{clock::Clock, domain::run::RunId};
use answer::Tried;

/// Tries inside one send (spec 6, Gateway), and the waits between them, each spread by a quarter to both sides.
pub(super) const MOST_TRIES: u32 = 4;
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
const SPREAD: f64 = 0.25;
/// A gateway that asks for more time than this before the next try gets it from the queue, which goes on with others.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Gateways that are remembered at once: the one in force, and those of tables before it whose runs go on.
const MOST_GATEWAYS: usize = 8;

/// What is known about the gateways: which failed too often in a row. Lives as long as the process, across reloads.
pub struct Gateways {
    clock: Clock,
    known: Mutex<Vec<Known>>,
}

struct Known {
    gateway: GatewayChoice,
    breaker: BreakerSettings,
    lane: Arc<Lane>,
}

/// What a message goes out with.
pub struct Way<'a> {
    pub clients: &'a HttpClients,
    pub traffic: &'a Traffic,
    pub gateways: &'a Gateways,
    /// The run it goes out for.
    pub run: RunId,
    /// Told before a call is sent, it is not sent.
    pub cancelled: &'a CancellationToken,
}

impl Gateways {
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// The instant of the process's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The lane of the gateway in force. Another account, address or rule is another gateway, and begins anew.
    fn lane(&self, outbound: &Outbound) -> Arc<Lane> {
        let Outbound { gateway, breaker, .. } = outbound;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| known.gateway == *gateway && known.breaker == *breaker) {
            return Arc::clone(&known.lane);
        }
        if MOST_GATEWAYS <= known.len() {
            known.remove(0);
        }
        let lane = Arc::new(Lane::guarded_by(breaker.clone(), self.clock.clone()));
        known.push(Known { gateway: gateway.clone(), breaker: breaker.clone(), lane: Arc::clone(&lane) });
        lane
    }
}

/// Gives one message to the gateway in force. Tries again only while it is sure that nothing was accepted; ends within
/// [`Outbound::longest_send`]. A number that may not be written to, or a message without number or text, goes nowhere.
pub async fn give(message: &Message, outbound: &Outbound, way: &Way<'_>) -> Delivery {
    if let Some(refused) = refused(message, outbound) {
        return refused;
    }
    if way.cancelled.is_cancelled() {
        return Delivery::Held;
    }
    let call = match &outbound.gateway {
        GatewayChoice::Log => return log::write(message),
        GatewayChoice::Evolution(evolution) => evolution::call(evolution, message, outbound.timeout),
        GatewayChoice::Webhook(webhook) => webhook::call(webhook, message, outbound.timeout, way.gateways.now()),
    };
    match call {
        Ok(call) => hand_over(&call, message, outbound, way).await,
        Err(why) => Delivery::Failed { outcome: SendOutcome::FailedProvider, why },
    }
}

/// Why a message is not even tried.
fn refused(message: &Message, outbound: &Outbound) -> Option<Delivery> {
    let (outcome, why) = if !outbound.allows(&message.number) {
        (SendOutcome::BlockedDevAllowlist, "the number is not on the allowlist, and APP_ENV is not production")
    } else if digits(&message.number).is_empty() {
        (SendOutcome::FailedValidation, "the message has no number")
    } else if message.text.trim().is_empty() {
        (SendOutcome::FailedValidation, "the message has no text")
    } else {
        return None;
    };
    Some(Delivery::Failed { outcome, why: why.into() })
}

/// The tries of one send.
async fn hand_over(call: &Call, message: &Message, outbound: &Outbound, way: &Way<'_>) -> Delivery {
    let gate = way.gateways.lane(outbound);
    let mut tries = 0;
    loop {
        let (asked, end) = match one_try(call, &gate, outbound, way).await {
            Tried::Ended(delivery) => return delivery,
            Tried::NotAccepted { retry_after, outcome, why } => (retry_after, Delivery::Failed { outcome, why }),
        };
        tries += 1;
        let wait = wait_before(tries, &message.id).map(|wait| wait.max(asked.unwrap_or_default()));
        let Some(wait) = wait.filter(|wait| *wait <= LONGEST_WAIT) else { return end };
        tokio::select! {
            () = way.gateways.clock.pause(wait) => {}
            () = way.cancelled.cancelled() => return Delivery::Held,
        }
    }
}

/// One call, when neither the gateway's own breaker nor the lane of what is called holds it back.
async fn one_try(call: &Call, gate: &Arc<Lane>, outbound: &Outbound, way: &Way<'_>) -> Tried {
    let mut leave = match gate.ask(way.run) {
        Ok(leave) => leave,
        Err(refusal) => return Tried::Ended(Delivery::CircuitOpen { after: refusal.left }),
    };
    let lane = way.traffic.lane(call.target.as_deref(), &call.url);
    let now = way.gateways.now();
    let caller = Caller { clients: way.clients, lane: &lane, run: way.run, now, cancelled: way.cancelled };
    leave.sent();
    let heard = send(call, &caller).await;
    leave.tell(finding(&heard));
    match heard {
        Ok(Heard { answer, .. }) => answer::judged(&answer, &outbound.gateway, call),
        Err(Unheard::LeftAlone { after, .. }) => Tried::Ended(Delivery::CircuitOpen { after }),
        Err(Unheard::Stopped) => Tried::Ended(Delivery::Held),
        Err(Unheard::Failed(failure)) => answer::unheard(&failure, &outbound.gateway, call),
    }
}

/// The wait before the try after the `tries`-th, a little apart for each message; `None` = there is no other try.
fn wait_before(tries: u32, message: &str) -> Option<Duration> {
    let wait = WAITS.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
    let mut hasher = DefaultHasher::new();
    (message, tries).hash(&mut hasher);
    let unit = (hasher.finish() % 1_001) as f64 / 1_000.0;
    Some(wait.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_apart_by_half_a_second_then_one_then_two_with_a_quarter_to_both_sides() {
        for (tries, wait_ms) in [(1, 500), (2, 1_000), (3, 2_000)] {
            let waits: Vec<_> = (0..500).map(|id| wait_before(tries, &id.to_string()).expect("a wait")).collect();
            let (least, most) = (waits.iter().min().expect("waits"), waits.iter().max().expect("waits"));

            let wait = Duration::from_millis(wait_ms);
            assert!(wait * 3 / 4 <= *least && *least < wait * 4 / 5, "{least:?}");
            assert!(wait * 6 / 5 < *most && *most <= wait * 5 / 4, "{most:?}");
        }
        assert_eq!(wait_before(MOST_TRIES, "a"), None);
        assert_eq!(WAITS.len() + 1, MOST_TRIES as usize);
    }
}
