//! Real requests to a real listener: answers, doors, limits.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Access, Door, HttpState, ListenError, Tokens, listen, route_table, serve};
use crate::{
    clock::Clock,
    domain::{
        health::{
            FailedReload, Snapshot,
            tests::{at, fine, job, snapshot},
        },
        job::Job,
    },
    metrics::Metrics,
};

const TOKEN: &str = "Authorization: Bearer s3cret";

fn rule(listen: &str, metrics_public: bool, read: &[String]) -> Access {
    Access::new(listen.parse().unwrap(), metrics_public, Tokens { operate: &[], read })
}

struct House {
    address: SocketAddr,
    state: HttpState,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl House {
    async fn open(access: Access) -> Self {
        Self::with(access, vec![Arc::new(job("fila_worker", "every 30s"))]).await
    }

    async fn with(access: Access, jobs: Vec<Arc<Job>>) -> Self {
        let now = at("2026-11-18T13:30:10Z");
        let mut look = snapshot(now);
        look.jobs = jobs.iter().map(|job| (job.name.clone(), fine(now))).collect();
        let state = HttpState {
            metrics: Arc::new(Metrics::new(&jobs, "0.1.0", "")),
            jobs: Arc::new(ArcSwap::from_pointee(jobs)),
            store: Arc::new(OnceLock::new()),
            bell: Arc::new(Notify::new()),
            snapshot: Arc::new(ArcSwap::from_pointee(look)),
            clock: Clock::manual(now),
            access: Arc::new(access),
        };
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, state.clone(), shutdown.clone()));
        Self { address, state, shutdown, serving }
    }

    async fn on_loopback() -> Self {
        Self::open(rule("127.0.0.1:8000", false, &[])).await
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut look = Snapshot::clone(&self.state.snapshot.load());
        change(&mut look);
        self.state.snapshot.store(Arc::new(look));
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "").await
    }

    async fn ask(&self, method: &str, path: &str, header: &str) -> (u16, String) {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let host = self.address;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\n");
        self.send(&request).await
    }

    async fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(stream).await
    }
}

async fn read_answer(mut stream: TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, body.to_owned())
}

