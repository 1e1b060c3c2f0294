//! Tables of the team, as handlers find them: one SQL on the types that a team chose.

use chrono::{DateTime, Utc};
use emponto::handlers::{
    AppTx,
    team::{self, Adopted, Param, TeamTable, tables},
};

use crate::attempt::{Home, instant};

const ALL: [&TeamTable; 12] = [
    &tables::CLIENTES,
    &tables::FILA_MENSAGENS,
    &tables::FILA_MENSAGENS_DLQ,
    &tables::OUTBOUND_LIMITS,
    &tables::EXTERNAL_HANDOFFS,
    &tables::VAGAS,
    &tables::BUSINESS_EVENTS,
    &tables::MENSAGENS_FORA_HORARIO,
    &tables::BRIEFING_SYNC_LOG,
    &tables::DIRETRIZES,
    &tables::DOCTOR_STATE,
    &tables::CLIENTES,
];

async fn begun(home: &Home) -> AppTx {
    (home.app().begin)().await.expect("the test's database answers")
}

/// The two tables of the tests below, and a transaction on them.
async fn opened(home: &Home) -> (AppTx, Adopted) {
    let mut tx = begun(home).await;
    let adopted =
        team::adopt(&mut tx, &[&tables::VAGAS, &tables::BUSINESS_EVENTS], false).await.expect("they are there");
    (tx, adopted)
}

#[tokio::test]
async fn every_table_is_made_on_an_empty_database_and_found_the_next_time() {
    for home in Home::both().await {
        for may_create in [true, false] {
            let mut tx = begun(&home).await;

            let adopted = team::adopt(&mut tx, &ALL, may_create).await.unwrap_or_else(|failure| panic!("{failure:?}"));

            for column in ALL.iter().flat_map(|table| table.columns.iter().map(|column| (table.name, column.name))) {
                assert!(adopted.has(column.0, column.1), "{column:?} is made with its table");
            }
            tx.commit().await.expect("it commits");
        }
    }
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_statement_that_adds_it_and_that_statement_works() {
    for home in Home::both().await {
        home.execute("create table diretrizes (tipo text)").await;
        let mut tx = begun(&home).await;
        let failure = team::adopt(&mut tx, &[&tables::DIRETRIZES], true).await.expect_err("a column is missing");
        drop(tx);

        let (told, addition) = failure.message.split_once("; add with: ").expect("a statement");
        assert_eq!(told, "table diretrizes lacks conteudo");
        home.execute(Box::leak(addition.to_owned().into_boxed_str())).await;
        let mut tx = begun(&home).await;
        team::adopt(&mut tx, &[&tables::DIRETRIZES], false).await.expect("nothing is missing now");
    }
}

/// Of a team that has its own: keys, enumerations and times of other types, and more columns than we know.
const OWN_POSTGRES: &str = "\
    create type estado_vaga as enum ('aberta', 'reservada', 'pendente_confirmacao');
    create table vagas (id bigserial primary key, data date, hora_fim time, status estado_vaga, cliente_id uuid,
      pendente_confirmacao_em timestamp, hora_inicio time, hospital text not null default 'x', mais jsonb);
    create table business_events (dedupe_key varchar(80) unique, vaga_id bigint)";
const OWN_SQLITE: &str = "\
    create table vagas (id integer primary key, data text, hora_fim text, status text, cliente_id text,
      pendente_confirmacao_em text, hora_inicio text, hospital text not null default 'x', mais text);
    create table business_events (dedupe_key text unique, vaga_id integer)";

async fn own() -> [Home; 2] {
    let homes = Home::both().await;
    homes[0].execute(OWN_SQLITE).await;
    homes[1].execute(OWN_POSTGRES).await;
    homes
}

#[tokio::test]
async fn one_statement_serves_the_types_of_both_databases() {
    for home in own().await {
        let (mut tx, adopted) = opened(&home).await;
        let insert = "insert into vagas (data, status, pendente_confirmacao_em)
                      values (@type(vagas.data, $1), @type(vagas.status, $2), $3)
                      returning cast(id as text) as id";
        let moment: DateTime<Utc> = instant("2026-03-02T08:30:00.250Z");
        let params: [Param; 3] = ["2026-03-02".into(), "reservada".into(), moment.into()];
        let rows = adopted.rows(&mut tx, insert, &params).await.expect("it is inserted");
        let id = rows[0].text("id").expect("an id");

        let due = "select count(*) from vagas
                   where id = @type(vagas.id, $1) and @instant(pendente_confirmacao_em) <= @instant($2)";
        for (at, count) in [(moment, 1), (moment - chrono::TimeDelta::milliseconds(1), 0)] {
            let found = adopted.count(&mut tx, due, &[id.as_str().into(), at.into()]).await.expect("a count");
            assert_eq!(found, count, "{at}");
        }
        let read = "select id, status, data, @instant(pendente_confirmacao_em) as em, cliente_id from vagas @locked";
        let row = &adopted.rows(&mut tx, read, &[]).await.expect("a row")[0];
        assert_eq!(row.text("id"), Some(id.clone()));
        assert_eq!(row.whole("id"), id.parse().ok());
        assert_eq!(
            (row.text("status").as_deref(), row.text("data").as_deref()),
            (Some("reservada"), Some("2026-03-02"))
        );
        assert_eq!((row.instant("em"), row.text("cliente_id")), (Some(moment), None));
        let event = "insert into business_events (dedupe_key, vaga_id)
                     values ($1, @type(business_events.vaga_id, $2)) on conflict (dedupe_key) do nothing";
        for changed in [1, 0] {
            let params = ["once".into(), id.as_str().into()];
            assert_eq!(adopted.change(&mut tx, event, &params).await.expect("it runs"), changed, "at most once");
        }
    }
}

