//! The judge: knows what was queued for whom, and what the gateway wrote down; of our tables only each message's end.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::catch_unwind,
};

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::{
    gateway::{Answer, Call},
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
fn local(at: DateTime<Utc>) -> NaiveDateTime {
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

/// What each row says agrees with what the gateway did. `seen` is when the queue was last worked on.
#[track_caller]
pub fn each_message_has_its_end(rows: &[Ended], calls: &[Call], seen: DateTime<Utc>) {
    let arrived: BTreeSet<usize> = delivered(calls).map(|call| number_in(&call.text)).collect();
    for row in rows {
        let is_unknown = row.reason.as_deref() == Some("unknown");
        let (may_have_arrived, dead) = match row.status.as_str() {
            "enviada" => (true, 0),
            "erro" => (is_unknown, 1),
            "bloqueada" | "cancelada" | "pendente" => (false, 0),
            other => panic!("{other} is no end: {row:?}"),
        };
        let has_arrived = arrived.contains(&row.message);
        assert!(may_have_arrived || !has_arrived, "it arrived: {row:?}");
        assert!(row.status != "enviada" || has_arrived, "it never arrived: {row:?}");
        assert_eq!(row.dead, dead, "dead letters of {row:?}");
        match row.status.as_str() {
            "pendente" => {
                let waits = row.due.is_some_and(|due| seen < due) || row.reason.as_deref() == Some("circuit_open");
                assert!(waits, "nothing keeps it waiting: {row:?}");
            }
            "erro" | "bloqueada" | "cancelada" => {
                assert!(row.outcome.is_some() && row.reason.is_some(), "it does not say why: {row:?}");
            }
            _ => {}
        }
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

    let row = |status: &str, reason: Option<&str>, dead| Ended {
        message: 1,
        status: status.into(),
        outcome: reason.map(str::to_owned),
        reason: reason.map(str::to_owned),
        due: None,
        dead,
    };
    let end = |row: Ended, calls: &[Call]| {
        is_condemned(|| each_message_has_its_end(std::slice::from_ref(&row), calls, DateTime::UNIX_EPOCH))
    };
    let arrived = [sent(1, "15:00:00", 1)];
    assert!(end(row("enviada", None, 0), &[]) && end(row("pendente", Some("circuit_open"), 0), &arrived));
    assert!(end(row("processando", None, 0), &[]) && end(row("pendente", None, 0), &[]));
    assert!(end(row("erro", Some("provider"), 0), &[]) && end(row("erro", Some("provider"), 1), &arrived));
    assert!(end(row("cancelada", None, 0), &[]) && end(row("bloqueada", Some("opted_out"), 0), &arrived));
    assert!(!end(row("enviada", None, 0), &arrived) && !end(row("erro", Some("unknown"), 1), &arrived));
}

fn is_condemned(judge: impl FnOnce()) -> bool {
    catch_unwind(std::panic::AssertUnwindSafe(judge)).is_err()
}