#[tokio::test]
async fn health_metrics_and_probes_are_answered() {
    let house = House::on_loopback().await;

    assert_eq!(house.get("/healthz").await, (200, r#"{"status":"ok"}"#.into()));
    assert_eq!(house.get("/livez").await, (200, r#"{"status":"ok"}"#.into()));
    assert_eq!(house.get("/readyz").await, (200, r#"{"status":"ready"}"#.into()));
    let short = r#"{"service":"workers","status":"healthy","timestamp":"2026-11-18T13:30:10.000Z"}"#;
    assert_eq!(house.get("/health").await, (200, short.into()));
    let (code, body) = house.get("/health/workers").await;
    assert_eq!(code, 200);
    assert!(
        body.starts_with(r#"{"scheduler":"running","fila_worker":"healthy","last_job_at":"2026-11-18T13:30:00Z","#)
    );
    let (code, body) = house.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("workers_http_requests_total{code=\"200\",route=\"/healthz\"} 1"), "{body}");
    assert_eq!(house.get("/nothing").await.0, 404);
    assert_eq!(house.ask("POST", "/metrics", "").await.0, 405);
}

#[tokio::test]
async fn the_code_of_health_follows_the_status_and_the_query() {
    let house = House::on_loopback().await;
    let mut codes = Vec::new();

    for failures in [0, 1] {
        house.change(|look| look.jobs.values_mut().for_each(|stats| stats.consecutive_failures = failures));
        for query in ["", "?strict=1", "?strict=1&as=200", "?strict=1&strict=1", "?strict=%zz&a=b&&=&%ff"] {
            codes.push(house.get(&format!("/health/workers{query}")).await.0);
        }
    }
    house.change(|look| look.planner.last_turn = Some(look.planner.started_at));
    for path in ["/health/workers", "/health/workers?as=200", "/livez", "/healthz", "/readyz"] {
        codes.push(house.get(path).await.0);
    }

    assert_eq!(codes, [200, 200, 200, 200, 200, 200, 503, 200, 503, 200, 503, 200, 500, 500, 200]);
}

#[tokio::test]
async fn an_open_listener_tells_words_from_outside_only_to_those_who_named_it() {
    let house = House::on_loopback().await;
    house.change(|look| {
        look.reload = Some(FailedReload { since: look.planner.started_at, problem: "line 3: s3cret".into() });
        look.jobs.values_mut().for_each(|stats| stats.last_error = Some("s3cret".into()));
    });

    for path in ["/health/workers", "/health/jobs"] {
        let (code, told) = house.get(path).await;
        assert!(code == 200 && told.contains("s3cret"), "{told}");
        for host in ["evil.example".to_owned(), format!("evil.example:{}", house.address.port())] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let (code, public) = house.send(&request).await;
            assert!(code == 200 && !public.contains("s3cret"), "{public}");
        }
        assert_eq!(house.get(path).await.1, told, "each has an answer of their own");
    }
}

/// Jobs of the large table: its answers take long enough for others to come meanwhile.
const MANY: usize = 3_000;
/// Clients that ask for the same answer at once.
const CROWD: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_does_not_wait_for_long_answers_and_a_crowd_is_given_one_of_them() {
    let jobs = (0..MANY).map(|number| Arc::new(job(&format!("job_{number}"), "every 30s"))).collect();
    let house = Arc::new(House::with(rule("127.0.0.1:8000", false, &[]), jobs).await);
    let watch = Clock::system();
    let begun = watch.boot();
    assert_eq!(house.get("/health/workers").await.0, 200);
    let alone = watch.boot() - begun;
    house.change(|_| ());

    let begun = watch.boot();
    let mut crowd = JoinSet::new();
    for path in ["/health/workers"; CROWD].into_iter().chain(["/metrics"]) {
        let (house, watch) = (Arc::clone(&house), watch.clone());
        crowd.spawn(async move { (house.get(path).await.0, path, watch.boot() - begun) });
    }
    let (mut longest, mut answered) = (Duration::ZERO, Duration::ZERO);
    while !crowd.is_empty() {
        let asked = watch.boot();
        assert_eq!(house.get("/livez").await.0, 200);
        longest = longest.max(watch.boot() - asked);
        while let Some(done) = crowd.try_join_next() {
            let (code, path, took) = done.unwrap();
            assert_eq!(code, 200, "{path}");
            answered = if path == "/metrics" { answered } else { answered.max(took) };
        }
    }

    // One after another they would take forty times as long, and liveness would wait for all of them.
    let bound = alone * (CROWD as u32 / 4) + Duration::from_secs(1);
    assert!(answered < bound, "{answered:?} for all, {alone:?} for one");
    assert!(longest < alone * 4 + Duration::from_secs(1), "{longest:?}, {alone:?} for one answer");
}

#[tokio::test]
async fn a_database_that_is_away_turns_readiness_red_and_leaves_liveness_green() {
    let house = House::on_loopback().await;
    house.change(|look| {
        look.database.up = false;
        look.database.since += TimeDelta::hours(1);
    });

    assert_eq!(house.get("/readyz").await, (503, r#"{"reasons":["database_away"],"status":"not_ready"}"#.into()));
    assert_eq!(house.get("/livez").await.0, 200);
    let (code, body) = house.get("/health/workers").await;
    assert_eq!(code, 200);
    assert!(body.contains(r#""status":"degraded""#) && body.contains(r#""name":"DatabaseAway""#), "{body}");
}

#[tokio::test]
async fn beyond_loopback_everything_but_health_asks_for_a_token() {
    let house = House::open(rule("[::]:8000", false, &["s3cret".into(), "next".into()])).await;
    let paths = route_table().filter(|(method, ..)| *method == "GET").chain([("GET", "/nothing", Door::Read)]);

    for (_, path, door) in paths {
        let wanted = if door == Door::Public { 200 } else { 401 };
        assert_eq!(house.get(path).await.0, wanted, "{path}");
        assert_eq!(house.ask("GET", path, "Authorization: Bearer guess").await.0, wanted, "{path}");
    }
    assert_eq!(house.ask("GET", "/metrics", TOKEN).await.0, 200);
    assert_eq!(house.ask("GET", "/metrics", "authorization: bearer next").await.0, 200);
    assert_eq!(house.ask("GET", "/nothing", TOKEN).await.0, 404);
}

#[tokio::test]
async fn beyond_loopback_without_tokens_the_refusal_names_the_variable() {
    let closed = House::open(rule("[::]:8000", false, &[])).await;
    let public = House::open(rule("[::]:8000", true, &[String::new()])).await;

    let (code, body) = closed.ask("GET", "/metrics", TOKEN).await;

    assert_eq!(code, 401);
    assert!(body.contains("WORKERS_READ_TOKEN") && body.contains("metrics_public"), "{body}");
    assert_eq!(public.get("/metrics").await.0, 200);
    assert_eq!(public.get("/nothing").await.0, 401);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let house = House::on_loopback().await;

    let (code, _) = house.ask("GET", "/healthz", &format!("X-Large: {}", "a".repeat(20_000))).await;

    assert_eq!(code, 431);
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_oldest_idle_one() {
    let house = House::on_loopback().await;
    let mut idle = Vec::new();
    for _ in 0..2 * super::server::MAX_CONNECTIONS {
        idle.push(TcpStream::connect(house.address).await.unwrap());
    }

    assert_eq!(house.get("/livez").await.0, 200);
    assert_eq!(house.get("/metrics").await.0, 200);
    assert_eq!(idle[0].read(&mut [0]).await.unwrap_or(0), 0, "the first has left");
}

#[tokio::test]
async fn a_taken_port_is_said_so() {
    let house = House::on_loopback().await;

    let refused = listen(house.address).await.unwrap_err();

    assert!(matches!(refused, ListenError::Taken(address) if address == house.address), "{refused}");
}

#[tokio::test]
async fn shutdown_ends_the_server_although_a_connection_idles() {
    let house = House::on_loopback().await;
    let _idle = TcpStream::connect(house.address).await.unwrap();

    house.shutdown.cancel();

    tokio::time::timeout(Duration::from_secs(5), house.serving).await.expect("it ends").unwrap();
}
