//! The queue in the real daemon: killed in the middle of a send, stopped in the middle of a batch, and two at once.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, response::IntoResponse};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use support::{
    daemon::{Daemon, PATIENCE, Setup},
    postgres::Database,
};

/// The gateway of the test, and its log.
#[derive(Clone, Default)]
struct Gateway {
    port: u16,
    texts: Arc<Mutex<Vec<String>>>,
    hangs: Arc<AtomicBool>,
}

impl Gateway {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let gateway = Self { port, ..Self::default() };
        let app = Router::new().fallback(record).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        gateway
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each message came.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.texts().into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
        counts
    }
}

async fn record(State(gateway): State<Gateway>, Json(body): Json<Value>) -> impl IntoResponse {
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    gateway.texts.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    while gateway.hangs.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Json(json!({ "id": "p" }))
}

fn table(gateway: &Gateway) -> String {
    format!(
        "version = 1
        [defaults]
        timezone = \"America/Sao_Paulo\"
        [targets.gateway]
        base_url = \"http://127.0.0.1:{}\"
        [outbound]
        webhook = {{ target = \"gateway\", post = \"/send\" }}
        timeout = \"60s\"
        allowlist = \"5511955550101, 5511955550102, 5511955550103, 5511955550104, 5511955550105\"
        limits = {{ per_hour = 10000, per_day = 10000, per_client_hour = 10000, per_tipo_hour = {{ resposta = 10000 }} }}
        [jobs.fila_worker]
        every = \"1s\"
        run.fila = {{ batch = 5 }}
        ",
        gateway.port
    )
}

async fn execute(url: &str, statements: &str) {
    let statements = AssertSqlSafe(statements.to_owned());
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await.expect("the file opens");
        sqlx::raw_sql("pragma busy_timeout = 20000").execute(&mut connection).await.expect("a pragma");
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements of the test");
    } else {
        let mut connection = PgConnection::connect(url).await.expect("the server answers");
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements of the test");
    }
}

/// Text, status and reason of each message.
async fn messages(url: &str) -> Vec<String> {
    let query = "select conteudo || ' ' || status || ' ' || coalesce(outcome_reason_code, '-') from fila_mensagens order by conteudo";
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await.expect("the file opens");
        sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap_or_default()
    } else {
        let mut connection = PgConnection::connect(url).await.expect("the server answers");
        sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap_or_default()
    }
}

async fn wait_until(what: &str, url: &str, holds: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        let messages = messages(url).await;
        if holds(&messages) {
            return;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}: {messages:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Five messages to five numbers, in the order of their texts.
async fn queue_five(url: &str) {
    let rows: Vec<_> = (1..=5).map(|n| format!("('m{n}', '551195555010{n}', 'resposta', {})", 10 - n)).collect();
    execute(
        url,
        &format!("insert into fila_mensagens (conteudo, telefone, tipo, prioridade) values {}", rows.join(", ")),
    )
    .await;
}

async fn wait_for_tables(daemon: &Daemon, url: &str) {
    let made = async {
        loop {
            let answer =
                daemon.setup.run(&["runs", "list", "--job", "fila_worker", "--outcome", "success", "-o", "jsonl"]);
            if answer.status.success() && !answer.stdout.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let made = tokio::time::timeout(PATIENCE, made).await;
    assert!(made.is_ok(), "{url}: no run makes the tables\n{}", daemon.output());
}

async fn killed_in_the_middle_of_a_send(setup: Setup, gateway: &Gateway, url: &str) {
    let mut daemon = setup.start();
    wait_for_tables(&daemon, url).await;
    gateway.hang(true);
    queue_five(url).await;
    daemon.wait_for("the first send", |_| gateway.texts() == ["m1"]);

    daemon.kill();
    gateway.hang(false);
    let _again = daemon.start_again();
    let crashed = messages(url).await;
    // An hour later, as the rows see it.
    execute(url, "update fila_mensagens set processando_desde = '2025-01-08T12:00:00Z' where status = 'processando'")
        .await;
    wait_until("the rescue", url, |messages| messages.iter().all(|line| !line.contains("processando"))).await;
    wait_until("the rest to be sent", url, |messages| messages.iter().all(|line| !line.contains("pendente"))).await;

    assert!(crashed[0].starts_with("m1 processando sending"), "{crashed:?}");
    assert!(crashed[1..].iter().all(|line| line.contains("processando -")), "{crashed:?}");
    let ends = messages(url).await;
    assert_eq!(ends[0], "m1 erro unknown");
    assert!(ends[1..].iter().all(|line| line.ends_with("enviada sent")), "{ends:?}");
    let once: Vec<_> = (1..=5).map(|n| (format!("m{n}"), 1)).collect();
    assert_eq!(gateway.counts().into_iter().collect::<Vec<_>>(), once);
}

async fn stopped_in_the_middle_of_a_batch(setup: Setup, gateway: &Gateway, url: &str) {
    let mut daemon = setup.env("WORKERS_SHUTDOWN_GRACE", "20s").start();
    wait_for_tables(&daemon, url).await;
    gateway.hang(true);
    queue_five(url).await;
    daemon.wait_for("the first send", |_| gateway.texts() == ["m1"]);

    daemon.signal(rustix::process::Signal::TERM);
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.hang(false);
    let status = daemon.wait();

    assert!(status.success(), "{status}\n{}", daemon.output());
    let ends = messages(url).await;
    assert_eq!(ends, ["m1 enviada sent", "m2 pendente -", "m3 pendente -", "m4 pendente -", "m5 pendente -"]);
    assert_eq!(gateway.texts(), ["m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_send_sends_nothing_twice_on_sqlite() {
    let gateway = Gateway::start().await;
    let setup = Setup::new(&table(&gateway));
    let url = format!("sqlite://{}", setup.path("workers.db").display());

    killed_in_the_middle_of_a_send(setup, &gateway, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_send_sends_nothing_twice_on_postgresql() {
    let (gateway, database) = (Gateway::start().await, Database::new().await);
    let setup = Setup::new(&table(&gateway)).database(&database.url);

    killed_in_the_middle_of_a_send(setup, &gateway, &database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_send_at_hand_and_puts_the_others_back_on_sqlite() {
    let gateway = Gateway::start().await;
    let setup = Setup::new(&table(&gateway));
    let url = format!("sqlite://{}", setup.path("workers.db").display());

    stopped_in_the_middle_of_a_batch(setup, &gateway, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_send_at_hand_and_puts_the_others_back_on_postgresql() {
    let (gateway, database) = (Gateway::start().await, Database::new().await);
    let setup = Setup::new(&table(&gateway)).database(&database.url);

    stopped_in_the_middle_of_a_batch(setup, &gateway, &database.url).await;
}