#[tokio::test]
async fn labels_and_optional_columns_are_known() {
    for (home, labels) in own().await.into_iter().zip([vec![], vec!["aberta", "reservada", "pendente_confirmacao"]]) {
        let (_tx, adopted) = opened(&home).await;

        assert_eq!(adopted.column("vagas", "status").expect("a column").labels, labels);
        assert!(!adopted.has("vagas", "titulo"), "the team has no such column, and we do without");
    }
}

#[tokio::test]
async fn text_of_any_form_is_an_instant_on_sqlite_and_no_other_text_is() {
    let home = Home::sqlite().await;
    home.execute(OWN_SQLITE).await;
    let (mut tx, adopted) = opened(&home).await;
    for (text, ms) in [
        ("2026-03-02T08:30:00.250Z", Some(1_772_440_200_250)),
        ("2026-03-02 08:30:00", Some(1_772_440_200_000)),
        ("2026-03-02T05:30:00-03:00", Some(1_772_440_200_000)),
        ("2026-03-02", Some(1_772_409_600_000)),
        ("soon", None),
    ] {
        let rows = adopted.rows(&mut tx, "select @instant($1) as em", &[text.into()]).await.expect("a row");
        assert_eq!(rows[0].instant("em").map(|it| it.timestamp_millis()), ms, "{text}");
    }
}

#[tokio::test]
async fn a_table_that_is_only_looked_at_is_never_made() {
    for home in Home::both().await {
        for _ in 0..2 {
            let mut tx = begun(&home).await;
            assert!(team::look_at(&mut tx, &tables::VAGAS).await.expect("it is looked for").is_none());
            tx.commit().await.expect("it commits");
        }
    }
}

#[tokio::test]
async fn nulls_have_the_type_of_their_parameter() {
    for home in own().await {
        let (mut tx, adopted) = opened(&home).await;
        let insert =
            "insert into vagas (status, pendente_confirmacao_em, mais) values (@type(vagas.status, $1), $2, $3)";
        let params = [Param::Text(None), Param::Instant(None), serde_json::json!({ "a": [1, "ação"] }).into()];
        adopted.change(&mut tx, insert, &params).await.expect("nulls and JSON are stored");

        let rows = adopted.rows(&mut tx, "select status, mais from vagas", &[]).await.expect("a row");
        let json: serde_json::Value = rows[0].text("mais").expect("JSON").parse().expect("JSON");
        assert_eq!((rows[0].text("status"), &json["a"][1]), (None, &"ação".into()));
    }
}

#[tokio::test]
async fn a_table_that_we_made_shows_another_role_its_rows_once_it_has_the_documented_policy() {
    let documented = include_str!("../../docs/handlers.md");
    let statements =
        ["grant select on vagas to leitura;", "create policy leitura on vagas for select to leitura using (true);"];
    assert!(statements.iter().all(|statement| documented.contains(statement)), "docs/handlers.md has the statements");
    let home = Home::postgres().await;
    let mut tx = begun(&home).await;
    team::adopt(&mut tx, &[&tables::VAGAS], true).await.expect("it is created");
    let AppTx::Postgres(tx) = &mut tx else { unreachable!("it is PostgreSQL") };
    // Roles are the server's, not the database's: this one goes with the transaction.
    sqlx::raw_sql("create role leitura; insert into vagas (titulo) values ('a'); grant select on vagas to leitura")
        .execute(&mut **tx)
        .await
        .expect("a second role");
    let seen = "set local role leitura; select count(*) from vagas";
    let mut counts = Vec::new();
    for statement in ["", statements[1]] {
        sqlx::raw_sql(statement).execute(&mut **tx).await.expect("a policy");
        let rows = sqlx::raw_sql(seen).fetch_all(&mut **tx).await.expect("a look");
        counts.push(sqlx::Row::get::<i64, _>(&rows[0], 0));
        sqlx::raw_sql("reset role").execute(&mut **tx).await.expect("the owner again");
    }

    assert_eq!(counts, [0, 1]);
}
