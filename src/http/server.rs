//! The listener and its limits: size and time of heads, number of connections, and who leaves when there are too many.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle, Runtime},
    sync::Semaphore,
    task, time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use super::{
    HttpState, api,
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
/// When so many had to leave for others, the rest is given `BREATH` to be heard: a flood must not push out a client
/// before its request was read.
const RUSH: u32 = 128;
const BREATH: Duration = Duration::from_millis(1);
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
/// It works on a thread of its own, so that no crowd of clients keeps the engine waiting; what clients ask of the database
/// is done on the runtime that calls this.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: CancellationToken) {
    let database = Handle::current();
    let served = Thread::start().and_then(|thread| Ok((thread, listener.into_std()?)));
    match served {
        Ok((thread, listener)) => {
            // A panic has been told where it happened; there is nobody left to serve.
            let _ = thread.handle().spawn(receive(listener, state, shutdown, database)).await;
        }
        Err(error) => error!(component = "http", "cannot serve: {error}"),
    }
}

/// The runtime of all connections. It may be dropped anywhere: whoever still talks is cut off.
struct Thread(Option<Runtime>);

impl Thread {
    fn start() -> io::Result<Self> {
        Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build().map(|it| Self(Some(it)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken away only by its end").handle()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
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
        desk: Arc::new(api::Desk::new(database, shutdown.clone())),
        // A quarter of the connections is left for health, which answers at once.
        places: Arc::new(Semaphore::new(most - most.div_ceil(4))),
        http: state,
    });
    let talk = Talk { routes: TowerToHyperService::new(routes), line: Arc::new(Semaphore::new(REPEATED)), shutdown };
    let mut reception = Reception { places: Places::new(most), leavers: 0, silent_until: None };
    let talks = TaskTracker::new();
    let mut second = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(place) = reception.admit().await {
                        talks.spawn(talk.clone().with(stream, place));
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
    /// Who had to leave for others since the last breath.
    leavers: u32,
    /// A shortage is not told again before this tick of tokio's clock.
    silent_until: Option<time::Instant>,
}

impl Reception {
    /// A place for a new connection. `None` = every connection has a request under way, and the new one is closed.
    async fn admit(&mut self) -> Option<Arc<Place>> {
        let (place, somebody_left) = self.places.take()?;
        self.leavers += u32::from(somebody_left);
        if self.leavers == RUSH {
            self.leavers = 0;
            time::sleep(BREATH).await;
        }
        Some(Arc::new(place))
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
    async fn with(self, stream: TcpStream, place: Arc<Place>) {
        // Answers are written whole: there is nothing to wait for. A socket that refuses this is slower, and works.
        let _ = stream.set_nodelay(true);
        let mut rules = http1::Builder::new();
        rules
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS);
        let (leave, shutdown) = (place.leave.clone(), self.shutdown.clone());
        let service = hyper::service::service_fn(move |request| self.clone().answer(Arc::clone(&place), request));
        let connection = rules.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
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
