//! `drain` on tables that look nothing like each other: integers for words, names that SQL reserves, and the team's messages.

use emponto::handlers::team::{self, tables::FILA_MENSAGENS};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, noon},
    drain::{attempt, run},
    http_script::{Script, reply},
};

/// Words are numbers, instants are Unix seconds, columns are called as SQL calls its clauses.
const ORDERS_POSTGRES: &str = "\
    create schema shop;
    create type place as (street text, number integer);
    create table shop.\"order\" (
      \"key\" uuid primary key default gen_random_uuid(), \"select\" smallint not null default 0,
      \"from\" bigint not null default 1736337000, \"user\" bigint, \"group\" integer not null default 0,
      \"limit\" integer not null default 2, wher place, tags text[], raw bytea, price numeric(30, 10), word text not null);
    insert into shop.\"order\" (word, wher, tags, raw, price)
    values ('a', row('Rua A', 12), '{x,y}', '\\x00ff', 12345678901234567890.1234567891), ('b', null, null, null, null)";
const ORDERS_SQLITE: &str = "\
    create table \"order\" (
      \"key\" text primary key, \"select\" integer not null default 0,
      \"from\" integer not null default 1736337000, \"user\" integer, \"group\" integer not null default 0,
      \"limit\" integer not null default 2, wher text, tags json, raw blob, price real, word text not null);
    insert into \"order\" (\"key\", word, wher, tags, raw, price)
    values ('k1', 'a', 'Rua A', '[\"x\",\"y\"]', x'00ff', 0.1), ('k2', 'b', null, null, null, null)";

fn orders(table: &str) -> Value {
    json!({
        "table": table,
        "id": "key",
        "where": "\"select\" = 0 and \"from\" <= :now",
        "claim": "\"select\" = 1, \"user\" = :now",
        "done": "\"select\" = 2",
        "retry": "\"select\" = 0, \"group\" = \"group\" + 1, \"from\" = :retry_at",
        "dead": "\"select\" = 9, \"group\" = \"group\" + 1",
        "attempts": "group",
        "max_attempts": "limit",
        "stuck": { "where": "\"select\" = 1 and \"user\" < :stuck_before", "after": "10min" },
        "order": "word",
        "time": "unix",
        "concurrency": 1,
        "deliver": { "target": "api", "put": "/orders" },
    })
}

#[tokio::test]
async fn a_table_of_numbers_and_reserved_words_is_drained() {
    for home in Home::both().await {
        let (table, rows) = match &home {
            Home::Sqlite { .. } => {
                home.execute(ORDERS_SQLITE).await;
                (
                    "order",
                    "select word || cast(\"select\" as text) || cast(\"group\" as text) || ' ' || cast(\"from\" as text) from \"order\" order by word",
                )
            }
            Home::Postgres { .. } => {
                home.execute(ORDERS_POSTGRES).await;
                (
                    "shop.order",
                    "select word || \"select\"::text || \"group\"::text || ' ' || \"from\"::text from shop.\"order\" order by word",
                )
            }
        };
        let server = Script::answering(|call, _| {
            let row: Value = serde_json::from_slice(&call.body).expect("JSON");
            if row["word"] == json!("a") { reply(200, "{}") } else { reply(500, "") }
        })
        .await;

        let report = run(orders(table), attempt(&home, &server.url, noon())).await.expect("one was done");

        assert_eq!((report.items, report.items_failed, report.left), (Some(1), 1, Some(0)));
        let found = home.texts(rows).await;
        assert_eq!(found[0], "a20 1736337000");
        // 12:00:00 and (1 + 1) x 30 s, and what the run took.
        let due: i64 = found[1].strip_prefix("b01 ").expect("it waits").parse().expect("seconds");
        assert!((1_736_337_660..1_736_337_680).contains(&due), "{due}");
        let body = String::from_utf8(server.asked()[0].body.clone()).expect("text");
        let row: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (&row["select"], &row["user"], &row["tags"], &row["raw"]),
            (&json!(1), &json!(1_736_337_600), &json!(["x", "y"]), &json!("\\x00ff"))
        );
        if matches!(home, Home::Postgres { .. }) {
            assert_eq!(row["wher"], json!({ "street": "Rua A", "number": 12 }));
            assert!(body.contains("12345678901234567890.1234567891"), "no digit is lost: {body}");
        }

        let late = noon() + chrono::TimeDelta::minutes(5);
        run(orders(table), attempt(&home, &server.url, late)).await.expect_err("the last attempt of b");

        assert!(home.texts(rows).await[1].starts_with("b92 "), "its own `limit` is 2: {:?}", home.texts(rows).await);
    }
}

