//! An HTTP server for one test that answers each call by what it is and how many came before.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// What a server was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub place: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What it answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An answer without headers.
pub fn reply(status: u16, body: impl ToString) -> Reply {
    Reply { status, headers: Vec::new(), body: body.to_string() }
}

/// 202 with this `Location`.
pub fn accepted(location: &str) -> Reply {
    reply(202, "").with("location", location)
}

/// 200 with a status word.
pub fn standing(word: &str) -> Reply {
    reply(200, serde_json::json!({ "status": word }))
}

impl Reply {
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

type Answering = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// Listens on loopback until the test's runtime ends.
pub struct Script {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Playing {
    answering: Arc<Answering>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    /// `answering` gets the call and the number of calls that came before it.
    pub async fn answering(answering: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let playing = Playing { answering: Arc::new(answering), asked: Arc::clone(&asked) };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let app = Router::new().fallback(play).with_state(playing);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    /// The first call gets the first reply, and so on; the last one again and again.
    pub async fn replying(replies: Vec<Reply>) -> Self {
        Self::answering(move |_, before| replies[before.min(replies.len() - 1)].clone()).await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }

    /// Method and place of each call.
    pub fn calls(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.place)).collect()
    }
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn play(State(playing): State<Playing>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let asked = Asked {
        method: parts.method.to_string(),
        place: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_vec(),
    };
    let before = {
        let mut all = playing.asked.lock().expect("no test panics while it holds this");
        all.push(asked.clone());
        all.len() - 1
    };
    let Reply { status, headers, body } = (playing.answering)(&asked, before);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
    }
    (StatusCode::from_u16(status).expect("a status"), map, Bytes::from(body)).into_response()
}
