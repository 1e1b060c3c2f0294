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

/// A port that nobody uses now, on any address. Below the range from which the kernel gives out ports, so that no client
/// socket takes it before the daemon does.
pub fn free_port() -> u16 {
    let is_free =
        |port: &u16| TcpListener::bind(("::", *port)).or_else(|_| TcpListener::bind(("0.0.0.0", *port))).is_ok();
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(100);
    ports.find(is_free).expect("one of a hundred ports is free")
}
