//! Who may ask for what: bearer tokens, compared as digests in constant time. Peer addresses and proxy headers never decide.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// Longest value of `Authorization` that is looked at.
const MAX_AUTHORIZATION_BYTES: usize = 4 * 1024;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Read,
    Operate,
}

/// Why a request may not pass, in words that tell a person what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody we know.
    Unauthorized(String),
    /// Somebody we know, who may do less.
    Forbidden(String),
}

/// Tokens as they are configured; several at once are for rotation, empty texts are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tokens<'a> {
    /// `WORKERS_TOKEN`: these may do everything.
    pub operate: &'a [String],
    /// `WORKERS_READ_TOKEN`: these may read.
    pub read: &'a [String],
}

/// The rule of one listener.
#[derive(Debug)]
pub struct Access {
    loopback: bool,
    metrics_public: bool,
    operate: Vec<Hash>,
    read: Vec<Hash>,
}

impl Access {
    /// The rule for a listener on `listen`.
    pub fn new(listen: SocketAddr, metrics_public: bool, tokens: Tokens<'_>) -> Self {
        let loopback = listen.ip().to_canonical().is_loopback();
        Self { loopback, metrics_public, operate: digests(tokens.operate), read: digests(tokens.read) }
    }

    /// Nothing is asked of anyone: a loopback listener without tokens.
    pub fn is_open(&self) -> bool {
        self.loopback && self.operate.is_empty() && self.read.is_empty()
    }

    pub fn metrics_public(&self) -> bool {
        self.metrics_public
    }

    /// Whether a request with these headers may pass.
    pub fn check(&self, need: Need, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.is_open() {
            return Ok(());
        }
        let Some(given) = bearer(headers) else {
            return Err(Refusal::Unauthorized(self.ask(need)));
        };
        let given = digest(given);
        // Both lists are gone through to their ends, whatever the first comparison said.
        let (may_operate, may_read) = (holds(&self.operate, &given), holds(&self.read, &given));
        match need {
            _ if may_operate => Ok(()),
            Need::Read if may_read => Ok(()),
            Need::Operate if may_read => Err(Refusal::Forbidden(self.ask(need))),
            _ => Err(Refusal::Unauthorized(format!("this token is not known; {}", self.ask(need)))),
        }
    }

    /// What to send, or what to set first.
    fn ask(&self, need: Need) -> String {
        let (operate, read) = (!self.operate.is_empty(), !self.read.is_empty());
        match need {
            Need::Read if operate && read => "send the value of WORKERS_READ_TOKEN or WORKERS_TOKEN as a bearer token",
            Need::Read if read => "send the value of WORKERS_READ_TOKEN as a bearer token",
            Need::Read if operate => "send the value of WORKERS_TOKEN as a bearer token",
            Need::Read => {
                "no token is configured: set WORKERS_READ_TOKEN or WORKERS_TOKEN (or metrics_public in [server] for \
                 /metrics), and send its value as a bearer token"
            }
            Need::Operate if operate => {
                "this needs a token that may operate: send the value of WORKERS_TOKEN as a bearer token"
            }
            Need::Operate => {
                "this needs a token that may operate, and none is configured: set WORKERS_TOKEN, and send its value as \
                 a bearer token"
            }
        }
        .into()
    }
}

/// The token of the one `Authorization` header; two of them are none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len()).filter(|_| value.len() <= MAX_AUTHORIZATION_BYTES)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

fn digests(tokens: &[String]) -> Vec<Hash> {
    tokens
        .iter()
        .map(|token| token.trim())
        .filter(|token| !token.is_empty())
        .map(|token| digest(token.as_bytes()))
        .collect()
}

fn digest(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

fn holds(known: &[Hash], given: &Hash) -> bool {
    known.iter().map(|token| same(token, given)).fold(false, |any, hit| any | hit)
}

/// Looks at every byte, so that the time taken says nothing about where they differ.
fn same(left: &Hash, right: &Hash) -> bool {
    left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
