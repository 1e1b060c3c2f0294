//! One run that somebody waits for, and a database that goes away meanwhile.

use std::{sync::Arc, thread, time::Duration};

use crate::support::{
    daemon::{Daemon, Setup},
    postgres::{Cluster, Database},
};

const JOBS: &str = "version = 1\n[jobs.slow]\nrun.noop = { sleep = \"3s\" }\n";

/// A lone worker in the middle of its run, and the database that it works on.
fn under_way() -> (Arc<Cluster>, Database, Daemon) {
    let cluster = Arc::new(Cluster::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(cluster.database());
    let setup = Setup::new(JOBS).database(&database.url);
    let setup = setup.env("LOG_LEVEL", "DEBUG").env("WORKERS_SHUTDOWN_GRACE", "1s");
    let mut worker = setup.spawn(&["run", "slow", "--once"]);
    worker.wait_for("a run under way", |worker| worker.stderr().contains("job started"));
    (cluster, database, worker)
}

#[test]
fn an_outage_in_the_middle_is_waited_for_and_the_run_ends_well() {
    let (cluster, _database, mut worker) = under_way();

    cluster.stop();
    thread::sleep(Duration::from_secs(5));
    cluster.start_again();

    assert_eq!(worker.wait().code(), Some(0), "{}", worker.output());
    assert_eq!(worker.stdout(), "success\n");
}

#[test]
fn an_outage_without_an_end_is_told_after_a_minute_and_what_runs_is_let_go_in_order() {
    let (cluster, _database, mut worker) = under_way();

    cluster.stop();
    thread::sleep(Duration::from_secs(62));

    assert_eq!(worker.wait().code(), Some(4), "{}", worker.output());
    assert_eq!(worker.stdout(), "");
    let log = worker.stderr();
    assert!(log.contains("\"message\":\"stopped"), "it drained: {log}");
    assert!(log.lines().last().unwrap().starts_with("error: "), "{log}");
}
