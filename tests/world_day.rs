//! Days of the team's queue: messages come in at all hours, the real `run.fila` works on them every 30 s by a clock that
//! only the test moves, and a gateway on loopback fails, hangs, lies and goes away. In the end a judge that has seen
//! nothing but the gateway's own log says whether anybody was written to twice, too often or at night.

mod support;

#[path = "handlers/attempt.rs"]
#[expect(dead_code, reason = "the tests of the handlers use the rest")]
mod attempt;

mod world_day {
    pub mod gateway;
    pub mod judge;
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
    gateway::Gateway,
    judge::{self, Limits},
    team::{self, Roster},
};

/// Between two runs of the queue.
const EVERY: TimeDelta = TimeDelta::seconds(30);
/// Messages that are queued on each day.
const MESSAGES: usize = 500;
/// More than the defaults in the hour and the day, so that every limit is met, and not the day's alone by noon.
const LIMITS: Limits = Limits { per_hour: 40, per_day: 260, per_client_hour: 3, between: TimeDelta::seconds(45) };
/// Hours of the first day, from its midnight, at which the gateway is away.
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
        timeout = \"1s\"
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

    /// One attempt, as the engine makes it: `None` = all its messages failed.
    async fn attempt(&self, home: &Home) -> Option<Report> {
        let now = self.clock.now();
        let ctx = Context {
            job: Arc::clone(&self.entry.job),
            tools: self.tools.clone(),
            now,
            deadline: now + TimeDelta::minutes(5),
            ..attempt::context(home.app())
        };
        match attempt::commit(self.entry.work.run(ctx).await).await {
            Ok(report) => Some(report),
            Err(failure) => {
                assert!(failure.report.is_some(), "no message failed, but the queue: {}", failure.message);
                None
            }
        }
    }
}

/// A World whose queue has been worked on until the last midnight.
struct Lived {
    home: Home,
    gateway: Gateway,
    roster: Roster,
    ended: DateTime<Utc>,
}

/// Lives through the days, with so many workers at once on one queue.
async fn live(home: Home, workers: usize) -> Lived {
    let start = utc("2026-03-10 03:00");
    let ended = start + TimeDelta::days(days());
    let clock = Clock::manual(start);
    let mut gateway = Gateway::open(&clock);
    let table = table(gateway.port);
    let workers: Vec<Worker> = (0..workers).map(|_| Worker::new(&table, &clock)).collect();
    let mut roster = Roster::new(start, days(), MESSAGES);
    team::settle_in(&home, &mut roster).await;

    // A run that finds nothing due costs PostgreSQL a dozen round trips: the file has them all, the server has none.
    let all_ticks = matches!(home, Home::Sqlite { .. });
    let mut tick = start;
    while tick < ended {
        clock.set(tick.max(clock.now()));
        gateway.be(!is_away(tick - start));
        team::queue_until(&home, &mut roster, clock.now()).await;
        if all_ticks || team::something_is_due(&home, clock.now()).await {
            let attempts = workers.iter().map(|worker| worker.attempt(&home));
            futures_util::future::join_all(attempts).await;
        }
        tick += EVERY;
        // An attempt that took longer costs the firings that fell into it, as `overlap = "skip"` says.
        while tick < clock.now() {
            tick += EVERY;
        }
    }
    Lived { home, gateway, roster, ended }
}

/// For an hour of each day, and now and then for a moment.
fn is_away(since: TimeDelta) -> bool {
    let hour = since.num_hours() % 24;
    AWAY.contains(&hour) || (since.num_minutes() % 97 == 7 && (8..20).contains(&hour))
}

async fn judge(lived: Lived) {
    let rows = team::rows(&lived.home).await;
    let calls = lived.gateway.log();

    judge::nobody_was_written_to_twice(&calls);
    judge::limits_were_kept(&calls, &lived.roster, &LIMITS);
    judge::nights_and_wishes_were_kept(&calls, &lived.roster);
    judge::each_message_has_its_end(&rows, &calls, lived.ended - EVERY);
    let counts = judge::counts(&rows);
    eprintln!("{counts:?}, {} calls, {}", calls.len(), judge::summary(&calls));
    assert_eq!(counts.values().sum::<usize>(), lived.roster.messages.len(), "{counts:?}");
    judge::the_day_was_no_idyll(&counts, &calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_day_ends_as_it_should_on_sqlite() {
    let home = Home::sqlite().await;
    home.execute("pragma journal_mode = wal; pragma synchronous = off").await;

    judge(live(home, 1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_day_ends_as_it_should_with_two_workers_at_once_on_postgresql() {
    let home = Home::postgres().await;

    judge(live(home, 2).await).await;
}

/// The judge is worth something only if it condemns.
#[tokio::test]
async fn the_judge_finds_what_is_wrong() {
    judge::condemns_what_is_wrong();
    let clock = Clock::manual(utc("2026-03-10 03:00"));
    clock.pause(Duration::from_secs(2)).await;
    assert_eq!(clock.now(), utc("2026-03-10 03:00") + TimeDelta::seconds(2));
}
