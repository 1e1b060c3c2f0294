//! `retomada` on tables of a team's own making that take no mark, and with a database that hesitates: nothing is asked for
//! ever, nothing is queued that cannot be marked, and nothing that was answered is lost.

use emponto::domain::run::FailureKind;
use serde_json::json;

use crate::{
    attempt::Home,
    http_script::{Script, reply},
    retomada::{MESSAGES, QUEUED, made},
    retomada_endpoint::{answering, ask, day, of},
};

const WITHOUT_IDS: &str = "\
    create table mensagens_fora_horario (
      id text, cliente_id text, conversa_id text, mensagem text, recebida_em text, processada integer default 0,
      processada_em text, processada_resultado text)";

const THREE_WITHOUT_ID: &str = "\
    insert into mensagens_fora_horario (id, cliente_id, mensagem, recebida_em)
    values (null, 'c1', 'a', '2025-01-11T00:00:00Z'), (null, 'c2', 'b', '2025-01-11T00:00:01Z'),
           ('x', 'c3', 'good', '2025-01-11T00:00:02Z'), (null, 'c4', 'd', '2025-01-11T00:00:03Z')";

#[tokio::test]
async fn rows_without_an_id_are_told_once_and_nobody_behind_them_waits() {
    let home = Home::sqlite().await;
    home.execute(WITHOUT_IDS).await;
    home.execute(THREE_WITHOUT_ID).await;
    let script = Script::answering(answering).await;

    let report = ask(day(&home, &script.url, 0), &script.url, json!({ "batch": 1 })).await.expect("one is answered");

    assert_eq!((report.items, report.items_failed, report.left), (Some(1), 3, Some(3)));
    assert_eq!(script.asked().len(), 1, "a row that cannot be marked is not asked about");
    assert_eq!(home.texts(QUEUED).await, ["c3 resposta pendente about good"]);
    let errors = report.result.expect("a result")["errors"].clone();
    assert_eq!(errors[0]["error"], "the row has no id, so it cannot be marked as answered");
}

/// Updates of some rows are swallowed, as a team's trigger may do.
async fn swallow_updates_of_stones(home: &Home) {
    match home {
        Home::Sqlite { .. } => {
            home.execute(
                "create trigger stones before update on mensagens_fora_horario when old.mensagem like 'stone%'
                 begin select raise(ignore); end",
            )
            .await;
        }
        Home::Postgres { .. } => {
            home.execute(
                "create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
                 create trigger stones before update on mensagens_fora_horario for each row
                 when (old.mensagem like 'stone%') execute function swallow()",
            )
            .await;
        }
    }
}

#[tokio::test]
async fn rows_that_take_no_mark_fail_once_an_attempt_whatever_the_endpoint_says() {
    for home in Home::both().await {
        made(&home).await;
        swallow_updates_of_stones(&home).await;
        home.execute(
            "insert into mensagens_fora_horario (cliente_id, mensagem, recebida_em)
             values ('00000000-0000-0000-0000-00000000000a', 'stone 1', '2025-01-11T00:00:01Z'),
                    ('00000000-0000-0000-0000-00000000000a', 'stone 2', '2025-01-11T00:00:02Z'),
                    ('00000000-0000-0000-0000-00000000000a', 'stone 3', '2025-01-11T00:00:03Z'),
                    ('00000000-0000-0000-0000-00000000000a', 'stone 4', '2025-01-11T00:00:04Z'),
                    ('00000000-0000-0000-0000-00000000000a', 'stone 5', '2025-01-11T00:00:05Z'),
                    ('00000000-0000-0000-0000-00000000000a', 'stone 6', '2025-01-11T00:00:06Z'),
                    ('00000000-0000-0000-0000-00000000000b', 'good', '2025-01-12T00:00:00Z')",
        )
        .await;
        // An answer for three of them, a failure for the others.
        let script = Script::answering(|asked, before| match of(asked)["mensagem"].as_str() {
            Some("stone 1" | "stone 3" | "stone 5") => reply(500, ""),
            _ => answering(asked, before),
        })
        .await;

        let report =
            ask(day(&home, &script.url, 0), &script.url, json!({ "batch": 2 })).await.expect("one is answered");

        assert_eq!((report.items, report.items_failed, report.left), (Some(1), 6, Some(6)));
        assert_eq!(script.asked().len(), 7, "each is asked about once");
        assert_eq!(home.texts(QUEUED).await, ["00000000-0000-0000-0000-00000000000b resposta pendente about good"]);
    }
}

#[tokio::test]
async fn a_column_too_narrow_for_the_mark_of_a_try_is_named_with_what_mends_it() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute("alter table mensagens_fora_horario alter column processada_resultado type varchar(39)").await;
    let script = Script::answering(answering).await;

    let failure = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect_err("no mark would fit");

    assert_eq!(failure.kind, FailureKind::Permanent);
    let words = "processada_resultado is character varying(39) and cannot hold the mark of a try";
    assert!(failure.message.contains(words), "{}", failure.message);
    const MENDS: &str = "alter table mensagens_fora_horario alter column processada_resultado type text";
    assert!(failure.message.ends_with(MENDS), "{}", failure.message);
    home.execute(MENDS).await;
    ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect("now it fits");
}

#[tokio::test]
async fn an_answer_outlives_a_moment_without_a_database_and_costs_no_try() {
    let home = Home::postgres().await;
    made(&home).await;
    // A sequence counts on whatever is rolled back: the first two rows for the queue are refused, then all are taken.
    home.execute(
        "create sequence hiccups;
         create function hiccup() returns trigger language plpgsql as $$ begin
           if nextval('hiccups') <= 2 then raise exception 'try again' using errcode = '40001'; end if;
           return new;
         end $$;
         create trigger hiccup before insert on fila_mensagens for each row execute function hiccup()",
    )
    .await;
    home.execute(
        "insert into mensagens_fora_horario (cliente_id, mensagem, recebida_em)
         values ('00000000-0000-0000-0000-00000000000a', 'only', '2025-01-11T00:00:00Z')",
    )
    .await;
    let script = Script::answering(answering).await;

    let report = ask(day(&home, &script.url, 0), &script.url, json!({})).await.expect("it is answered");

    assert_eq!((report.items, report.items_failed, report.left), (Some(1), 0, Some(0)));
    assert_eq!(script.asked().len(), 1);
    assert_eq!(home.texts(MESSAGES).await, ["only: processed resposta"]);
    assert_eq!(home.texts(QUEUED).await, ["00000000-0000-0000-0000-00000000000a resposta pendente about only"]);
}
