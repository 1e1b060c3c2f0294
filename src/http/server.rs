//! The listener and its limits: size and time of heads, number of connections, and who leaves when there are too many.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::{Router, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task, time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use super::{
    HttpState, api,
    kept::Shelf,
    places::{Place, Places},
    routes::{App, router},
};

/// Largest request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most header lines of a request.
const MAX_HEADERS: usize = 100;
/// A head that is not complete by then ends its connection; so does a connection that idles this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not taken its answer by then is sent away.
const ANSWER_SECONDS: u64 = 30;
/// Connections at once, unless the process may open too few files.
pub const MAX_CONNECTIONS: usize = 512;
/// Connections that the kernel holds for us until we take them; beyond, a client must knock again a second later.
const BACKLOG: u32 = 4_096;
/// What the kernel holds for one connection, each way: answers that nobody takes must not fill the memory.
const SOCKET_BUFFER_BYTES: u32 = 128 * 1024;
/// Connections that have asked before, and whose next request is taken up at once: the others wait in line, so that a
/// new client is never behind hundreds of requests that were sent in a row.
const REPEATED: usize = 4;
/// An eighth of all places is for connections whose first bytes were not looked for yet; the next one is let in when one of
/// them was. So nobody who has sent a request must leave for others before it was heard, however slow the machine.
const UNHEARD: usize = 8;
/// Tasks between two looks at the sockets; fewer than usual, because so long nobody new is heard.
const LOOK_AT_SOCKETS: u32 = 16;
/// How many leave when a connection cannot be taken for want of file descriptors, and the pause for them to do so.
const SHORTAGE_LEAVERS: usize = 8;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(5);
/// A shortage is told this often at most.
const SHORTAGE_NEWS: Duration = Duration::from_secs(60);
/// Open connections may end their answer for this long after the shutdown.
const CLOSING_TIME: Duration = Duration::from_secs(2);

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
    let mut opened = bind(address);
    let no_ipv6 = opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(NO_ADDRESS_FAMILY));
    if address.ip().is_unspecified() && no_ipv6 {
        opened = bind(SocketAddr::from(([0, 0, 0, 0], address.port())));
    }
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Other { address, error },
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // A daemon that starts again must not wait for the last one's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    // Connections inherit both.
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// `EAFNOSUPPORT` on Linux: the kernel was booted without IPv6.
const NO_ADDRESS_FAMILY: i32 = 97;

/// Serves until `shutdown`, then lets open answers end. Never fails: a connection that breaks is its client's affair.
///
/// It works on a thread of its own with one fair line of tasks, so that no crowd of clients keeps the engine waiting; what clients ask of the database
/// is done on the runtime that calls this.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: CancellationToken) {
    let database = Handle::current();
    let (end, ended) = oneshot::channel();
    let started = listener.into_std().and_then(|listener| {
        let runtime = Builder::new_current_thread().event_interval(LOOK_AT_SOCKETS).enable_all().build()?;
        let serve = move || {
            runtime.block_on(receive(listener, state, shutdown, database));
            // Nobody waits any more: nothing to tell.
            let _ = end.send(());
        };
        thread::Builder::new().name("http".into()).spawn(serve)
    });
    match started {
        // A thread that died has told it where it happened; there is nobody left to serve.
        Ok(_) => ended.await.unwrap_or_default(),
        Err(error) => error!(component = "http", "cannot serve: {error}"),
    }
}

async fn receive(listener: std::net::TcpListener, state: HttpState, shutdown: CancellationToken, database: Handle) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(component = "http", "cannot serve: {error}"),
    };
    let most = connections(getrlimit(Resource::Nofile).current);
    let routes = router(App {
        port: listener.local_addr().map_or(0, |address| address.port()),
        shelf: Arc::new(Shelf::new(database.clone())),
        desk: Arc::new(api::Desk::new(database, shutdown.clone())),
        // A quarter of the connections is left for health, which answers at once.
        places: Arc::new(Semaphore::new(most - most.div_ceil(4))),
        http: state,
    });
    let talk = Talk { routes: TowerToHyperService::new(routes), line: Arc::new(Semaphore::new(REPEATED)), shutdown };
    let mut reception =
        Reception { places: Places::new(most), unheard: Arc::new(Semaphore::new(most / UNHEARD)), silent_until: None };
    let talks = TaskTracker::new();
    let mut second = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some((place, unheard)) = reception.admit().await {
                        talks.spawn(talk.clone().with(stream, place, unheard));
                    }
                }
                Err(error) => reception.run_short(&error).await,
            },
            _ = second.tick() => reception.places.sweep(ANSWER_SECONDS),
            () = talk.shutdown.cancelled() => break,
        }
    }
    drop(listener);
    talks.close();
    // Whoever has not read the answer by then loses it with the process.
    let _ = time::timeout(CLOSING_TIME, talks.wait()).await;
}

