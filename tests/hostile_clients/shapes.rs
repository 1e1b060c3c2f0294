//! Requests that are wrong in themselves: bombs, smuggling, tricks with paths, bytes and markup.

use std::io::{Read as _, Write as _};

use super::{
    JOBS, json_post,
    support::{
        daemon::{Daemon, Setup},
        raw::{ask, connect, header, read_all, send},
    },
};

const MAX_DETAIL_CHARS: usize = 300;

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The status of `POST` with this body.
fn post(daemon: &Daemon, body: &[u8]) -> (u16, String) {
    let mut request = json_post(daemon.port, body.len()).into_bytes();
    request.extend_from_slice(body);
    let answer = send(daemon.port, &request);
    (status(&answer), answer)
}

#[test]
fn heads_that_are_too_large_are_refused_and_cost_nothing() {
    let daemon = Setup::new(JOBS).start();
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    let get = |path: &str, headers: &str| {
        status(&send(
            daemon.port,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
        ))
    };

    assert_eq!(get("/healthz", &many(90)), 200);
    assert_eq!(get("/healthz", &many(200)), 431);
    assert_eq!(get("/healthz", &format!("X: {}\r\n", "a".repeat(15_000))), 200);
    // The server may close before it was all sent; then the answer can be lost to a reset.
    for size in [17_000, 100_000, 5_000_000] {
        assert!([431, 0].contains(&get("/healthz", &format!("X: {}\r\n", "a".repeat(size)))), "{size}");
        assert!([414, 431, 0].contains(&get(&format!("/{}", "a".repeat(size)), "")), "{size}");
    }
    assert!([400, 431, 0].contains(&status(&send(daemon.port, &vec![b'a'; 5_000_000]))));
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn json_bombs_are_refused_with_a_reason() {
    let daemon = Setup::new(JOBS).start();
    let deep = |depth: usize| format!(r#"{{"payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let values = format!(r#"{{"payload":[{}1]}}"#, "1,".repeat(200_000));
    let lists = format!(r#"{{"payload":[{}[]]}}"#, "[],".repeat(300_000));
    let keys = format!(r#"{{"payload":{{{}"z":1}}}}"#, r#""a":1,"#.repeat(100_000));
    let many_keys: String = (0..80_000).map(|n| format!(r#""k{n}":1,"#)).collect();

    for (body, code, reason) in [
        (deep(63), 202, ""),
        (deep(64), 400, "nested deeper than 64"),
        ("[".repeat(1_000_000), 400, "nested deeper than 64"),
        (r#"{"payload":"#.repeat(90_000), 400, "nested deeper than 64"),
        (values, 400, "more than 100000 values"),
        (lists, 400, "more than 100000 values"),
        (keys, 400, "a key twice"),
        (r#"{"payload":1,"payload":2}"#.into(), 400, "a key twice"),
        (format!(r#"{{"payload":{{{many_keys}"z":1}}}}"#), 202, ""),
        (r#"{"payload":1e999}"#.into(), 400, "out of range"),
        (format!(r#"{{"payload":1{}}}"#, "0".repeat(400)), 400, "out of range"),
        (r#"{"payload":-0.0000000000000000000001e-300}"#.into(), 202, ""),
        (format!(r#"{{"priority":1{}}}"#, "0".repeat(300)), 422, "priority"),
        (r#"{"payload":"\u0000"}"#.into(), 400, "NUL"),
        (r#"{"payload":"\ud800"}"#.into(), 400, "not the JSON"),
        (r#"{"payload":NaN}"#.into(), 400, "not the JSON"),
        (r#"{"payload":1}}"#.into(), 400, "trailing"),
        (" ".repeat(1_000_000), 400, "not the JSON"),
        (format!(r#"{{"{}":1}}"#, "x".repeat(900_000)), 422, "xxx"),
        (format!(r#"{{"in":"{}"}}"#, "9".repeat(900_000)), 422, "length of time"),
    ] {
        let beginning: String = body.chars().take(40).collect();
        let (found, answer) = post(&daemon, body.as_bytes());
        assert_eq!(found, code, "{beginning}: {}", answer.chars().take(600).collect::<String>());
        assert!(answer.contains(reason), "{beginning}: {answer}");
        // A large run comes back whole; a refusal quotes a little.
        assert!(code == 202 || answer.len() < 4 * MAX_DETAIL_CHARS, "{beginning}: {} bytes", answer.len());
    }
    for bytes in
        [&b"{\"payload\":\"\xff\xfe\"}"[..], b"{\"payload\":\"\xed\xa0\x80\"}", b"\xef\xbb\xbf{}", b"\0", b"\x80"]
    {
        assert_eq!(post(&daemon, bytes).0, 400, "{bytes:?}");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn requests_that_two_servers_could_read_differently_are_refused_or_end_the_connection() {
    let daemon = Setup::new(JOBS).start();
    let port = daemon.port;
    let post = |headers: &str, rest: &str| {
        let head = format!(
            "POST /api/v1/jobs/mensagens/runs HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        );
        send(port, format!("{head}{headers}\r\n{rest}").as_bytes())
    };
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    for headers in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length : 2\r\n",
        "X: a\r\n Content-Length: 2\r\n",
        "X y: a\r\n",
        "X: a\0b\r\n",
        "X: a\rContent-Length: 2\r\n",
        ": a\r\n",
    ] {
        let answer = post(headers, &format!("{{}}{hidden}"));
        let whole = answer.matches("HTTP/1.1 ").count();
        assert!(status(&answer) == 400 && whole == 1, "{headers:?}: {answer}");
    }
    // Two lengths: chunks count, and nothing that follows is taken for a request.
    for headers in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"]
    {
        let answer = post(headers, &format!("2\r\n{{}}\r\n0\r\n\r\n{hidden}"));
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (202, 1), "{headers:?}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    // Chunks that lie about themselves.
    for chunks in [
        "2;\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}XX0\r\n\r\n",
    ] {
        let answer = post("Transfer-Encoding: chunked\r\n", &format!("{chunks}{hidden}"));
        assert!(
            [400, 413, 0].contains(&status(&answer)) && answer.matches("HTTP/1.1 ").count() <= 1,
            "{chunks:?}: {answer}"
        );
    }
    // What is no HTTP/1 at all.
    for bytes in [
        &b"\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\nBREW\r\n\r\n",
    ] {
        let mut stream = connect(port);
        stream.write_all(bytes).expect("it is sent");
        stream.shutdown(std::net::Shutdown::Write).expect("it is half closed");
        assert!([400, 505, 0].contains(&status(&read_all(&mut stream))), "{bytes:?}");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_their_order() {
    let daemon = Setup::new(JOBS).start();
    let request = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\n{more}\r\n", daemon.port)
    };
    let pipeline = [
        request("GET", "/healthz", ""),
        request("HEAD", "/healthz", ""),
        request("GET", "/nothing", ""),
        request("POST", "/api/v1/jobs/mensagens/runs", "Content-Type: application/json\r\nContent-Length: 2\r\n")
            + "{}",
        request("OPTIONS", "/metrics", ""),
        request("GET", "/readyz", "Connection: close\r\n"),
    ];

    let answer = send(daemon.port, pipeline.concat().as_bytes());

    let codes: Vec<&str> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(codes, ["200", "200", "404", "202", "405", "200"], "{answer}");
    assert_eq!(answer.matches(r#"{"status":"ok"}"#).count(), 1, "HEAD has no body");
    // Keep-alive: one connection, one request after the other.
    let mut stream = connect(daemon.port);
    for _ in 0..20 {
        stream.write_all(request("GET", "/healthz", "").as_bytes()).expect("the connection is kept");
        let mut chunk = [0; 1_024];
        let read = stream.read(&mut chunk).expect("it is answered");
        assert!(chunk[..read].starts_with(b"HTTP/1.1 200 "));
    }
}

#[test]
fn tricks_with_paths_reach_nothing() {
    let daemon = Setup::new(JOBS).start();
    let host = format!("Host: localhost:{}", daemon.port);

    for path in [
        "//healthz",
        "/./healthz",
        "/x/../healthz",
        "/%2e%2e/healthz",
        "/healthz%00",
        "/healthz%2f",
        "/%2e/healthz",
        "/healthz;a=b",
        "/healthz/",
        "/HEALTHZ",
        "/%68%65%61%6c%74%68%7a",
        "/..%5chealthz",
        "/%c0%ae%c0%ae/etc/passwd",
        "/../../../../etc/passwd",
        "/%ff%fe",
        "/%",
        "/%zz",
        "/api/v1/runs/",
        "/api/v1/runs//cancel",
        "/api/v1/runs/..",
        "/api/v1/runs/%2e%2e",
        "/api/v1/runs/{id}",
        "/api/v1/runs/%00",
        "/api/v1/runs/%ff",
        "/api/v1/jobs/%3Cscript%3E/runs",
        "*",
    ] {
        let answer = ask(daemon.port, &format!("GET {path}"), &[&host], "");
        assert!([400, 404, 405].contains(&answer.status), "{path}: {}", answer.head);
        assert!(!answer.body.contains("passwd") && !answer.body.contains("script"), "{path}: {}", answer.body);
    }
    for path in ["/\u{e9}", "/a b", "/\"", "http://localhost/healthz", "healthz", ""] {
        let answer =
            send(daemon.port, format!("GET {path} HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n").as_bytes());
        assert!([0, 400, 403, 404].contains(&status(&answer)), "{path}: {answer}");
    }
    let queries = [
        "?strict=1&strict=2",
        "?as=99999999999999999999",
        "?%ff=%00",
        "?as[]=1",
        "?",
        "?&&&==",
        "?strict=%F0%9F%98%80",
    ];
    for query in queries {
        let answer = daemon.get(&format!("/health/workers{query}"));
        assert!([200, 400, 503].contains(&answer.status), "{query}: {}", answer.head);
    }
    let long = format!("/health/workers?strict={}", "a".repeat(10_000));
    let answer = daemon.get(&long);
    assert!(answer.body.len() < 5_000, "{} bytes come back", answer.body.len());
}

#[test]
fn markup_and_other_peoples_text_come_back_as_data() {
    let daemon = Setup::new(JOBS).start();
    let host = format!("Host: localhost:{}", daemon.port);
    let markup = r#"<script>alert(1)</script>"#;
    let json = "Content-Type: application/json";
    let path = "POST /api/v1/jobs/mensagens/runs";

    let kept = ask(daemon.port, path, &[&host, json], &format!(r#"{{"payload":"{markup}","key":"{markup}"}}"#));
    let unknown = ask(daemon.port, path, &[&host, json], &format!(r#"{{"{markup}":1}}"#));
    let wrong =
        ask(daemon.port, &format!("GET /api/v1/runs/%3Cscript%3E?wait={markup}").replace(' ', " "), &[&host], "");

    assert_eq!((kept.status, unknown.status), (202, 422));
    assert!([400, 404].contains(&wrong.status), "{}", wrong.head);
    for answer in [&kept, &unknown, &wrong] {
        if answer.body.is_empty() {
            continue;
        }
        assert!(header(answer, "content-type").is_some_and(|kind| kind.ends_with("json")), "{}", answer.head);
        assert_eq!(header(answer, "x-content-type-options"), Some("nosniff"), "{}", answer.head);
    }
    assert!(daemon.stderr().lines().all(|line| !line.contains("<script>")), "{}", daemon.stderr());
}
