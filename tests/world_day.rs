//! Days of the team's queue: messages come in at all hours, the real `run.fila` works on them every 30 s by a clock that
//! only the test moves, and a gateway on loopback fails, hangs, lies and goes away. In the end a judge that has seen
//! nothing but the gateway's own log says whether anybody was written to twice, too often or at night.

mod support;

#[path = "handlers/attempt.rs"]
#[expect(dead_code, reason = "the tests of the handlers use the rest")]
mod attempt;

mod world_day {
    pub mod ends;
    pub mod gateway;
    pub mod judge;
    pub mod proofs;
    pub mod team;
}

use std::{sync::Arc, time::Duration};

use attempt::Home;
use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    clock::Clock,
    domain::run::Report,
    handlers::{Context, Tools},
    job_table::{Entry, Environment, JobTable, parse},
};
use support::world::{name, utc};
use world_day::{
    ends::Court,
    gateway::Gateway,
    judge::{self, Limits},
    proofs::{self, Told},
    team::{self, Ended, Roster},
};

/// Between two runs of the queue.
const EVERY: TimeDelta = TimeDelta::seconds(30);
/// Messages that are queued on each day.
const MESSAGES: usize = 500;
/// More than the defaults in the hour and the day, so that every limit is met, and not the day's alone by noon.
const LIMITS: Limits = Limits { per_hour: 40, per_day: 260, per_client_hour: 3, between: TimeDelta::seconds(45) };
/// After the last midnight the queue is worked on until 09:00, so that the evening's messages are seen to go.
const MORNING: TimeDelta = TimeDelta::hours(9);
/// Hours of each day, from its midnight, at which the gateway is away.
const AWAY: std::ops::Range<i64> = 14..15;

/// Days of the simulation; `just prove` asks for a week.
fn days() -> i64 {
    std::env::var("WORLD_DAYS").map_or(1, |days| days.parse().expect("WORLD_DAYS is a number of days"))
}

