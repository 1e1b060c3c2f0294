//! The judge: knows what was queued for whom, and what the gateway wrote down; of our tables only each message's end.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::catch_unwind,
};

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::{
    ends::Court,
    gateway::{Answer, Call, is_always_refused},
    team::{Ended, Roster, has_opted_out, left_alone_for, number_in},
};

/// Kinds that go at any hour; all others wait for business hours and for what the client wishes.
const AT_ANY_HOUR: [&str; 2] = ["resposta", "sistema"];
/// Most messages of a kind in an hour (the specification's own numbers, written down once more).
const PER_TIPO: [(&str, usize); 5] =
    [("prospeccao", 10), ("followup", 15), ("resposta", 50), ("campanha", 20), ("sistema", 1_000)];

/// How often people may be written to.
pub struct Limits {
    pub per_hour: usize,
    pub per_day: usize,
    pub per_client_hour: usize,
    pub between: TimeDelta,
}

/// The clocks of São Paulo, which has kept one distance from UTC since 2019.
pub fn local(at: DateTime<Utc>) -> NaiveDateTime {
    (at - TimeDelta::hours(3)).naive_utc()
}

fn delivered(calls: &[Call]) -> impl Iterator<Item = &Call> {
    calls.iter().filter(|call| call.is_delivered)
}

/// Not by two deliveries, and not by luck either: nothing is tried again that may have been delivered.
#[track_caller]
pub fn nobody_was_written_to_twice(calls: &[Call]) {
    let mut may_have_arrived = BTreeSet::new();
    for call in calls {
        let number = number_in(&call.text);
        assert!(!may_have_arrived.contains(&number), "message {number} was tried again at {}: {call:?}", call.at);
        if !matches!(call.answer, Answer::Busy(_)) {
            may_have_arrived.insert(number);
        }
    }
}

#[track_caller]
pub fn limits_were_kept(calls: &[Call], roster: &Roster, limits: &Limits) {
    let mut taken: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut last: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for call in delivered(calls) {
        let (message, at) = (roster.message(&call.text), local(call.at));
        let (hour, day) = (at.format("%d %H:00"), at.format("%d"));
        let mut take = |scope: String, most: usize| taken.entry(scope).or_insert((0, most)).0 += 1;
        take(format!("{hour} all"), limits.per_hour);
        take(format!("{day} all"), limits.per_day);
        take(format!("{hour} client {}", message.client), limits.per_client_hour);
        if let Some((_, most)) = PER_TIPO.iter().find(|(tipo, _)| *tipo == message.tipo) {
            take(format!("{hour} {}", message.tipo), *most);
        }
        if let Some(before) = last.insert(&call.number, call.at) {
            let passed = call.at - before;
            assert!(
                limits.between <= passed,
                "two messages to one number within {} ms: {call:?}",
                passed.num_milliseconds()
            );
        }
    }
    let over: Vec<_> = taken.iter().filter(|(_, (count, most))| most < count).collect();
    assert!(over.is_empty(), "more than there may be: {over:?}");
}

#[track_caller]
pub fn nights_and_wishes_were_kept(calls: &[Call], roster: &Roster) {
    for call in calls {
        let (message, at) = (roster.message(&call.text), local(call.at));
        assert!(!has_opted_out(message.client), "to somebody who opted out: {call:?}");
        if AT_ANY_HOUR.contains(&message.tipo) {
            continue;
        }
        let is_business = (8..20).contains(&at.hour()) && at.weekday().num_days_from_monday() < 5;
        assert!(is_business, "at {at}, out of hours: {message:?}");
        let wished = left_alone_for(message.client).map(|length| roster.start + length);
        assert!(wished.is_none_or(|until| until <= call.at), "to somebody who wants to be left alone: {message:?}");
    }
}

/// Rows by status and outcome.
pub fn counts(rows: &[Ended]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry((row.status.clone(), row.outcome.clone().unwrap_or_default())).or_default() += 1;
    }
    counts
}

/// Calls by their answer.
pub fn summary(calls: &[Call]) -> String {
    let mut answers: BTreeMap<Answer, usize> = BTreeMap::new();
    for call in calls {
        *answers.entry(call.answer).or_default() += 1;
    }
    format!("{answers:?}")
}

