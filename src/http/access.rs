//! Who may ask for what: bearer tokens, compared as digests in constant time.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// The rule of one listener. Peer addresses and proxy headers never decide.
#[derive(Debug)]
pub struct Access {
    loopback: bool,
    metrics_public: bool,
    tokens: Vec<Hash>,
}

impl Access {
    /// `tokens`: every token that may read; two at once are for rotation. Empty texts are no tokens.
    pub fn new(loopback: bool, metrics_public: bool, tokens: &[String]) -> Self {
        let tokens = tokens.iter().filter(|token| !token.is_empty()).map(|token| digest(token)).collect();
        Self { loopback, metrics_public, tokens }
    }

    /// Nothing is asked of anyone: a loopback listener without tokens.
    pub fn is_open(&self) -> bool {
        self.loopback && self.tokens.is_empty()
    }

    pub fn metrics_public(&self) -> bool {
        self.metrics_public
    }

    /// Whether a request with these headers may pass; the error tells a person what to do.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        if self.is_open() {
            return Ok(());
        }
        if self.tokens.is_empty() {
            return Err(
                "no token is configured: set WORKERS_READ_TOKEN (or metrics_public in [server] for /metrics), \
                        and send it as a bearer token"
                    .into(),
            );
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let Some(given) = given.map(digest) else {
            return Err("send the value of WORKERS_READ_TOKEN as a bearer token".into());
        };
        // Every token is compared, whatever the first comparison said.
        let hits = self.tokens.iter().map(|token| same(token, &given)).fold(false, |any, hit| any | hit);
        if hits { Ok(()) } else { Err("this token is not the value of WORKERS_READ_TOKEN".into()) }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// Looks at every byte, so that the time taken says nothing about where they differ.
fn same(left: &Hash, right: &Hash) -> bool {
    left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
