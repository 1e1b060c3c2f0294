//! Peers that send without end: memory stays flat, and no descriptor stays behind.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    call, post,
    server::{Server, Step, flood, send},
};

/// Calls per measurement, after as many to warm up.
const CALLS: usize = 10;
/// What the allocator may keep back between two measurements.
const MAX_GROWTH_KIB: u64 = 8 * 1024;

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

/// Open sockets of a process.
pub fn sockets(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let is_socket = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    folder.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).filter(is_socket).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_gigabytes_again_and_again_leave_memory_flat_and_no_socket_behind() {
    let ok = || send("HTTP/1.1 200 OK\r\n");
    let servers = [
        Server::playing(vec![Step::Read, ok(), send("content-length: 10000000000\r\n\r\n{"), flood(b' ')]),
        Server::playing(vec![Step::Read, ok(), send("content-encoding: gzip\r\n\r\n"), flood(0)]),
        Server::playing(vec![Step::Read, ok(), send("x: "), flood(b'x')]),
        Server::playing(vec![Step::Read, ok(), send("content-length: 90\r\n\r\n{"), Step::Reset]),
    ];
    let all = async |calls: usize| {
        for server in servers.iter().cycle().take(calls * servers.len()) {
            call(post(&server.url(), &json!({}))).await.expect_err("too much");
        }
    };
    let own = std::process::id();

    all(CALLS).await;
    let before = resident_kib(own);
    all(CALLS).await;
    let after = resident_kib(own);

    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB, then {after} KiB");
    // What is left are the four listeners and what the runtime keeps; each call leaves nothing.
    let mut left = sockets(own);
    for _ in 0..500 {
        if left < CALLS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = sockets(own);
    }
    assert!(left < CALLS, "{left} sockets after {} calls", 2 * CALLS * servers.len());
}
