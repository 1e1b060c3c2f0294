//! A gateway of one's own on loopback: each connection gets the next of its moves, the last one again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What happens to one connection.
#[derive(Debug, Clone)]
pub enum Move {
    /// Reads the request and answers: status, headers beside the length, body.
    Answer(u16, &'static str, String),
    /// Reads the request, sends these bytes and closes.
    Bytes(&'static str),
    /// Reads the request and never answers.
    Hang,
    /// Reads the request, then resets the connection.
    ResetAfter,
    /// Resets the connection before anything of the request is read.
    ResetBefore,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub first_line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub struct Gateway {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    moves: Vec<Move>,
    connections: usize,
    requests: Vec<Request>,
}

impl Gateway {
    pub async fn start(moves: Vec<Move>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let seen = Arc::new(Mutex::new(Seen { moves, ..Seen::default() }));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let next = {
                    let mut seen = kept.lock().expect("nobody panics under it");
                    seen.connections += 1;
                    if 1 < seen.moves.len() { seen.moves.remove(0) } else { seen.moves[0].clone() }
                };
                tokio::spawn(serve(stream, next, Arc::clone(&kept)));
            }
        });
        Self { port, seen }
    }

    pub async fn answering(status: u16, body: &str) -> Self {
        Self::start(vec![answer(status, body)]).await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From here on each connection gets this.
    pub fn now(&self, next: Move) {
        self.seen.lock().expect("nobody panics under it").moves = vec![next];
    }

    /// Whole requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("nobody panics under it").requests.clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().expect("nobody panics under it").connections
    }
}

pub fn answer(status: u16, body: &str) -> Move {
    Move::Answer(status, "Content-Type: application/json\r\n", body.to_owned())
}

/// The address of a port that nobody listens on.
pub async fn nobody() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    format!("http://{}", listener.local_addr().expect("a bound address"))
}

async fn serve(mut stream: TcpStream, next: Move, seen: Arc<Mutex<Seen>>) {
    if matches!(next, Move::ResetBefore) {
        let _ = stream.set_zero_linger();
        return;
    }
    let Some(request) = read(&mut stream).await else { return };
    seen.lock().expect("nobody panics under it").requests.push(request);
    let text = match next {
        Move::Answer(status, headers, body) => {
            let length = body.len();
            format!("HTTP/1.1 {status} Any\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        }
        Move::Bytes(bytes) => bytes.to_owned(),
        Move::Hang => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
        Move::ResetAfter | Move::ResetBefore => {
            let _ = stream.set_zero_linger();
            return;
        }
    };
    // A peer that goes away in the middle is the peer's business.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).await.ok().filter(|length| 0 < *length)?;
        bytes.extend_from_slice(&piece[..length]);
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let first_line = lines.next()?.to_owned();
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        let expected = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if expected <= bytes.len() - end - 4 {
            let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
            return Some(Request { first_line, headers, body });
        }
    }
}
