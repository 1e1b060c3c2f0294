//! The state machine as tables of cases. The clock stands at Wednesday, 2025-01-08, 12:00 in America/Sao_Paulo.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::outbound::SendOutcome as Outcome;

const NUMBER: &str = "5511955550100";

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn noon() -> DateTime<Utc> {
    utc("2025-01-08T15:00:00Z")
}

fn rules() -> Rules {
    let zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    Rules { outbound: Outbound::default(), zone, contact_cap: Some(3), resend_unknown: false }
}

fn message(tipo: &str) -> Claimed {
    Claimed {
        id: "1".into(),
        client: Some("7".into()),
        conversation: None,
        number: Some(NUMBER.into()),
        text: "Bom dia".into(),
        tipo: tipo.into(),
        priority: 5,
        metadata: json!({}),
        tries: 0,
        max_tries: 3,
        since: Some(noon()),
    }
}

fn bypassing(tipo: &str) -> Claimed {
    Claimed { metadata: json!({ "bypass": true }), ..message(tipo) }
}

fn known(lead: Lead) -> Known {
    Known { number: Some(NUMBER.into()), lead: Some(lead) }
}

fn free() -> Lead {
    Lead { permission: "active".into(), ..Lead::default() }
}

/// What becomes of it, in a few words: `send`, or status, outcome and when.
fn said(decision: &Decision) -> String {
    match decision {
        Decision::Send(number) => format!("send {number}"),
        Decision::Hold(end) => line(end),
    }
}

fn line(end: &Transition) -> String {
    let tries = if end.spends_try { " +1" } else { "" };
    let at = end.again_at.map_or(String::new(), |at| format!(" {}", at.format("%m-%d %H:%M:%S")));
    format!("{} {} {}{tries}{at}", end.status.word(), end.outcome.word(), end.reason)
}

#[test]
fn proactive_messages_wait_and_answers_do_not() {
    let night = utc("2025-01-08T23:00:00Z");
    let saturday = utc("2025-01-11T15:00:00Z");
    for (tipo, now, expected) in [
        ("lembrete", noon(), "send"),
        ("prospeccao", night, "pendente BLOCKED_QUIET_HOURS quiet_hours 01-09 11:00:00"),
        ("followup", night, "pendente BLOCKED_QUIET_HOURS quiet_hours 01-09 11:00:00"),
        ("campanha", saturday, "pendente BLOCKED_QUIET_HOURS quiet_hours 01-13 11:00:00"),
        ("lembrete", saturday, "pendente BLOCKED_QUIET_HOURS quiet_hours 01-13 11:00:00"),
        ("a kind of the team's own", night, "pendente BLOCKED_QUIET_HOURS quiet_hours 01-09 11:00:00"),
        // It may arrive up to 80 s after it was begun.
        ("lembrete", utc("2025-01-08T22:58:39Z"), "send"),
        ("lembrete", utc("2025-01-08T22:58:41Z"), "pendente BLOCKED_QUIET_HOURS quiet_hours 01-09 11:00:00"),
        ("resposta", night, "send"),
        ("sistema", saturday, "send"),
    ] {
        let decision = decide(&message(tipo), &known(free()), &rules(), now);

        assert!(said(&decision).starts_with(expected), "{tipo} at {now}: {}", said(&decision));
    }
}

