//! Clients that mean no good, against the real binary: health answers throughout, and afterwards all is as before.

#[path = "hostile_clients/crowd.rs"]
mod crowd;
#[path = "hostile_clients/shapes.rs"]
mod shapes;
mod support;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crowd::{Crowd, NO_PAUSE, PAUSE, assert_back, drip, gorge, holdings, measure_health, stand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    daemon::{Daemon, Setup},
    raw::ask,
};

const JOBS: &str = "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.tick]\nevery = \"1s\"\nrun.noop = {}\n\
                    [jobs.mensagens]\nrun.noop = {}\n";
/// How many files a process may open by default on most machines.
const DEFAULT_FILES: u64 = 1_024;
/// Twice the places of the listener, and more.
const CROWD: usize = 1_200;

/// Starts the daemon under this limit of open files; our own stays as high as may be.
fn start_with_files(files: u64) -> Daemon {
    // Limits belong to the whole process; tests may be threads of one.
    static LIMITS: Mutex<()> = Mutex::new(());
    let _alone = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit =
        |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: hard }).expect("a soft limit may change");
    limit(Some(files));
    let daemon = Setup::new(JOBS).spawn(&[]);
    limit(hard);
    let mut daemon = daemon;
    daemon.wait_until_ready();
    daemon
}

/// The head of a POST with a JSON body of this length.
fn json_post(port: u16, length: usize) -> String {
    format!(
        "POST /api/v1/jobs/mensagens/runs HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

/// A producer can still enqueue.
#[track_caller]
fn assert_takes_work(daemon: &mut Daemon) {
    let host = format!("Host: localhost:{}", daemon.port);
    daemon.wait_for("an enqueue", |daemon| {
        ask(daemon.port, "POST /api/v1/jobs/mensagens/runs", &[&host], "").status == 202
    });
}

#[test]
fn ten_thousand_idle_sockets_do_not_keep_health_waiting() {
    const SOCKETS: usize = 10_000;
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    // They stand until the very end, also when the daemon has hung up.
    let crowd = Crowd::gather(daemon.port, SOCKETS, PAUSE, |stream| async {
        stand(stream).await;
        std::future::pending().await
    });
    crowd.wait_for(SOCKETS);

    let standing = measure_health(&daemon, "10,000 idle sockets");
    let metrics = daemon.get("/metrics").status;
    drop(crowd);
    let returning = Crowd::gather(daemon.port, SOCKETS, PAUSE, stand);
    returning.wait_for(SOCKETS);
    let flood = measure_health(&daemon, "10,000 idle sockets that come back at once");
    println!("{} connections", returning.opened.load(std::sync::atomic::Ordering::Relaxed));
    let most = holdings(&daemon);
    drop(returning);

    standing.assert_prompt();
    flood.assert_prompt();
    assert_eq!(metrics, 200);
    assert!(most.descriptors < 800, "{most:?}");
    assert_back(&daemon, before);
    assert_takes_work(&mut daemon);
}

#[test]
fn slow_heads_do_not_keep_health_waiting() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let crowd = Crowd::gather(daemon.port, CROWD, PAUSE, |stream| async {
        drip(stream, "GET /healthz HTTP/1.1\r\nX-A: ").await
    });
    crowd.wait_for(CROWD);

    measure_health(&daemon, "1,200 heads that drip").assert_prompt();

    assert_takes_work(&mut daemon);
    drop(crowd);
    assert_back(&daemon, before);
}

#[test]
fn a_head_that_drips_has_ten_seconds() {
    let daemon = Setup::new(JOBS).start();
    let started = std::time::Instant::now();
    let runtime = tokio::runtime::Runtime::new().expect("threads");

    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("it listens");
        drip(stream, "GET /healthz HTTP/1.1\r\nX-A: ").await;
    });

    let took = started.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
}

#[test]
fn slow_bodies_do_not_keep_health_waiting_and_end_in_time() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let head = json_post(daemon.port, 100_000);
    let crowd = Crowd::gather(daemon.port, CROWD, PAUSE, move |stream| {
        let head = head.clone();
        async move { drip(stream, &head).await }
    });
    crowd.wait_for(CROWD);

    measure_health(&daemon, "1,200 bodies that drip").assert_prompt();
    let host = format!("Host: localhost:{}", daemon.port);
    let busy = ask(daemon.port, "POST /api/v1/jobs/mensagens/runs", &[&host], "");

    assert!([202, 503].contains(&busy.status), "{}", busy.head);
    drop(crowd);
    assert_takes_work(&mut daemon);
    assert_back(&daemon, before);
}

