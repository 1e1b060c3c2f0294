//! The judge of ends: whether what each row says became of its message is true, and justified by what the gateway did.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Timelike, Utc, Weekday};

use super::{
    gateway::{Answer, Call},
    judge::local,
    team::{Ended, Roster, has_opted_out, left_alone_for, number_in},
};

/// From when on a message is too old.
const TOO_OLD: TimeDelta = TimeDelta::hours(24);
/// Tries of a message.
const TRIES: i64 = 3;
/// What a provider that has had enough is given.
const PROVIDER_WAIT: TimeDelta = TimeDelta::minutes(5);
/// The gap between two messages to a number, and what the first of them may take at most.
const GAP_AT_MOST: TimeDelta = TimeDelta::seconds(45 + 30);
/// The longest that the gateway is left alone.
const LONGEST_LEFT_ALONE: TimeDelta = TimeDelta::minutes(30);

/// What is known of the days beside the rows.
pub struct Court<'a> {
    pub roster: &'a Roster,
    pub calls: &'a [Call],
    /// When the queue was last worked on.
    pub seen: DateTime<Utc>,
}

impl Court<'_> {
    /// What each row says agrees with what the gateway did.
    #[track_caller]
    pub fn each_message_has_its_end(&self, rows: &[Ended]) {
        let mut calls: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
        for call in self.calls {
            calls.entry(number_in(&call.text)).or_default().push(call);
        }
        for row in rows {
            self.judge(row, calls.get(&row.message).map(Vec::as_slice).unwrap_or_default());
        }
    }

    #[track_caller]
    fn judge(&self, row: &Ended, calls: &[&Call]) {
        let (outcome, reason) = (row.outcome.as_deref(), row.reason.as_deref());
        let is_dead = i64::from(row.status == "erro");
        assert_eq!(row.dead, is_dead, "dead letters of {row:?}");
        let is_true = match (row.status.as_str(), outcome, reason) {
            ("enviada", Some("SENT"), Some("sent")) => calls.iter().filter(|call| call.is_delivered).count() == 1,
            ("erro", Some("FAILED_TIMEOUT"), Some("unknown")) => is_in_doubt(calls),
            ("erro", Some("FAILED_PROVIDER"), Some("provider")) => row.tries == TRIES && were_refused(calls),
            ("bloqueada", Some("BLOCKED_OPTED_OUT"), Some("opted_out")) => {
                has_opted_out(self.roster.messages[row.message].client) && calls.is_empty()
            }
            ("cancelada", Some("FAILED_EXPIRED"), Some("expired")) => self.was_too_old(row) && !arrived(calls),
            ("pendente", ..) => !arrived(calls) && self.waits_rightly(row),
            _ => false,
        };
        assert!(is_true, "seen at {}, not justified: {row:?}, calls {calls:?}", self.seen);
    }

    /// More than a day after it fell due, by the roster and by its own row.
    fn was_too_old(&self, row: &Ended) -> bool {
        let due = row.due.unwrap_or_else(|| self.roster.messages[row.message].due());
        row.at.is_some_and(|at| TOO_OLD < at - due && TOO_OLD < at - self.roster.messages[row.message].due())
    }

    /// It waits for a moment that its reason allows, or has not fallen due.
    fn waits_rightly(&self, row: &Ended) -> bool {
        let message = &self.roster.messages[row.message];
        let Some(reason) = row.reason.as_deref() else { return self.seen < message.due() && row.tries == 0 };
        let (Some(due), Some(at)) = (row.due.or(Some(message.due())), row.at) else { return false };
        let wait = due - at;
        let is_right = match (row.outcome.as_deref(), reason) {
            (Some("BLOCKED_QUIET_HOURS"), "quiet_hours") => !is_open(at) && due == next_opening(at),
            (Some("FAILED_RATE_LIMIT"), "rate_limit") => TimeDelta::zero() <= wait && is_legitimate(at, due),
            (Some("BLOCKED_COOLING_OFF"), "cooling_off") | (Some("BLOCKED_NEXT_ALLOWED"), "next_allowed") => {
                let until = left_alone_for(message.client).map(|length| self.roster.start + length);
                until.is_some_and(|until| at < until && due == if is_open(until) { until } else { next_opening(until) })
            }
            (Some("FAILED_PROVIDER"), "provider") => {
                (1..TRIES).contains(&row.tries) && wait == TimeDelta::seconds(60 << row.tries)
            }
            (Some("FAILED_RATE_LIMIT"), "provider_rate_limit") => wait == PROVIDER_WAIT,
            // Left as it was: it is due, as long as nobody asks the gateway.
            (Some("FAILED_CIRCUIT_OPEN"), "circuit_open") => return self.seen - at <= LONGEST_LEFT_ALONE,
            _ => false,
        };
        is_right && self.seen < due
    }
}

fn arrived(calls: &[&Call]) -> bool {
    calls.iter().any(|call| call.is_delivered)
}

/// The last call left everybody in doubt, and none before it did.
fn is_in_doubt(calls: &[&Call]) -> bool {
    let is_doubtful = |call: &&&Call| matches!(call.answer, Answer::Broken | Answer::Silence | Answer::Cut);
    calls.last().as_ref().is_some_and(is_doubtful) && calls.iter().filter(is_doubtful).count() == 1
}

/// All calls that the gateway heard of it were refused, and there was one at least.
fn were_refused(calls: &[&Call]) -> bool {
    !calls.is_empty() && calls.iter().all(|call| matches!(call.answer, Answer::Busy(_)))
}

/// The top of the next hour or of the one after it, the next midnight or the one after it, or the end of the gap.
fn is_legitimate(at: DateTime<Utc>, due: DateTime<Utc>) -> bool {
    let (wait, on_clock) = (due - at, local(due));
    let is_top = on_clock.minute() == 0 && on_clock.second() == 0 && on_clock.and_utc().timestamp_subsec_millis() == 0;
    wait <= GAP_AT_MOST
        || is_top && wait <= TimeDelta::hours(2)
        || is_top && on_clock.hour() == 0 && wait <= TimeDelta::days(2)
}

fn is_working_day(day: Weekday) -> bool {
    !matches!(day, Weekday::Sat | Weekday::Sun)
}

fn is_open(at: DateTime<Utc>) -> bool {
    let on_clock = local(at);
    is_working_day(on_clock.weekday()) && (8..20).contains(&on_clock.hour())
}

/// The first 08:00 of a working day after a moment.
pub fn next_opening(after: DateTime<Utc>) -> DateTime<Utc> {
    let eight = NaiveTime::from_hms_opt(8, 0, 0).expect("a time of day");
    let mut opening = local(after).date().and_time(eight);
    while opening <= local(after) || !is_working_day(opening.weekday()) {
        opening += TimeDelta::days(1);
    }
    opening.and_utc() + TimeDelta::hours(3)
}
