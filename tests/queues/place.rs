//! A daemon's folder beside a database of either kind, with the team's tables in it as a team would have made them.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::support::{
    daemon::{Daemon, Setup},
    postgres::{Cluster, Database},
};

/// A job that drains the queue, and never fires during a test.
pub const FILA: &str = r#"
version = 1
[jobs.fila_worker]
cron = "0 0 29 2 *"
critical = true
run.fila = {}
[jobs.mail]
run.noop = {}
"#;

/// Two looks of the observer and much more, for a loaded machine.
const TWO_LOOKS: Duration = Duration::from_secs(120);

const TABLES: [(&str, &str); 3] = [
    (
        include_str!("../../migrations/postgres/team/clientes.sql"),
        include_str!("../../migrations/sqlite/team/clientes.sql"),
    ),
    (
        include_str!("../../migrations/postgres/team/fila_mensagens.sql"),
        include_str!("../../migrations/sqlite/team/fila_mensagens.sql"),
    ),
    (
        include_str!("../../migrations/postgres/team/fila_mensagens_dlq.sql"),
        include_str!("../../migrations/sqlite/team/fila_mensagens_dlq.sql"),
    ),
];

/// A database with the team's tables, empty.
pub struct Place {
    pub url: String,
    pub setup: Option<Setup>,
    database: Option<Database>,
}

impl Place {
    /// One of each kind; their daemons are not started.
    pub async fn both(jobs: &str) -> [Self; 2] {
        let setup = Setup::new(jobs);
        let url = format!("sqlite://{}?mode=rwc", setup.path("workers.db").display());
        let sqlite = Self { url, setup: Some(setup), database: None };
        sqlite.make_tables().await;
        [sqlite, Self::on(Database::new().await, jobs).await]
    }

    /// On a cluster of the test's own.
    pub async fn on_cluster(cluster: &std::sync::Arc<Cluster>, jobs: &str) -> Self {
        Self::on(cluster.database().await, jobs).await
    }

    async fn on(database: Database, jobs: &str) -> Self {
        let setup = Setup::new(jobs).database(&database.url);
        let place = Self { url: database.url.clone(), setup: Some(setup), database: Some(database) };
        place.make_tables().await;
        place
    }

    async fn make_tables(&self) {
        for (postgres, sqlite) in TABLES {
            self.execute(if self.is_postgres() { postgres } else { sqlite }).await;
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    pub fn setup(&self) -> &Setup {
        self.setup.as_ref().expect("its daemon was not started")
    }

    /// Starts the daemon, which takes the folder.
    pub fn start(&mut self) -> Daemon {
        self.setup.take().expect("it is started once").start()
    }

    pub async fn execute(&self, sql: &str) {
        let done = if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("the file opens");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map(drop)
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query whose only column is text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::AssertSqlSafe(sql);
        let rows = if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
            sqlx::query_scalar(query).fetch_all(&mut connection).await
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("the file opens");
            sqlx::query_scalar(query).fetch_all(&mut connection).await
        };
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The number that a query counts.
    pub async fn count(&self, condition: &str) -> i64 {
        let sql = format!("select cast(count(*) as text) from fila_mensagens where {condition}");
        self.texts(&sql).await[0].parse().expect("a number")
    }

    /// Puts messages of one kind into the queue: how many, and their other columns.
    pub async fn add(&self, many: usize, columns: &[(&str, String)]) {
        let names: String = columns.iter().map(|(name, _)| format!(", {name}")).collect();
        let values: String = columns.iter().map(|(_, value)| format!(", {value}")).collect();
        let row = format!("('Olá, doutora fictícia', '5511999990001'{values})");
        let rows = vec![row; many].join(", ");
        self.execute(&format!("insert into fila_mensagens (conteudo, telefone{names}) values {rows}")).await;
    }
}

/// A literal of an instant so many seconds from now.
pub fn from_now(seconds: i64) -> String {
    let at = Utc::now() + TimeDelta::seconds(seconds);
    format!("'{}'", at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub fn word(text: &str) -> String {
    format!("'{text}'")
}

/// Asks a health path until its answer is as wanted; the answer.
#[track_caller]
pub fn until(daemon: &Daemon, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + TWO_LOOKS;
    loop {
        let answer = daemon.get(path).json();
        if is_wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} stays at {answer}\n{}", daemon.output());
        std::thread::sleep(Duration::from_millis(100));
    }
}
