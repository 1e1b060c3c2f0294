//! The support itself: a database that other tests cannot see, and a cluster that comes back with what it acknowledged.

mod support;

use std::sync::Arc;

use sqlx::{Connection, Executor, PgConnection, Row};
use support::postgres::{Cluster, Database};

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let first = Database::new().await;
    let second = Database::new().await;

    first.connect().await.execute("create table mine (id int)").await.unwrap();

    assert!(second.connect().await.execute("select * from mine").await.is_err());
    assert!(first.connect().await.execute("select * from mine").await.is_ok());
}

#[tokio::test]
async fn a_database_on_a_given_server_is_dropped_with_its_test() {
    let server = Cluster::start();
    let mut connection = PgConnection::connect(&server.url).await.unwrap();
    let count = "select count(*) from pg_database where datname like 'test_%'";

    let database = Database::on(server.url.clone()).await;
    let during: i64 = connection.fetch_one(count).await.unwrap().get(0);
    drop(database);
    let after: i64 = connection.fetch_one(count).await.unwrap().get(0);

    assert_eq!((during, after), (1, 0));
}

#[tokio::test]
async fn a_cluster_ends_with_its_last_owner() {
    let server = Arc::new(Cluster::start());
    let (url, database) = (server.url.clone(), server.database().await);
    drop(server);
    assert!(database.connect().await.ping().await.is_ok());

    drop(database);

    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_killed_cluster_comes_back_with_what_it_acknowledged() {
    let cluster = Arc::new(Cluster::start());
    let database = cluster.database().await;
    let mut connection = database.connect().await;
    connection.execute("create table kept as select 42 as answer").await.unwrap();

    cluster.kill();
    assert!(PgConnection::connect(&database.url).await.is_err());
    cluster.start_again();

    let answer: i32 = database.connect().await.fetch_one("select answer from kept").await.unwrap().get(0);
    assert_eq!(answer, 42);
}
