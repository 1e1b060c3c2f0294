//! `workers run fila_worker`: that worker alone, in the foreground, as `python -m app.workers.fila_worker` was; and once, with its
//! result as exit code.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::place::{Place, from_now};
use crate::support::daemon::Setup;

/// A gateway on loopback that refuses numbers ending in 9 for good, and writes down whom it delivered to.
struct Gateway {
    port: u16,
    delivered: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn open() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let delivered = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&delivered);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A peer that goes away in the middle is the peer's business.
                answer(&stream, &log).unwrap_or_default();
            }
        });
        Self { port, delivered }
    }

    fn delivered(&self) -> Vec<String> {
        let mut numbers = self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        numbers.sort();
        numbers
    }
}

fn answer(stream: &TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: serde_json::Value = serde_json::from_slice(&body)?;
    let number = body["number"].as_str().unwrap_or_default().to_owned();
    let (head, text) = if number.ends_with('9') {
        ("400 Bad Request", r#"{"error":"no such number"}"#)
    } else {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        ("201 Created", r#"{"key":{"id":"wamid.1"}}"#)
    };
    write!(writer, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}

fn table(port: u16, every: &str) -> String {
    format!(
        r#"
version = 1
[outbound]
gateway = "evolution"
evolution = {{ url = "http://127.0.0.1:{port}", instance = "escala", key = "none" }}
allowlist = ["5511999990001", "5511999990002", "5511999990009"]
[jobs.fila_worker]
every = "{every}"
critical = true
run.fila = {{}}
[jobs.other]
every = "1s"
run.noop = {{}}
[jobs.closed]
every = "1h"
when = {{ env = "NOT_SET_IN_TESTS", is = "true" }}
run.noop = {{}}
"#
    )
}

/// Answers, which go at any hour, one to each of these numbers.
async fn queue(place: &Place, numbers: &[&str]) {
    for number in numbers {
        let due = from_now(-5);
        let insert = "insert into fila_mensagens (conteudo, telefone, tipo, agendar_para)";
        place.execute(&format!("{insert} values ('Olá, doutora fictícia', '{number}', 'resposta', {due})")).await;
    }
}

fn once(setup: &Setup, job: &str) -> (Option<i32>, String) {
    let output = setup.run(&["run", job, "--once"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("99999") && !stderr.contains("Olá"), "personal: {stderr}");
    (output.status.code(), String::from_utf8(output.stdout).expect("words are text").trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn run_once_sends_what_is_due_and_its_exit_code_is_its_result() {
    for kind in 0..2 {
        let gateway = Gateway::open();
        let place = &Place::both(&table(gateway.port, "1h")).await[kind];
        let setup = place.setup();
        let ended = |code: i32, word: &str| (Some(code), word.to_owned());

        queue(place, &["5511999990001", "5511999990002"]).await;
        assert_eq!(once(setup, "fila_worker"), ended(0, "success"));
        assert_eq!(gateway.delivered(), ["5511999990001", "5511999990002"]);
        assert_eq!(place.count("status = 'enviada' and provider_message_id = 'wamid.1'").await, 2);

        assert_eq!(once(setup, "fila_worker"), ended(0, "success"), "an empty queue is no failure");
        assert_eq!(gateway.delivered().len(), 2, "nothing is sent twice");

        // The least time between two messages to one number has not passed; what it was told of goes as if it had.
        place.execute("delete from outbound_limits").await;
        queue(place, &["5511999990001", "5511999990009"]).await;
        assert_eq!(once(setup, "fila_worker"), ended(0, "partial"));

        place.execute("delete from fila_mensagens").await;
        place.execute("delete from outbound_limits").await;
        queue(place, &["5511999990009"]).await;
        assert_eq!(once(setup, "fila_worker"), ended(1, "error"));

        assert_eq!(once(setup, "closed"), ended(0, "skipped"), "told not to is no failure");
        assert_eq!(once(setup, "nobody").0, Some(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_works_on_its_schedule_until_it_is_told_to_stop() {
    let gateway = Gateway::open();
    let mut place = Place::both(&table(gateway.port, "1s")).await.into_iter().next().expect("SQLite comes first");
    queue(&place, &["5511999990001"]).await;

    let mut worker = place.setup.take().expect("it was not started").spawn(&["run", "fila_worker"]);

    worker.wait_for("the message", |_| gateway.delivered() == ["5511999990001"]);
    // It goes on: what comes later goes later.
    queue(&place, &["5511999990002"]).await;
    worker.wait_for("the next message", |_| gateway.delivered().len() == 2);
    assert!(worker.try_get("/healthz").is_none(), "it listens nowhere");
    assert_eq!(worker.terminate().code(), Some(0), "{}", worker.output());
    let others =
        "select cast(count(*) as text) from workers_runs where job <> 'fila_worker' and started_at is not null";
    assert_eq!(place.texts(others).await, ["0"], "no other job ran");
}
