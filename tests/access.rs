//! Who may reach the daemon, asked of the real binary: the route table is walked, not copied.

mod support;

use std::net::TcpStream;

use emponto::http::{Door, route_table};
use support::{
    daemon::{Answer, Daemon, Setup},
    raw::{ask, header},
};

const JOBS: &str = "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.mensagens]\nrun.noop = {}\n";
/// What anyone may ask on any listener. Nothing is added here without a reason.
const PUBLIC: [&str; 7] =
    ["/healthz", "/livez", "/readyz", "/health", "/health/workers", "/health/jobs", "/health/fila"];
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"];
const OPERATE: &str = "operate-0123456789";
const READ: &str = "read-0123456789abc";
const RUN: &str = "01976f3e-0000-7000-8000-000000000000";

fn beyond_loopback() -> Setup {
    let setup = Setup::new(JOBS);
    let listen = format!("0.0.0.0:{}", setup.port);
    setup.env("WORKERS_LISTEN", &listen)
}

fn with_tokens(setup: Setup) -> Daemon {
    setup.env("WORKERS_TOKEN", OPERATE).env("WORKERS_READ_TOKEN", READ).start()
}

/// Every path of the table, and some that are in none.
fn paths() -> Vec<String> {
    let known = route_table().map(|(_, path, _)| path.replace("{name}", "mensagens").replace("{id}", RUN));
    let unknown = [
        "/",
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/jobs",
        "/api/v1/config",
        "/openapi.json",
        "/metrics/",
        "//metrics",
        "/health/../metrics",
        "/healthz/",
        "/healthz/x",
        "/%68ealthz",
        "/Healthz",
        "/healthz%00",
        "/health/%2e%2e/metrics",
    ];
    let mut paths: Vec<String> = known.chain(unknown.map(str::to_owned)).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn get(port: u16, path: &str, token: &str) -> Answer {
    with_token(port, &format!("GET {path}"), token)
}

fn with_token(port: u16, line: &str, token: &str) -> Answer {
    ask(port, line, &["Host: workers.example", &format!("Authorization: Bearer {token}")], "")
}

/// What a server must not take for a token.
fn credentials(port: u16) -> Vec<String> {
    vec![
        String::new(),
        "Authorization: Bearer guess".into(),
        "Authorization: Bearer".into(),
        "Authorization: Bearer ".into(),
        format!("Authorization: {OPERATE}"),
        format!("Authorization: Basic {OPERATE}"),
        format!("Authorization: Bearer {OPERATE}x"),
        format!("Authorization: Bearer {}", &OPERATE[..OPERATE.len() - 1]),
        format!("Authorization: Bearer {}", OPERATE.to_uppercase()),
        format!("Authorization: Bearer guess\r\nAuthorization: Bearer {OPERATE}"),
        format!("X-Api-Key: {OPERATE}"),
        format!("Cookie: token={OPERATE}"),
        "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1".into(),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}"),
    ]
}

/// The path is one of `PUBLIC`, written as it is there.
fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path)
}

#[test]
fn the_table_opens_nothing_but_health_to_all() {
    for (method, path, door) in route_table() {
        assert_eq!(door == Door::Public, PUBLIC.contains(&path), "{method} {path}");
        assert_eq!(door == Door::Metrics, path == "/metrics", "{method} {path}");
        assert_eq!(door == Door::Operate, !["GET", "HEAD"].contains(&method), "{method} {path}");
    }
}

#[test]
fn beyond_loopback_everything_but_health_is_refused_without_a_token() {
    let daemon = with_tokens(beyond_loopback());
    let mut asked = 0;

    for path in paths() {
        for method in METHODS {
            for credential in credentials(daemon.port) {
                let mut headers = vec!["Content-Type: application/json"];
                headers.extend((!credential.starts_with("Host")).then_some("Host: workers.example"));
                headers.extend((!credential.is_empty()).then_some(credential.as_str()));
                let line = format!("{method} {path}?token={OPERATE}&access_token={OPERATE}");
                // The method CONNECT names a place, not a path; hyper answers it before us.
                let answer = ask(daemon.port, &line, &headers, "");
                let is_open = is_public(&path) || method == "CONNECT" && answer.status == 400;
                assert_eq!(answer.status == 401, !is_open, "{line} with {credential:?}: {}", answer.head);
                asked += 1;
            }
        }
    }
    println!("{asked} requests were refused, or were for health");
}

