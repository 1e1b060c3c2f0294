//! An HTTP server of one's own for jobs to call: answers at once, hangs under /hang, sends NUL bytes under /nul_raw and
//! /nul_escaped, and accepts what is posted to /accept as work that goes on until the test ends it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a path that begins with `/hang` takes.
pub const HANGS_FOR: Duration = Duration::from_secs(150);

/// Listens on loopback until the test's process ends.
pub struct Target {
    pub port: u16,
    seen: Arc<Seen>,
}

/// What the threads of the connections share with the test.
#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<String>>,
    accepted: Mutex<Vec<String>>,
    work_has_ended: AtomicBool,
    looks_hang: AtomicBool,
}

impl Target {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A peer that goes away in the middle is the peer's business.
                thread::spawn(move || serve(&stream, &kept).unwrap_or_default());
            }
        });
        Self { port, seen }
    }

    /// The paths that were called so far, in order.
    pub fn calls(&self) -> Vec<String> {
        locked(&self.seen.calls).clone()
    }

    /// The idempotency keys of what was posted to `/accept`, in order. Such work is looked at under `/work/<key>`.
    pub fn accepted(&self) -> Vec<String> {
        locked(&self.seen.accepted).clone()
    }

    /// How often this work was looked at.
    pub fn looks(&self, key: &str) -> usize {
        self.calls().iter().filter(|path| **path == format!("/work/{key}")).count()
    }

    /// From here on accepted work has ended well, with 3 items; until then it is `processing`.
    pub fn end_work(&self) {
        self.seen.work_has_ended.store(true, Ordering::SeqCst);
    }

    /// Whether a look gets its answer only when this is switched off again.
    pub fn let_looks_hang(&self, hang: bool) {
        self.seen.looks_hang.store(hang, Ordering::SeqCst);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, seen: &Seen) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "idempotency-key" => value.trim().clone_into(&mut key),
                _ => {}
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        locked(&seen.calls).push(path.clone());
        if path.starts_with("/hang") {
            thread::sleep(HANGS_FOR);
        }
        let (head, body) = answer(&path, &key, seen);
        write!(writer, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// Status line and headers, and the body.
fn answer(path: &str, key: &str, seen: &Seen) -> (String, &'static str) {
    let ok = "200 OK\r\nContent-Type: application/json".to_owned();
    match path {
        // Both ways a NUL can come: as it is, and escaped inside JSON.
        "/nul_raw" => ("200 OK\r\nContent-Type: text/plain".to_owned(), "a\0b"),
        "/nul_escaped" => (ok, r#"{"status":"ok","note":"a\u0000b"}"#),
        "/accept" => {
            locked(&seen.accepted).push(key.to_owned());
            (format!("202 Accepted\r\nLocation: /work/{key}"), "")
        }
        work if work.starts_with("/work/") => {
            while seen.looks_hang.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(10));
            }
            match seen.work_has_ended.load(Ordering::SeqCst) {
                true => (ok, r#"{"status":"done","processados":3}"#),
                false => (ok, r#"{"status":"processing"}"#),
            }
        }
        _ => (ok, r#"{"status":"ok","processados":1}"#),
    }
}
