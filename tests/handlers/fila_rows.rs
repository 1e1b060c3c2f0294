//! `fila` with rows that the database cannot work with: none holds up the queue, and none is left out for ever.

use chrono::TimeDelta;
use emponto::handlers::fila::dead::{DeadLetters, Decision, Verdict, Which};
use serde_json::json;

use crate::{
    attempt::{Home, commit, context, noon},
    fila::{MESSAGES, made, run, run_with, wide_open},
};

/// Refuses what `before` does to rows of a table.
async fn refuse(home: &Home, sqlite: &'static str, postgres: &'static str) {
    match home {
        Home::Sqlite { .. } => home.execute(sqlite).await,
        Home::Postgres { .. } => home.execute(postgres).await,
    }
}

#[tokio::test]
async fn a_message_that_the_database_cannot_begin_is_tried_three_times_and_others_go_past_it() {
    for home in Home::both().await {
        made(&home).await;
        refuse(
            &home,
            "create trigger no before update on fila_mensagens when new.outcome_reason_code = 'sending' and new.conteudo = 'a bad'
             begin select raise(abort, 'no'); end",
            "create function no() returns trigger language plpgsql as $$ begin
               if new.outcome_reason_code = 'sending' and new.conteudo = 'a bad' then raise 'no'; end if; return new; end $$;
             create trigger no before update on fila_mensagens for each row execute function no()",
        )
        .await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, prioridade, created_at) values
              ('a bad', '5511955550101', 9, '2025-01-08T11:00:00Z'), ('b', '5511955550102', 5, '2025-01-08T11:00:00Z')",
        )
        .await;

        let first = run(&home, noon()).await.expect("one was sent");
        let after_first = home.texts(MESSAGES).await;
        for minutes in [5, 15] {
            run(&home, noon() + TimeDelta::minutes(minutes)).await.expect_err("the bad one fails");
        }

        assert_eq!((first.items, first.items_failed), (Some(1), 1));
        assert_eq!(after_first, ["a bad: pendente FAILED_VALIDATION not_begun 1", "b: enviada SENT sent 0"]);
        assert_eq!(home.texts(MESSAGES).await[0], "a bad: erro FAILED_VALIDATION not_begun 3");
        assert_eq!(home.texts("select motivo from fila_mensagens_dlq").await, ["not_begun"]);
    }
}

#[tokio::test]
async fn a_contact_that_cannot_be_written_does_not_undo_the_end_of_a_send() {
    for home in Home::both().await {
        made(&home).await;
        commit(crate::attempt::work("temperature_decay", json!({})).run(context(home.app())).await)
            .await
            .expect("a table");
        refuse(
            &home,
            "create trigger no before update on doctor_state begin select raise(abort, 'no'); end",
            "create function no() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
             create trigger no before update on doctor_state for each row execute function no()",
        )
        .await;
        home.execute(
            "insert into doctor_state (cliente_id) values ('01941111-0000-7000-8000-000000000007');
            insert into fila_mensagens (conteudo, telefone, cliente_id, created_at)
            values ('a', '5511955550101', '01941111-0000-7000-8000-000000000007', '2025-01-08T11:00:00Z')",
        )
        .await;

        let report = run(&home, noon()).await.expect("it was sent");

        assert_eq!(report.items, Some(1));
        assert_eq!(home.texts(MESSAGES).await, ["a: enviada SENT sent 0"]);
        let note = report.note.expect("a note");
        assert!(note.starts_with("a contact could not be written to doctor_state: no"), "{note}");
    }
}

#[tokio::test]
async fn a_message_without_any_time_is_due_and_one_whose_time_is_none_is_dead() {
    for home in Home::both().await {
        made(&home).await;
        match home {
            Home::Sqlite { .. } => {
                home.execute(
                    "create table other as select * from fila_mensagens; drop table fila_mensagens;
                    alter table other rename to fila_mensagens;
                    insert into fila_mensagens (id, conteudo, tipo, status, telefone, agendar_para, created_at, tentativas) values
                      (1, 'a', 'lembrete', 'pendente', '5511955550101', null, null, 0),
                      (2, 'b odd', 'lembrete', 'pendente', '5511955550102', 'amanhã', '2025-01-08T11:00:00Z', 0),
                      (3, 'c odd', 'lembrete', 'pendente', '5511955550103', null, 'ontem', 0)",
                )
                .await;
            }
            Home::Postgres { .. } => {
                home.execute(
                    "alter table fila_mensagens alter created_at drop not null;
                    insert into fila_mensagens (conteudo, telefone, created_at) values ('a', '5511955550101', null)",
                )
                .await;
            }
        }
        home.execute("update fila_mensagens set metadata = '{}'").await;

        let report = run(&home, noon()).await.expect("one was sent");

        assert_eq!(report.items, Some(1));
        let messages = home.texts(MESSAGES).await;
        assert_eq!(messages[0], "a: enviada SENT sent 0");
        if matches!(home, Home::Sqlite { .. }) {
            assert_eq!(report.items_failed, 2);
            let dead =
                ["b odd: erro FAILED_VALIDATION unreadable_time 1", "c odd: erro FAILED_VALIDATION unreadable_time 1"];
            assert_eq!(messages[1..], dead);
            let motives = home.texts("select motivo from fila_mensagens_dlq").await;
            assert_eq!(motives, ["unreadable_time", "unreadable_time"]);
        }
    }
}