fn table(port: u16) -> Arc<JobTable> {
    let text = format!(
        "version = 1
        [defaults]
        timezone = \"America/Sao_Paulo\"
        [outbound]
        gateway = \"evolution\"
        evolution = {{ url = \"http://127.0.0.1:{port}\", instance = \"escala\", key = \"none\" }}
        timeout = \"2s\"
        limits = {{ per_hour = {}, per_day = {} }}
        [jobs.fila_worker]
        every = \"30s\"
        run.fila = {{ batch = 20 }}
        ",
        LIMITS.per_hour, LIMITS.per_day
    );
    let environment = Environment::new([("APP_ENV".to_owned(), "production".to_owned())].into());
    parse(&text, "jobs.toml", &environment).map(Arc::new).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// One process that works on the queue.
struct Worker {
    entry: Entry,
    tools: Tools,
    clock: Clock,
}

impl Worker {
    fn new(table: &JobTable, clock: &Clock) -> Self {
        let entry = table.jobs[&name("fila_worker")].clone();
        Self { entry, tools: Tools::on_clock(table.targets.clone(), clock.clone()), clock: clock.clone() }
    }

    /// One attempt, as the engine makes it; one whose messages all failed is told as the others are.
    async fn attempt(&self, home: &Home) -> Report {
        let now = self.clock.now();
        let ctx = Context {
            job: Arc::clone(&self.entry.job),
            tools: self.tools.clone(),
            now,
            deadline: now + TimeDelta::minutes(5),
            ..attempt::context(home.app())
        };
        match attempt::commit(self.entry.work.run(ctx).await).await {
            Ok(report) => report,
            Err(failure) => *failure.report.unwrap_or_else(|| panic!("the queue failed: {}", failure.message)),
        }
    }
}

/// The queue as it stood at some moment.
struct Seen {
    rows: Vec<Ended>,
    /// So many calls had been made.
    calls: usize,
    /// When it was last worked on.
    worked_on: DateTime<Utc>,
}

impl Seen {
    async fn now(home: &Home, gateway: &Gateway, worked_on: DateTime<Utc>) -> Self {
        Self { rows: team::rows(home).await, calls: gateway.log().len(), worked_on }
    }
}

/// A World whose queue has been worked on until the last midnight, and through the first hour of business after it.
struct Lived {
    /// Kept, because it holds the database.
    _home: Home,
    gateway: Gateway,
    roster: Roster,
    told: Vec<Told>,
    /// At the last midnight, and in the end.
    at_midnight: Seen,
    at_last: Seen,
    midnight: DateTime<Utc>,
    /// What the last run left, and what was due then.
    left: (Option<u64>, u64),
}

/// Lives through the days, with so many workers at once on one queue.
async fn live(home: Home, workers: usize) -> Lived {
    let start = utc("2026-03-10 03:00");
    let midnight = start + TimeDelta::days(days());
    let ended = midnight + MORNING;
    let clock = Clock::manual(start);
    let mut gateway = Gateway::open(&clock);
    let table = table(gateway.port);
    let workers: Vec<Worker> = (0..workers).map(|_| Worker::new(&table, &clock)).collect();
    let mut roster = Roster::new(start, days(), MESSAGES);
    team::settle_in(&home, &mut roster).await;

    // A run that finds nothing due costs PostgreSQL a dozen round trips: the file has them all, the server has none.
    let all_ticks = matches!(home, Home::Sqlite { .. });
    let (mut tick, mut told, mut at_midnight, mut worked_on) = (start, Vec::new(), None, start);
    while tick < ended {
        if midnight <= tick && at_midnight.is_none() {
            at_midnight = Some(Seen::now(&home, &gateway, worked_on).await);
        }
        clock.set(tick.max(clock.now()));
        gateway.be(!is_away(tick - start));
        team::queue_until(&home, &mut roster, clock.now()).await;
        let (at, due, is_in_outage) =
            (clock.now(), team::due(&home, &roster, clock.now()).await, is_outage(tick - start));
        worked_on = at;
        if 0 < due || all_ticks && tick < midnight {
            let reports = futures_util::future::join_all(workers.iter().map(|worker| worker.attempt(&home))).await;
            told.push(Told { at, is_in_outage, due, reports });
        }
        tick += EVERY;
        // An attempt that took longer costs the firings that fell into it, as `overlap = "skip"` says.
        while tick < clock.now() {
            tick += EVERY;
        }
    }
    // One more by itself, so that nobody else holds a message when it counts what is left.
    let (at, due) = (clock.now(), team::due(&home, &roster, clock.now()).await);
    let last = workers[0].attempt(&home).await;
    let left = (last.left, team::due(&home, &roster, clock.now()).await);
    told.push(Told { at, is_in_outage: false, due, reports: vec![last] });
    let at_midnight = at_midnight.expect("midnight comes");
    let at_last = Seen::now(&home, &gateway, at).await;
    Lived { _home: home, gateway, roster, told, at_midnight, at_last, midnight, left }
}

/// For an hour of each day, and now and then for a moment.
fn is_away(since: TimeDelta) -> bool {
    let hour = since.num_hours() % 24;
    is_outage(since) || (since.num_minutes() % 97 == 7 && (8..20).contains(&hour))
}

fn is_outage(since: TimeDelta) -> bool {
    AWAY.contains(&(since.num_hours() % 24))
}

fn judge(lived: Lived) {
    let Lived { gateway, roster, told, at_midnight, at_last, .. } = &lived;
    let (calls, rows) = (gateway.log(), &at_last.rows);

    let counts = judge::counts(rows);
    eprintln!("{counts:?}, {} calls, {}", calls.len(), judge::summary(&calls));

    judge::nobody_was_written_to_twice(&calls);
    judge::limits_were_kept(&calls, roster, &LIMITS);
    judge::nights_and_wishes_were_kept(&calls, roster);
    for seen in [at_midnight, at_last] {
        let court = Court { roster, calls: &calls[..seen.calls], seen: seen.worked_on };
        court.each_message_has_its_end(&seen.rows);
    }
    assert_eq!(rows.len(), roster.messages.len(), "a row for each message");
    judge::the_day_was_no_idyll(&judge::counts(&at_midnight.rows), &calls);
    proofs::limits_bound(&calls, roster, &LIMITS);
    proofs::the_outage_was_one(told, &calls, roster.start);
    proofs::reports_add_up(told, rows, lived.left);
    proofs::the_refused_died_after_three_tries(rows, &calls);
    proofs::the_morning_brought_what_the_evening_left(&at_midnight.rows, rows, &calls, lived.midnight);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_day_ends_as_it_should_on_sqlite() {
    let home = Home::sqlite().await;
    home.execute("pragma journal_mode = wal; pragma synchronous = off").await;

    judge(live(home, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_day_ends_as_it_should_with_two_workers_at_once_on_postgresql() {
    let home = Home::postgres().await;

    judge(live(home, 2).await);
}

/// The judge is worth something only if it condemns.
#[tokio::test]
async fn the_judge_finds_what_is_wrong() {
    judge::condemns_what_is_wrong();
    let clock = Clock::manual(utc("2026-03-10 03:00"));
    clock.pause(Duration::from_secs(2)).await;
    assert_eq!(clock.now(), utc("2026-03-10 03:00") + TimeDelta::seconds(2));
}
