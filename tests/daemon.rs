//! The daemon as its users run it: it starts, answers, refuses what it must refuse, and stops.

mod support;

use std::{net::TcpListener, os::unix::fs::PermissionsExt, sync::Arc, time::Instant};

use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection};
use support::{
    daemon::{Daemon, Setup},
    ledger,
    postgres::Database,
    target::Target,
};

const SHIPPED: &str = include_str!("../jobs.toml");

/// A job every second, with this line beside it.
fn every_second(line: &str) -> String {
    format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.tick]\nevery = \"1s\"\n{line}\n")
}

fn sqlite(daemon: &Daemon) -> String {
    format!("sqlite://{}", daemon.setup.path("workers.db").display())
}

/// The exit code of a daemon that must not start, and what it said.
fn refused(setup: Setup) -> (Option<i32>, String) {
    let mut daemon = setup.spawn(&[]);
    let status = daemon.wait();
    (status.code(), daemon.output())
}

#[track_caller]
fn assert_refused(setup: Setup, code: i32, words: &[&str]) {
    let (found, output) = refused(setup);
    assert_eq!(found, Some(code), "{output}");
    for word in words {
        assert!(output.contains(word), "{word:?} is missing in:\n{output}");
    }
}

#[tokio::test]
async fn the_shipped_table_runs_and_its_ledger_balances() {
    let setup = Setup::new(SHIPPED).env("QUEUE_POLL_INTERVAL", "1");
    let mut daemon = setup.start();

    daemon.wait_for("a run of fila_worker", |daemon| {
        daemon.get("/health/workers").json()["jobs"]["fila_worker"]["last_outcome"] == "success"
    });
    daemon.terminate();
    let account = daemon.setup.run(&["ledger"]);

    let text = String::from_utf8_lossy(&account.stdout);
    assert_eq!(account.status.code(), Some(0), "{text}");
    let total = text.lines().find(|line| line.starts_with("total")).unwrap_or_default();
    assert!(text.contains("UNEXPLAINED") && total.ends_with(" 0"), "{text}");
    ledger::assert_unbroken(&ledger::rows(&sqlite(&daemon), "fila_worker").await, 1_000);
}

#[test]
fn health_begins_with_the_documented_four_keys() {
    let mut daemon = Setup::new(SHIPPED).start();
    daemon.wait_for("the first turn of the planner", |daemon| {
        daemon.get("/health/workers").json()["scheduler"] == "running"
    });

    let answer = daemon.get("/health/workers");

    let keys = ["{\"scheduler\":", "\"fila_worker\":", "\"last_job_at\":", "\"queue_size\":", "\"status\":"];
    let places: Vec<Option<usize>> = keys.iter().map(|key| answer.body.find(key)).collect();
    assert_eq!(places[0], Some(0), "{}", answer.body);
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {}", answer.body);
    let health = answer.json();
    assert_eq!(health["scheduler"], "running");
    assert!(health["fila_worker"].is_string());
    assert!(health["last_job_at"].is_null() || health["last_job_at"].is_string());
    assert!(health["queue_size"].is_u64());
}

#[test]
fn every_job_of_the_table_is_in_health_and_none_is_a_placeholder() {
    let daemon = Setup::new(SHIPPED).start();

    let health = daemon.get("/health/workers").json();

    let jobs = health["jobs"].as_object().expect("an object of jobs");
    let placeholders = jobs.values().filter(|job| job["status"] == "placeholder").count();
    assert_eq!((jobs.len(), placeholders), (9, 0), "{health:#}");
    for name in jobs.keys() {
        assert!(health[name].is_string(), "{name} has a flat key with its status word");
    }
}

#[test]
fn the_documented_metrics_are_there_from_the_start() {
    let daemon = Setup::new(SHIPPED).start();

    let metrics = daemon.get("/metrics").body;

    for name in
        ["queue_size", "job_duration_seconds", "job_failures", "scheduler_lag", "workers_occurrences_unexplained"]
    {
        let begins = |line: &str| line.starts_with(name);
        assert!(metrics.lines().any(begins), "{name} is missing in:\n{metrics}");
    }
}

#[test]
fn liveness_and_readiness_are_green_when_it_runs() {
    let daemon = Setup::new(SHIPPED).start();

    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    assert_eq!(daemon.get("/nothing-here").status, 404);
}

#[test]
fn a_broken_table_is_refused_with_its_line() {
    let setup = Setup::new("version = 1\n[jobs.a]\nevry = \"5min\"\nrun.noop = {}\n");

    assert_refused(setup, 3, &["jobs.toml:3", "evry", "every"]);
}

#[test]
fn a_missing_table_is_refused_by_its_name() {
    let setup = Setup::new("");
    std::fs::remove_file(setup.path("jobs.toml")).unwrap();

    assert_refused(setup, 3, &["jobs.toml"]);
}

#[test]
fn a_taken_port_is_refused_by_its_address() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();

    assert_refused(Setup::new(SHIPPED).env("WORKERS_LISTEN", &address), 8, &[&address]);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_by_its_name() {
    // Root may write where the mode says no, but nobody makes files in /proc.
    let setup = Setup::new(SHIPPED).env("WORKERS_DATA_DIR", "/proc");

    assert_refused(setup, 3, &["/proc"]);
}

