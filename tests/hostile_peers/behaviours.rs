//! What hostile peers do, and what must become of the call: one table.

use std::time::Duration;

use emponto::domain::run::FailureKind;
use serde_json::{Value, json};

use crate::server::{Step, flood, send};

/// One way to be hostile, and the end that a POST to it must have.
pub struct Behaviour {
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// Settings beside the URL and the body.
    pub settings: Value,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// A success, with this many items.
    Done(Option<u64>),
    /// A failure that may have come after the effect, and part of its message.
    InDoubt(FailureKind, &'static str),
    /// A failure that surely came before it.
    Unsent(FailureKind, &'static str),
}

use End::{Done, InDoubt};
use FailureKind::{Permanent, Retry};

const OK: &str = "HTTP/1.1 200 OK\r\n";
/// Limit of the calls that nobody answers.
const SHORT: &str = "300ms";
const LATE: End = InDoubt(Retry, "no whole answer within 300ms");
const NOT_HTTP: End = InDoubt(Retry, "no answer: what came is not HTTP: ");
const CLOSED: End = InDoubt(Retry, "no answer: the connection was closed before the end");
const RESET: End = InDoubt(Retry, "no answer: Connection reset by peer");
const BROKE_OFF: End = InDoubt(Retry, "answered 200 and broke off: ");
const BROKEN_JSON: End = InDoubt(Retry, "answered with JSON that cannot be read, so it cannot be judged");
const TOO_MANY: End = InDoubt(Permanent, "answered more than 1048576 bytes, too many to be judged");
const HEAD_TOO_LARGE: End = InDoubt(Retry, "no answer: its head is larger than is read, or has more than 100 headers");

/// Reads the request, then does this.
fn then(name: &'static str, steps: impl IntoIterator<Item = Step>, end: End) -> Behaviour {
    let steps = std::iter::once(Step::Read).chain(steps).collect();
    Behaviour { name, steps, settings: json!({}), end }
}

/// Reads the request and sends this.
fn answers(name: &'static str, answer: impl AsRef<[u8]>, end: End) -> Behaviour {
    then(name, [send(answer)], end)
}

/// Reads the request and sends a head that begins well, then this.
fn says_ok(name: &'static str, rest: impl AsRef<[u8]>, end: End) -> Behaviour {
    answers(name, [OK.as_bytes(), rest.as_ref()].concat(), end)
}

/// As `then`, with a time limit that is reached.
fn never_ends(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Behaviour {
    Behaviour { settings: json!({ "timeout": SHORT }), ..then(name, steps, LATE) }
}

pub fn all() -> Vec<Behaviour> {
    [silence(), lost_connections(), not_http(), bad_heads(), bad_lengths(), floods(), odd_answers(), content()]
        .into_iter()
        .flatten()
        .collect()
}

fn silence() -> Vec<Behaviour> {
    let drip = |bytes: &str| Step::Drip(bytes.as_bytes().to_vec(), Duration::from_millis(20));
    let early_hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
    vec![
        never_ends("reads and never answers", [Step::Hang]),
        Behaviour { steps: vec![Step::Wait(Duration::from_secs(2))], ..never_ends("accepts and never reads", []) },
        never_ends("stops in the status line", [send("HTTP/1.1 20"), Step::Hang]),
        never_ends("stops in a header", [send(OK), send("content-le"), Step::Hang]),
        never_ends("stops after the head", [send(OK), send("content-length: 5\r\n\r\n"), Step::Hang]),
        never_ends("stops in the body", [send(OK), send("content-length: 500\r\n\r\n{\"status\""), Step::Hang]),
        never_ends("drips the status line", [drip("H")]),
        never_ends("drips a header", [send(OK), send("x: "), drip("x")]),
        never_ends("drips the body", [send(OK), send("content-length: 100000\r\n\r\n"), drip(" ")]),
        never_ends("says 100 for ever", [drip(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000))]),
        never_ends("says 103 for ever", [drip(&early_hints.repeat(1_000))]),
    ]
}

fn lost_connections() -> Vec<Behaviour> {
    let half_a_body = || send([OK, "content-length: 100\r\n\r\n{\"status\":"].concat());
    let pause = || Step::Wait(Duration::from_millis(50));
    vec![
        then("closes instead of answering", [], CLOSED),
        then("resets instead of answering", [Step::Reset], RESET),
        Behaviour { steps: vec![Step::Glance, Step::Reset], ..then("resets while it is asked", [], RESET) },
        answers("closes in the status line", "HTTP/1.1 20", CLOSED),
        then("resets in the status line", [send("HTTP/1.1 20"), pause(), Step::Reset], RESET),
        says_ok("closes in a header", "content-type: app", CLOSED),
        then("resets in a header", [send(OK), send("content-type: app"), pause(), Step::Reset], RESET),
        then("closes in the body", [half_a_body()], BROKE_OFF),
        then("resets in the body", [half_a_body(), pause(), Step::Reset], BROKE_OFF),
        says_ok("closes in a chunk", "transfer-encoding: chunked\r\n\r\n10\r\n{\"st", BROKE_OFF),
        says_ok("closes before the last chunk", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", BROKE_OFF),
        says_ok("closes in JSON of no known length", "\r\n{\"status\": \"o", BROKEN_JSON),
    ]
}

fn not_http() -> Vec<Behaviour> {
    vec![
        answers("greets like SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", NOT_HTTP),
        answers("greets like SMTP", "220 mail.example ESMTP\r\n", NOT_HTTP),
        answers("answers in HTTP/0.9", "<html>hello</html>\r\n\r\n", NOT_HTTP),
        answers(
            "answers in HTTP/2",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff",
            NOT_HTTP,
        ),
        answers("answers with a TLS alert", b"\x15\x03\x03\0\x02\x02\x46", NOT_HTTP),
        answers("answers with zeros", [0; 4096], NOT_HTTP),
        answers("answers in HTTP/3.7", "HTTP/3.7 200 OK\r\n\r\n", NOT_HTTP),
        answers("has letters for a status", "HTTP/1.1 abc OK\r\n\r\n", NOT_HTTP),
        answers("has a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", NOT_HTTP),
        answers("has a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", NOT_HTTP),
        answers("has status 000", "HTTP/1.1 000 Nothing\r\n\r\n", NOT_HTTP),
        answers("has status 999", "HTTP/1.1 999 Oh\r\n\r\n", InDoubt(Permanent, "answered 999")),
        answers("sends a request", "POST / HTTP/1.1\r\nhost: you\r\n\r\n", NOT_HTTP),
    ]
}

fn bad_heads() -> Vec<Behaviour> {
    let headers: String = (0..10_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let hundred: String = (0..99).map(|n| format!("x-{n}: {n}\r\n")).collect();
    vec![
        says_ok("sends 10,000 headers", headers + "\r\n", HEAD_TOO_LARGE),
        says_ok("sends 99 headers", hundred + "content-length: 2\r\n\r\n{}", Done(None)),
        then("sends a header without end", [send(OK), send("x: "), flood(b'x')], HEAD_TOO_LARGE),
        then("sends a status line without end", [send("HTTP/1.1 200 "), flood(b'O')], HEAD_TOO_LARGE),
        then("sends empty lines for ever", [flood(b'\n')], HEAD_TOO_LARGE),
        says_ok("has NUL in a header", b"x: a\0b\r\n\r\n", NOT_HTTP),
        says_ok("has NUL in the name of a header", b"x\0y: a\r\n\r\n", NOT_HTTP),
        says_ok("has a header over two lines", "x: a\r\n b\r\n\r\n", NOT_HTTP),
        says_ok("has a header with a space in its name", "x y: a\r\n\r\n", NOT_HTTP),
        says_ok("has a header without a colon", "what is this\r\n\r\n", NOT_HTTP),
        says_ok(
            "has no UTF-8 in a header",
            b"x: \xff\xfe\r\ncontent-length: 15\r\n\r\n{\"processed\":7}",
            Done(Some(7)),
        ),
        answers("has no UTF-8 in its status line", b"HTTP/1.1 200 \xff\r\ncontent-length: 2\r\n\r\n{}", Done(None)),
        says_ok("has no UTF-8 in its type", b"content-type: \xff\r\ncontent-length: 2\r\n\r\n{}", Done(None)),
    ]
}

fn bad_lengths() -> Vec<Behaviour> {
    vec![
        says_ok("sends less than it says", "content-length: 90\r\n\r\n{\"status\":\"ok\"}", BROKE_OFF),
        says_ok("says less than it sends", "content-length: 5\r\n\r\n{\"status\":\"ok\"}", BROKEN_JSON),
        says_ok("says two lengths", "content-length: 2\r\ncontent-length: 3\r\n\r\n{} ", NOT_HTTP),
        says_ok("says a length below zero", "content-length: -1\r\n\r\n{}", NOT_HTTP),
        says_ok("says a length that is no number", "content-length: many\r\n\r\n{}", NOT_HTTP),
        says_ok("says a length beyond all numbers", "content-length: 99999999999999999999999\r\n\r\n{}", NOT_HTTP),
        says_ok("sends chunks of no size", "transfer-encoding: chunked\r\n\r\nnonsense\r\n{}\r\n", BROKE_OFF),
        says_ok("sends a chunk below zero", "transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", BROKE_OFF),
        says_ok(
            "sends a chunk beyond all numbers",
            "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            BROKE_OFF,
        ),
        says_ok(
            "sends a chunk longer than it says",
            "transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
            BROKE_OFF,
        ),
        says_ok(
            "says a length and chunks",
            "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nf\r\n{\"processed\":7}\r\n0\r\n\r\n",
            Done(Some(7)),
        ),
        answers(
            "says a length where no body may be",
            "HTTP/1.1 204 No Content\r\ncontent-length: 500\r\n\r\n",
            Done(None),
        ),
    ]
}

fn floods() -> Vec<Behaviour> {
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    vec![
        then("sends 10 GB of text", [send(OK), send("content-length: 10000000000\r\n\r\n"), flood(b'x')], Done(None)),
        then(
            "sends 10 GB of an object",
            [send(OK), send("content-length: 10000000000\r\n\r\n{"), flood(b' ')],
            TOO_MANY,
        ),
        then(
            "sends 10 GB that it calls JSON",
            [send(OK), send("content-type: application/json\r\n\r\n"), flood(b' ')],
            TOO_MANY,
        ),
        then("sends 10 GB of no known length", [send(OK), send("\r\n{"), flood(b' ')], TOO_MANY),
        then("sends chunks for ever", [send(OK), send(chunked), Step::Flood(chunk, 200_000)], Done(None)),
        then("describes a chunk for ever", [send(OK), send(chunked), send("2;"), flood(b'x')], BROKE_OFF),
        then("sends trailers for ever", [send(OK), send(chunked), send("2\r\n{}\r\n0\r\nx: "), flood(b'x')], BROKE_OFF),
        then(
            "sends 10 GB with a bad status",
            [send("HTTP/1.1 500 No\r\n\r\n"), flood(b'x')],
            InDoubt(Retry, "answered 500"),
        ),
        says_ok(
            "sends a gzip bomb",
            [b"content-encoding: gzip\r\ncontent-length: 10\r\n\r\n".as_slice(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03"]
                .concat(),
            InDoubt(Permanent, "packed as \"gzip\", which was not asked for and cannot be judged"),
        ),
        then(
            "sends 10 GB of gzip",
            [send(OK), send("content-encoding: gzip\r\n\r\n\x1f"), flood(0)],
            InDoubt(Permanent, "packed as \"gzip\""),
        ),
        says_ok(
            "packs the transfer",
            "transfer-encoding: gzip, chunked\r\n\r\n2\r\n\x1f\x0b\r\n0\r\n\r\n",
            InDoubt(Permanent, "packed as \"gzip\""),
        ),
        says_ok(
            "packs twice and in its own way",
            "content-encoding: identity, Own\0\r\n\r\nxyz".replace('\0', ""),
            InDoubt(Permanent, "packed as \"own\""),
        ),
    ]
}

fn odd_answers() -> Vec<Behaviour> {
    let metadata = "http://169.254.169.254/latest/meta-data/";
    let early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".as_slice();
    vec![
        answers(
            "redirects to the metadata of the cloud",
            format!("HTTP/1.1 302 Found\r\nlocation: {metadata}\r\ncontent-length: 0\r\n\r\n"),
            InDoubt(Permanent, "answered 302: redirects are not followed"),
        ),
        answers(
            "repeats the POST elsewhere",
            format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {metadata}\r\ncontent-length: 0\r\n\r\n"),
            InDoubt(Permanent, "answered 307: redirects are not followed"),
        ),
        answers(
            "switches protocols unasked",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            InDoubt(Permanent, "answered 101"),
        ),
        answers(
            "hints before it answers",
            [early, OK.as_bytes(), b"content-length: 15\r\n\r\n{\"processed\":7}"].concat(),
            Done(Some(7)),
        ),
        answers(
            "asks to be left alone for ever",
            "HTTP/1.1 429 Slow\r\nretry-after: 99999999999999999999\r\ncontent-length: 0\r\n\r\n",
            End::Unsent(FailureKind::Snooze(Duration::from_secs(3_600)), "answered 429"),
        ),
        answers(
            "asks for a password",
            "HTTP/1.1 401 No\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n",
            InDoubt(Permanent, "answered 401"),
        ),
        Behaviour {
            steps: vec![
                Step::Glance,
                send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
                Step::Hang,
            ],
            settings: json!({ "json": { "text": "x".repeat(8 * 1024 * 1024) } }),
            ..then("answers before it has read the request", [], InDoubt(Permanent, "answered 413"))
        },
    ]
}

fn content() -> Vec<Behaviour> {
    let json = "content-type: application/json\r\n\r\n";
    vec![
        says_ok("has NUL in its text", b"\r\na\0b", Done(None)),
        says_ok("has NUL in its JSON", "\r\n{\"processed\":7,\"x\":\"a\\u0000b\"}", Done(Some(7))),
        says_ok("has no UTF-8 in its text", b"\r\n\xff\xfe\xfd", Done(None)),
        says_ok("has no UTF-8 in its JSON", b"\r\n{\"processed\":7,\"x\":\"\xff\"}", Done(Some(7))),
        says_ok("has a byte order mark", "\r\n\u{feff}{\"status\":\"error\"}", InDoubt(Retry, "status is \"error\"")),
        says_ok("writes JSON in UTF-16", [json.as_bytes(), b"\xff\xfe{\0}\0"].concat(), BROKEN_JSON),
        says_ok("nests 100,000 deep", [json, &"[".repeat(100_000), &"]".repeat(100_000)].concat(), BROKEN_JSON),
        says_ok("has a number beyond all numbers", [json, "{\"processed\": 1e999}"].concat(), BROKEN_JSON),
        says_ok("says HTML is JSON", [json, "<html>502</html>"].concat(), BROKEN_JSON),
        says_ok("says nothing is JSON", [json, " "].concat(), Done(None)),
        says_ok(
            "says success and error",
            "\r\n{\"success\":true,\"status\":\"error\"}",
            InDoubt(Retry, "status is \"error\""),
        ),
        says_ok("repeats a key", "\r\n{\"status\":\"ok\",\"status\":\"error\"}", InDoubt(Retry, "status is \"error\"")),
    ]
}
