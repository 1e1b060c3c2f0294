//! Several replicas on one PostgreSQL: started, stopped, killed and stalled at random, on hosts whose clocks disagree.
//! The judge is a query of its own, and a table that the handlers write outside our ledger.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sqlx::{Connection, PgConnection, Row};
use support::{
    daemon::{Daemon, Setup},
    postgres::Database,
};

/// How long the replicas are tormented; `scripts/prove` asks for ten minutes.
fn torment_time() -> Duration {
    let seconds = std::env::var("PROVE_SECONDS").map_or(60, |text| text.parse().expect("PROVE_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// A lease, the margin of the rescue, and a little for slow machines.
const RECOVERY: Duration = Duration::from_secs(45);

const TABLE: &str = r#"
version = 1
[defaults]
timezone = "UTC"
timeout = "20s"

[jobs.second]
every = "1s"
overlap = "allow"
run.sql = { text = "insert into effects (job, instant, run) values ('second', :scheduled_for, :run_id)" }

[jobs.exclusive]
every = "2s"
overlap = "queue"
run.sql = { text = "insert into effects (job, instant, run) values ('exclusive', :scheduled_for, :run_id)" }

[jobs.nap]
every = "3s"
run.noop = { sleep = "4s" }

[jobs.backlog]
every = "5s"
catch_up = "all"
run.sql = { text = "insert into effects (job, instant, run) values ('backlog', :scheduled_for, :run_id)" }
"#;

/// A deploy with another schedule for one job and without the others; it dies soon after each start.
const CRASHING_TABLE: &str = r#"
version = 1
[jobs.second]
every = "7s"
run.noop = {}
"#;

struct Torment {
    replicas: Vec<Option<Daemon>>,
    skews: [i64; 2],
    url: String,
    log: Vec<String>,
}

impl Torment {
    fn start(&mut self, index: usize) {
        let setup = Setup::new(TABLE).database(&self.url).clock_skew(self.skews[index]);
        self.replicas[index] = Some(setup.spawn(&[]));
    }

    fn act(&mut self, index: usize, choice: u8) {
        let act = match (self.replicas[index].take(), choice) {
            (None, _) => {
                self.start(index);
                "start"
            }
            (Some(mut daemon), 0 | 1) => {
                daemon.kill();
                "kill -9"
            }
            (Some(mut daemon), 2) => {
                daemon.terminate();
                "SIGTERM"
            }
            (Some(daemon), 3) => {
                daemon.signal(Signal::STOP);
                thread::sleep(Duration::from_secs(3));
                daemon.signal(Signal::CONT);
                self.replicas[index] = Some(daemon);
                "stall 3 s"
            }
            (Some(daemon), _) => {
                self.replicas[index] = Some(daemon);
                "leave"
            }
        };
        self.log.push(format!("{index} {act}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_tormented_for_a_minute_lose_and_double_nothing() {
    let database = Database::new().await;
    let mut judge = database.connect().await;
    sqlx::raw_sql("create table effects (job text, instant timestamptz, run uuid)").execute(&mut judge).await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut torment =
        Torment { replicas: vec![None, None], skews: [20, -20], url: database.url.clone(), log: Vec::new() };
    torment.start(0);
    torment.start(1);
    torment.replicas[0].as_mut().unwrap().wait_until_ready();

    // One stall longer than the lease: the other replica must take its runs over.
    thread::sleep(Duration::from_secs(3));
    torment.replicas[1].as_ref().unwrap().signal(Signal::STOP);
    let stalled = Instant::now();
    while stalled.elapsed() < Duration::from_secs(33) {
        thread::sleep(Duration::from_millis(random.u64(500..3_000)));
        torment.act(0, random.u8(0..6));
    }
    torment.replicas[1].as_ref().unwrap().signal(Signal::CONT);
    while stalled.elapsed() < torment_time() {
        thread::sleep(Duration::from_millis(random.u64(200..2_000)));
        torment.act(random.usize(0..2), random.u8(0..6));
    }
    if torment.replicas.iter().all(Option::is_none) {
        torment.start(0);
    }
    thread::sleep(RECOVERY);
    for replica in torment.replicas.iter_mut().flatten() {
        replica.terminate();
    }

    let history = format!("seed {seed}: {}", torment.log.join(", "));
    assert_conserved(&database, &mut judge, &history).await;
}

/// The judge: nothing stuck, every instant once, every effect once, and our own account agrees.
async fn assert_conserved(database: &Database, judge: &mut PgConnection, history: &str) {
    let stuck = count(judge, "select count(*) from workers.runs where state = 'running'").await;
    assert_eq!(stuck, 0, "runs are still running after every replica has left; {history}");
    let twice = count(
        judge,
        "select count(*) from (select job, instant from effects group by 1, 2 having count(*) > 1) as twice",
    )
    .await;
    assert_eq!(twice, 0, "an effect was applied twice; {history}");
    let unmatched = count(
        judge,
        "select count(*) from workers.runs r full join effects e on e.run = r.id
        where (r.id is null) or (e.run is null and r.job <> 'nap' and r.outcome = 'success')
        or (e.run is not null and r.outcome is distinct from 'success')",
    )
    .await;
    assert_eq!(unmatched, 0, "effects and successes do not match; {history}");
    for (job, seconds) in [("second", 1), ("exclusive", 2), ("nap", 3), ("backlog", 5)] {
        let holes = format!(
            "with due as (
                select generate_series(
                    to_timestamp(ceil(extract(epoch from first_seen + interval '1 millisecond') / {seconds}) * {seconds}),
                    planned_until, interval '{seconds} s') as instant
                from workers.jobs where name = '{job}'
            )
            select count(*) from due where (
                select count(*) from workers.runs
                where job = '{job}' and covers_from <= instant and instant <= scheduled_for) <> 1"
        );
        assert_eq!(
            count(judge, &holes).await,
            0,
            "instants of {job} that are not in the ledger exactly once; {history}"
        );
        let covered = format!(
            "select sum(covers)::bigint - (select count(*) from generate_series(
                to_timestamp(ceil(extract(epoch from min(j.first_seen) + interval '1 millisecond') / {seconds}) * {seconds}),
                min(j.planned_until), interval '{seconds} s'))
            from workers.runs join workers.jobs j on j.name = job where job = '{job}'"
        );
        assert_eq!(count(judge, &covered).await, 0, "rows of {job} cover more or less than was due; {history}");
    }
    let ledger = Setup::new(TABLE).database(&database.url).run(&["ledger", "--from", "2000-01-01T00:00:00Z"]);
    assert!(ledger.status.success(), "{}\n{history}", String::from_utf8_lossy(&ledger.stdout));
}

async fn count(judge: &mut PgConnection, query: &str) -> i64 {
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&mut *judge).await;
    row.unwrap_or_else(|error| panic!("{error}: {query}")).get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_looping_table_and_a_lone_worker_disturb_nothing() {
    let database = Database::new().await;
    let mut judge = database.connect().await;
    sqlx::raw_sql("create table effects (job text, instant timestamptz, run uuid)").execute(&mut judge).await.unwrap();
    let old = Setup::new(TABLE).database(&database.url).start();

    // The deploy becomes ready once, so its table is seen and active; then it dies again and again.
    for round in 0..3 {
        let mut crashing = Setup::new(CRASHING_TABLE).database(&database.url).start();
        thread::sleep(Duration::from_millis(500));
        crashing.kill();
        if round == 0 {
            // The old process takes its table back once nobody has held the other for a minute; an operator may be quicker.
            let back = Setup::new(TABLE).database(&database.url).run(&["config", "activate"]);
            assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
        }
    }
    let mut lone = Setup::new(TABLE).database(&database.url).spawn(&["run", "nap"]);
    thread::sleep(Duration::from_secs(8));
    lone.terminate();

    let epochs = count(&mut judge, "select count(*) from workers.schedules where job = 'second'").await;
    assert_eq!(epochs, 3, "one epoch before the deploy, one for it, one after the return, and none for the crashes");
    let gone = count(&mut judge, "select count(*) from workers.jobs where retired_at is not null").await;
    assert_eq!(gone, 0, "no job of the old table is retired");
    let ledger = Setup::new(TABLE).database(&database.url).run(&["ledger"]);
    assert!(ledger.status.success(), "{}", String::from_utf8_lossy(&ledger.stdout));
    drop(old);
    judge.close().await.unwrap();
}
