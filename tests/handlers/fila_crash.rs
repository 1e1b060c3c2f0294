//! `fila` with a gateway that fails, hangs and outlives its caller: nothing is sent twice, and no limit is exceeded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse};
use chrono::TimeDelta;
use emponto::{
    handlers::{Outbound, http::Target},
    outbound::{GatewayChoice, Webhook},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    attempt::{Home, commit, noon},
    fila::{MESSAGES, attempt, made, run_with, wide_open, work},
};

/// An answer with this status never comes, until `let_go`.
const HANGS: u16 = 0;
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway of the test's own, with its log.
struct Gateway {
    outbound: Outbound,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    status: AtomicU16,
    let_go: Notify,
    texts: Mutex<Vec<String>>,
}

impl Gateway {
    async fn answering(status: u16) -> Self {
        let seen = Arc::new(Seen { status: status.into(), ..Seen::default() });
        let app = Router::new().fallback(record).with_state(Arc::clone(&seen));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let to = Target::at(url);
        let gateway = GatewayChoice::Webhook(Webhook { target: "gateway".into(), post: "/send".into(), to });
        Self { outbound: Outbound { gateway, ..wide_open() }, seen }
    }

    fn answer(&self, status: u16) {
        self.seen.status.store(status, Ordering::SeqCst);
        self.seen.let_go.notify_waiters();
    }

    /// The texts of the messages that came, each as often as it did.
    fn texts(&self) -> Vec<String> {
        self.seen.texts.lock().expect("no test panics while it holds this").clone()
    }

    async fn wait_for(&self, many: usize) {
        let wait = async {
            while self.texts().len() < many {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the gateway is called");
    }
}

async fn record(State(seen): State<Arc<Seen>>, Json(body): Json<Value>) -> impl IntoResponse {
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    seen.texts.lock().expect("no test panics while it holds this").push(text);
    while seen.status.load(Ordering::SeqCst) == HANGS {
        let _ = tokio::time::timeout(Duration::from_millis(50), seen.let_go.notified()).await;
    }
    (StatusCode::from_u16(seen.status.load(Ordering::SeqCst)).expect("a status"), Json(json!({ "id": "p" })))
}

const TWO: &str = "\
    insert into fila_mensagens (conteudo, telefone, prioridade, created_at) values
      ('a', '5511955550101', 9, '2025-01-08T11:30:00Z'), ('b', '5511955550102', 5, '2025-01-08T11:30:00Z')";

#[tokio::test]
async fn each_end_of_a_call_is_written_as_what_it_is() {
    for (status, expected, dead) in
        [(200, "enviada SENT sent 0", 0), (400, "pendente FAILED_", 0), (500, "erro FAILED_TIMEOUT unknown 1", 2)]
    {
        for home in Home::both().await {
            made(&home).await;
            home.execute(TWO).await;
            let gateway = Gateway::answering(status).await;

            let ended = run_with(&home, noon(), json!({}), &gateway.outbound).await;

            assert_eq!(ended.is_ok(), status == 200, "{ended:?}");
            let messages = home.texts(MESSAGES).await;
            assert!(messages.iter().all(|line| line[3..].starts_with(expected)), "{status}: {messages:?}");
            assert_eq!(home.texts("select motivo from fila_mensagens_dlq").await.len(), dead, "{status}");
            assert_eq!(gateway.texts(), ["a", "b"], "{status}");
        }
    }
}

#[tokio::test]
async fn no_answer_in_time_is_a_doubt_and_not_sent_again() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(TWO).await;
        let mut gateway = Gateway::answering(HANGS).await;
        gateway.outbound.timeout = Duration::from_millis(500);

        run_with(&home, noon(), json!({ "batch": 1 }), &gateway.outbound).await.expect_err("all failed");
        gateway.answer(200);
        gateway.outbound.timeout = Duration::from_secs(15);
        run_with(&home, noon() + TimeDelta::hours(3), json!({}), &gateway.outbound).await.expect("the other is sent");

        assert_eq!(home.texts(MESSAGES).await, ["a: erro FAILED_TIMEOUT unknown 1", "b: enviada SENT sent 0"]);
        assert_eq!(gateway.texts(), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_gateway_that_is_left_alone_stops_the_batch_and_costs_no_place() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(TWO).await;
        home.execute("insert into fila_mensagens (conteudo, telefone, prioridade, created_at) values ('c', '5511955550103', 1, '2025-01-08T11:30:00Z')").await;
        let mut gateway = Gateway::answering(500).await;
        gateway.outbound.breaker.failures = 1;

        let failure =
            run_with(&home, noon(), json!({}), &gateway.outbound).await.expect_err("one failed, none was sent");

        let report = failure.report.expect("what was done");
        assert_eq!((report.items, report.items_failed, report.left), (Some(0), 1, Some(2)));
        assert!(report.note.is_some_and(|note| note.starts_with("the gateway is left alone for ")));
        assert_eq!(
            home.texts(MESSAGES).await,
            ["a: erro FAILED_TIMEOUT unknown 1", "b: pendente FAILED_CIRCUIT_OPEN circuit_open 0", "c: pendente - - 0"]
        );
        assert_eq!(gateway.texts(), ["a"]);
        let taken = home.texts("select scope || ' ' || cast(taken as text) from outbound_limits order by scope").await;
        assert!(taken.contains(&"all:hour 1".to_owned()), "{taken:?}");
        assert!(!taken.iter().any(|line| line.starts_with("number:5511955550102")), "{taken:?}");
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_send_leaves_one_in_doubt_and_the_rest_to_be_sent() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(TWO).await;
        let gateway = Gateway::answering(HANGS).await;
        let (work, ctx) = (work(json!({}), &gateway.outbound), attempt(&home, noon()));
        let crashing = tokio::spawn(async move { work.run(ctx).await.map(drop) });
        gateway.wait_for(1).await;
        crashing.abort();
        let _ = crashing.await;
        gateway.answer(200);

        let crashed = home.texts(MESSAGES).await;
        let early = run_with(&home, noon() + TimeDelta::minutes(59), json!({}), &gateway.outbound).await;
        let in_time = run_with(&home, noon() + TimeDelta::minutes(61), json!({}), &gateway.outbound).await;

        assert_eq!(crashed, ["a: processando - sending 0", "b: processando - - 0"]);
        assert_eq!(early.expect("nothing is due").items, Some(0));
        assert_eq!(in_time.expect("one was sent").items, Some(1));
        assert_eq!(home.texts(MESSAGES).await, ["a: erro FAILED_TIMEOUT unknown 1", "b: enviada SENT sent 1"]);
        assert_eq!(home.texts("select motivo from fila_mensagens_dlq").await, ["unknown"]);
        assert_eq!(gateway.texts(), ["a", "b"]);
    }
}

#[tokio::test]
async fn who_was_taken_for_dead_writes_nothing_over_what_others_did() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(TWO).await;
        home.execute("delete from fila_mensagens where conteudo = 'b'").await;
        let gateway = Gateway::answering(HANGS).await;
        let (work, ctx) = (work(json!({}), &gateway.outbound), attempt(&home, noon()));
        let slow = tokio::spawn(async move { commit(work.run(ctx).await).await });
        gateway.wait_for(1).await;

