//! What may happen to a message before it is sent, and what its end makes of it: decided without a database.

use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Utc};

use super::{
    limits::longest_send,
    message::{Claimed, Lead, usable},
};
use crate::{
    domain::{clean, schedule::Zone},
    outbound::{Delivery, Outbound, SendOutcome},
};

/// Longest text in characters: what WhatsApp takes as one message.
const MAX_TEXT_CHARS: usize = 4_096;
/// Longest text kept in `erro`, in characters.
const MAX_WHY_CHARS: usize = 500;
/// The first wait after a failure is twice this, and each further one twice the last (spec 6).
const BACKOFF_UNIT: TimeDelta = TimeDelta::seconds(60);
/// No wait after a failure is longer, however many tries a row allows itself.
const LONGEST_BACKOFF: TimeDelta = TimeDelta::hours(24);
/// When a message is looked at again that must wait without anybody knowing how long.
const LOOK_AGAIN: TimeDelta = TimeDelta::hours(24);
/// When a provider is asked again that has had enough for now.
const PROVIDER_WAIT: TimeDelta = TimeDelta::minutes(5);

/// What decides about all messages alike.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub outbound: Outbound,
    pub zone: Zone,
    /// Proactive messages to one client in a week.
    pub contact_cap: Option<u32>,
    pub resend_unknown: bool,
}

/// The states that a message can be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pendente,
    Enviada,
    Erro,
    Bloqueada,
}

impl Status {
    /// The word in the column `status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pendente => "pendente",
            Self::Enviada => "enviada",
            Self::Erro => "erro",
            Self::Bloqueada => "bloqueada",
        }
    }
}

/// How a message leaves `processando`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transition {
    pub status: Status,
    pub outcome: SendOutcome,
    /// The word in `outcome_reason_code`.
    pub reason: &'static str,
    /// The words in `erro`, without number and text of the message.
    pub why: Option<String>,
    /// `agendar_para`; `None` leaves it.
    pub again_at: Option<DateTime<Utc>>,
    /// `tentativas` + 1: the message has failed, this time.
    pub spends_try: bool,
    pub provider_message_id: Option<String>,
}

/// What the rules say before a message is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// To these digits, when the limits have a place for it.
    Send(String),
    Hold(Transition),
}

impl Transition {
    pub fn new(status: Status, outcome: SendOutcome, reason: &'static str) -> Self {
        Self { status, outcome, reason, why: None, again_at: None, spends_try: false, provider_message_id: None }
    }

    /// It waits, and that costs no try.
    pub fn defer(outcome: SendOutcome, reason: &'static str, until: DateTime<Utc>) -> Self {
        Self { again_at: Some(until), ..Self::new(Status::Pendente, outcome, reason) }
    }

    /// A person must look: it gets a row among the dead letters.
    pub fn is_dead(&self) -> bool {
        self.status == Status::Erro
    }

    /// With words for `erro`, cut where they are too many.
    fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(clean::text(&why.into(), MAX_WHY_CHARS)), ..self }
    }
}

/// What the tables say beside the message's own row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// The row's or else the client's, as written.
    pub number: Option<String>,
    pub lead: Option<Lead>,
}

/// Whether a message may go now, limits apart.
pub(super) fn decide(message: &Claimed, known: &Known, rules: &Rules, now: DateTime<Utc>) -> Decision {
    let lead = known.lead.as_ref();
    let number = match addressed(message, known.number.as_deref()) {
        Ok(number) => number,
        Err((reason, why)) => {
            let failed = failed(message, SendOutcome::FailedValidation, reason, now);
            return Decision::Hold(failed.because(why));
        }
    };
    if lead.is_some_and(|lead| lead.permission == "opted_out") {
        return Decision::Hold(Transition::new(Status::Bloqueada, SendOutcome::BlockedOptedOut, "opted_out"));
    }
    if !rules.outbound.allows(&number) {
        return Decision::Hold(Transition::new(Status::Bloqueada, SendOutcome::BlockedDevAllowlist, "dev_allowlist"));
    }
    let holds = if message.is_proactive() { holds(message, lead, rules, now) } else { Vec::new() };
    let latest = holds.iter().map(|hold| hold.until).max();
    match (holds.first(), latest) {
        (Some(first), Some(latest)) => {
            let open =
                if message.is_bypass() { Some(latest) } else { rules.outbound.hours.next_open(latest, &rules.zone) };
            let until = open.unwrap_or(now + LOOK_AGAIN);
            Decision::Hold(Transition::defer(first.outcome, first.reason, until))
        }
        _ => Decision::Send(number),
    }
}

/// The digits to write to; or a reason code and words.
fn addressed(message: &Claimed, number: Option<&str>) -> Result<String, (&'static str, String)> {
    let number = number.ok_or(("no_number", "neither the message nor its client has a number".into()))?;
    let digits = usable(number).ok_or((
        "unusable_number",
        "the number is none that can be written to: 10 to 15 digits with the country code".into(),
    ))?;
    if message.text.trim().is_empty() {
        return Err(("empty_text", "the text is empty".into()));
    }
    let chars = message.text.chars().count();
    if MAX_TEXT_CHARS < chars {
        return Err(("text_too_long", format!("the text has {chars} characters, at most {MAX_TEXT_CHARS}")));
    }
    Ok(digits)
}

/// Why a proactive message waits, and until when at least.
struct Hold {
    outcome: SendOutcome,
    reason: &'static str,
    until: DateTime<Utc>,
}

