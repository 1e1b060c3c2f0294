//! `drain` in the real daemon: killed between claim and delivery and between delivery and its record, and what `check` says.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use support::{
    daemon::{Daemon, Setup},
    postgres::Database,
};

/// How long the work of a daemon that was killed may take to be done by the next: the lease of its run must end first.
const AFTER_A_LEASE: Duration = Duration::from_secs(150);

const TABLE: &str = "\
    create table queue_profile (id integer primary key, cnpj text, status text not null default 'queued',
      attempts integer not null default 0, available_at TIME not null default '2025-01-08T11:00:00.000Z', locked_at TIME,
      last_error text);
    insert into queue_profile (id, cnpj) values (1, 'a'), (2, 'b'), (3, 'c')";
const ROWS: &str =
    "select cast(id as text) || ' ' || status || ' ' || cast(attempts as text) from queue_profile order by id";

fn jobs(port: u16) -> String {
    format!(
        r#"version = 1
[defaults]
timezone = "UTC"
retry = {{ max_attempts = 5, backoff = ["100ms"] }}
[executor]
shutdown_grace = "1s"
[targets.api]
base_url = "http://127.0.0.1:{port}"
[jobs.fila_processamento]
every = "1s"
timeout = "3s"
[jobs.fila_processamento.run.drain]
table    = "queue_profile"
where    = "status = 'queued' and available_at <= :now"
claim    = "status = 'processing', locked_at = :now"
done     = "status = 'done'"
retry    = "status = 'queued', attempts = attempts + 1, available_at = :retry_at, last_error = :error"
dead     = "status = 'failed', last_error = :error"
attempts = "attempts"
stuck    = {{ where = "status = 'processing' and locked_at < :stuck_before", after = "2s" }}
concurrency = 1
deliver  = {{ target = "api", post = "/v2/profile/process" }}
"#
    )
}

/// Records the key of each call, and answers when it is let.
struct Gateway {
    port: u16,
    keys: Arc<Mutex<Vec<String>>>,
    holds: Arc<AtomicBool>,
}

impl Gateway {
    fn start(holds: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let gateway = Self { port, keys: Arc::default(), holds: Arc::new(AtomicBool::new(holds)) };
        let (keys, holds) = (Arc::clone(&gateway.keys), Arc::clone(&gateway.holds));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keys, holds) = (Arc::clone(&keys), Arc::clone(&holds));
                // A peer that goes away in the middle is the peer's business.
                thread::spawn(move || serve(&stream, &keys, &holds).unwrap_or_default());
            }
        });
        gateway
    }

    fn keys(&self) -> Vec<String> {
        self.keys.lock().expect("nobody panics").clone()
    }

    fn let_go(&self) {
        self.holds.store(false, Ordering::SeqCst);
    }
}

fn serve(stream: &TcpStream, keys: &Mutex<Vec<String>>, holds: &AtomicBool) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut length, mut key, mut line) = (0, String::new(), String::new());
        while reader.read_line(&mut line)? != 0 && !line.trim().is_empty() {
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "idempotency-key" => value.trim().clone_into(&mut key),
                _ => {}
            }
            line.clear();
        }
        if key.is_empty() {
            return Ok(());
        }
        reader.read_exact(&mut vec![0; length])?;
        keys.lock().expect("nobody panics").push(key);
        while holds.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}")?;
    }
}

/// The team's database, which is the daemon's own.
enum Team {
    Sqlite(SqliteConnection),
    Postgres(PgConnection, Database),
}

impl Team {
    async fn execute(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        let done = match self {
            Self::Sqlite(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
            Self::Postgres(connection, _) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
        };
        done.expect("the statements of the test run");
    }

    async fn texts(&mut self, query: &'static str) -> Vec<String> {
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
            Self::Postgres(connection, _) => sqlx::query_scalar(query).fetch_all(connection).await,
        }
        .expect("the query of the test runs")
    }

