//! The tables: alike in both databases, kept to their promises, closed to guests.

use std::collections::BTreeSet;

use emponto::store::{Kind, Store, StoreError};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqlSafeStr, SqliteConnection};

use super::house::House;
use crate::support::{database::postgres_config, postgres::Database};

#[tokio::test]
async fn every_statement_is_understood_by_its_database() {
    let (sqlite, postgres) = (House::sqlite().await, House::postgres().await);
    let mut file = sqlite_connection(&sqlite).await;
    let mut server = postgres.ledger.database.as_ref().unwrap().connect().await;

    let mut refused = Vec::new();
    for (name, text) in sqlite.store.statements() {
        let prepared = file.prepare(AssertSqlSafe(text.clone()).into_sql_str()).await.map(drop);
        refused.extend(prepared.err().map(|error| format!("sqlite {name}: {error}")));
    }
    for (name, text) in postgres.store.statements() {
        let prepared = server.prepare(AssertSqlSafe(text.clone()).into_sql_str()).await.map(drop);
        refused.extend(prepared.err().map(|error| format!("postgres {name}: {error}")));
    }

    assert!(refused.is_empty(), "{refused:#?}");
    assert!(60 < postgres.store.statements().len());
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = (House::sqlite().await, House::postgres().await);
    let mut file = sqlite_connection(&sqlite).await;
    let mut server = postgres.ledger.database.as_ref().unwrap().connect().await;

    let in_file = "select substr(m.name, 9), c.name from sqlite_master m, pragma_table_info(m.name) c
        where m.type = 'table' and m.name like 'workers%'";
    let in_server = "select table_name::text, column_name::text from information_schema.columns c
        join information_schema.tables using (table_schema, table_name)
        where table_schema = 'workers' and table_type = 'BASE TABLE'";
    let rows = sqlx::query(in_file).fetch_all(&mut file).await.unwrap();
    let file: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rows = sqlx::query(in_server).fetch_all(&mut server).await.unwrap();
    let server: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();

    assert_eq!(file, server);
    assert!(60 < server.len());
}

#[tokio::test]
async fn indexes_have_the_same_names_and_columns() {
    let (sqlite, postgres) = (House::sqlite().await, House::postgres().await);
    let mut file = sqlite_connection(&sqlite).await;
    let mut server = postgres.ledger.database.as_ref().unwrap().connect().await;

    let in_file = "select substr(name, 9) from sqlite_master where type = 'index' and sql is not null";
    let in_server =
        "select indexname::text from pg_indexes where schemaname = 'workers' and indexname not like '%pkey'";
    let rows = sqlx::query(in_file).fetch_all(&mut file).await.unwrap();
    let file: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let rows = sqlx::query(in_server).fetch_all(&mut server).await.unwrap();
    let server: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();

    assert_eq!(file, server);
}

#[tokio::test]
async fn failures_to_retry_are_found_by_an_index_that_holds_nothing_else() {
    let (sqlite, postgres) = (House::sqlite().await, House::postgres().await);
    let mut file = sqlite_connection(&sqlite).await;
    let mut server = postgres.ledger.database.as_ref().unwrap().connect().await;
    let history = "insert into workers.runs (id, job, epoch, trigger, covers, state, outcome, due_at, priority, attempt,
            max_attempts, crashes, exclusive, at_most_once, created_at, finished_at, errors, retry_of)
        select gen_random_uuid(), 'mail', 1, 'enqueue', 0, 'finished', case when n % 100 = 0 then 'error' else 'success' end,
            now(), 0, 1, 3, 0, false, false, now(), now(), '[]', case when n % 100 = 1 then gen_random_uuid() end
        from generate_series(1, 20000) n; analyze workers.runs";
    sqlx::raw_sql(history).execute(&mut server).await.unwrap();
    for verb in ["retry::COUNT", "retry::CANDIDATES", "retry::RETRIED_BY"] {
        let of = |house: &House| house.store.statements().into_iter().find(|(name, _)| name.ends_with(verb)).unwrap().1;
        let plan = format!("explain query plan {}", of(&sqlite));
        let rows = sqlx::query(AssertSqlSafe(plan).into_sql_str()).fetch_all(&mut file).await.unwrap();
        let in_file: String = rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
        let of_one = of(&postgres).replace("retry_of = $1", &format!("retry_of = '{}'", uuid::Uuid::nil()));
        let all = of_one.replace("$1", "null").replace("$2", "null").replace("$3", "null").replace("$4", "10");
        let plan = format!("explain {all}");
        let rows = sqlx::raw_sql(AssertSqlSafe(plan).into_sql_str()).fetch_all(&mut server).await.unwrap();
        let in_server: String = rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect();

        for plan in [in_file, in_server] {
            assert!(plan.contains("runs_retryable") || plan.contains("runs_retry_of"), "{verb}: {plan}");
        }
    }
}

