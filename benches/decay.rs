//! What `temperature_decay` costs against the bare `update` of the same rows, on PostgreSQL, in one run.
//!
//! `cargo bench --bench decay` prints the table of docs/performance.md; `DECAY_ROWS` says how many leads (100,000). Each
//! round fills the table anew, so both measure rows that are written for the first time since.

#[path = "../tests/handlers/attempt.rs"]
#[expect(dead_code, reason = "shared with the tests of the handlers, which use all of it")]
mod attempt;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use attempt::{Home, commit, context, work};
use serde_json::json;

/// Messages sent in the last days, of which a real run counts the contacts.
const SENT: usize = 10_000;
/// Measurements of each; the shortest counts, because whatever else the machine does only adds to it.
const ROUNDS: usize = 5;

const BARE: &str = "update doctor_state set temperature = temperature - 0.05, temperature_trend = 'cooling', \
                    last_decay_at = '2025-01-08T00:00:00Z'";

#[tokio::main]
async fn main() {
    let rows: usize = std::env::var("DECAY_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000);
    let home = Home::postgres().await;
    decay(&home).await;
    home.execute(include_str!("../migrations/postgres/team/fila_mensagens.sql")).await;
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        fill(&home, rows).await;
        let begun = Instant::now();
        home.execute(BARE).await;
        bare = bare.min(begun.elapsed());

        fill(&home, rows).await;
        let begun = Instant::now();
        assert_eq!(decay(&home).await, rows as u64, "every lead cools");
        ours = ours.min(begun.elapsed());
    }
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!("| leads | bare `update`, ms | temperature_decay, ms | ratio |\n|---|---|---|---|");
    println!("| {rows} | {:.0} | {:.0} | {:.2} |", ms(bare), ms(ours), ms(ours) / ms(bare));
}

/// Leads that have been silent since Monday, at noon on Wednesday, some of them written to.
async fn fill(home: &Home, rows: usize) {
    let statement = format!(
        "truncate doctor_state, fila_mensagens;
        insert into fila_mensagens (cliente_id, conteudo, status, enviada_em)
        select md5(n::text)::uuid, 'x', 'enviada', timestamptz '2025-01-08T11:00:00Z' - n * interval '1 minute'
        from generate_series(1, {SENT}) as n;
        insert into doctor_state (cliente_id, last_inbound_at, contact_count_7d)
        select md5(n::text)::uuid::text, '2025-01-06T00:00:00Z', (n <= {SENT})::integer from generate_series(1, {rows}) as n"
    );
    home.execute(Box::leak(statement.into_boxed_str())).await;
    home.execute("vacuum analyze doctor_state").await;
    home.execute("vacuum analyze fila_mensagens").await;
    home.execute("checkpoint").await;
}

async fn decay(home: &Home) -> u64 {
    let report = commit(work("temperature_decay", json!({})).run(context(home.app())).await).await;
    report.expect("a run").items.expect("it counts")
}