/// A proof on a quiet day proves nothing.
#[track_caller]
pub fn the_day_was_no_idyll(counts: &BTreeMap<(String, String), usize>, calls: &[Call]) {
    let of =
        |status: &str| -> usize { counts.iter().filter(|((word, _), _)| word == status).map(|(_, count)| count).sum() };
    for (status, least) in [("enviada", 150), ("erro", 1), ("bloqueada", 5), ("cancelada", 2), ("pendente", 10)] {
        assert!(least <= of(status), "only {} {status}: {counts:?}", of(status));
    }
    // Those apart that are always refused.
    let calls: Vec<_> = calls.iter().filter(|call| !is_always_refused(number_in(&call.text))).collect();
    let failed = calls.iter().filter(|call| call.answer != Answer::Created).count();
    assert!((calls.len() / 25..calls.len() / 5).contains(&failed), "{failed} of {} calls failed", calls.len());
    for answer in [Answer::Busy(503), Answer::Busy(429), Answer::Broken] {
        assert!(calls.iter().any(|call| call.answer == answer), "no call ended as {answer:?}");
    }
}

/// Days that must be condemned, each for one thing.
pub fn condemns_what_is_wrong() {
    let roster = Roster::new("2026-03-10T03:00:00Z".parse().expect("an instant"), 1, 500);
    let limits = Limits { per_hour: 40, per_day: 100, per_client_hour: 3, between: TimeDelta::seconds(45) };
    let call = |message: usize, at: &str, answer: Answer, number: usize| Call {
        at: format!("2026-03-10T{at}Z").parse().expect("an instant"),
        number: number.to_string(),
        text: format!("mensagem {message:05}: nada de mais"),
        is_delivered: answer == Answer::Created,
        answer,
    };
    let sent = |message: usize, at: &str, number: usize| call(message, at, Answer::Created, number);
    let of_kind = |kinds: &[&str]| {
        let is_wanted = |index: &usize| {
            let message = &roster.messages[*index];
            kinds.contains(&message.tipo) && !has_opted_out(message.client) && left_alone_for(message.client).is_none()
        };
        (0..500).filter(is_wanted).collect::<Vec<_>>()
    };
    let (replies, leads) = (of_kind(&AT_ANY_HOUR), of_kind(&["prospeccao"]));

    let twice = |calls: &[Call]| is_condemned(|| nobody_was_written_to_twice(calls));
    assert!(twice(&[sent(1, "15:00:00", 1), sent(1, "16:00:00", 1)]));
    assert!(twice(&[call(1, "15:00:00", Answer::Broken, 1), sent(1, "16:00:00", 1)]));
    assert!(twice(&[call(1, "15:00:00", Answer::Silence, 1), call(1, "16:00:00", Answer::Busy(503), 1)]));
    assert!(!twice(&[call(1, "15:00:00", Answer::Busy(429), 1), sent(1, "15:00:01", 1), sent(2, "15:00:02", 2)]));

    let too_often = |calls: &[Call]| is_condemned(|| limits_were_kept(calls, &roster, &limits));
    assert!(too_often(&[sent(replies[0], "15:00:00", 1), sent(replies[1], "15:00:44.999", 1)]));
    assert!(!too_often(&[sent(replies[0], "15:00:00", 1), sent(replies[1], "15:00:45", 1)]));
    let eleven = |last: &str| {
        let ten = leads[..10].iter().enumerate().map(|(index, message)| sent(*message, "15:59:59.999", index));
        ten.chain([sent(leads[10], last, 10)]).collect::<Vec<_>>()
    };
    assert!(too_often(&eleven("15:59:59.999")));
    assert!(!too_often(&eleven("16:00:00")));

    let at_night = |calls: &[Call]| is_condemned(|| nights_and_wishes_were_kept(calls, &roster));
    assert!(at_night(&[sent(leads[0], "10:59:59.999", 1)]) && at_night(&[sent(leads[0], "23:00:00", 1)]));
    assert!(!at_night(&[sent(leads[0], "11:00:00", 1), sent(replies[0], "04:00:00", 1)]));
    let hermit = (0..500).find(|index| has_opted_out(roster.messages[*index].client)).expect("somebody opted out");
    assert!(at_night(&[sent(hermit, "15:00:00", 1)]));

    condemns_untrue_ends(&roster, &sent);
}

