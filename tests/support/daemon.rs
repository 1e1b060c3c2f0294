//! The real binary in a folder of its own: started, watched, signalled, asked over HTTP, and killed when dropped.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::free_port;

/// How long a daemon may take to become ready, or to end, before the test gives up: generous, for loaded machines.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Variables of the test's own environment that the daemon may see.
const LET_THROUGH: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"];

/// What a daemon is started with. `Setup::new("...jobs.toml...")`, changed, then `start` or `run`.
pub struct Setup {
    /// Holds jobs.toml, the SQLite file and the logs; shared when two daemons work in one place.
    pub folder: Arc<TempDir>,
    pub port: u16,
    environment: BTreeMap<String, String>,
}

impl Setup {
    /// A fresh folder with this jobs.toml, a free port on loopback, and the default database: SQLite in the folder.
    pub fn new(jobs_toml: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        Self::beside(folder, jobs_toml)
    }

    /// The same in a folder that another daemon uses, or used.
    pub fn beside(folder: Arc<TempDir>, jobs_toml: &str) -> Self {
        let port = free_port();
        let mut setup = Self { folder, port, environment: BTreeMap::new() };
        for name in LET_THROUGH {
            if let Ok(value) = std::env::var(name) {
                setup = setup.env(name, &value);
            }
        }
        setup.write_jobs(jobs_toml);
        setup.env("WORKERS_LISTEN", &format!("127.0.0.1:{port}"))
    }

    /// Sets a variable of the daemon's environment, which is otherwise empty but for `PATH` and the like.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes a variable out again.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Uses this database instead of SQLite.
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// On a host whose wall clock is this many seconds off. Linux, with a C compiler.
    pub fn clock_skew(self, seconds: i64) -> Self {
        let library = self.path("skewed_clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/skewed_clock.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.is_ok_and(|status| status.success()), "cc makes {source} a library");
        let library = library.to_str().expect("the folder has a plain name").to_owned();
        self.env("LD_PRELOAD", &library).env("CLOCK_SKEW_SECONDS", &seconds.to_string())
    }

    /// Replaces the jobs.toml of the folder.
    pub fn write_jobs(&self, jobs_toml: &str) {
        fs::write(self.path("jobs.toml"), jobs_toml).expect("the folder can be written");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command to its end beside, or instead of, the daemon: `setup.run(&["ledger"])`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Starts the daemon and returns when `/readyz` says yes.
    pub fn start(self) -> Daemon {
        let mut daemon = self.spawn(&[]);
        daemon.wait_until_ready();
        daemon
    }

    /// Starts `workers ARGUMENTS` and does not wait for anything.
    pub fn spawn(self, arguments: &[&str]) -> Daemon {
        // The name is unique per start, so that a second daemon in the folder does not write over the first one's.
        let logs = |kind: &str| self.path(&format!("{kind}.{}", self.port));
        let (stdout, stderr) = (logs("stdout"), logs("stderr"));
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(append_to(&stdout)).stderr(append_to(&stderr));
        let child = command.spawn().expect("the binary runs");
        Daemon { child, port: self.port, setup: self, stdout, stderr }
    }

    /// `workers ARGUMENTS` in the folder, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // A packaged binary can be put to the same tests.
        let binary = std::env::var("WORKERS_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_workers").to_owned());
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(&self.environment);
        command
    }
}

fn append_to(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("the folder can be written")
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    pub port: u16,
    pub setup: Setup,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when `/readyz` answers 200; panics with the daemon's output when it ends before, or takes too long.
    pub fn wait_until_ready(&mut self) {
        self.wait_for("ready", |daemon| daemon.try_get("/readyz").is_some_and(|answer| answer.status == 200));
    }

    /// Returns when `condition` holds; panics with the daemon's output when it ends before, or takes too long.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("daemon ended with {status} while we waited for: {what}\n{}", self.output());
            }
            assert!(Instant::now() < deadline, "waited too long for: {what}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `GET path`; panics when nobody answers.
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|| panic!("nobody answered GET {path}\n{}", self.output()))
    }

    /// `GET path`; `None` when nobody answers.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        http(self.port, "GET", path, &[], "")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is not 0");
        kill_process(pid, signal).expect("the daemon runs");
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL, and the daemon is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("the child is ours");
    }

    /// Waits for the end; panics after `PATIENCE`.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon did not end\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts another daemon in the same folder, on the same port, after this one has ended.
    pub fn start_again(mut self) -> Daemon {
        self.kill();
        let setup = Setup {
            folder: Arc::clone(&self.setup.folder),
            port: self.port,
            environment: self.setup.environment.clone(),
        };
        setup.start()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Both, for messages.
    pub fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON; keys keep no order, look at `body` for that.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }
}

/// One request on one connection to 127.0.0.1; `None` when nobody answers in 5 seconds.
pub fn http(port: u16, method: &str, path: &str, headers: &[&str], body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