both! {
    async fn migrating_twice_changes_nothing(house: House) {
        let migrated = house.store.migrate().await.unwrap();
        let status = house.store.migration_status().await.unwrap();

        assert!(migrated.applied.is_empty());
        assert_eq!(status.current, status.latest);
        assert!(status.pending.is_empty());
    }

    async fn a_newer_schema_is_refused_with_both_numbers(house: House) {
        raise_migration(&house).await;

        let migrated = house.store.migrate().await;
        let status = house.store.migration_status().await;

        for error in [migrated.unwrap_err(), status.unwrap_err()] {
            assert!(matches!(&error, StoreError::NewerSchema(text) if text.contains("999") && text.contains('3')), "{error}");
        }
    }
}

async fn raise_migration(house: &House) {
    match &house.ledger.database {
        Some(database) => {
            let raise = "insert into workers.migrations values (999, 'from the future')";
            sqlx::raw_sql(raise).execute(&mut database.connect().await).await.unwrap();
        }
        None => {
            let raise = "insert into workers_migrations values (999, 'from the future')";
            sqlx::raw_sql(raise).execute(&mut sqlite_connection(house).await).await.unwrap();
        }
    }
}

#[tokio::test]
async fn replicas_may_migrate_at_the_same_time() {
    let database = Database::new().await;
    let config = postgres_config(&database.url);
    let store = Store::open(&config).await.unwrap();

    let all = futures_util::future::join_all((0..4).map(|_| store.migrate())).await;

    let applied: Vec<usize> = all.into_iter().map(|one| one.unwrap().applied.len()).collect();
    assert_eq!(applied.iter().filter(|n| **n == 0).count(), 3, "{applied:?}");
}

#[tokio::test]
async fn a_teams_own_job_executions_is_left_alone() {
    let database = Database::new().await;
    let mut own = database.connect().await;
    sqlx::raw_sql("create table public.job_executions (note text); insert into job_executions values ('ours')")
        .execute(&mut own)
        .await
        .unwrap();
    let store = Store::open(&postgres_config(&database.url)).await.unwrap();

    let migrated = store.migrate().await.unwrap();

    assert_eq!(migrated.view, "workers.job_executions");
    let note: String = sqlx::query_scalar("select note from public.job_executions").fetch_one(&mut own).await.unwrap();
    assert_eq!(note, "ours");
    sqlx::query("select id, job_name, status, items_processed from workers.job_executions")
        .execute(&mut own)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_free_name_is_taken_for_the_view() {
    let house = House::postgres().await;

    let migrated = house.store.migrate().await.unwrap();

    assert_eq!(migrated.view, "public.job_executions");
}

/// Roles are of the whole cluster, so this test makes them once and forgives the one that was there.
#[tokio::test]
async fn guests_of_an_api_see_nothing() {
    let database = Database::new().await;
    let mut owner = database.connect().await;
    for role in ["anon", "authenticated"] {
        let made = sqlx::raw_sql(AssertSqlSafe(format!("create role {role}"))).execute(&mut owner).await;
        if let Err(error) = made {
            let there = error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42710"));
            assert!(there, "{error}");
        }
        // What Supabase does for the tables of `public`.
        let grant = format!("alter default privileges grant all on tables to {role}");
        sqlx::raw_sql(AssertSqlSafe(grant)).execute(&mut owner).await.unwrap();
    }
    Store::open(&postgres_config(&database.url)).await.unwrap().migrate().await.unwrap();

    for role in ["anon", "authenticated"] {
        sqlx::raw_sql(AssertSqlSafe(format!("set role {role}"))).execute(&mut owner).await.unwrap();
        for table in ["public.job_executions", "workers.runs", "workers.jobs"] {
            let read = sqlx::raw_sql(AssertSqlSafe(format!("select * from {table}"))).execute(&mut owner).await;
            let error = read.expect_err(table);
            assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{role} {table}");
        }
        sqlx::raw_sql("reset role").execute(&mut owner).await.unwrap();
    }
    let unguarded = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'workers' and c.relkind = 'r' and c.relname <> 'migrations' and not c.relrowsecurity";
    let unguarded: i64 = sqlx::query_scalar(unguarded).fetch_one(&mut owner).await.unwrap();
    assert_eq!(unguarded, 0);
}

#[tokio::test]
async fn the_printed_migrations_make_the_same_tables() {
    let database = Database::new().await;
    let mut connection: PgConnection = database.connect().await;

    let sql = Store::migration_sql(Kind::Postgres, "workers");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();

    let store = Store::open(&postgres_config(&database.url)).await.unwrap();
    assert!(store.migrate().await.unwrap().applied.is_empty());
    let mut memory = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let sql = Store::migration_sql(Kind::Sqlite, "workers");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut memory).await.unwrap();
}

async fn sqlite_connection(house: &House) -> SqliteConnection {
    let url = format!("sqlite://{}", house.store.describe().database);
    SqliteConnection::connect(&url).await.unwrap()
}
