//! `fila` on tables that a team already has: other types, other columns, other forms of time.

use chrono::TimeDelta;
use serde_json::json;

use crate::{
    attempt::{Home, instant, noon},
    fila::{MESSAGES, made, run, run_with, wide_open},
};

#[tokio::test]
async fn a_team_s_own_tables_are_adopted_as_they_are() {
    let [sqlite, postgres] = Home::both().await;
    // Numbers for ids, words of an enumeration, instants without a zone, short texts, no telefone, more columns.
    postgres
        .execute(
            "create type fila_status as enum ('pendente', 'processando', 'enviada', 'erro', 'cancelada', 'bloqueada');
            create type send_outcome as enum ('SENT', 'FAILED_PROVIDER', 'BLOCKED_OPTED_OUT');
            create table clientes (id bigserial primary key, telefone varchar(30), primeiro_nome text, crm text);
            create table fila_mensagens (id bigserial primary key, cliente_id bigint, conversa_id bigint,
              conteudo text not null, tipo varchar(20) default 'lembrete', prioridade smallint default 5,
              status fila_status not null default 'pendente', agendar_para timestamp, enviada_em timestamp, metadata json,
              created_at timestamp, max_tentativas integer, tentativas integer, erro varchar(20),
              processando_desde timestamp(0), outcome send_outcome, outcome_reason_code varchar(12), outcome_at timestamp,
              provider_message_id varchar(6), campanha_id integer);
            create table fila_mensagens_dlq (mensagem_id bigint, motivo varchar(50), erro varchar(10), created_at timestamp);
            insert into clientes (telefone) values ('+55 11 95555-0101'), (null);",
        )
        .await;
    sqlite
        .execute(
            "create table clientes (id integer primary key, telefone text, crm text);
            create table fila_mensagens (id integer primary key, cliente_id integer, conversa_id integer, conteudo text,
              tipo text, prioridade integer, status text, agendar_para text, enviada_em text, metadata text, created_at text,
              max_tentativas integer, tentativas integer, erro text, processando_desde text, outcome text,
              outcome_reason_code text, outcome_at text, provider_message_id text, campanha_id integer);
            create table fila_mensagens_dlq (mensagem_id integer, motivo text, erro text, created_at text);
            insert into clientes (telefone) values ('+55 11 95555-0101'), (null);",
        )
        .await;
    for home in [&sqlite, &postgres] {
        home.execute(
            "insert into fila_mensagens
              (conteudo, tipo, status, cliente_id, prioridade, agendar_para, created_at, tentativas, max_tentativas) values
              ('a', 'resposta', 'pendente', 1, 5, '2025-01-08 12:00:00', '2025-01-08 11:00:00', null, null),
              ('b later', 'resposta', 'pendente', 1, 5, '2025-01-08 12:00:01', '2025-01-08 11:00:00', 0, 3),
              ('c nobody', 'resposta', 'pendente', 2, 5, null, '2025-01-08 11:00:00', null, null),
              ('d old', 'resposta', 'pendente', 1, 5, '2025-01-07 11:59:59', '2025-01-07 11:00:00', 0, 3),
              ('e same number', 'lembrete', 'pendente', 1, 5, null, '2025-01-08 11:30:00', 0, 3)",
        )
        .await;
        home.execute("update fila_mensagens set metadata = '{}'").await;

        let report = run(home, noon()).await.expect("adopted");

        assert_eq!((report.items, report.items_failed), (Some(1), 1), "{report:?}");
        let messages = "select conteudo || ': ' || cast(status as text) || ' ' || cast(coalesce(tentativas, 0) as text) \
            from fila_mensagens order by conteudo";
        assert_eq!(
            home.texts(messages).await,
            [
                "a: enviada 0",
                "b later: pendente 0",
                "c nobody: pendente 1",
                "d old: cancelada 0",
                "e same number: pendente 0"
            ]
        );
        for later in [3, 8] {
            run_with(home, noon() + TimeDelta::minutes(later), json!({}), &wide_open()).await.ok();
        }
        let dead = "select cast(mensagem_id as text) || ' ' || motivo from fila_mensagens_dlq";
        assert_eq!(home.texts(dead).await, ["3 no_number"]);
    }
    // Labels that the enumeration lacks; words that are too long.
    let ends = "select conteudo || ' ' || cast(outcome as text) || ' ' || outcome_reason_code from fila_mensagens \
        where outcome is not null and conteudo <> 'b later' order by conteudo";
    let ends = postgres.texts(ends).await;
    assert_eq!(ends[..3], ["a SENT sent", "c nobody FAILED_PROVIDER no_number", "d old FAILED_PROVIDER expired"]);
    assert_eq!(
        postgres.texts("select erro from fila_mensagens where conteudo like 'c%'").await,
        ["neither the message "]
    );
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_statement_that_adds_it() {
    for home in Home::both().await {
        made(&home).await;
        home.execute("alter table fila_mensagens drop column erro").await;
        home.execute("alter table fila_mensagens drop column provider_message_id").await;

        let failure = run(&home, noon()).await.expect_err("columns are missing");

        let begin = "table fila_mensagens lacks erro, provider_message_id; add with: ";
        let statements =
            failure.message.strip_prefix(begin).unwrap_or_else(|| panic!("{}", failure.message)).to_owned();
        home.execute(Box::leak(statements.into_boxed_str())).await;
        run(&home, noon()).await.expect("the statements that were given repair it");
    }
}

#[tokio::test]
async fn times_of_all_forms_are_read_on_sqlite() {
    let home = Home::sqlite().await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, telefone, agendar_para, created_at) values
          ('a', '5511955550101', '2025-01-08 11:59:59', '2025-01-08 11:00:00'),
          ('b', '5511955550102', '2025-01-08T08:59:59-03:00', '2025-01-08T11:00:00.123456Z'),
          ('c', '5511955550103', '2025-01-08 12:00:01', '2025-01-08'),
          ('d', '5511955550104', '2025-01-08T12:00:01.000Z', '2025-01-08 11:00:00')",
    )
    .await;

    run(&home, noon()).await.expect("a run");

    assert_eq!(
        home.texts(MESSAGES).await,
        ["a: enviada SENT sent 0", "b: enviada SENT sent 0", "c: pendente - - 0", "d: pendente - - 0"]
    );
    assert_eq!(instant("2025-01-08T12:00:00Z"), noon());
}

