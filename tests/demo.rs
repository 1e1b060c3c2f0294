//! `workers demo` as a newcomer meets it: it fills what is empty, refuses what is not, and the daemon finds work.

mod support;

use std::process::Output;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use support::{daemon::Setup, postgres::Database};

const SHIPPED: &str = include_str!("../jobs.toml");
const JOBS: [&str; 9] = [
    "fila_worker",
    "grupos_worker",
    "handoff_processor",
    "pilot_mode",
    "retomada_fora_horario",
    "temperature_decay",
    "sync_briefing",
    "daily_report",
    "shift_confirmation",
];
/// What the banner of a daemon says that has nothing to show.
const OFFER: &str = "`workers demo`";

/// The two databases, each empty, and the second held so long.
async fn both() -> [(Setup, Option<Database>); 2] {
    let database = Database::new().await;
    let on_postgres = Setup::new(SHIPPED).database(&database.url);
    [(Setup::new(SHIPPED), None), (on_postgres, Some(database))]
}

/// The first column of all rows, as text, and empty for a null.
async fn column(setup: &Setup, database: Option<&Database>, query: &str) -> Vec<String> {
    let query = AssertSqlSafe(format!("with found(it) as ({query}) select coalesce(cast(it as text), '') from found"));
    match database {
        Some(database) => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
        }
        None => {
            let mut connection = sqlite(setup).await;
            sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
        }
    }
}

