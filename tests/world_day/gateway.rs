//! A gateway on loopback that speaks as the Evolution API does, fails one call in ten in every way there is, and keeps a
//! log of its own: who was written to, and when.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use chrono::{DateTime, Utc};
use emponto::clock::Clock;
use serde_json::{Value, json};

use super::team::number_in;
use crate::support::free_port;

/// What a call takes on the clock of the World.
const LATENCY: Duration = Duration::from_millis(180);
/// What a call takes that is given up.
const HANGS_FOR: Duration = Duration::from_secs(2);
/// Nobody waits longer for an answer than this, in real time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Messages that the gateway refuses whenever they come.
pub fn is_always_refused(message: usize) -> bool {
    message % 40 == 7
}

/// One call, as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: DateTime<Utc>,
    pub number: String,
    pub text: String,
    /// The person got the message.
    pub is_delivered: bool,
    pub answer: Answer,
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Created,
    /// Refused, for now or for good: not delivered, and the caller may know it.
    Busy(u16),
    /// 500: only the gateway knows.
    Broken,
    /// No answer before the caller gave up.
    Silence,
    /// The connection was cut.
    Cut,
}

pub struct Gateway {
    pub port: u16,
    shared: Arc<Shared>,
    door: Option<JoinHandle<()>>,
}

struct Shared {
    clock: Clock,
    log: Mutex<Vec<Call>>,
    dice: Mutex<fastrand::Rng>,
    is_open: AtomicBool,
}

impl Gateway {
    pub fn open(clock: &Clock) -> Self {
        let shared = Shared {
            clock: clock.clone(),
            log: Mutex::default(),
            dice: Mutex::new(fastrand::Rng::with_seed(7)),
            is_open: AtomicBool::new(false),
        };
        let mut gateway = Self { port: free_port(), shared: Arc::new(shared), door: None };
        gateway.be(true);
        gateway
    }

    /// Opens, or closes: connections are refused then.
    pub fn be(&mut self, is_open: bool) {
        if self.shared.is_open.swap(is_open, Ordering::SeqCst) == is_open {
            return;
        }
        if let Some(door) = self.door.take() {
            door.join().expect("the door closes");
        }
        if is_open {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the port is still ours");
            listener.set_nonblocking(true).expect("a listener that can be asked");
            let shared = Arc::clone(&self.shared);
            self.door = Some(thread::spawn(move || accept(&listener, &shared)));
        }
    }

    /// All calls so far, in order.
    pub fn log(&self) -> Vec<Call> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.is_open.store(false, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while shared.is_open.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                // A peer that goes away in the middle is the peer's business.
                thread::spawn(move || serve(&stream, &shared).unwrap_or_default());
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// One call on one connection, so that a closed gateway is closed to everybody.
fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let (head, body) = request(&mut reader)?;
    assert!(head.starts_with("POST /message/sendText/escala "), "not a call of the Evolution API: {head}");
    assert!(head.to_ascii_lowercase().contains("\r\napikey: none\r\n"), "no key: {head}");
    let body: Value = serde_json::from_slice(&body).expect("the body is JSON");
    let field = |name: &str| body[name].as_str().expect("a text").to_owned();
    let (number, text) = (field("number"), field("text"));
    let (answer, is_delivered) = shared.decide(number_in(&text));
    shared.clock.advance(LATENCY);
    let call = Call { at: shared.clock.now(), number, text, is_delivered, answer };
    let id = {
        let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(call);
        log.len()
    };
    let created = json!({ "key": { "id": format!("wamid-{id}") }, "status": "PENDING" }).to_string();
    match answer {
        Answer::Created => reply(&mut writer, "201 Created", &created),
        Answer::Busy(401) => reply(&mut writer, "401 Unauthorized", "{}"),
        Answer::Busy(503) => reply(&mut writer, "503 Service Unavailable", "{}"),
        Answer::Busy(_) => reply(&mut writer, "429 Too Many Requests", "{}"),
        Answer::Broken => reply(&mut writer, "500 Internal Server Error", "{}"),
        Answer::Cut => Ok(()),
        Answer::Silence => {
            shared.clock.advance(HANGS_FOR);
            // Until the caller has had enough.
            reader.read(&mut [0]).map(drop)
        }
    }
}

impl Shared {
    /// What becomes of a call, and whether the message is delivered all the same.
    fn decide(&self, message: usize) -> (Answer, bool) {
        if is_always_refused(message) {
            return (Answer::Busy(401), false);
        }
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        if 10 <= dice.u8(0..100) {
            return (Answer::Created, true);
        }
        let answer = match dice.u8(0..10) {
            0..3 => Answer::Busy(503),
            3..5 => Answer::Busy(429),
            5..8 => Answer::Broken,
            8 => Answer::Silence,
            _ => Answer::Cut,
        };
        (answer, !matches!(answer, Answer::Busy(_)) && dice.bool())
    }
}

fn request(reader: &mut impl BufRead) -> std::io::Result<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

fn reply(writer: &mut impl Write, status: &str, body: &str) -> std::io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
