//! HTTP servers for one test: a sound one that records what it is asked, and one that sends any bytes it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What a server was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub place: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A server that gives the same answer to everything.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Answer = (StatusCode, HeaderMap, Bytes);

impl Server {
    pub async fn answering(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        let answer: Answer = (StatusCode::from_u16(status).expect("a status"), map, Bytes::from(body.into()));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let app = Router::new().fallback(record).with_state((answer, Arc::clone(&asked)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }
}

async fn record(State((answer, asked)): State<(Answer, Arc<Mutex<Vec<Asked>>>)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    asked.lock().expect("no test panics while it holds this").push(Asked {
        method: parts.method.to_string(),
        place: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    answer.into_response()
}

/// What a raw server does once it has read a request.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Closes the connection so that the other side sees a reset.
    Reset,
}

/// A server without manners. Gives its URL; each connection gets the same steps, then is closed.
pub async fn raw(steps: Vec<Step>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, steps.clone()));
        }
    });
    format!("http://{address}")
}

async fn play(mut stream: TcpStream, steps: Vec<Step>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
    }
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Reset => {
                // Closing with unread input and no lingering makes the kernel send a reset.
                let _ = stream.set_zero_linger();
                return;
            }
        }
    }
}

pub fn send(text: impl Into<Vec<u8>>) -> Step {
    Step::Send(text.into())
}