async fn sqlite(setup: &Setup) -> SqliteConnection {
    let url = format!("sqlite://{}?mode=rwc", setup.path("workers.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn execute(setup: &Setup, database: Option<&Database>, statements: &'static str) {
    match database {
        Some(database) => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        }
        None => {
            let mut connection = sqlite(setup).await;
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        }
    }
}

#[track_caller]
fn assert_ended(output: &Output, code: i32, words: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    assert!(stderr.contains(words), "{words:?} is missing in:\n{stderr}");
}

fn filled(setup: &Setup) -> Value {
    let output = setup.run(&["demo", "-o", "json"]);
    assert_ended(&output, 0, "");
    serde_json::from_slice(&output.stdout).expect("one JSON value")
}

#[tokio::test]
async fn a_demonstration_fills_an_empty_database_with_the_rows_it_tells() {
    for (setup, database) in &both().await {
        let told = filled(setup);

        let tables = told["tables"].as_object().expect("tables by name");
        let mut rows = 0;
        for (table, count) in tables {
            let found = column(setup, database.as_ref(), &format!("select count(*) from {table}")).await;
            assert_eq!(found, [count.to_string()], "{table}");
            rows += count.as_u64().expect("a count");
        }
        assert_eq!(told["rows"], rows);
        assert!((300..1_000).contains(&rows), "a few hundred: {rows}");
        for table in [
            "clientes",
            "doctor_state",
            "fila_mensagens",
            "fila_mensagens_dlq",
            "mensagens_fora_horario",
            "vagas",
            "external_handoffs",
            "business_events",
        ] {
            assert!(tables.contains_key(table), "{table} is missing in {told}");
        }
    }
}

#[tokio::test]
async fn the_same_people_and_texts_come_on_both_databases_and_nobody_has_their_numbers() {
    let mut texts = Vec::new();
    for (setup, database) in &both().await {
        filled(setup);

        let numbers = "select telefone from clientes union select divulgador_telefone from external_handoffs";
        let numbers = column(setup, database.as_ref(), numbers).await;
        // No area code of Brazil (+55) begins with 0: a call to such a number leads nowhere.
        assert!(numbers.iter().all(|number| number.starts_with("5500") && number.len() == 13), "{numbers:?}");
        let of_this = column(setup, database.as_ref(), "select conteudo from fila_mensagens order by conteudo").await;
        assert!(of_this.iter().all(|text| text.starts_with("[demonstração] ")), "{of_this:?}");
        texts.push(of_this.into_iter().collect::<std::collections::BTreeSet<_>>());
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn a_second_demonstration_is_refused_and_changes_nothing() {
    for (setup, database) in &both().await {
        filled(setup);
        let count = "select count(*) from fila_mensagens";
        let before = column(setup, database.as_ref(), count).await;

        assert_ended(&setup.run(&["demo"]), 8, "table clientes has rows");

        assert_eq!(column(setup, database.as_ref(), count).await, before);
    }
}

#[tokio::test]
async fn one_row_in_any_table_of_the_team_is_enough_to_refuse_and_nothing_stays_behind() {
    for (setup, database) in &both().await {
        // A table that the demonstration does not fill, and not as we would create it.
        execute(
            setup,
            database.as_ref(),
            "create table diretrizes (tipo text, conteudo text); \
            insert into diretrizes values ('tom', 'cordial')",
        )
        .await;

        assert_ended(&setup.run(&["demo"]), 8, "table diretrizes has rows");

        let catalog = match database {
            Some(_) => "select count(*) from pg_class where relname = 'clientes'",
            None => "select count(*) from sqlite_master where name = 'clientes'",
        };
        assert_eq!(column(setup, database.as_ref(), catalog).await, ["0"]);
    }
}

/// The last tables that are filled are the handoffs and their events: the failure comes after hundreds of rows.
#[tokio::test]
async fn a_demonstration_that_fails_in_the_middle_leaves_nothing() {
    for (setup, database) in &both().await {
        execute(setup, database.as_ref(), "create table business_events (dedupe_key text unique, turma text not null)")
            .await;

        assert_ended(&setup.run(&["demo"]), 1, "table business_events");

        execute(setup, database.as_ref(), "drop table business_events").await;
        filled(setup);
    }
}

#[tokio::test]
async fn a_teams_own_empty_tables_are_filled_as_they_are() {
    let (setup, database) = both().await.into_iter().next_back().unwrap();
    execute(
        &setup,
        database.as_ref(),
        "create type estado_fila as enum ('pendente', 'processando', 'enviada', 'erro', 'cancelada', 'bloqueada');
         create table clientes (id bigserial primary key, telefone varchar(20) not null, cidade text);
         create table fila_mensagens (
           id bigserial primary key, cliente_id bigint references clientes, conversa_id bigint, conteudo text,
           tipo varchar(20), prioridade smallint default 5, status estado_fila not null default 'pendente',
           agendar_para timestamp, enviada_em timestamp, metadata json, created_at timestamp default now(),
           max_tentativas smallint default 3, tentativas smallint default 0, erro text, processando_desde timestamp,
           outcome text, outcome_reason_code text, outcome_at timestamp, provider_message_id text);
         create table fila_mensagens_dlq (mensagem_id bigint unique, motivo text, created_at timestamp);
         create table mensagens_fora_horario (
           id bigserial primary key, cliente_id bigint, conversa_id bigint, mensagem text, recebida_em timestamptz,
           processada boolean default false, processada_em timestamptz, processada_resultado text);
         create table vagas (
           id serial primary key, data date, hora_inicio time, hora_fim time, status text, pendente_confirmacao_em timestamptz);
         create table external_handoffs (
           id serial primary key, vaga_id integer references vagas, cliente_id bigint references clientes,
           divulgador_nome text, divulgador_telefone text, status text, reserved_until timestamptz,
           last_followup_at timestamptz, followup_count integer, expired_at timestamptz, created_at timestamptz);
         create table business_events (dedupe_key text unique, cliente_id bigint)",
    )
    .await;

    filled(&setup);

    let joined = "select count(*) from fila_mensagens f join clientes c on c.id = f.cliente_id \
        where f.status = 'pendente' and c.telefone like '5500%'";
    let found = column(&setup, database.as_ref(), joined).await;
    assert!(found[0].parse::<u32>().is_ok_and(|waiting| 100 < waiting), "{found:?}");
}

#[tokio::test]
async fn production_is_refused_and_so_are_tables_that_may_not_be_created() {
    for (setup, _database) in both().await {
        let setup = setup.env("APP_ENV", "production");
        assert_ended(&setup.run(&["demo"]), 8, "APP_ENV is production");

        let setup = setup.env("APP_ENV", "staging");
        setup.write_jobs(&SHIPPED.replacen("version = 1", "version = 1\n[database]\ncreate_team_tables = false", 1));
        assert_ended(&setup.run(&["demo"]), 1, "table clientes is missing");
    }
}

#[tokio::test]
async fn two_demonstrations_at_once_make_one() {
    for (setup, database) in &both().await {
        let commands: Vec<_> = (0..2).map(|_| setup.command(&["demo"])).collect();
        let children: Vec<_> = commands.into_iter().map(|mut command| command.spawn().unwrap()).collect();
        let mut codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
        codes.sort_unstable();

        assert_eq!(codes, [0, 8]);
        let clients = column(setup, database.as_ref(), "select count(*) from clientes").await;
        assert_eq!(clients, ["60"]);
    }
}

/// Without a gateway, an endpoint, an address or a token; before the demonstration and after it.
#[tokio::test]
async fn every_shipped_job_runs_with_nothing_configured() {
    for (setup, _database) in both().await {
        let daemon = setup.start();
        for round in ["empty", "filled"] {
            if round == "filled" {
                filled(&daemon.setup);
            }
            for job in JOBS {
                // Through the service, which begins at once; what is written beside it is found some seconds later.
                let url = format!("http://127.0.0.1:{}", daemon.port);
                let output = daemon.setup.run(&["trigger", job, "--wait", "-o", "json", "--url", &url]);
                assert_ended(&output, 0, "");
                let run: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
                let words = run["error"].as_str().unwrap_or_default();
                let is_idle = run["reason"] == "not_configured" || words.starts_with("fora_horario");
                // The message that a crash left in the middle of its call is one that failed.
                let has_worked = run["outcome"] == "success" || (run["outcome"] == "partial" && round == "filled");
                let is_well = has_worked || (run["outcome"] == "skipped" && is_idle);
                assert!(is_well, "{job} on {round} tables: {run:#}");
            }
        }
    }
}

/// The first minute: a daemon that has nothing to do says so, and a demonstration beside it gives it work.
#[tokio::test]
async fn the_daemon_offers_the_demonstration_and_sends_its_messages() {
    for (setup, database) in both().await {
        let mut daemon = setup.env("QUEUE_POLL_INTERVAL", "1").start();
        daemon.wait_for("the offer", |daemon| daemon.stderr().contains(OFFER));

        filled(&daemon.setup);

        daemon.wait_for("messages that went out", |daemon| {
            daemon.get("/health/fila").json()["metrics"]["enviadas_ultima_hora"].as_u64().is_some_and(|sent| 8 < sent)
        });
        daemon.terminate();
        let mut again = daemon.start_again();
        again.terminate();
        assert_eq!(again.stderr().matches(OFFER).count(), 1, "offered once: {}", again.stderr());
        drop(database);
    }
}

#[tokio::test]
async fn production_is_offered_nothing() {
    let mut daemon = Setup::new(SHIPPED).env("APP_ENV", "production").env("WORKERS_ALLOW_EPHEMERAL", "1").start();
    daemon.wait_for("a count of the database", |daemon| daemon.stderr().contains("database at migration"));
    daemon.terminate();

    assert!(!daemon.stderr().contains(OFFER), "{}", daemon.stderr());
}