#[test]
fn what_is_known_of_a_client_is_heard() {
    let hour = TimeDelta::hours(1);
    let until = |until| Lead { permission: "cooling_off".into(), cooling_off_until: until, ..Lead::default() };
    let opted_out = Lead { permission: "opted_out".into(), ..Lead::default() };
    let next = |at| Lead { next_allowed_at: Some(at), ..free() };
    let contacted = |contacts_of_week| Lead { contacts_of_week, ..free() };
    for (lead, proactive, answer, bypass) in [
        (free(), "send", "send", "send"),
        (
            opted_out,
            "bloqueada BLOCKED_OPTED_OUT opted_out",
            "bloqueada BLOCKED_OPTED_OUT opted_out",
            "bloqueada BLOCKED_OPTED_OUT opted_out",
        ),
        (
            until(Some(noon() + hour)),
            "pendente BLOCKED_COOLING_OFF cooling_off 01-08 16:00:00",
            "send",
            "pendente BLOCKED_COOLING_OFF cooling_off 01-08 16:00:00",
        ),
        // It ends in the night: proactive messages wait for the morning.
        (
            until(Some(noon() + hour * 10)),
            "pendente BLOCKED_COOLING_OFF cooling_off 01-09 11:00:00",
            "send",
            "pendente BLOCKED_COOLING_OFF cooling_off 01-09 01:00:00",
        ),
        (until(Some(noon())), "send", "send", "send"),
        // For ever: looked at again tomorrow.
        (
            until(None),
            "pendente BLOCKED_COOLING_OFF cooling_off 01-09 15:00:00",
            "send",
            "pendente BLOCKED_COOLING_OFF cooling_off 01-09 15:00:00",
        ),
        (next(noon() + hour), "pendente BLOCKED_NEXT_ALLOWED next_allowed 01-08 16:00:00", "send", "send"),
        (next(noon()), "send", "send", "send"),
        (contacted(2), "send", "send", "send"),
        // Contacts are counted by week: from Monday 00:00 on, in business hours.
        (contacted(3), "pendente BLOCKED_CONTACT_CAP contact_cap 01-13 11:00:00", "send", "send"),
    ] {
        let known = known(lead.clone());
        for (message, expected) in
            [(message("followup"), proactive), (message("resposta"), answer), (bypassing("followup"), bypass)]
        {
            let decision = said(&decide(&message, &known, &rules(), noon()));

            assert!(decision.starts_with(expected), "{lead:?}: {decision}, not {expected}");
        }
    }
}

#[test]
fn the_first_hold_names_the_outcome_and_the_last_one_the_time() {
    let lead = Lead {
        permission: "cooling_off".into(),
        cooling_off_until: Some(noon() + TimeDelta::hours(1)),
        next_allowed_at: Some(noon() + TimeDelta::hours(2)),
        contacts_of_week: 9,
    };

    let decision = decide(&message("lembrete"), &known(lead), &rules(), noon());

    assert_eq!(said(&decision), "pendente BLOCKED_COOLING_OFF cooling_off 01-13 11:00:00");
}

#[test]
fn a_message_that_cannot_be_sent_is_told_so_and_nothing_personal_with_it() {
    let none = Known::default();
    let with = |number: &str| Known { number: Some(number.into()), lead: None };
    let text = |text: &str| Claimed { text: text.into(), ..message("resposta") };
    for (message, known, reason) in [
        (message("resposta"), none, "no_number"),
        (message("resposta"), with("955550100"), "unusable_number"),
        (message("resposta"), with("maria"), "unusable_number"),
        (text(" \n"), with(NUMBER), "empty_text"),
        (text(&"á".repeat(4_097)), with(NUMBER), "text_too_long"),
    ] {
        let Decision::Hold(end) = decide(&message, &known, &rules(), noon()) else { panic!("{reason}: it is sent") };

        assert_eq!(line(&end), format!("pendente FAILED_VALIDATION {reason} +1 01-08 15:02:00"));
        let why = end.why.expect("words");
        assert!(!why.contains("95555") && !why.contains("maria"), "{why}");
    }
    let longest = text(&"á".repeat(4_096));
    assert!(matches!(decide(&longest, &with(NUMBER), &rules(), noon()), Decision::Send(_)));
}

#[test]
fn bypass_is_a_true_and_nothing_like_it() {
    for (metadata, is_bypass) in [
        (json!({ "bypass": true }), true),
        (json!({ "bypass": "true" }), false),
        (json!({ "bypass": 1 }), false),
        (json!({ "bypass": false }), false),
        (json!([true]), false),
        (json!(null), false),
    ] {
        assert_eq!(Claimed { metadata: metadata.clone(), ..message("lembrete") }.is_bypass(), is_bypass, "{metadata}");
    }
    let night = utc("2025-01-08T23:00:00Z");
    assert!(matches!(decide(&bypassing("campanha"), &known(free()), &rules(), night), Decision::Send(_)));
}

