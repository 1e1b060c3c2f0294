//! What happens to runs and to the ledger when PostgreSQL is away, comes back, or does not answer.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    daemon::{Daemon, Setup},
    ledger,
    postgres::{Cluster, Database},
};

const TABLE: &str = "
version = 1
[defaults]
timezone = \"UTC\"
[jobs.tick]
every = \"1s\"
run.noop = {}
[jobs.slow]
every = \"1s\"
run.noop = { sleep = \"4s\" }
";

async fn own_cluster() -> (Arc<Cluster>, Database) {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let cluster = Arc::new(cluster);
    let database = cluster.database().await;
    (cluster, database)
}

fn is_ready(daemon: &Daemon) -> bool {
    daemon.try_get("/readyz").is_some_and(|answer| answer.status == 200)
}

fn is_alive(daemon: &Daemon) -> bool {
    daemon.try_get("/livez").is_some_and(|answer| answer.status == 200)
}

/// Waits for this many runs of `tick` beyond those that are there.
async fn wait_for_runs(daemon: &mut Daemon, database: &Database, more: usize) {
    let before = successes(database).await;
    let deadline = std::time::Instant::now() + support::daemon::PATIENCE;
    while successes(database).await < before + more {
        assert!(std::time::Instant::now() < deadline, "no more runs\n{}", daemon.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn successes(database: &Database) -> usize {
    ledger::rows(&database.url, "tick").await.iter().filter(|row| row.outcome == "success").count()
}

async fn assert_nothing_lost(daemon: &mut Daemon, database: &Database) {
    daemon.terminate();
    for job in ["tick", "slow"] {
        let rows = ledger::rows(&database.url, job).await;
        ledger::assert_unbroken(&rows, 1_000);
        assert!(rows.iter().all(|row| row.state != "running"), "{rows:#?}");
        assert!(rows.iter().all(|row| row.crashes == 0), "an outage of the database is no crash: {rows:#?}");
    }
    let account = daemon.setup.run(&["ledger"]);
    assert_eq!(account.status.code(), Some(0), "{}", String::from_utf8_lossy(&account.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_at_the_start_is_waited_for() {
    let (cluster, database) = own_cluster().await;
    cluster.stop();
    let mut daemon = Setup::new(TABLE).database(&database.url).spawn(&[]);

    daemon.wait_for("life", is_alive);
    assert!(!is_ready(&daemon), "not ready without a database");
    assert_eq!(daemon.get("/health/workers").json()["scheduler"], "starting");
    cluster.start_again();
    daemon.wait_until_ready();

    wait_for_runs(&mut daemon, &database, 2).await;
    assert_nothing_lost(&mut daemon, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_dies_in_the_middle_of_runs_costs_nothing() {
    let (cluster, database) = own_cluster().await;
    let mut daemon = Setup::new(TABLE).database(&database.url).start();
    wait_for_runs(&mut daemon, &database, 2).await;

    cluster.kill();
    daemon.wait_for("red", |daemon| !is_ready(daemon));
    assert!(is_alive(&daemon), "live while the database is away");
    assert_eq!(daemon.get("/healthz").status, 200);
    daemon.get("/health/workers");
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.start_again();
    daemon.wait_until_ready();

    wait_for_runs(&mut daemon, &database, 3).await;
    assert_nothing_lost(&mut daemon, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_leaves_the_daemon_answering() {
    let (cluster, database) = own_cluster().await;
    let mut daemon = Setup::new(TABLE).database(&database.url).start();
    wait_for_runs(&mut daemon, &database, 2).await;

    cluster.freeze();
    daemon.wait_for("red", |daemon| !is_ready(daemon));
    assert!(is_alive(&daemon), "live while the database hangs");
    assert_eq!(daemon.get("/metrics").status, 200);
    cluster.thaw();
    daemon.wait_until_ready();

    wait_for_runs(&mut daemon, &database, 3).await;
    assert_nothing_lost(&mut daemon, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_stopped_while_the_database_is_away() {
    let (cluster, database) = own_cluster().await;
    let mut daemon = Setup::new(TABLE).database(&database.url).start();
    wait_for_runs(&mut daemon, &database, 1).await;

    cluster.kill();
    let status = daemon.terminate();

    assert!(status.code().is_some(), "it ends by itself: {status}");
    cluster.start_again();
    let mut daemon = daemon.start_again();
    wait_for_runs(&mut daemon, &database, 1).await;
    daemon.terminate();
    ledger::assert_unbroken(&ledger::rows(&database.url, "tick").await, 1_000);
    assert_eq!(daemon.setup.run(&["ledger"]).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_never_there_is_named_without_its_password() {
    let url = format!("postgres://somebody:geheim@127.0.0.1:{}/nowhere", support::free_port());
    let mut daemon = Setup::new(TABLE).database(&url).spawn(&[]);

    daemon.wait_for("a line about the database", |daemon| daemon.output().contains("database unreachable"));

    assert!(is_alive(&daemon));
    assert!(!daemon.output().contains("geheim"), "{}", daemon.output());
    let asked = daemon.setup.run(&["ledger"]);
    assert_eq!(asked.status.code(), Some(4), "{}", String::from_utf8_lossy(&asked.stderr));
}
