//! Proofs that the days put the queue to the test: limits that bound, an outage with messages due, numbers that add up.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::domain::run::Report;
use serde_json::Value;

use super::{
    ends::next_opening,
    gateway::{Answer, Call, is_always_refused},
    judge::{Limits, local},
    team::{Ended, Roster, number_in},
};

/// Calls of one message that are closer together are tries of one send.
const ONE_SEND: TimeDelta = TimeDelta::seconds(60);
/// Between the end of the gap and the next run, and some more for the way there.
const SOON_AFTER_THE_GAP: TimeDelta = TimeDelta::seconds(120);

/// What a run told, and what was due when it began.
#[derive(Debug)]
pub struct Told {
    pub at: DateTime<Utc>,
    /// Since the first midnight the gateway was away for an hour.
    pub is_in_outage: bool,
    pub due: u64,
    pub reports: Vec<Report>,
}

/// The first call of each send.
fn sends(calls: &[Call]) -> Vec<&Call> {
    let mut last: BTreeMap<usize, DateTime<Utc>> = BTreeMap::new();
    let is_first = |call: &&Call| last.insert(number_in(&call.text), call.at).is_none_or(|at| ONE_SEND < call.at - at);
    calls.iter().filter(is_first).collect()
}

/// Each kind of limit had to hold somebody back, else keeping it proves nothing.
#[track_caller]
pub fn limits_bound(calls: &[Call], roster: &Roster, limits: &Limits) {
    let mut taken: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    let mut right_after_the_gap = 0;
    for call in sends(calls) {
        let (message, hour) = (roster.message(&call.text), local(call.at).format("%d %H:00").to_string());
        *taken.entry(("all", hour.clone())).or_default() += 1;
        *taken.entry(("client", format!("{hour} {}", message.client))).or_default() += 1;
        *taken.entry((message.tipo, hour)).or_default() += 1;
        if let Some(before) = last.insert(&call.number, call.at) {
            right_after_the_gap += usize::from(call.at - before < limits.between + SOON_AFTER_THE_GAP);
        }
    }
    let most = |scope: &str| taken.iter().filter(|((of, _), _)| *of == scope).map(|(_, count)| *count).max();
    for (scope, limit) in [("all", limits.per_hour), ("client", limits.per_client_hour), ("prospeccao", 10)] {
        assert!(Some(limit) <= most(scope), "{scope}: no hour reached {limit}, at most {:?}", most(scope));
    }
    assert!(3 <= right_after_the_gap, "{right_after_the_gap} messages went right after the gap to the one before");
}

/// The gateway was away while messages were due, nobody reached it, and it was left alone.
#[track_caller]
pub fn the_outage_was_one(told: &[Told], calls: &[Call], start: DateTime<Utc>) {
    let hour_of = |at: DateTime<Utc>| (at - start).num_hours();
    let in_hour = |hour: i64| calls.iter().filter(|call| hour_of(call.at) == hour).count();
    assert!(0 < in_hour(13) && 0 < in_hour(15), "nothing was sent before or after the outage");
    let outages = calls.iter().filter(|call| hour_of(call.at) % 24 == 14).count();
    assert_eq!(outages, 0, "calls arrived at a gateway that was away");

    let outage: Vec<_> = told.iter().filter(|told| told.is_in_outage && hour_of(told.at) == 14).collect();
    let waiting = outage.iter().filter(|told| 0 < told.due).count();
    assert!(60 <= waiting, "messages were due at only {waiting} of {} runs", outage.len());
    let reports = || outage.iter().flat_map(|told| &told.reports);
    assert!(reports().all(|report| report.items == Some(0)), "something was sent in the outage");
    let left_alone = reports().filter(|report| 0 < outcome(report, "FAILED_CIRCUIT_OPEN") && report.note.is_some());
    let left_alone = left_alone.count();
    assert!(30 <= left_alone, "the breaker held back only {left_alone} of {} runs", outage.len());
}

fn outcome(report: &Report, word: &str) -> u64 {
    report.result.as_ref().and_then(|result| result["outcomes"][word].as_u64()).unwrap_or(0)
}

/// What the runs told adds up to what the rows say. `left` = what the last of them said, `due` = what was due then.
#[track_caller]
pub fn reports_add_up(told: &[Told], rows: &[Ended], (left, due): (Option<u64>, u64)) {
    let reports: Vec<_> = told.iter().flat_map(|told| &told.reports).collect();
    let told_of = |words: &[&str]| -> u64 {
        words.iter().flat_map(|word| reports.iter().map(|report| outcome(report, word))).sum()
    };
    let rows_in = |status: &str| rows.iter().filter(|row| row.status == status).count() as u64;
    let items: u64 = reports.iter().filter_map(|report| report.items).sum();
    let failed: u64 = reports.iter().map(|report| report.items_failed).sum();
    let tries: i64 = rows.iter().map(|row| row.tries).sum();

    assert_eq!(items, rows_in("enviada"), "items");
    assert_eq!(told_of(&["SENT", "BYPASS"]), rows_in("enviada"), "outcomes of what was sent");
    assert_eq!(told_of(&["BLOCKED_OPTED_OUT", "BLOCKED_DEV_ALLOWLIST", "DEDUPED"]), rows_in("bloqueada"), "blocked");
    assert_eq!(told_of(&["FAILED_EXPIRED"]), rows_in("cancelada"), "expired");
    let lost: Vec<_> = reports.iter().filter_map(|report| report.result.as_ref()?.get("lost")).collect();
    assert_eq!((failed, lost), (tries.unsigned_abs(), Vec::<&Value>::new()), "items_failed, and rows that were lost");
    assert_eq!(left, Some(due), "left of the last run");
}

/// Messages that the gateway always refuses were tried three times and no more, at growing distances, and then died.
#[track_caller]
pub fn the_refused_died_after_three_tries(rows: &[Ended], calls: &[Call]) {
    let died = rows.iter().filter(|row| row.status == "erro" && is_always_refused(row.message));
    let waits = |row: &Ended| -> Vec<TimeDelta> {
        let tries: Vec<_> = calls.iter().filter(|call| number_in(&call.text) == row.message).map(|it| it.at).collect();
        tries.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let whole = died.filter(|row| match waits(row).as_slice() {
        [first, second] => TimeDelta::minutes(2) <= *first && TimeDelta::minutes(4) <= *second,
        _ => false,
    });
    let whole = whole.filter(|row| row.outcome.as_deref() == Some("FAILED_PROVIDER") && row.dead == 1).count();
    assert!(3 <= whole, "only {whole} messages went all the way to the dead letters");
}

/// What waited at midnight for the morning went when business began, and not before.
#[track_caller]
pub fn the_morning_brought_what_the_evening_left(
    at_midnight: &[Ended],
    rows: &[Ended],
    calls: &[Call],
    midnight: DateTime<Utc>,
) {
    let morning = next_opening(midnight);
    let mut sent = 0;
    for waiting in at_midnight.iter().filter(|row| row.status == "pendente" && row.due == Some(morning)) {
        let mut later = calls.iter().filter(|call| number_in(&call.text) == waiting.message && midnight <= call.at);
        let end = rows.iter().find(|row| row.message == waiting.message).expect("its row is still there");
        let went = later.clone().any(|call| call.answer == Answer::Created);
        assert!(later.all(|call| morning <= call.at), "it went before the morning: {waiting:?}");
        sent += usize::from(went && end.status == "enviada" && waiting.reason.as_deref() == Some("quiet_hours"));
    }
    assert!(5 <= sent, "only {sent} messages of the evening went in the morning's window");
}