#[test]
fn each_answer_of_the_gateway_has_its_transition() {
    let failed = |outcome| Delivery::Failed { outcome, why: "no".into() };
    let sent = || Delivery::Sent { provider_message_id: Some("p".into()) };
    let doubtful = || Delivery::Doubtful { why: "no answer".into() };
    let resend = Rules { resend_unknown: true, ..rules() };
    let tried = |tries| Claimed { tries, ..message("lembrete") };
    for (message, delivery, rules, expected) in [
        (tried(0), sent(), rules(), "enviada SENT sent"),
        (tried(2), sent(), rules(), "enviada SENT sent"),
        (bypassing("lembrete"), sent(), rules(), "enviada BYPASS bypass"),
        (tried(0), failed(Outcome::FailedProvider), rules(), "pendente FAILED_PROVIDER provider +1 01-08 15:02:00"),
        (tried(1), failed(Outcome::FailedProvider), rules(), "pendente FAILED_PROVIDER provider +1 01-08 15:04:00"),
        (tried(2), failed(Outcome::FailedProvider), rules(), "erro FAILED_PROVIDER provider +1"),
        (tried(9), failed(Outcome::FailedValidation), rules(), "erro FAILED_VALIDATION validation +1"),
        (
            tried(0),
            failed(Outcome::FailedRateLimit),
            rules(),
            "pendente FAILED_RATE_LIMIT provider_rate_limit 01-08 15:05:00",
        ),
        (tried(0), doubtful(), rules(), "erro FAILED_TIMEOUT unknown +1"),
        (tried(0), doubtful(), resend.clone(), "pendente FAILED_TIMEOUT unknown +1 01-08 15:02:00"),
        (tried(2), doubtful(), resend, "erro FAILED_TIMEOUT unknown +1"),
        (
            tried(0),
            Delivery::CircuitOpen { after: Duration::from_secs(300) },
            rules(),
            "pendente FAILED_CIRCUIT_OPEN circuit_open",
        ),
    ] {
        let end = answered(&message, delivery.clone(), &rules, noon()).expect("a transition");

        assert_eq!(line(&end), expected, "{delivery:?} after {} tries", message.tries);
        assert_eq!(end.is_dead(), expected.starts_with("erro"));
    }
}

#[test]
fn a_send_that_was_told_to_stop_before_it_began_says_nothing_of_the_message() {
    assert_eq!(answered(&message("lembrete"), Delivery::Held, &rules(), noon()), None);
}

#[test]
fn what_lost_its_worker_is_in_doubt_only_when_its_call_had_begun() {
    let tried = |tries| Claimed { tries, ..message("lembrete") };
    for (tries, begun, resend, expected) in [
        (0, false, false, "pendente FAILED_TIMEOUT stuck +1"),
        (2, false, false, "erro FAILED_TIMEOUT stuck +1"),
        (0, true, false, "erro FAILED_TIMEOUT unknown +1"),
        (0, true, true, "pendente FAILED_TIMEOUT unknown +1 01-08 15:02:00"),
        (2, true, true, "erro FAILED_TIMEOUT unknown +1"),
    ] {
        assert_eq!(line(&abandoned(&tried(tries), begun, resend, noon())), expected, "{tries} {begun} {resend}");
    }
}

#[test]
fn waits_double_and_never_overflow() {
    for (tries, minutes) in
        [(0, 2), (1, 4), (2, 8), (9, 1_024), (10, 1_440), (29, 1_440), (30, 1_440), (31, 1_440), (i64::MAX - 2, 1_440)]
    {
        let message = Claimed { tries, max_tries: i64::MAX, ..message("lembrete") };

        let end = failed(&message, Outcome::FailedProvider, "provider", noon());

        assert_eq!(end.again_at, Some(noon() + TimeDelta::minutes(minutes)), "{tries}");
    }
}