/// Rows whose ends are not what happened.
fn condemns_untrue_ends(roster: &Roster, sent: &impl Fn(usize, &str, usize) -> Call) {
    let of = |is_wanted: &dyn Fn(usize) -> bool| {
        (30..500).find(|index| is_wanted(roster.messages[*index].client)).expect("there is such a client")
    };
    let plain = of(&|client| !has_opted_out(client) && left_alone_for(client).is_none());
    let hermit = of(&has_opted_out);
    let at = |time: &str| Some(format!("2026-03-10T{time}Z").parse().expect("an instant"));
    let row = |message, status: &str, outcome: &str, reason: &str| Ended {
        message,
        status: status.into(),
        outcome: Some(outcome.into()),
        reason: Some(reason.into()),
        due: None,
        at: at("22:00:00"),
        tries: 0,
        dead: i64::from(status == "erro"),
    };
    let seen = at("23:30:00").expect("an instant");
    let end = |row: Ended, calls: &[Call]| {
        is_condemned(|| Court { roster, calls, seen }.each_message_has_its_end(std::slice::from_ref(&row)))
    };
    let answered = |answer| [Call { answer, is_delivered: false, ..sent(plain, "15:00:00", 1) }];
    let arrived = [sent(plain, "15:00:00", 1)];
    let ended = |status: &str, outcome: &str, reason: &str| row(plain, status, outcome, reason);

    assert!(!end(ended("enviada", "SENT", "sent"), &arrived) && end(ended("enviada", "SENT", "sent"), &[]));
    let unknown = || ended("erro", "FAILED_TIMEOUT", "unknown");
    assert!(end(unknown(), &arrived) && end(unknown(), &[]) && end(unknown(), &answered(Answer::Busy(503))));
    assert!(!end(unknown(), &answered(Answer::Cut)) && end(Ended { dead: 0, ..unknown() }, &answered(Answer::Cut)));
    let refused = |tries| Ended { tries, ..ended("erro", "FAILED_PROVIDER", "provider") };
    assert!(end(refused(2), &answered(Answer::Busy(401))) && end(refused(3), &[]));
    assert!(end(refused(3), &answered(Answer::Broken)) && !end(refused(3), &answered(Answer::Busy(401))));
    let blocked = |message| row(message, "bloqueada", "BLOCKED_OPTED_OUT", "opted_out");
    assert!(end(blocked(plain), &[]) && !end(blocked(hermit), &[]));
    assert!(end(row(hermit, "bloqueada", "DEDUPED", "deduped"), &[]));
    assert!(end(ended("cancelada", "FAILED_EXPIRED", "expired"), &[]) && end(ended("processando", "", ""), &[]));
    let waiting = |outcome: &str, reason: &str, due| Ended { due, ..ended("pendente", outcome, reason) };
    let limited = |due: &str| end(waiting("FAILED_RATE_LIMIT", "rate_limit", at(due)), &[]);
    assert!(limited("23:45:00") && limited("23:00:00"));
    let closed = |due| Ended { at: at("23:15:00"), ..waiting("BLOCKED_QUIET_HOURS", "quiet_hours", due) };
    let morning = "2026-03-11T11:00:00Z".parse().ok();
    assert!(end(closed(at("23:45:00")), &[]) && !end(closed(morning), &[]));
    assert!(end(waiting("BLOCKED_QUIET_HOURS", "quiet_hours", morning), &[]), "there was business at 19:00");
    assert!(end(waiting("BLOCKED_COOLING_OFF", "cooling_off", morning), &[]), "this client asked for nothing");
    assert!(end(waiting("FAILED_CIRCUIT_OPEN", "circuit_open", None), &[]), "an hour and a half is too long");
    assert!(end(waiting("", "", None), &[]));
}

fn is_condemned(judge: impl FnOnce()) -> bool {
    catch_unwind(std::panic::AssertUnwindSafe(judge)).is_err()
}