#[test]
fn beyond_loopback_without_tokens_every_refusal_names_the_variable_and_the_banner_says_so() {
    let daemon = beyond_loopback().start();

    for path in paths().iter().filter(|path| !is_public(path)) {
        for (method, variable) in [("GET", "WORKERS_READ_TOKEN"), ("POST", "WORKERS_TOKEN")] {
            let answer = with_token(daemon.port, &format!("{method} {path}"), "");
            assert_eq!(answer.status, 401, "{method} {path}");
            assert!(answer.body.contains(variable), "{method} {path}: {}", answer.body);
            assert_eq!(header(&answer, "www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(daemon.get("/health/workers").status, 200);
    assert!(daemon.stderr().contains("no token is configured"), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("WORKERS_TOKEN or WORKERS_READ_TOKEN"), "{}", daemon.stderr());
}

#[test]
fn a_read_token_reads_and_is_told_what_operating_needs() {
    let daemon = with_tokens(beyond_loopback());

    for (method, path, door) in route_table().filter(|(_, _, door)| *door != Door::Public) {
        let path = path.replace("{name}", "nobody").replace("{id}", RUN);
        let reader = with_token(daemon.port, &format!("{method} {path}"), READ);
        let operator = with_token(daemon.port, &format!("{method} {path}"), OPERATE);

        assert_eq!(reader.status == 403, door == Door::Operate, "{method} {path}: {}", reader.head);
        assert_eq!(reader.status == 403, reader.body.contains("WORKERS_TOKEN"), "{}", reader.body);
        assert!(!reader.body.contains(OPERATE) && !reader.body.contains(READ));
        assert!([200, 404].contains(&operator.status), "{method} {path}: {}", operator.head);
    }
    assert_eq!(get(daemon.port, "/nothing", READ).status, 404);
    assert_eq!(with_token(daemon.port, "DELETE /nothing", READ).status, 403);
}

#[test]
fn two_tokens_are_valid_at_once_and_the_scheme_has_no_case() {
    let daemon = beyond_loopback()
        .env("WORKERS_TOKEN", "operate-older-0001, operate-newer-0002")
        .env("WORKERS_READ_TOKEN", "read-older-00000001,read-newer-00000002")
        .start();

    for token in ["operate-older-0001", "operate-newer-0002", "read-older-00000001", "read-newer-00000002"] {
        assert_eq!(get(daemon.port, "/metrics", token).status, 200, "{token}");
        let enqueued = with_token(daemon.port, "POST /api/v1/jobs/mensagens/runs", token);
        assert_eq!(enqueued.status, if token.starts_with("operate") { 202 } else { 403 }, "{token}");
    }
    assert_eq!(get(daemon.port, "/metrics", "operate-older-0001, operate-newer-0002").status, 401);
    let lower = ["Host: workers.example", "authorization: bearer read-newer-00000002"];
    assert_eq!(ask(daemon.port, "GET /metrics", &lower, "").status, 200);
}

#[test]
fn public_metrics_open_the_metrics_and_nothing_else() {
    let daemon = beyond_loopback().env("WORKERS_METRICS_PUBLIC", "true").start();
    let plain = |line: &str| ask(daemon.port, line, &["Host: workers.example"], "").status;

    assert_eq!(plain("GET /metrics"), 200);
    assert_eq!(plain("HEAD /metrics"), 200);
    assert_eq!(plain("POST /metrics"), 401);
    assert_eq!(plain(&format!("GET /api/v1/runs/{RUN}")), 401);
}

#[test]
fn a_platforms_port_is_served_over_both_protocols_and_asks_for_tokens() {
    let setup = Setup::new(JOBS).without_env("WORKERS_LISTEN");
    let port = setup.port.to_string();
    let daemon = with_tokens(setup.env("PORT", &port));

    let over_ipv6 = TcpStream::connect(("::1", daemon.port));
    assert!(over_ipv6.is_ok() || TcpStream::connect(("::1", 1)).is_err_and(|error| error.raw_os_error() == Some(99)));
    assert_eq!(get(daemon.port, "/metrics", "guess").status, 401);
    assert_eq!(get(daemon.port, "/metrics", READ).status, 200);
}

#[test]
fn tokens_are_asked_for_on_loopback_too_once_they_are_configured() {
    let daemon = with_tokens(Setup::new(JOBS));
    let ours = format!("Host: localhost:{}", daemon.port);

    assert_eq!(ask(daemon.port, "GET /metrics", &[&ours], "").status, 401);
    assert_eq!(ask(daemon.port, "POST /api/v1/jobs/mensagens/runs", &[&ours], "").status, 401);
    assert_eq!(get(daemon.port, "/metrics", READ).status, 200);
    assert_eq!(with_token(daemon.port, "POST /api/v1/jobs/mensagens/runs", OPERATE).status, 202);
}

#[test]
fn a_page_in_the_browser_cannot_operate_an_open_daemon() {
    let daemon = Setup::new(JOBS).start();
    let port = daemon.port;
    let enqueue = |headers: &[&str], body: &str| ask(port, "POST /api/v1/jobs/mensagens/runs", headers, body).status;
    let ours = format!("Host: localhost:{port}");
    let same = format!("Origin: http://localhost:{port}");
    let json = "Content-Type: application/json";

    assert_eq!(enqueue(&[&ours], ""), 202);
    assert_eq!(enqueue(&[&ours, &same, json], "{}"), 202);
    assert_eq!(enqueue(&[&format!("Host: 127.0.0.1:{port}"), json], "{}"), 202);
    assert_eq!(enqueue(&[&format!("Host: [::1]:{port}"), json], "{}"), 202);
    // A name that points here, a port that is not ours, no name, two names.
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost", "localhost:1", ""] {
        assert_eq!(enqueue(&[&format!("Host: {host}"), json], "{}"), 403, "{host}");
        let read = ask(port, &format!("GET /api/v1/runs/{RUN}"), &[&format!("Host: {host}")], "");
        assert_eq!(read.status, 403, "{host}: results are not for every name");
    }
    assert_eq!(enqueue(&[json], "{}"), 403);
    assert_eq!(enqueue(&[&ours, "Host: evil.example", json], "{}"), 403);
    assert_eq!(enqueue(&[&ours, "X-Forwarded-Host: localhost", "Origin: http://evil.example", json], "{}"), 403);
    // A foreign page, a sandboxed one, another program of this machine.
    for origin in ["http://evil.example", "null", "http://localhost:3000", &format!("https://localhost:{port}")] {
        assert_eq!(enqueue(&[&ours, &format!("Origin: {origin}"), json], "{}"), 403, "{origin}");
    }
    // What a form can send without asking first.
    for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""] {
        assert_eq!(enqueue(&[&ours, &format!("Content-Type: {kind}")], "{}"), 415, "{kind}");
    }
    // A page may ask whether it may ask; no answer permits anything.
    let preflight = ask(
        port,
        "OPTIONS /api/v1/jobs/mensagens/runs",
        &[&ours, "Origin: http://evil.example", "Access-Control-Request-Method: POST"],
        "",
    );
    assert_eq!((preflight.status, header(&preflight, "allow")), (405, Some("POST")));
    assert!(!preflight.head.to_lowercase().contains("access-control"), "{}", preflight.head);
    assert_eq!(ask(port, "GET /metrics", &["Host: prometheus.example:9"], "").status, 200);
}