#[test]
fn a_read_only_folder_is_refused_by_its_name() {
    if rustix::process::geteuid().is_root() {
        // Covered by /proc above: for root there are no read-only folders.
        return;
    }
    let setup = Setup::new(SHIPPED);
    let folder = setup.folder.path().join("closed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();

    assert_refused(setup.env("WORKERS_DATA_DIR", folder.to_str().unwrap()), 3, &["closed"]);
}

#[test]
fn a_second_daemon_on_one_sqlite_file_is_refused_and_the_first_goes_on() {
    let first = Setup::new(SHIPPED).start();
    let second = Setup::beside(Arc::clone(&first.setup.folder), SHIPPED);

    assert_refused(second, 8, &["workers.db"]);

    assert_eq!(first.get("/readyz").status, 200);
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_refused_and_left_alone() {
    let mut daemon = Setup::new(SHIPPED).start();
    daemon.terminate();
    let mut connection = SqliteConnection::connect(&sqlite(&daemon)).await.unwrap();
    connection.execute("insert into workers_migrations values (9999, 'from_the_future')").await.unwrap();
    connection.close().await.unwrap();

    let setup = Setup::beside(Arc::clone(&daemon.setup.folder), SHIPPED);
    assert_refused(setup, 8, &["newer"]);

    let rows = ledger::rows(&sqlite(&daemon), "fila_worker").await;
    assert!(rows.iter().all(|row| row.state == "finished"), "{rows:#?}");
}

#[tokio::test]
async fn a_nul_byte_in_an_answer_is_stored_without_it_and_nothing_else_suffers() {
    let target = Target::start();
    let port = target.port;
    let calls = |path: &str| {
        format!("[jobs.{path}]\nevery = \"1s\"\nrun.http = {{ get = \"http://127.0.0.1:{port}/{path}\" }}\n")
    };
    let table = every_second("run.noop = {}") + &calls("nul_raw") + &calls("nul_escaped");
    for database in [None, Some(Database::new().await)] {
        let setup = Setup::new(&table);
        let setup = if let Some(database) = &database { setup.database(&database.url) } else { setup };
        let mut daemon = setup.start();

        daemon.wait_for("an end of each job", |daemon| {
            let jobs = daemon.get("/health/workers").json()["jobs"].take();
            ["tick", "nul_raw", "nul_escaped"].iter().all(|job| !jobs[job]["last_outcome"].is_null())
        });
        daemon.terminate();

        let url = database.as_ref().map_or_else(|| sqlite(&daemon), |database| database.url.clone());
        for job in ["tick", "nul_raw", "nul_escaped"] {
            let rows = ledger::rows(&url, job).await;
            ledger::assert_unbroken(&rows, 1_000);
            assert!(rows.iter().all(|row| row.state == "finished" && row.outcome == "success"), "{rows:#?}");
        }
    }
}

#[tokio::test]
async fn sigterm_lets_a_short_run_end_well() {
    let mut daemon = Setup::new(&every_second("run.noop = { sleep = \"2s\" }")).start();
    wait_until_running(&mut daemon);

    let status = daemon.terminate();

    assert_eq!(status.code(), Some(0), "{}", daemon.output());
    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let ran: Vec<_> = rows.iter().filter(|row| 1 <= row.attempt).collect();
    assert!(!ran.is_empty() && ran.iter().all(|row| row.outcome == "success"), "{rows:#?}");
    ledger::assert_unbroken(&rows, 1_000);
}

#[tokio::test]
async fn sigterm_puts_a_long_run_back_without_spending_its_attempt() {
    let table = format!("{}\n[executor]\nshutdown_grace = \"1s\"\n", every_second("run.noop = { sleep = \"60s\" }"));
    let mut daemon = Setup::new(&table).start();
    wait_until_running(&mut daemon);
    let began = Instant::now();

    let status = daemon.terminate();

    assert_eq!(status.code(), Some(0), "{}", daemon.output());
    assert!(began.elapsed().as_secs() < 8, "the grace was 1 s, the stop took {:?}", began.elapsed());
    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let open: Vec<_> = rows.iter().filter(|row| row.state != "finished").collect();
    assert_eq!(open.len(), 1, "{rows:#?}");
    assert_eq!((open[0].state.as_str(), open[0].attempt, open[0].crashes), ("due", 0, 0), "{open:#?}");
    assert_eq!(open[0].reason, "interrupted");
}

#[tokio::test]
async fn a_failure_after_sigterm_is_put_down_to_the_stop() {
    let target = Target::start();
    let call = format!("run.http = {{ get = \"http://127.0.0.1:{}/hang\", timeout = \"3s\" }}", target.port);
    let mut daemon = Setup::new(&every_second(&call)).start();
    daemon.wait_for("a call", |_| !target.calls().is_empty());

    daemon.terminate();

    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let open: Vec<_> = rows.iter().filter(|row| row.state != "finished").collect();
    assert_eq!(open.len(), 1, "{rows:#?}");
    assert_eq!(
        (open[0].state.as_str(), open[0].attempt, open[0].reason.as_str()),
        ("due", 0, "interrupted"),
        "{open:#?}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut daemon = Setup::new(&every_second("run.noop = { sleep = \"60s\" }")).start();
    wait_until_running(&mut daemon);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for("the drain", |daemon| daemon.try_get("/readyz").is_some_and(|answer| answer.status == 503));
    let began = Instant::now();

    daemon.terminate();

    assert!(began.elapsed().as_secs() < 3, "a second signal does not wait: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_run_that_kill_9_interrupted_is_done_again_after_the_restart() {
    let mut daemon = Setup::new(&every_second("run.noop = { sleep = \"3s\" }")).start();
    wait_until_running(&mut daemon);

    let mut daemon = daemon.start_again();

    daemon.wait_for("a success", |daemon| health_of_tick(daemon)["last_outcome"] == "success");
    daemon.terminate();
    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let repeated: Vec<_> = rows.iter().filter(|row| row.crashes == 1).collect();
    assert_eq!(repeated.len(), 1, "{rows:#?}");
    assert_eq!((repeated[0].outcome.as_str(), repeated[0].attempt), ("success", 2));
    assert!(rows.iter().all(|row| row.state != "running"), "{rows:#?}");
    ledger::assert_unbroken(&rows, 1_000);
    assert_eq!(daemon.setup.run(&["ledger"]).status.code(), Some(0));
}

#[tokio::test]
async fn an_interrupted_run_that_may_not_be_repeated_ends_as_unknown() {
    let line = "delivery = \"at_most_once\"\nrun.noop = { sleep = \"3s\" }";
    let mut daemon = Setup::new(&every_second(line)).start();
    wait_until_running(&mut daemon);

    let mut daemon = daemon.start_again();

    daemon.wait_for("a success", |daemon| health_of_tick(daemon)["last_outcome"] == "success");
    daemon.terminate();
    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let unknown: Vec<_> = rows.iter().filter(|row| row.outcome == "unknown").collect();
    assert_eq!(unknown.len(), 1, "{rows:#?}");
    assert_eq!(unknown[0].attempt, 1);
    assert!(rows.iter().all(|row| row.attempt <= 1), "{rows:#?}");
    ledger::assert_unbroken(&rows, 1_000);
}

#[tokio::test]
async fn the_instants_of_a_downtime_are_in_the_ledger_with_their_reason() {
    let mut daemon = Setup::new(&every_second("catch_up = \"none\"\nrun.noop = {}")).start();
    daemon.wait_for("a success", |daemon| health_of_tick(daemon)["last_outcome"] == "success");
    daemon.kill();
    // Longer than `late_after` counts as live, so these instants are missed.
    tokio::time::sleep(std::time::Duration::from_secs(33)).await;

    let stopped = ledger::rows(&sqlite(&daemon), "tick").await.len();

    let mut daemon = daemon.start_again();

    // The row of the missed instants, and a run after them.
    let deadline = Instant::now() + support::daemon::PATIENCE;
    while ledger::rows(&sqlite(&daemon), "tick").await.len() < stopped + 2 {
        assert!(Instant::now() < deadline, "nothing was planned\n{}", daemon.output());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    daemon.terminate();
    let rows = ledger::rows(&sqlite(&daemon), "tick").await;
    let missed: i64 = rows.iter().filter(|row| row.reason == "missed").map(|row| row.covers).sum();
    assert!((30..45).contains(&missed), "{missed} instants missed: {rows:#?}");
    ledger::assert_unbroken(&rows, 1_000);
    assert_eq!(daemon.setup.run(&["ledger"]).status.code(), Some(0));
}

fn wait_until_running(daemon: &mut Daemon) {
    daemon.wait_for("a running run", |daemon| {
        let metrics = daemon.get("/metrics").body;
        metrics.lines().any(|line| line.starts_with("workers_slots_busy") && !line.ends_with(" 0"))
    });
}

fn health_of_tick(daemon: &Daemon) -> Value {
    daemon.get("/health/workers").json()["jobs"]["tick"].take()
}

#[tokio::test]
async fn a_worker_of_one_job_leaves_the_others_alone_also_when_they_become_due() {
    let table = "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.mine]\nevery = \"1s\"\nrun.noop = {}\n\
        [jobs.other]\nevery = \"1s\"\nrun.noop = {}\n";
    let setup = Setup::new(table);
    let database = format!("sqlite://{}", setup.path("workers.db").display());
    let mut daemon = setup.spawn(&["start", "--only", "mine"]);
    daemon.wait_until_ready();
    daemon.wait_for("runs of its own", |daemon| {
        2 <= daemon.get("/health/workers").json()["jobs"]["mine"]["runs_24h"].as_i64().unwrap_or_default()
    });
    daemon.terminate();

    let others = ledger::rows(&database, "other").await;

    assert!(others.iter().all(|row| row.attempt == 0), "{others:?}");
}
