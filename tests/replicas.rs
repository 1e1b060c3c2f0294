//! Two replicas on one PostgreSQL, 20 s apart, started, stopped, killed and stalled at random: no instant twice, none
//! lost, nothing stuck, and SQL work in the daemon's own database exactly once.

mod support;

use std::{
    env,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::Signal;
use sqlx::{Executor, Row as _};
use support::{
    daemon::{Daemon, Setup},
    ledger,
    postgres::Database,
};

/// Seconds of chaos; `scripts/prove` asks for more.
const CHAOS: u64 = 40;
/// Longer than a lease (30 s): who wakes after this must find that its runs are not its own any more.
const LONG_STALL: Duration = Duration::from_secs(34);
/// A lease, the wait of the next rescue, and the runs that were freed.
const CALM: Duration = Duration::from_secs(60);

const TABLE: &str = "
version = 1
[defaults]
timezone = \"UTC\"
[executor]
shutdown_grace = \"1s\"
[jobs.quick]
every = \"1s\"
run.noop = {}
[jobs.slow]
every = \"1s\"
run.noop = { sleep = \"1500ms\" }
[jobs.parallel]
every = \"1s\"
overlap = \"allow\"
run.noop = { sleep = \"2s\" }
[jobs.all]
every = \"2s\"
catch_up = \"all\"
run.noop = {}
[jobs.effect]
every = \"1s\"
run.sql = { text = \"insert into effects (run, instant) values (:run_id, :scheduled_for)\" }
";

const JOBS: [(&str, i64); 5] =
    [("quick", 1_000), ("slow", 1_000), ("parallel", 1_000), ("all", 2_000), ("effect", 1_000)];

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_stopped_killed_and_stalled_at_random_lose_nothing_and_do_nothing_twice() {
    let database = Database::new().await;
    let effects = "create table effects (run uuid not null, instant timestamptz not null)";
    database.connect().await.execute(effects).await.unwrap();
    let seconds = env::var("PROVE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(CHAOS);
    let seed = env::var("PROVE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}: repeat with PROVE_SEED={seed}");
    let mut random = Rng::with_seed(seed);

    let mut replicas = [
        Setup::new(TABLE).database(&database.url).start(),
        Setup::new(TABLE).database(&database.url).clock_skew(20).start(),
    ];
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut asleep = None;
    while Instant::now() < until {
        replicas = disturb(replicas, &mut random, &mut asleep);
        tokio::time::sleep(Duration::from_millis(random.u64(200..2_000))).await;
    }
    if let Some((sleeper, began)) = asleep.take() {
        wake(&replicas[sleeper], began).await;
    }

    wait_until_calm(&mut replicas, &database).await;
    for replica in &mut replicas {
        assert!(replica.terminate().success(), "{}", replica.output());
    }
    for (job, period_ms) in JOBS {
        let rows = ledger::rows(&database.url, job).await;
        ledger::assert_unbroken(&rows, period_ms);
        let stuck: Vec<_> = rows.iter().filter(|row| row.state == "running").collect();
        assert!(stuck.is_empty(), "{stuck:#?}");
    }
    assert_eq!(unexplained_effects(&database).await, 0, "runs of `effect` whose effect is not there exactly once");
    let account = replicas[0].setup.run(&["ledger"]);
    assert_eq!(account.status.code(), Some(0), "{}", String::from_utf8_lossy(&account.stdout));
}

/// One thing that happens to one of two replicas; whoever is stalled for long is left alone until it is woken.
fn disturb(replicas: [Daemon; 2], random: &mut Rng, asleep: &mut Option<(usize, Instant)>) -> [Daemon; 2] {
    let victim = random.usize(..2);
    if asleep.is_some_and(|(sleeper, _)| sleeper == victim) {
        return replicas;
    }
    let deed = random.u8(..6);
    if deed == 0 && asleep.is_none() {
        replicas[victim].signal(Signal::STOP);
        *asleep = Some((victim, Instant::now()));
        return replicas;
    }
    let mut index = 0;
    replicas.map(|replica| {
        index += 1;
        if index == victim + 1 { suffer(replica, deed) } else { replica }
    })
}

fn suffer(mut replica: Daemon, deed: u8) -> Daemon {
    match deed {
        0 | 1 => {
            replica.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(1_500));
            replica.signal(Signal::CONT);
            replica
        }
        2 | 3 => {
            replica.terminate();
            replica.start_again()
        }
        _ => replica.start_again(),
    }
}

async fn wake(sleeper: &Daemon, began: Instant) {
    tokio::time::sleep(LONG_STALL.saturating_sub(began.elapsed())).await;
    sleeper.signal(Signal::CONT);
}

/// Until nothing waits for a dead replica's lease any more: every open row is of the last seconds.
async fn wait_until_calm(replicas: &mut [Daemon; 2], database: &Database) {
    let deadline = Instant::now() + CALM;
    let old = "select count(*) from workers.runs where state <> 'finished' and created_at < now() - interval '8 s'";
    let mut connection = database.connect().await;
    loop {
        let open: i64 = connection.fetch_one(old).await.unwrap().get(0);
        if open == 0 {
            return;
        }
        let outputs = || replicas.iter().map(Daemon::output).collect::<String>();
        assert!(Instant::now() < deadline, "{open} runs are still open\n{}", outputs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Runs of `effect` that ended well without exactly one row, and rows of runs that did not end well.
async fn unexplained_effects(database: &Database) -> i64 {
    let query = "select count(*) from (
            select id, outcome from workers.runs where job = 'effect' and outcome is not null
        ) as ended
        full join (select run, count(*) as times from effects group by run) as done on done.run = ended.id
        where coalesce(done.times, 0) <> case when ended.outcome = 'success' then 1 else 0 end";
    database.connect().await.fetch_one(query).await.unwrap().get(0)
}