#[tokio::test]
async fn dead_letters_that_cannot_hold_the_ids_are_told_before_one_dies() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute("alter table fila_mensagens_dlq alter column mensagem_id type bigint using 0").await;

    let failure = run(&home, noon()).await.expect_err("no id of a message fits");

    let mend = "alter table fila_mensagens_dlq alter column mensagem_id type text";
    let expected = format!(
        "fila_mensagens_dlq.mensagem_id is bigint and cannot hold fila_mensagens.id, which is uuid; mend with: {mend}"
    );
    assert_eq!(failure.message, expected);
    home.execute(mend).await;
    run(&home, noon()).await.expect("the statement that was given repairs it");
}

#[tokio::test]
async fn a_queue_that_is_made_beside_a_team_s_own_clients_takes_their_ids() {
    let home = Home::postgres().await;
    home.execute(
        "create table clientes (id bigserial primary key, telefone text);
        insert into clientes (telefone) values ('+55 11 95555-0101')",
    )
    .await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, tipo, cliente_id, created_at) values
          ('a', 'resposta', '1', '2025-01-08 11:00:00Z'), ('b nobody', 'resposta', 'nobody', '2025-01-08 11:00:00Z')",
    )
    .await;

    let report = run(&home, noon()).await.expect("a run");

    assert_eq!((report.items, report.items_failed), (Some(1), 1), "{report:?}");
    let messages = "select conteudo || ' ' || status from fila_mensagens order by conteudo";
    assert_eq!(home.texts(messages).await, ["a enviada", "b nobody pendente"]);
}