/// How many connections there may be where so many files may be open: half is left for the database, children and
/// handlers, whatever comes in from outside.
fn connections(open_files: Option<u64>) -> usize {
    let half = open_files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.clamp(LEAST_CONNECTIONS, MAX_CONNECTIONS)
}

/// Enough for health and a person, however little the process may open.
const LEAST_CONNECTIONS: usize = 8;

/// Takes connections in.
struct Reception {
    places: Arc<Places>,
    unheard: Arc<Semaphore>,
    /// A shortage is not told again before this tick of tokio's clock.
    silent_until: Option<time::Instant>,
}

impl Reception {
    /// A place for a new connection, and the mark of one that was not heard yet. `None` = every connection has a request
    /// under way, and the new one is closed.
    async fn admit(&mut self) -> Option<(Arc<Place>, OwnedSemaphorePermit)> {
        let unheard = Arc::clone(&self.unheard).acquire_owned().await.ok()?;
        Some((Arc::new(self.places.take()?), unheard))
    }

    /// A connection could not be taken, mostly for want of file descriptors: those that rest give theirs.
    async fn run_short(&mut self, error: &io::Error) {
        self.places.make_room(SHORTAGE_LEAVERS);
        let pause = time::sleep(SHORTAGE_PAUSE);
        let now = pause.deadline();
        if self.silent_until.is_none_or(|until| until <= now) {
            self.silent_until = Some(now + SHORTAGE_NEWS);
            warn!(component = "http", "cannot take a connection: {error}; closing idle ones");
        }
        pause.await;
    }
}

/// What all connections share.
#[derive(Clone)]
struct Talk {
    routes: TowerToHyperService<Router>,
    /// Where repeated requests wait for their turn.
    line: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Talk {
    async fn with(self, stream: TcpStream, place: Arc<Place>, unheard: OwnedSemaphorePermit) {
        let (leave, shutdown) = (place.leave.clone(), self.shutdown.clone());
        // Goes on after a look at the sockets. What has come by then is read below without another pause, and who has
        // sent nothing costs nothing until it does.
        task::yield_now().await;
        drop(unheard);
        let heard = tokio::select! {
            biased;
            heard = time::timeout(HEAD_TIMEOUT, stream.readable()) => heard.is_ok_and(|ready| ready.is_ok()),
            () = leave.cancelled() => false,
            () = shutdown.cancelled() => false,
        };
        if !heard {
            return;
        }
        // Answers are written whole: there is nothing to wait for. A socket that refuses this is slower, and works.
        let _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(move |request| self.clone().answer(Arc::clone(&place), request));
        let connection = rules().serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            _ = connection.as_mut() => {}
            () = leave.cancelled() => {}
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    /// One request. The error closes the connection without an answer.
    async fn answer(self, place: Arc<Place>, request: Request<Incoming>) -> Result<Response, SentAway> {
        if !place.is_new() {
            // While it stands in line the connection rests, and may have to leave.
            let _turn = self.line.acquire().await;
            task::yield_now().await;
        }
        let working = place.work().ok_or(SentAway)?;
        let response: Result<Response, Infallible> = self.routes.call(request).await;
        drop(working);
        response.map_err(|never| match never {})
    }
}

/// How heads are read.
fn rules() -> http1::Builder {
    let mut rules = http1::Builder::new();
    rules
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    rules
}

/// The place was given to another just before the request came; the client may ask again on a new connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection had to make room for another")]
struct SentAway;

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn half_of_the_files_are_left_for_the_rest_of_the_house() {
        for (files, wanted) in
            [(None, 512), (Some(20_000), 512), (Some(1_024), 512), (Some(256), 128), (Some(64), 32), (Some(0), 8)]
        {
            assert_eq!(connections(files), wanted, "{files:?}");
        }
    }
}