/// Who bypasses, passes what we have set ourselves, and not what the client has asked for.
fn holds(message: &Claimed, lead: Option<&Lead>, rules: &Rules, now: DateTime<Utc>) -> Vec<Hold> {
    let mut holds = Vec::new();
    let mut hold = |outcome, reason, until| holds.push(Hold { outcome, reason, until });
    if let Some(until) = lead.and_then(|lead| cools_until(lead, now)) {
        hold(SendOutcome::BlockedCoolingOff, "cooling_off", until);
    }
    if message.is_bypass() {
        return holds;
    }
    if let Some(until) = lead.and_then(|lead| lead.next_allowed_at).filter(|until| now < *until) {
        hold(SendOutcome::BlockedNextAllowed, "next_allowed", until);
    }
    if let (Some(cap), Some(lead)) = (rules.contact_cap, lead)
        && i64::from(cap) <= lead.contacts_of_week
    {
        hold(SendOutcome::BlockedContactCap, "contact_cap", next_week(&rules.zone, now));
    }
    // Begun just before closing it could arrive after.
    let arrives = now + longest_send(rules);
    if let Some(closed) = [now, arrives].into_iter().find(|moment| !rules.outbound.hours.is_open(*moment, &rules.zone))
    {
        hold(SendOutcome::BlockedQuietHours, "quiet_hours", closed);
    }
    holds
}

/// Until when a client wants to be left alone.
fn cools_until(lead: &Lead, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match lead.cooling_off_until {
        Some(until) => Some(until).filter(|until| now < *until),
        None if lead.permission == "cooling_off" => Some(now + LOOK_AGAIN),
        None => None,
    }
}

/// The next Monday 00:00 on the local clock: contacts are counted by week (docs, `temperature_decay`).
fn next_week(zone: &Zone, now: DateTime<Utc>) -> DateTime<Utc> {
    let today = zone.local(now).date();
    let days = 7 - i64::from(today.weekday().num_days_from_monday());
    zone.instant_of((today + TimeDelta::days(days)).and_time(NaiveTime::MIN))
}

/// What an answer of the gateway makes of a message that was given to it.
/// `None` = nothing was sent and nothing is said of the message: it goes back as it was.
pub(super) fn answered(message: &Claimed, delivery: Delivery, rules: &Rules, now: DateTime<Utc>) -> Option<Transition> {
    Some(match delivery {
        Delivery::Sent { provider_message_id } => {
            let (outcome, reason) =
                if message.is_bypass() { (SendOutcome::Bypass, "bypass") } else { (SendOutcome::Sent, "sent") };
            Transition { provider_message_id, ..Transition::new(Status::Enviada, outcome, reason) }
        }
        Delivery::Failed { outcome: outcome @ SendOutcome::FailedRateLimit, why } => {
            Transition::defer(outcome, "provider_rate_limit", now + PROVIDER_WAIT).because(why)
        }
        Delivery::Failed { outcome, why } => failed(message, outcome, reason_of(outcome), now).because(why),
        Delivery::Doubtful { why } => doubtful(message, rules.resend_unknown, now).because(why),
        // Untouched but for the outcome: it is due as it was, and expires as it would have.
        Delivery::CircuitOpen { .. } => {
            Transition::new(Status::Pendente, SendOutcome::FailedCircuitOpen, "circuit_open")
        }
        Delivery::Held => return None,
    })
}

fn reason_of(outcome: SendOutcome) -> &'static str {
    match outcome {
        SendOutcome::FailedValidation => "validation",
        SendOutcome::FailedTimeout => "timeout",
        _ => "provider",
    }
}

/// What becomes of a message that the database cannot work with.
pub(super) fn not_begun(message: &Claimed, now: DateTime<Utc>) -> Transition {
    // The words of the database may quote what stands in the row.
    failed(message, SendOutcome::FailedValidation, "not_begun", now)
        .because("the database failed before it was sent; the log of the database says why")
}

/// What becomes of a message whose time is none, so that it would never be due.
pub(super) fn unreadable_time() -> Transition {
    let end = Transition::new(Status::Erro, SendOutcome::FailedValidation, "unreadable_time");
    Transition { spends_try: true, ..end }.because("agendar_para, or else created_at, is no instant")
}

/// What becomes of a message whose worker is gone. Begun = its call was about to be made, or was made.
pub(super) fn abandoned(message: &Claimed, begun: bool, resend_unknown: bool, now: DateTime<Utc>) -> Transition {
    if begun {
        return doubtful(message, resend_unknown, now).because("its worker was lost while it was being sent");
    }
    let stuck =
        failed(message, SendOutcome::FailedTimeout, "stuck", now).because("its worker was lost before it was sent");
    // Nobody refused it, so there is nothing to wait for.
    Transition { again_at: None, ..stuck }
}

/// It may have been sent, and nobody can say: only a person decides to send it again, or a setting.
fn doubtful(message: &Claimed, resend: bool, now: DateTime<Utc>) -> Transition {
    if resend {
        return failed(message, SendOutcome::FailedTimeout, "unknown", now);
    }
    Transition { spends_try: true, ..Transition::new(Status::Erro, SendOutcome::FailedTimeout, "unknown") }
}

/// A failure that counts: the n-th waits 60 s * 2^n, the last one is the end.
fn failed(message: &Claimed, outcome: SendOutcome, reason: &'static str, now: DateTime<Utc>) -> Transition {
    let tries = message.tries.saturating_add(1);
    if message.max_tries <= tries {
        return Transition { spends_try: true, ..Transition::new(Status::Erro, outcome, reason) };
    }
    let doubled = i32::try_from(tries).ok().and_then(|n| 1_i32.checked_shl(n.unsigned_abs())).filter(|n| 0 < *n);
    let wait = doubled.map_or(LONGEST_BACKOFF, |times| BACKOFF_UNIT * times).min(LONGEST_BACKOFF);
    Transition { spends_try: true, ..Transition::defer(outcome, reason, now + wait) }
}

#[cfg(test)]
mod tests;
