//! Opening: what cannot work is said at once, with the next step; what may work later is tried again.

use emponto::store::{AppConnection, DatabaseConfig, Kind, Store, StoreError};

use super::house::House;
use crate::support::{
    database::postgres_config,
    free_port,
    postgres::{Cluster, Database},
};

async fn refusal(config: &DatabaseConfig) -> StoreError {
    match Store::open(config).await {
        Ok(_) => panic!("{} opened", config.url),
        Err(error) => error,
    }
}

both! {
    async fn the_place_is_described_without_its_password(house: House) {
        let described = house.store.describe();

        assert_eq!(described.kind, house.store.kind());
        assert!(!described.pooled);
        assert!(!described.database.is_empty());
    }

    async fn the_database_has_a_clock_only_where_it_is_a_server(house: House) {
        let time = house.store.database_time().await.unwrap();

        assert_eq!(time.is_some(), house.store.kind() == Kind::Postgres);
        assert!(time.is_none_or(|time| time.timestamp_subsec_micros() % 1_000 == 0));
    }
}

#[tokio::test]
async fn urls_that_cannot_work_are_settings_not_outages() {
    let mut config = DatabaseConfig::sqlite_for_tests("unused.db");
    for url in ["mysql://db/app", "sqlite::memory:", "sqlite://x.db?cache=shared", "postgres://db:99999/app", "nothing"]
    {
        config.url = url.into();
        assert!(matches!(refusal(&config).await, StoreError::Config(_)), "{url}");
    }
    config = DatabaseConfig::sqlite_for_tests("unused.db");
    config.schema = "work; drop".into();
    assert!(matches!(refusal(&config).await, StoreError::Config(_)));
}

#[tokio::test]
async fn a_server_that_does_not_answer_may_answer_later() {
    let config = postgres_config(&format!("postgres://postgres@127.0.0.1:{}/app", free_port()));

    assert!(matches!(refusal(&config).await, StoreError::Unreachable(_)));
}

#[tokio::test]
async fn a_missing_database_is_a_setting() {
    let database = Database::new().await;
    let url = format!("{}_not_there", database.url);

    assert!(matches!(refusal(&postgres_config(&url)).await, StoreError::Config(_)));
}

#[tokio::test]
async fn a_relative_file_lies_in_the_data_folder_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig {
        url: "sqlite://deep/workers.db".into(),
        data_dir: folder.path().into(),
        ..DatabaseConfig::sqlite_for_tests("")
    };

    Store::open(&config).await.unwrap().migrate().await.unwrap();

    assert!(folder.path().join("deep/workers.db").exists());
    let again = Store::open(&config).await.unwrap();
    assert!(again.migrate().await.unwrap().applied.is_empty());
}

#[tokio::test]
async fn a_second_daemon_on_one_file_is_refused_with_its_name() {
    let house = House::sqlite().await;
    let lock = house.store.lock_daemon().unwrap();
    let other = house.ledger.again().await;

    let refused = other.lock_daemon();

    assert!(matches!(&refused, Err(StoreError::Locked(text)) if text.contains("workers.db")), "{refused:?}");
    drop(lock);
    assert!(other.lock_daemon().is_ok());
}

#[tokio::test]
async fn a_restarted_server_costs_no_verb_its_answer() {
    let cluster = std::sync::Arc::new(Cluster::start());
    let database = cluster.database().await;
    let store = Store::open(&postgres_config(&database.url)).await.unwrap();
    store.migrate().await.unwrap();
    let warm = futures_util::future::join_all((0..4).map(|_| store.job_rows())).await;
    assert!(warm.iter().all(Result::is_ok));

    cluster.stop();
    let away = store.job_rows().await;
    cluster.start_again();
    let back = futures_util::future::join_all((0..4).map(|_| store.job_rows())).await;

    assert!(matches!(away, Err(StoreError::Unreachable(_))), "{away:?}");
    assert!(back.iter().all(Result::is_ok), "{back:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let config = DatabaseConfig::sqlite_for_tests(folder.path().join("file/workers.db"));

    let error = refusal(&config).await;

    let text = error.to_string();
    assert!(matches!(error, StoreError::Config(_)));
    assert!(text.contains("file/workers.db") && text.contains("WORKERS_DATA_DIR"), "{text}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workers.db");
    std::fs::write(&path, "not a database, but long enough to be read as one ".repeat(40)).unwrap();

    let error = refusal(&DatabaseConfig::sqlite_for_tests(&path)).await;

    assert!(matches!(&error, StoreError::Config(text) if text.contains("workers.db")), "{error}");
}

#[tokio::test]
async fn behind_a_transaction_pooler_nothing_is_prepared_by_name() {
    let database = Database::new().await;
    let config = postgres_config(&format!("{}?pooler=transaction", database.url));
    let store = Store::open(&config).await.unwrap();
    store.migrate().await.unwrap();

    for _ in 0..3 {
        store.job_rows().await.unwrap();
        store.promote(super::house::at(0)).await.unwrap();
    }

    assert!(store.describe().pooled);
    let AppConnection::Postgres(mut tx) = store.begin_app().await.unwrap() else { panic!("a PostgreSQL transaction") };
    let prepared: i64 = sqlx::query_scalar("select count(*) from pg_prepared_statements")
        .persistent(false)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(prepared, 0);
}
