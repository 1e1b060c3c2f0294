//! The real binary among hostile peers, and what its ledger says of them.

use std::{fmt::Write as _, time::Duration};

use crate::{
    memory::{resident_kib, sockets},
    server::{Server, Step, flood, send},
    support::{
        daemon::{Daemon, Setup},
        free_port, ledger,
    },
};

const OK: &str = "HTTP/1.1 200 OK\r\n";
/// Finished runs per job before memory is looked at, and again before the end.
const RUNS: usize = 5;
/// What the daemon may grow by in the second half: the ledger, the logs and the allocator of a debug build.
const MAX_GROWTH_KIB: u64 = 16 * 1024;
/// Its listener, its database, and a few calls under way.
const MAX_SOCKETS: usize = 40;

/// One job among them: its name, its peer, its settings, and the one outcome that its runs may have.
struct Peer {
    job: &'static str,
    port: u16,
    server: Option<Server>,
    settings: &'static str,
    outcome: &'static str,
}

fn peer(job: &'static str, steps: Vec<Step>, settings: &'static str, outcome: &'static str) -> Peer {
    let server = Server::playing(steps);
    Peer { job, port: server.address.port(), server: Some(server), settings, outcome }
}

fn peers() -> Vec<Peer> {
    let drip = Step::Drip(b" ".to_vec(), Duration::from_millis(50));
    let huge =
        |more: &str| vec![Step::Read, send([OK, "content-length: 10000000000\r\n\r\n", more].concat()), flood(b' ')];
    vec![
        peer("silent", vec![Step::Read, Step::Hang], "timeout = \"500ms\"", "unknown"),
        peer("dripping", vec![Step::Read, send([OK, "\r\n{"].concat()), drip], "timeout = \"500ms\"", "unknown"),
        peer("resetting", vec![Step::Read, Step::Reset], "", "unknown"),
        peer("huge_object", huge("{"), "", "error"),
        peer("huge_text", huge("page"), "", "success"),
        peer("not_http", vec![Step::Read, send("SSH-2.0-x\r\n")], "", "unknown"),
        Peer { job: "absent", port: free_port(), server: None, settings: "", outcome: "error" },
        peer("sound", vec![Step::Read, send([OK, "content-length: 2\r\n\r\n{}"].concat())], "", "success"),
    ]
}

fn table(peers: &[Peer]) -> String {
    let mut table =
        "version = 1\n[defaults]\ntimezone = \"UTC\"\ndelivery = \"at_most_once\"\nretry.max_attempts = 1\n".to_owned();
    for Peer { job, port, settings, .. } in peers {
        let comma = if settings.is_empty() { "" } else { ", " };
        write!(
            table,
            "[jobs.{job}]\nevery = \"1s\"\nrun.http = {{ post = \"http://127.0.0.1:{port}/x\"{comma}{settings} }}\n"
        )
        .expect("a text grows");
    }
    table
}

/// Waits until each job has this many finished runs.
async fn wait_for_runs(daemon: &mut Daemon, database: &str, peers: &[Peer], wanted: usize) {
    let deadline = std::time::Instant::now() + 2 * crate::support::daemon::PATIENCE;
    for peer in peers {
        while ledger::rows(database, peer.job).await.iter().filter(|row| row.state == "finished").count() < wanted {
            assert!(std::time::Instant::now() < deadline, "few runs of {}\n{}", peer.job, daemon.output());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_among_hostile_peers_ends_each_run_right_and_stays_small() {
    let peers = peers();
    let mut daemon = Setup::new(&table(&peers)).start();
    let database = format!("sqlite://{}", daemon.setup.path("workers.db").display());

    wait_for_runs(&mut daemon, &database, &peers, RUNS).await;
    let before = resident_kib(daemon.pid());
    wait_for_runs(&mut daemon, &database, &peers, 2 * RUNS).await;
    let (after, open) = (resident_kib(daemon.pid()), sockets(daemon.pid()));
    daemon.terminate();

    for peer in &peers {
        let rows = ledger::rows(&database, peer.job).await;
        ledger::assert_unbroken(&rows, 1_000);
        let ran: Vec<_> = rows.iter().filter(|row| 0 < row.attempt).collect();
        // A stop in the middle of a run is nobody's fault, and says so.
        let wrong: Vec<_> =
            ran.iter().filter(|row| row.outcome != peer.outcome && row.reason != "interrupted").collect();
        assert!(wrong.is_empty(), "{} is {}: {wrong:#?}\n{}", peer.job, peer.outcome, daemon.output());
        // At most once: no run was sent twice, whatever became of it.
        let requests = peer.server.as_ref().map_or(0, Server::requests);
        assert!(requests <= ran.len(), "{}: {requests} requests of {} runs", peer.job, ran.len());
    }
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB, then {after} KiB");
    assert!(open < MAX_SOCKETS, "{open} sockets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_103_as_fast_as_it_can_does_not_stop_the_other_jobs() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".repeat(1_000);
    let peers = [
        peer("hinting", vec![Step::Read, Step::Flood(hints, u64::MAX)], "timeout = \"60s\"", "unknown"),
        peer("sound", vec![Step::Read, send([OK, "content-length: 2\r\n\r\n{}"].concat())], "", "success"),
    ];
    let mut daemon = Setup::new(&table(&peers)).start();
    let database = format!("sqlite://{}", daemon.setup.path("workers.db").display());
    let hinting = peers[0].server.as_ref().expect("it has one");
    daemon.wait_for("the first call to it", |_| 0 < hinting.requests());
    let before = resident_kib(daemon.pid());

    wait_for_runs(&mut daemon, &database, &peers[1..], RUNS).await;

    let after = resident_kib(daemon.pid());
    assert_eq!((hinting.requests(), hinting.open()), (1, 1), "it is still at it");
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB, then {after} KiB");
    assert!(daemon.get("/livez").status == 200);
}
