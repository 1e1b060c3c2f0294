//! Lag of the real daemon: due to started, and due to finished, for one job, 1,000 and 10,000 at one instant.
//!
//! `cargo bench --bench lag` prints the table of docs/performance.md. Both figures come from the ledger: `started` is
//! written with the claim, before the handler begins; `finished` is taken after the handler (`noop`) ended, with the
//! claim's commit in between. When the handler began lies between the two, so `finished` is the bound that counts.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fmt::Write as _, time::Duration};

use sqlx::{Connection, PgConnection, SqliteConnection};
use support::{
    daemon::{Daemon, Setup},
    postgres::Database,
    target::Target,
};

/// So many jobs, all due together every `period` seconds, watched for so many periods.
struct Case {
    jobs: usize,
    period: u64,
    periods: u64,
}

const CASES: [Case; 3] = [
    Case { jobs: 1, period: 1, periods: 30 },
    Case { jobs: 1_000, period: 5, periods: 6 },
    Case { jobs: 10_000, period: 30, periods: 3 },
];

/// Queue runs that wait beside a critical job, and targets that hang.
const CROWD: i64 = 100_000;
const HANGING: usize = 4;

/// Milliseconds from due to started and to finished, of every run that was not the catching up of the start.
type Lags = Vec<(i64, i64)>;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("lag in ms from due, p50 / p99 / max\n");
    println!("| database | jobs at one instant | runs | started | finished | unexplained |");
    println!("|---|---|---|---|---|---|");
    for case in CASES {
        let setup = Setup::new(&table(&case));
        let path = setup.path("workers.db");
        let (unexplained, stopped) = run(&case, setup);
        let lags = runtime.block_on(sqlite_lags(&format!("sqlite://{}", path.display())));
        report("SQLite", &case, &lags, unexplained);
        drop(stopped);

        let database = runtime.block_on(Database::new());
        let (unexplained, _stopped) = run(&case, Setup::new(&table(&case)).database(&database.url));
        let lags = runtime.block_on(postgres_lags(&database, "job%"));
        report("PostgreSQL", &case, &lags, unexplained);
    }
    runtime.block_on(beside_a_crowd());
}

/// One critical job every second, beside 100,000 waiting queue runs and four targets that hang.
async fn beside_a_crowd() {
    let target = Target::start();
    let mut text = format!(
        "version = 1\n[executor]\nshutdown_grace = \"1s\"\n[defaults]\ntimezone = \"UTC\"\n\
        [targets.default]\nbase_url = \"http://127.0.0.1:{}\"\n\
        [jobs.critical]\nevery = \"1s\"\ncritical = true\nrun.noop = {{}}\n[jobs.crowd]\nrun.noop = {{}}\n",
        target.port
    );
    for number in 0..HANGING {
        write!(text, "[jobs.hang{number}]\nevery = \"1s\"\nrun.http = {{ get = \"/hang\" }}\n")
            .expect("a string grows");
    }
    let database = Database::new().await;
    let mut daemon = Setup::new(&text).database(&database.url).start();
    let insert = "insert into workers.runs (id, job, epoch, trigger, covers, state, due_at, priority, attempt,
            max_attempts, crashes, exclusive, at_most_once, created_at, errors)
        select gen_random_uuid(), 'crowd', 1, 'enqueue', 0, 'due', now(), 0, 0, 3, 0, false, false, now(), '[]'
        from generate_series(1, $1)";
    let crowd = sqlx::query(insert).bind(CROWD).execute(&mut database.connect().await).await;
    crowd.expect("the ledger takes queue runs");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let left: i64 = sqlx::query_scalar("select count(*) from workers.runs where job = 'crowd' and state <> 'finished'")
        .fetch_one(&mut database.connect().await)
        .await
        .expect("the ledger has these columns");
    daemon.terminate();
    let lags = postgres_lags(&database, "critical").await;
    println!(
        "\nbeside {CROWD} queue runs ({left} still waiting at the end) and {HANGING} targets that hang, PostgreSQL:"
    );
    report("PostgreSQL", &Case { jobs: 1, period: 1, periods: 30 }, &lags, "-".to_owned());
}

fn table(case: &Case) -> String {
    // As many slots as jobs, so that the figure shows the daemon and not the queue for a slot.
    let mut text =
        format!("version = 1\n[executor]\nscheduled = {}\n[defaults]\ntimezone = \"UTC\"\n", case.jobs.max(64));
    for number in 0..case.jobs {
        write!(text, "[jobs.job{number}]\nevery = \"{}s\"\nrun.noop = {{}}\n", case.period).expect("a string grows");
    }
    text
}

/// Runs the daemon for the case's time, stops it, and asks the ledger; the folder lives as long as the daemon does.
fn run(case: &Case, setup: Setup) -> (String, Daemon) {
    let mut daemon = setup.start();
    std::thread::sleep(Duration::from_secs(case.period * (case.periods + 1) + 1));
    daemon.terminate();
    let ledger = daemon.setup.run(&["ledger", "-o", "json"]);
    let unexplained = if ledger.status.success() { "0".to_owned() } else { "NOT 0".to_owned() };
    (unexplained, daemon)
}

async fn sqlite_lags(url: &str) -> Lags {
    let mut connection = SqliteConnection::connect(url).await.expect("the daemon left its file");
    let query = "select started_at - scheduled_for, finished_at - scheduled_for from workers_runs
        where trigger = 'schedule' and attempt = 1 and outcome = 'success' and covers = 1";
    sqlx::query_as(query).fetch_all(&mut connection).await.expect("the ledger has these columns")
}

/// Of the jobs whose name is like this.
async fn postgres_lags(database: &Database, jobs: &str) -> Lags {
    let mut connection: PgConnection = database.connect().await;
    let query = "select (extract(epoch from started_at - scheduled_for) * 1000)::bigint,
            (extract(epoch from finished_at - scheduled_for) * 1000)::bigint
        from workers.runs
        where job like $1 and trigger = 'schedule' and attempt = 1 and outcome = 'success' and covers = 1";
    sqlx::query_as(query).bind(jobs).fetch_all(&mut connection).await.expect("the ledger has these columns")
}

fn report(database: &str, case: &Case, lags: &Lags, unexplained: String) {
    let started = spread(lags.iter().map(|(started, _)| *started).collect());
    let finished = spread(lags.iter().map(|(_, finished)| *finished).collect());
    println!("| {database} | {} | {} | {started} | {finished} | {unexplained} |", case.jobs, lags.len());
}

fn spread(mut values: Vec<i64>) -> String {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    let at = |share: usize| values.get((values.len() * share / 100).min(last)).copied().unwrap_or(0);
    format!("{} / {} / {}", at(50), at(99), at(100))
}
