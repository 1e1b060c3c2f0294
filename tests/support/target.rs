//! An HTTP server of one's own for jobs to call: answers at once, hangs under /hang, sends NUL bytes under /nul_raw and /nul_escaped.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// How long a path that begins with `/hang` takes.
pub const HANGS_FOR: Duration = Duration::from_secs(150);

/// Listens on loopback until the test's process ends.
pub struct Target {
    pub port: u16,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Target {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&calls);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A peer that goes away in the middle is the peer's business.
                thread::spawn(move || serve(&stream, &kept).unwrap_or_default());
            }
        });
        Self { port, calls }
    }

    /// The paths that were called so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, calls: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        calls.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        if path.starts_with("/hang") {
            thread::sleep(HANGS_FOR);
        }
        let body = match path.as_str() {
            // Both ways a NUL can come: as it is, and escaped inside JSON.
            "/nul_raw" => "a\0b",
            "/nul_escaped" => r#"{"status":"ok","note":"a\u0000b"}"#,
            _ => r#"{"status":"ok","processados":1}"#,
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json";
        write!(writer, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}