#[tokio::test]
async fn metadata_that_is_text_and_no_json_fails_nobody() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "drop index fila_mensagens_iguais;
        alter table fila_mensagens alter metadata drop default, alter metadata type text using metadata::text;
        insert into fila_mensagens (conteudo, telefone, status, metadata, created_at) values
          ('a foreign', '5511955550101', 'enviada', '{not json', '2025-01-08T11:00:00Z'),
          ('b dead', '5511955550101', 'erro', 'nor this', '2025-01-08T11:00:00Z'),
          ('c sent', '5511955550101', 'enviada', '{\"dedupe_key\": \"k.1\"}', '2025-01-08T11:00:00Z'),
          ('d twin', '5511955550102', 'pendente', '{\"dedupe_key\":\"k.1\"}', '2025-01-08T11:00:00Z'),
          ('e other', '5511955550103', 'pendente', '{\"dedupe_key\":\"kx1\"}', '2025-01-08T11:00:00Z')",
    )
    .await;

    run(&home, noon()).await.expect("a run");
    let which = Which { reason: None, until: noon(), limit: 10, is_sure: false };
    let decision = Decision { verdict: Verdict::Retry, by: "Ana".into(), at: noon() };
    let mut tx = (home.app().begin)().await.expect("a transaction");
    let dead = DeadLetters::find(&mut tx).await.expect("an answer").expect("there is a queue");
    let decided = dead.decide_many(&mut tx, &which, &decision).await.expect("it is written");
    tx.commit().await.expect("it commits");

    assert_eq!(decided, 1);
    let messages = home.texts(MESSAGES).await;
    assert_eq!(messages[1], "b dead: pendente - retried 0");
    assert_eq!(messages[3..], ["d twin: bloqueada DEDUPED deduped 0", "e other: enviada SENT sent 0"]);
    let note = "select metadata::json -> 'reenviada' ->> 'por' from fila_mensagens where conteudo = 'b dead'";
    assert_eq!(home.texts(note).await, ["Ana"]);
}

#[tokio::test]
async fn a_state_that_an_enumeration_lacks_is_named_before_anything_is_done() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "drop table fila_mensagens;
        create type fila_status as enum ('pendente', 'processando', 'enviada', 'erro', 'cancelada');
        create table fila_mensagens (id bigserial primary key, cliente_id bigint, conversa_id bigint, conteudo text,
          tipo text, prioridade integer, status fila_status, agendar_para timestamptz, enviada_em timestamptz, metadata jsonb,
          created_at timestamptz, max_tentativas integer, tentativas integer, erro text, processando_desde timestamptz,
          outcome text, outcome_reason_code text, outcome_at timestamptz, provider_message_id text)",
    )
    .await;

    let failure = run(&home, noon()).await.expect_err("a word is missing");

    assert!(failure.message.ends_with("alter type fila_status add value 'bloqueada'"), "{}", failure.message);
}

#[tokio::test]
async fn an_answer_does_not_wait_behind_messages_that_are_held() {
    for home in Home::both().await {
        made(&home).await;
        for _ in 0..30 {
            home.execute(
                "insert into fila_mensagens (conteudo, telefone, prioridade, tipo, created_at) values
                  ('held', '5511955550101', 9, 'lembrete', '2025-01-08T01:00:00Z')",
            )
            .await;
        }
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, tipo, created_at) values
              ('answer', '5511955550102', 'resposta', '2025-01-08T02:00:00Z')",
        )
        .await;
        let night = noon() - TimeDelta::hours(9);

        let report = run_with(&home, night, json!({ "batch": 5 }), &wide_open()).await.expect("a run");

        assert_eq!((report.items, report.left), (Some(1), Some(0)));
    }
}

#[test]
fn no_index_of_a_team_s_sqlite_file_needs_a_newer_library_than_other_writers_have() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/team");
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        assert!(!text.contains("subsec") && !text.contains("unixepoch"), "{}", path.display());
    }
}
