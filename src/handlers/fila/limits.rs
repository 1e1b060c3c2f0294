//! Rate limits: places in calendar hours and days, counted and taken in one statement of our database.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::{decide::Rules, message::Claimed};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        team::{Adopted, Param},
    },
};

/// The one window of what is counted by no calendar: the last message to a number.
const NO_WINDOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// Beyond all takings, and the longest time between two messages to a number.
const FAR: TimeDelta = TimeDelta::days(2);
/// Windows that ended so long ago are of no use to anybody.
const KEPT: TimeDelta = TimeDelta::days(3);
/// Windows swept away at once.
const SWEPT: i64 = 10_000;

/// A place that a message needs in one window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    scope: String,
    opens_at: DateTime<Utc>,
    free: Free,
    /// What is written as the last taking.
    taken_at: DateTime<Utc>,
    /// The taking before, which a gap goes back to when nothing was sent.
    before: Option<DateTime<Utc>>,
}

/// When there is a place.
#[derive(Debug, Clone, PartialEq)]
enum Free {
    /// As long as fewer than so many were taken; then again at the next opening.
    Below { most: u32, reopens_at: DateTime<Utc> },
    /// So long after the last taking.
    Since(TimeDelta),
    /// Always: it is counted and never refused.
    Always,
}

/// A kind of window on the local clock.
#[derive(Debug, Clone, Copy)]
enum Window {
    Hour,
    Day,
}

impl Window {
    fn opened(self, local: NaiveDateTime) -> NaiveDateTime {
        let date = local.date();
        match self {
            Self::Hour => date.and_hms_opt(local.hour(), 0, 0).unwrap_or(local),
            Self::Day => date.and_time(chrono::NaiveTime::MIN),
        }
    }

    fn length(self) -> TimeDelta {
        match self {
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
        }
    }
}

/// How long after its beginning a call may still arrive at the provider.
pub(super) fn longest_send(rules: &Rules) -> TimeDelta {
    TimeDelta::from_std(rules.outbound.longest_send()).unwrap_or(FAR)
}

/// The places that a message to these digits needs now. One that may arrive in the next window needs a place there
/// too: only so is no limit exceeded as the provider counts. A bypassing message takes places that there are not.
pub(super) fn places(message: &Claimed, number: &str, rules: &Rules, now: DateTime<Utc>) -> Vec<Place> {
    let limits = &rules.outbound.limits;
    let client = message.client.as_ref().map_or(format!("client:number:{number}"), |client| format!("client:{client}"));
    let mut wanted = vec![
        ("all:hour".to_owned(), Window::Hour, limits.per_hour),
        ("all:day".to_owned(), Window::Day, limits.per_day),
        (client, Window::Hour, limits.per_client_hour),
    ];
    if let Some(most) = limits.per_tipo_hour.get(&message.tipo) {
        wanted.push((format!("tipo:{}", message.tipo), Window::Hour, *most));
    }
    let of = |(scope, window, most)| in_windows(scope, (window, most), rules, now);
    let mut places: Vec<Place> = wanted.into_iter().flat_map(of).collect();
    if !limits.between.is_zero() {
        places.push(gap(number, rules, now));
    }
    if message.is_bypass() {
        places.iter_mut().for_each(|place| place.free = Free::Always);
    }
    // Whoever takes several takes them in one order, so that two never wait for each other.
    places.sort_by(|a, b| (&a.scope, a.opens_at).cmp(&(&b.scope, b.opens_at)));
    places
}

fn in_windows(scope: String, (window, most): (Window, u32), rules: &Rules, now: DateTime<Utc>) -> Vec<Place> {
    let zone = &rules.zone;
    let opening = |after: i32| {
        let opened = window.opened(zone.local(now));
        zone.instant_of(opened + window.length() * after)
    };
    let place = |opens_at, reopens_at| {
        let free = Free::Below { most, reopens_at };
        Place { scope: scope.clone(), opens_at, free, taken_at: now, before: None }
    };
    let mut places = vec![place(opening(0), opening(1))];
    if opening(1) <= now + longest_send(rules) {
        places.push(place(opening(1), opening(2)));
    }
    places
}

/// The time between two messages to one number counts from the latest arrival of the first. `arrived` writes the true
/// one once it is known.
fn gap(number: &str, rules: &Rules, now: DateTime<Utc>) -> Place {
    let between = TimeDelta::from_std(rules.outbound.limits.between).unwrap_or(FAR);
    let free = Free::Since(between.min(FAR));
    let (scope, taken_at) = (format!("number:{number}"), now + longest_send(rules));
    Place { scope, opens_at: NO_WINDOW, free, taken_at, before: None }
}

impl Place {
    fn is_gap(&self) -> bool {
        self.opens_at == NO_WINDOW
    }

    fn key(&self) -> [Param; 2] {
        [self.scope.as_str().into(), self.opens_at.into()]
    }

    /// As [`take_text`] numbers them.
    fn params(&self, now: DateTime<Utc>) -> [Param; 5] {
        let (most, last_before) = match self.free {
            Free::Below { most, .. } => (most.into(), now + FAR),
            Free::Since(between) => (i64::MAX, now - between),
            Free::Always => (i64::MAX, now + FAR),
        };
        let [scope, opens_at] = self.key();
        [scope, opens_at, self.taken_at.into(), Param::Whole(Some(most)), last_before.into()]
    }
}

const TAKEN_AT_OF: &str = "\
    select @instant(taken_at) as taken_at from outbound_limits where scope = $1 and opens_at = $2 limit 1";

