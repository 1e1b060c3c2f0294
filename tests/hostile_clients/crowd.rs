//! Many clients at once, from many addresses, and how long health takes meanwhile.

use std::{
    fs,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    task::JoinSet,
    time,
};

use super::support::daemon::Daemon;

/// Between two connections of one client: crowds stand in the way, floods do not let anyone breathe.
pub const PAUSE: Duration = Duration::from_millis(500);
pub const NO_PAUSE: Duration = Duration::ZERO;
/// Tries of one measurement.
const TRIES: usize = 50;
/// What health is promised within.
pub const PROMISE: Duration = Duration::from_millis(100);
/// What one try may take on a machine that others load as well.
const LIMIT: Duration = Duration::from_secs(2);

/// Attackers of one kind, until dropped.
pub struct Crowd {
    runtime: Option<Runtime>,
    members: JoinSet<()>,
    pub opened: Arc<AtomicUsize>,
}

impl Crowd {
    /// So many clients, each doing `act` with one connection after another, and a pause between them.
    pub fn gather<F>(
        port: u16,
        size: usize,
        pause: Duration,
        act: impl Fn(TcpStream) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let opened = Arc::<AtomicUsize>::default();
        let mut members = JoinSet::new();
        for _ in 0..size {
            let (act, opened) = (act.clone(), Arc::clone(&opened));
            let member = async move {
                loop {
                    match connect(port).await {
                        Ok(stream) => {
                            opened.fetch_add(1, Ordering::Relaxed);
                            act(stream).await;
                            time::sleep(pause).await;
                        }
                        // The kernel's queue is full, or this machine is out of something.
                        Err(_) => time::sleep(Duration::from_millis(50)).await,
                    }
                }
            };
            members.spawn_on(member, runtime.handle());
        }
        Self { runtime: Some(runtime), members, opened }
    }

    /// Returns when so many connections were opened, or a while later.
    pub fn wait_for(&self, connections: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.opened.load(Ordering::Relaxed) < connections && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.members.abort_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// From an address of its own in 127.0.0.0/8: the ports of a single one would run out.
async fn connect(port: u16) -> std::io::Result<TcpStream> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let from = Ipv4Addr::from(0x7f01_0000 + number % 0xf000 + 1);
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Waits until the server closes.
pub async fn stand(mut stream: TcpStream) {
    let mut byte = [0; 1_024];
    while stream.read(&mut byte).await.is_ok_and(|read| 0 < read) {}
}

/// Sends this, and then a byte now and then, until the server closes.
pub async fn drip(mut stream: TcpStream, beginning: &str) {
    if stream.write_all(beginning.as_bytes()).await.is_err() {
        return;
    }
    let mut answer = [0; 1_024];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => if read.unwrap_or(0) == 0 { return },
            () = time::sleep(Duration::from_millis(200)) => if stream.write_all(b"a").await.is_err() { return },
        }
    }
}

/// Sends this over and over and never reads, until the server closes.
pub async fn gorge(mut stream: TcpStream, request: &str) {
    let many = request.repeat(200);
    while let Ok(Ok(())) = time::timeout(Duration::from_secs(60), stream.write_all(many.as_bytes())).await {}
}

/// How long health took, each time on a new connection, in order of length.
pub struct Times(Vec<Duration>);

/// Asks for health over and over, and prints what it took.
pub fn measure_health(daemon: &Daemon, during: &str) -> Times {
    let mut times: Vec<Duration> = (0..TRIES)
        .map(|_| {
            let asked = Instant::now();
            let answer = daemon.try_get("/healthz");
            let took = asked.elapsed();
            std::thread::sleep(Duration::from_millis(5));
            // Nobody answered: as bad as it gets.
            if answer.is_some_and(|answer| answer.status == 200) { took } else { Duration::from_secs(60) }
        })
        .collect();
    times.sort_unstable();
    let times = Times(times);
    println!("{during}: health median {:?}, worst {:?} of {TRIES}", times.median(), times.worst());
    times
}

impl Times {
    pub fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    pub fn worst(&self) -> Duration {
        self.0[self.0.len() - 1]
    }

    #[track_caller]
    pub fn assert_prompt(&self) {
        assert!(self.median() < PROMISE, "median {:?}", self.median());
        assert!(self.worst() < LIMIT, "worst {:?}", self.worst());
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Holdings {
    pub descriptors: usize,
    pub memory_mib: u64,
}

pub fn holdings(daemon: &Daemon) -> Holdings {
    let folder = format!("/proc/{}", daemon.pid());
    let descriptors = fs::read_dir(format!("{folder}/fd")).expect("it runs").count();
    let status = fs::read_to_string(format!("{folder}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    Holdings { descriptors, memory_mib: kib / 1_024 }
}

/// Waits until the daemon holds what it held before, or little more.
#[track_caller]
pub fn assert_back(daemon: &Daemon, before: Holdings) {
    const MORE_DESCRIPTORS: usize = 12;
    const MORE_MIB: u64 = 48;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let after = holdings(daemon);
        let is_back = after.descriptors <= before.descriptors + MORE_DESCRIPTORS;
        if is_back && after.memory_mib <= before.memory_mib + MORE_MIB {
            println!("before {before:?}, afterwards {after:?}");
            return;
        }
        assert!(Instant::now() < deadline, "before {before:?}, afterwards {after:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
