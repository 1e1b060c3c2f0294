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
        let lags = runtime.block_on(postgres_lags(&database));
        report("PostgreSQL", &case, &lags, unexplained);
    }
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

async fn postgres_lags(database: &Database) -> Lags {
    let mut connection: PgConnection = database.connect().await;
    let query = "select (extract(epoch from started_at - scheduled_for) * 1000)::bigint,
            (extract(epoch from finished_at - scheduled_for) * 1000)::bigint
        from workers.runs
        where trigger = 'schedule' and attempt = 1 and outcome = 'success' and covers = 1";
    sqlx::query_as(query).fetch_all(&mut connection).await.expect("the ledger has these columns")
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