const ARRIVED: &str = "\
    update outbound_limits set taken_at = $3 where scope = $1 and opens_at = $2";

const GIVE_BACK: &str = "\
    update outbound_limits set taken = taken - 1 where scope = $1 and opens_at = $2 and 0 < taken";

const FORGET_GAP: &str = "\
    delete from outbound_limits where scope = $1 and opens_at = $2";

const SWEEP: &str = "\
    delete from outbound_limits
    where (scope, opens_at) in (
      select scope, opens_at from outbound_limits where @instant(taken_at) < @instant($1) limit $2 @locked
    )";

/// Takes `count` places, or as many of them as there are: five parameters each.
pub(super) fn take_text(count: usize) -> String {
    let rows: Vec<_> = (0..count).map(|n| n * 5).map(|n| format!("(${}, ${}, 1, ${})", n + 1, n + 2, n + 3)).collect();
    let is_free = |n: usize| {
        format!(
            "(excluded.scope = ${} and excluded.opens_at = ${} and outbound_limits.taken < ${}
              and @instant(outbound_limits.taken_at) <= @instant(${}))",
            n + 1,
            n + 2,
            n + 4,
            n + 5
        )
    };
    let free: Vec<_> = (0..count).map(|n| n * 5).map(is_free).collect();
    format!(
        "insert into outbound_limits (scope, opens_at, taken, taken_at)
        values {}
        on conflict (scope, opens_at) do update
        set taken = outbound_limits.taken + 1, taken_at = excluded.taken_at
        where {}
        returning scope, @instant(opens_at) as opens_at",
        rows.join(", "),
        free.join("\n          or ")
    )
}

/// Why there was no place.
#[derive(Debug)]
pub(super) enum Refused {
    Until(DateTime<Utc>),
    /// The limits could not be asked: closed, never open.
    Unsure(Failure),
}

/// Takes all places, or says when to ask again; what was taken then must be rolled back.
pub(super) async fn take(
    tx: &mut AppTx,
    adopted: &Adopted,
    places: &mut [Place],
    now: DateTime<Utc>,
) -> Result<(), Refused> {
    // A window without a place has no row to compare with: the first taking would make one.
    let closed = places.iter().filter_map(|place| match place.free {
        Free::Below { most: 0, reopens_at } => Some(reopens_at),
        _ => None,
    });
    if let Some(until) = closed.max() {
        return Err(Refused::Until(until));
    }
    for gap in places.iter_mut().filter(|place| place.is_gap()) {
        gap.before = last_taking(tx, adopted, gap).await.map_err(Refused::Unsure)?;
    }
    let params: Vec<_> = places.iter().flat_map(|place| place.params(now)).collect();
    let taken = adopted.rows(tx, &take_text(places.len()), &params).await.map_err(Refused::Unsure)?;
    let is_taken = |place: &Place| {
        let mut rows = taken.iter().map(|row| (row.text("scope"), row.instant("opens_at")));
        rows.any(|(scope, opens_at)| scope.as_ref() == Some(&place.scope) && opens_at == Some(place.opens_at))
    };
    let mut until = None;
    for refused in places.iter().filter(|place| !is_taken(place)) {
        until = until.max(Some(reopening(tx, adopted, refused).await.map_err(Refused::Unsure)?));
    }
    until.map_or(Ok(()), |until: DateTime<Utc>| Err(Refused::Until(until.max(now))))
}

/// When there may be a place again that was refused.
async fn reopening(tx: &mut AppTx, adopted: &Adopted, place: &Place) -> Result<DateTime<Utc>, Failure> {
    let between = match place.free {
        Free::Below { reopens_at, .. } => return Ok(reopens_at),
        Free::Since(between) => between,
        Free::Always => TimeDelta::zero(),
    };
    let last = last_taking(tx, adopted, place).await?;
    Ok(last.unwrap_or(place.taken_at) + between)
}

async fn last_taking(tx: &mut AppTx, adopted: &Adopted, place: &Place) -> Result<Option<DateTime<Utc>>, Failure> {
    let rows = adopted.rows(tx, TAKEN_AT_OF, &place.key()).await?;
    Ok(rows.first().and_then(|row| row.instant("taken_at")))
}

/// The time between two messages to a number counts from here: the first is over.
pub(super) async fn arrived(
    tx: &mut AppTx,
    adopted: &Adopted,
    places: &[Place],
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    for gap in places.iter().filter(|place| place.is_gap()) {
        let [scope, opens_at] = gap.key();
        adopted.change(tx, ARRIVED, &[scope, opens_at, now.into()]).await?;
    }
    Ok(())
}

/// Nothing was sent after all.
pub(super) async fn give_back(tx: &mut AppTx, adopted: &Adopted, places: &[Place]) -> Result<(), Failure> {
    for place in places {
        let [scope, opens_at] = place.key();
        match place.before {
            Some(before) => adopted.change(tx, ARRIVED, &[scope, opens_at, before.into()]).await?,
            None if place.is_gap() => adopted.change(tx, FORGET_GAP, &[scope, opens_at]).await?,
            None => adopted.change(tx, GIVE_BACK, &[scope, opens_at]).await?,
        };
    }
    Ok(())
}

/// Forgets windows that ended long ago.
pub(super) async fn sweep(tx: &mut AppTx, adopted: &Adopted, now: DateTime<Utc>) -> Result<(), Failure> {
    adopted.change(tx, SWEEP, &[(now - KEPT).into(), Param::Whole(Some(SWEPT))]).await.map(drop)
}

#[cfg(test)]
mod tests;