    async fn wait_for(&mut self, query: &'static str, wanted: &[&str], daemon: &Daemon) {
        let deadline = std::time::Instant::now() + AFTER_A_LEASE;
        loop {
            let found = self.texts(query).await;
            if found == wanted {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{found:?} is not {wanted:?}\n{}", daemon.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A folder with this jobs.toml, and a queue with three rows, on each database.
async fn both(jobs: &str) -> Vec<(Setup, Team)> {
    let setup = Setup::new(jobs);
    let options = SqliteConnectOptions::new().filename(setup.path("workers.db")).create_if_missing(true);
    let options = options.busy_timeout(Duration::from_secs(20));
    let mut sqlite = Team::Sqlite(SqliteConnection::connect_with(&options).await.expect("a new file"));
    sqlite.execute(&TABLE.replace("TIME", "text")).await;

    let database = Database::new().await;
    let of_postgres = Setup::new(jobs).database(&database.url);
    let mut postgres = Team::Postgres(database.connect().await, database);
    postgres.execute(&TABLE.replace("TIME", "timestamptz")).await;
    vec![(setup, sqlite), (of_postgres, postgres)]
}

const DONE_AT_SECOND_TRY: [&str; 3] = ["1 done 1", "2 done 1", "3 done 1"];

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_daemon_that_was_killed_are_rescued_and_delivered_under_the_same_key() {
    let gateway = Gateway::start(true);
    for (setup, mut team) in both(&jobs(gateway.port)).await {
        gateway.holds.store(true, Ordering::SeqCst);
        let before = gateway.keys().len();
        // One call is under way; two rows are claimed, and their calls not begun.
        let mut daemon = setup.start();
        daemon.wait_for("the first call", |_| before < gateway.keys().len());
        daemon.kill();
        assert_eq!(team.texts(ROWS).await, ["1 processing 0", "2 processing 0", "3 processing 0"]);
        gateway.let_go();

        let daemon = daemon.start_again();

        team.wait_for(ROWS, &DONE_AT_SECOND_TRY, &daemon).await;
        let mut keys = gateway.keys().split_off(before);
        assert_eq!(keys.remove(0), "fila_processamento:1");
        keys.sort();
        assert_eq!(keys, ["fila_processamento:1", "fila_processamento:2", "fila_processamento:3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_record_was_lost_after_its_delivery_comes_again_under_the_same_key() {
    let gateway = Gateway::start(true);
    let (setup, mut team) = both(&jobs(gateway.port)).await.pop().expect("PostgreSQL is the last");
    let Team::Postgres(_, database) = &team else { unreachable!("PostgreSQL is the last") };
    let mut holder = database.connect().await;
    let mut daemon = setup.start();
    daemon.wait_for("the first call", |_| !gateway.keys().is_empty());

    // Nobody can write the row while this holds it: the call ends, and its record waits.
    sqlx::raw_sql("begin; select id from queue_profile for update").execute(&mut holder).await.expect("locked");
    gateway.let_go();
    let waits = "select 'waits' where exists (select 1 from pg_stat_activity
                 where wait_event_type = 'Lock' and query like 'update %queue_profile%')";
    team.wait_for(waits, &["waits"], &daemon).await;
    daemon.kill();
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("unlocked");
    let daemon = daemon.start_again();

    // The record of the first may have come through after all: the server need not hear of the death of its client.
    let deadline = std::time::Instant::now() + AFTER_A_LEASE;
    loop {
        let rows = team.texts(ROWS).await;
        if rows.iter().all(|row| row.contains(" done ")) {
            assert!(rows[0] == "1 done 0" || rows[0] == "1 done 1", "{rows:?}");
            assert_eq!(rows[1..], DONE_AT_SECOND_TRY[1..]);
            let calls = gateway.keys().iter().filter(|key| *key == "fila_processamento:1").count();
            assert_eq!(calls, if rows[0] == "1 done 0" { 1 } else { 2 });
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{rows:?}\n{}", daemon.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_a_mistake_about_the_table_with_its_job() {
    let wrong = jobs(1).replace("last_error = :error\"\nattempts", "last_eror = :error\"\nattempts");
    for (setup, _team) in both(&wrong).await {
        let checked = setup.run(&["check"]);

        let told = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(3), "{told}");
        assert!(told.contains("job `fila_processamento`: dead: the ") && told.contains("last_eror"), "{told}");
    }
}
