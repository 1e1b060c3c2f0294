//! A server without manners: each connection plays a script, byte for byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::sockopt;

/// How long a connection that hangs stays open: longer than any test waits for it.
const LONG: Duration = Duration::from_secs(120);

/// What a connection does next. After the last step it is closed in good order.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads to the end of the head of a request, and the body as far as it comes with it.
    Read,
    /// Reads some bytes, and no more.
    Glance,
    Send(Vec<u8>),
    /// Sends the same bytes this many times, as fast as they are taken.
    Flood(Vec<u8>, u64),
    /// Sends the same bytes again and again, with a pause before each time, for ever.
    Drip(Vec<u8>, Duration),
    Wait(Duration),
    /// Says and does nothing until the other side goes away.
    Hang,
    /// Lets the other side see a reset.
    Reset,
}

pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// More than anybody reads: 10 GB in pieces of 64 KiB.
pub fn flood(byte: u8) -> Step {
    Step::Flood(vec![byte; 64 * 1024], 10_000_000_000 / (64 * 1024) + 1)
}

/// A server on loopback, until the test's process ends.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Plays these steps on each connection.
    pub fn playing(steps: Vec<Step>) -> Self {
        Self::serving(move |stream, requests| play(stream, &steps, requests))
    }

    /// Gives each connection to `serve`, with the count of requests to add to.
    pub fn serving(serve: impl Fn(&mut TcpStream, &AtomicUsize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = Self { address, connections: Arc::default(), open: Arc::default(), requests: Arc::default() };
        let (own, serve) = (server.clone(), Arc::new(serve));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (own, serve) = (own.clone(), Arc::clone(&serve));
                own.connections.fetch_add(1, Ordering::SeqCst);
                own.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(&mut stream, &own.requests);
                    // Counted before the other side can see that it is closed.
                    own.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that this side has not closed yet.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Requests whose head was read.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Plays a script; ends early when the other side goes away.
pub fn play(stream: &mut TcpStream, steps: &[Step], requests: &AtomicUsize) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(LONG));
    for step in steps {
        if step_by(stream, step, requests).is_err() {
            return;
        }
    }
    // A close with unread input would be a reset, which is another story.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    while stream.read(&mut [0; 4096]).is_ok_and(|length| 0 < length) {}
}

fn step_by(stream: &mut TcpStream, step: &Step, requests: &AtomicUsize) -> std::io::Result<()> {
    match step {
        Step::Read => {
            read_head(stream)?;
            requests.fetch_add(1, Ordering::SeqCst);
        }
        Step::Glance => {
            let _ = stream.read(&mut [0; 16])?;
        }
        Step::Send(bytes) => stream.write_all(bytes)?,
        Step::Flood(bytes, times) => {
            for _ in 0..*times {
                stream.write_all(bytes)?;
            }
        }
        Step::Drip(bytes, pause) => loop {
            thread::sleep(*pause);
            stream.write_all(bytes)?;
        },
        Step::Wait(length) => thread::sleep(*length),
        Step::Hang => while 0 < stream.read(&mut [0; 4096])? {},
        Step::Reset => {
            // Closing without lingering makes the kernel send a reset.
            sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(())
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => head.extend_from_slice(&piece[..length]),
        }
    }
    Ok(())
}
