//! The listener and its limits: size and time of headers, bodies and answers, and a number of connections of which some
//! are kept for health.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{HttpState, reserved_router, router};

/// Largest request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A head that is not complete by then ends its connection; so does a connection that idles this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request body.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Longest time from head to answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections served in full.
pub const MAX_CONNECTIONS: usize = 512;
/// Connections beyond them that get health and nothing else.
const RESERVED_CONNECTIONS: usize = 32;
/// Open connections may end their answer for this long after the shutdown.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// The pause after a failed accept: without file descriptors the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nobody can connect to us.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error("cannot listen on {0}: the port is taken by another process")]
    Taken(SocketAddr),
    #[error("cannot listen on {address}: {error}")]
    Other { address: SocketAddr, error: io::Error },
}

/// Opens the listener. `[::]` serves IPv4 as well, also where the machine has no IPv6.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let mut opened = TcpListener::bind(address).await;
    let no_ipv6 = opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(NO_ADDRESS_FAMILY));
    if address.ip().is_unspecified() && no_ipv6 {
        opened = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await;
    }
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Other { address, error },
    })
}

/// `EAFNOSUPPORT` on Linux: the kernel was booted without IPv6.
const NO_ADDRESS_FAMILY: i32 = 97;

/// Serves until `shutdown`, then lets open answers end. Never fails: a connection that breaks is its client's affair.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: CancellationToken) {
    let doors = Doors::new(&state);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Beyond both limits the connection is dropped: it is closed at once, and costs nothing.
                if let Some((permit, routes)) = doors.admit() {
                    connections.spawn(talk(stream, routes, permit, shutdown.clone()));
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    connections.close();
    // Whoever has not read the answer by then loses it with the process.
    let _ = tokio::time::timeout(CLOSING_TIME, connections.wait()).await;
}

/// The two kinds of places, and what is served on each.
struct Doors {
    places: [(Arc<Semaphore>, Router); 2],
}

impl Doors {
    fn new(state: &HttpState) -> Self {
        let full = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), router(state));
        let reserved = (Arc::new(Semaphore::new(RESERVED_CONNECTIONS)), reserved_router(state));
        Self { places: [full, reserved] }
    }

    fn admit(&self) -> Option<(OwnedSemaphorePermit, Router)> {
        self.places.iter().find_map(|(places, routes)| {
            let permit = Arc::clone(places).try_acquire_owned().ok()?;
            Some((permit, routes.clone()))
        })
    }
}

async fn talk(stream: TcpStream, routes: Router, permit: OwnedSemaphorePermit, shutdown: CancellationToken) {
    let mut rules = http1::Builder::new();
    rules.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let connection = rules.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(permit);
}
