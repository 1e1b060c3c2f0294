//! A throw-away PostgreSQL: an empty database per test, or a cluster of its own that a test may stop and kill.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

/// A cluster of one's own, gone when dropped, and also when the test is killed.
pub struct Cluster {
    /// Where its first database is: `postgres://postgres@127.0.0.1:port/postgres`.
    pub url: String,
    child: Child,
    /// `scripts/postgres-for-tests` ends when this closes; `None` only while dropping.
    orders: Option<ChildStdin>,
    answers: Mutex<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Starts a cluster without fsync: what it acknowledged survives `kill`, not a power cut.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a cluster with fsync on.
    pub fn start_durable() -> Self {
        Self::start_with(&["--durable"])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres-for-tests"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not ours: a test runner would wait for everyone who holds its stderr.
            .stderr(Stdio::null())
            // A runner that kills the test's process group must not kill the one who cleans up.
            .process_group(0)
            .spawn()
            .expect("scripts/postgres-for-tests runs");
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut url = String::new();
        answers.read_line(&mut url).expect("the script writes to its stdout");
        if !url.starts_with("postgres://") {
            answers.read_to_string(&mut url).expect("the script writes text");
            panic!("no PostgreSQL for this test: {url}");
        }
        Self { url: url.trim().to_owned(), child, orders, answers: Mutex::new(answers) }
    }

    /// Stops it in order; connections are cut.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// SIGKILL, as when the machine runs out of memory.
    pub fn kill(&self) {
        self.order("kill");
    }

    /// SIGSTOP: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.order("freeze");
    }

    /// Ends a `freeze`.
    pub fn thaw(&self) {
        self.order("thaw");
    }

    /// Starts it again on the same port, after `stop` or `kill`; returns when it answers.
    pub fn start_again(&self) {
        self.order("start");
    }

    /// An empty database in this cluster.
    pub async fn database(self: &Arc<Self>) -> Database {
        Database { url: create_database(&self.url).await, server: self.url.clone(), cluster: Some(Arc::clone(self)) }
    }

    fn order(&self, order: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut orders = self.orders.as_ref().expect("the script is told to end only when the cluster is dropped");
        writeln!(orders, "{order}").expect("the script reads its stdin");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the script answers on its stdout");
        assert_eq!(answer.trim(), "ok", "postgres: {order}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        // A failure to clean up must not hide why the test ended.
        let _ = self.child.wait();
    }
}

/// An empty database of one test; dropped with it.
pub struct Database {
    pub url: String,
    server: String,
    /// `None` on a server that was given: there the database must be dropped, a cluster takes its databases along.
    cluster: Option<Arc<Cluster>>,
}

impl Database {
    /// On the server of `TEST_DATABASE_URL` or `DATABASE_URL`, else on a cluster that the tests of this process share.
    pub async fn new() -> Self {
        if let Some(server) = given_server() {
            return Self::on(server).await;
        }
        // Starting waits for another process, and must not hold up other tests on this thread's runtime.
        let cluster = tokio::task::spawn_blocking(shared_cluster).await.expect("the cluster starts");
        cluster.database().await
    }

    /// On this server, and dropped from it at the end.
    pub async fn on(server: String) -> Self {
        Self { url: create_database(&server).await, server, cluster: None }
    }

    /// A connection for the test's own eyes.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the test's database answers")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.cluster.is_some() {
            return;
        }
        let (server, name) = (self.server.clone(), database_name(&self.url));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for one statement").block_on(drop_database(&server, &name));
        });
        // A failure to clean up must not hide why the test ended.
        let _ = dropping.join();
    }
}

/// The server that the caller of the tests gave.
pub fn given_server() -> Option<String> {
    let given = |name| std::env::var(name).ok().filter(|url| url.starts_with("postgres"));
    given("TEST_DATABASE_URL").or_else(|| given("DATABASE_URL"))
}

/// One cluster for all tests of this process, stopped when the last of them lets go.
fn shared_cluster() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start());
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

async fn create_database(server: &str) -> String {
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(server).await.expect("the test server answers");
    let statement = AssertSqlSafe(format!("create database {name} template template0"));
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("the test server lets us create databases");
    let mut url = Url::parse(server).expect("the server connected, so its address is a URL");
    url.set_path(&name);
    url.into()
}

async fn drop_database(server: &str, name: &str) {
    if let Ok(mut connection) = PgConnection::connect(server).await {
        let statement = AssertSqlSafe(format!("drop database if exists {name} with (force)"));
        // A failure to clean up must not hide why the test ended.
        let _ = sqlx::raw_sql(statement).execute(&mut connection).await;
    }
}

fn database_name(url: &str) -> String {
    let url = Url::parse(url).expect("made by create_database");
    url.path().trim_start_matches('/').to_owned()
}