#[test]
fn a_body_that_drips_has_thirty_seconds() {
    let daemon = Setup::new(JOBS).start();
    let started = std::time::Instant::now();
    let runtime = tokio::runtime::Runtime::new().expect("threads");

    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("it listens");
        drip(stream, &json_post(daemon.port, 100_000)).await;
    });

    let took = started.elapsed();
    assert!((Duration::from_secs(29)..Duration::from_secs(45)).contains(&took), "{took:?}");
}

#[test]
fn clients_that_wait_for_runs_do_not_keep_health_waiting() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let host = format!("Host: localhost:{}", daemon.port);
    let later = ask(
        daemon.port,
        "POST /api/v1/jobs/mensagens/runs",
        &[&host, "Content-Type: application/json"],
        r#"{"in":"1h"}"#,
    );
    let id = later.json()["id"].as_str().expect("a run has an id").to_owned();
    let request = format!("GET /api/v1/runs/{id}?wait=30s HTTP/1.1\r\n{host}\r\n\r\n");
    let crowd = Crowd::gather(daemon.port, CROWD, PAUSE, move |stream| {
        let request = request.clone();
        async move { drip(stream, &request).await }
    });
    crowd.wait_for(CROWD);

    measure_health(&daemon, "1,200 clients that wait for a run").assert_prompt();

    drop(crowd);
    assert_takes_work(&mut daemon);
    assert_back(&daemon, before);
}

#[test]
fn clients_that_never_read_do_not_keep_health_waiting() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let crowd = Crowd::gather(daemon.port, CROWD, PAUSE, |stream| async {
        gorge(stream, "GET /health/workers HTTP/1.1\r\nHost: x\r\n\r\n").await;
    });
    crowd.wait_for(CROWD);

    measure_health(&daemon, "1,200 clients that ask and never read").assert_prompt();

    assert_takes_work(&mut daemon);
    drop(crowd);
    assert_back(&daemon, before);
}

#[test]
fn a_flood_of_new_connections_does_not_keep_health_waiting() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let crowd = Crowd::gather(daemon.port, 200, NO_PAUSE, |stream| async { drop(stream) });
    crowd.wait_for(5_000);

    measure_health(&daemon, "a flood of connections").assert_prompt();
    println!("{} connections", crowd.opened.load(std::sync::atomic::Ordering::Relaxed));

    assert_takes_work(&mut daemon);
    drop(crowd);
    assert_back(&daemon, before);
}

#[test]
fn everything_at_once_does_not_keep_health_waiting_nor_jobs() {
    let mut daemon = start_with_files(DEFAULT_FILES);
    let before = holdings(&daemon);
    let port = daemon.port;
    let head = json_post(port, 100_000);
    let crowds = [
        Crowd::gather(port, 3_000, PAUSE, stand),
        Crowd::gather(port, 600, PAUSE, |stream| async { drip(stream, "GET / HTTP/1.1\r\nX: ").await }),
        Crowd::gather(port, 600, PAUSE, move |stream| {
            let head = head.clone();
            async move { drip(stream, &head).await }
        }),
        Crowd::gather(port, 300, PAUSE, |stream| async {
            gorge(stream, "GET /health/workers HTTP/1.1\r\nHost: x\r\n\r\n").await
        }),
        Crowd::gather(port, 50, NO_PAUSE, |stream| async { drop(stream) }),
    ];
    crowds[0].wait_for(3_000);

    measure_health(&daemon, "all of it at once").assert_prompt();
    let health = daemon.get("/health/workers").json();

    drop(crowds);
    assert_eq!(health["scheduler"], "running", "{health}");
    assert_takes_work(&mut daemon);
    assert_back(&daemon, before);
    let account = daemon.setup.run(&["ledger"]);
    assert_eq!(account.status.code(), Some(0), "{}", String::from_utf8_lossy(&account.stdout));
}

#[test]
fn health_comes_back_by_itself_when_descriptors_run_out() {
    // The daemon needs about thirty for itself; half of the rest would be more than there are left.
    const FEW: u64 = 48;
    let mut daemon = start_with_files(FEW);
    let before = holdings(&daemon);
    let crowd = Crowd::gather(daemon.port, 300, PAUSE, stand);
    crowd.wait_for(1_000);

    measure_health(&daemon, "300 sockets where 48 files may be open").assert_prompt();

    assert_takes_work(&mut daemon);
    drop(crowd);
    assert_back(&daemon, before);
}