#[tokio::test]
async fn rows_of_numbers_are_rescued_and_released_with_their_types() {
    for home in Home::both().await {
        let (table, rows) = match &home {
            Home::Sqlite { .. } => {
                home.execute(ORDERS_SQLITE).await;
                home.execute("update \"order\" set \"select\" = 1, \"user\" = 1736336000 where word = 'a'").await;
                (
                    "order",
                    "select word || cast(\"select\" as text) || cast(\"group\" as text) || coalesce(cast(\"user\" as text), '-') from \"order\" order by word",
                )
            }
            Home::Postgres { .. } => {
                home.execute(ORDERS_POSTGRES).await;
                home.execute("update shop.\"order\" set \"select\" = 1, \"user\" = 1736336000 where word = 'a'").await;
                (
                    "shop.order",
                    "select word || \"select\"::text || \"group\"::text || coalesce(\"user\"::text, '-') from shop.\"order\" order by word",
                )
            }
        };
        let server = Script::answering(|_, _| reply(429, "").with("retry-after", "60")).await;

        run(orders(table), attempt(&home, &server.url, noon())).await.expect_err("the target asks for time");

        assert_eq!(home.texts(rows).await, ["a011736336000", "b00-"]);
    }
}

/// The team's queue of messages, drained by an endpoint of theirs instead of by `fila`.
fn messages() -> Value {
    json!({
        "table": "fila_mensagens",
        "where": "status = 'pendente' and coalesce(agendar_para, created_at) <= :now",
        "claim": "status = 'processando', processando_desde = :now",
        "done": "status = 'enviada', enviada_em = :now, outcome = 'SENT', outcome_at = :now",
        "retry": "status = 'pendente', tentativas = tentativas + 1, agendar_para = :retry_at, processando_desde = null, erro = :error",
        "dead": "status = 'erro', tentativas = tentativas + 1, erro = :error, outcome = 'FAILED_PROVIDER', outcome_at = :now",
        "attempts": "tentativas",
        "max_attempts": "max_tentativas",
        "stuck": { "where": "status = 'processando' and processando_desde < :stuck_before", "after": "60min" },
        "order": "prioridade desc, created_at",
        "concurrency": 1,
        "deliver": { "target": "api", "post": "/mensagens" },
    })
}

#[tokio::test]
async fn the_team_s_messages_are_drained_the_most_urgent_first() {
    for home in Home::both().await {
        let mut tx = (home.app().begin)().await.expect("a transaction");
        team::adopt(&mut tx, &[&FILA_MENSAGENS], true).await.expect("the table is created");
        tx.commit().await.expect("committed");
        home.execute(
            "insert into fila_mensagens (conteudo, prioridade, created_at, agendar_para, max_tentativas) values
              ('later', 5, '2025-01-08T10:00:00.000Z', '2025-01-08T13:00:00.000Z', 3),
              ('last', 1, '2025-01-08T10:00:00.000Z', null, 3),
              ('first', 9, '2025-01-08T11:00:00.000Z', null, 3),
              ('broken', 5, '2025-01-08T10:30:00.000Z', null, 1),
              ('second', 5, '2025-01-08T10:00:00.000Z', '2025-01-08T11:59:00.000Z', 3)",
        )
        .await;
        let server = Script::answering(|call, _| {
            if String::from_utf8_lossy(&call.body).contains("broken") { reply(500, "") } else { reply(200, "{}") }
        })
        .await;

        let report = run(messages(), attempt(&home, &server.url, noon())).await.expect("some were done");

        let order: Vec<_> = server
            .asked()
            .iter()
            .map(|call| serde_json::from_slice::<Value>(&call.body).expect("JSON")["conteudo"].clone())
            .collect();
        assert_eq!(order, ["first", "second", "broken", "last"]);
        assert_eq!((report.items, report.items_failed, report.left), (Some(3), 1, Some(0)));
        let rows = home
            .texts("select conteudo || ' ' || status || ' ' || cast(tentativas as text) || ' ' || coalesce(outcome, '') from fila_mensagens order by conteudo")
            .await;
        assert_eq!(
            rows,
            [
                "broken erro 1 FAILED_PROVIDER",
                "first enviada 0 SENT",
                "last enviada 0 SENT",
                "later pendente 0 ",
                "second enviada 0 SENT"
            ]
        );
        let waiting = "select cast(count(*) as text) from fila_mensagens where status = 'pendente'";
        assert_eq!(home.texts(waiting).await, ["1"]);
    }
}