        run_with(&home, noon() + TimeDelta::minutes(61), json!({}), &gateway.outbound).await.expect_err("a rescue");
        let rescued = home.texts(MESSAGES).await;
        // A person sends it again, and another replica is in the middle of that.
        home.execute(
            "update fila_mensagens set status = 'processando', outcome_reason_code = 'sending',
               processando_desde = '2025-01-08T13:02:00Z'",
        )
        .await;
        gateway.answer(200);
        let report = slow.await.expect("it ends").expect("nothing failed");

        assert_eq!(rescued, ["a: erro FAILED_TIMEOUT unknown 1"]);
        assert_eq!(home.texts(MESSAGES).await, ["a: processando FAILED_TIMEOUT sending 1"]);
        assert_eq!(report.result.expect("a result")["lost"], 1);
    }
}

#[tokio::test]
async fn the_gateway_s_own_log_shows_no_limit_exceeded_by_two_replicas() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, telefone, tipo, created_at)
        select 'to ' || (n % 5), '551195555010' || (n % 5), 'campanha', '2025-01-08T11:00:00Z' from generate_series(1, 30) n",
    )
    .await;
    let mut gateway = Gateway::answering(200).await;
    gateway.outbound.limits.per_tipo_hour = BTreeMap::from([("campanha".to_owned(), 4)]);
    let run = || run_with(&home, noon(), json!({ "batch": 15 }), &gateway.outbound);

    let (one, two) = tokio::join!(run(), run());

    let sent = [one, two].map(|report| report.expect("a run").items.expect("items"));
    let texts = gateway.texts();
    assert_eq!((sent.iter().sum::<u64>(), texts.len()), (4, 4), "{sent:?}");
    // 45 s between two messages to one number: each got at most one.
    let numbers: std::collections::BTreeSet<_> = texts.iter().collect();
    assert_eq!(numbers.len(), 4, "{texts:?}");
}

#[tokio::test]
async fn two_replicas_send_each_message_once() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, telefone, created_at)
        select 'm' || n, '55119' || (50000000 + n), '2025-01-08T11:00:00Z' from generate_series(1, 40) n",
    )
    .await;
    let gateway = Gateway::answering(200).await;
    let run = || run_with(&home, noon(), json!({ "batch": 30 }), &gateway.outbound);

    let (one, two) = tokio::join!(run(), run());

    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let mut texts = gateway.texts();
    texts.sort_unstable();
    let all = texts.len();
    texts.dedup();
    assert_eq!((all, texts.len()), (40, 40));
}
