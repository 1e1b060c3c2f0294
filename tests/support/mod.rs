//! What the black-box and store tests share: a throw-away PostgreSQL, the real binary, free ports.
// Each test binary uses a part of this, so what one leaves unused is not dead. The one `allow` of the house:
// `expect` would fail in the binary that uses everything.
#![allow(dead_code, reason = "every test binary uses a part of the support")]

pub mod daemon;
pub mod database;
pub mod ledger;
pub mod postgres;
pub mod raw;
pub mod world;
pub mod target;

use std::net::TcpListener;

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
