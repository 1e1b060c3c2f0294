//! Handlers' transactions: effect and settlement commit together, or neither does.

use std::time::Duration;

use emponto::{
    domain::{
        run::{Lease, Outcome, Run, State},
        settle::Settlement,
    },
    store::{AppConnection, Settled, StoreError},
};
use serde_json::json;

use super::house::{House, MINUTE, at, finish, name, new_run};

async fn claimed(house: &mut House) -> (Lease, Run) {
    house.deploy(MINUTE, 0).await;
    run(house, "create table effects (id text)").await;
    house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
    house.claim_one(1).await
}

/// Runs a statement of the team's in a transaction of its own.
async fn run(house: &House, sql: &'static str) {
    let mut connection = house.store.begin_app().await.unwrap();
    execute(&mut connection, sql).await.unwrap();
    match connection {
        AppConnection::Postgres(tx) => tx.commit().await.unwrap(),
        AppConnection::Sqlite(mut guard) => drop(sqlx::raw_sql("commit").execute(&mut *guard).await.unwrap()),
    }
}

async fn execute(connection: &mut AppConnection, sql: &'static str) -> sqlx::Result<()> {
    match connection {
        AppConnection::Postgres(tx) => sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop),
        AppConnection::Sqlite(guard) => sqlx::raw_sql(sql).execute(&mut **guard).await.map(drop),
    }
}

async fn effects(house: &House) -> i64 {
    match house.store.begin_app().await.unwrap() {
        AppConnection::Postgres(mut tx) => {
            sqlx::query_scalar("select count(*) from effects").fetch_one(&mut *tx).await.unwrap()
        }
        AppConnection::Sqlite(mut guard) => {
            sqlx::query_scalar("select count(*) from effects").fetch_one(&mut *guard).await.unwrap()
        }
    }
}

/// A chore that is given up leaves its transaction in the middle: nobody may find it open on his connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_open_transaction_behind() {
    let mut house = House::postgres().await;
    house.deploy(MINUTE, 0).await;
    let mail = name("mail");
    let mut holder = house.store.begin_app().await.unwrap();
    execute(&mut holder, "select 1 from workers.jobs for update").await.unwrap();
    for _ in 0..8 {
        let pause = house.store.pause(&mail, "by hand", None, at(1));
        tokio::time::timeout(Duration::from_millis(100), pause).await.expect_err("the row is locked");
    }
    drop(holder);

    for _ in 0..8 {
        house.store.job_rows().await.expect("every connection is usable");
    }
    let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == mail).unwrap();
    assert_eq!(row.paused_at, None);
}

/// On SQLite a handler's transaction holds the only writer: the engine waits for one of them, not for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handlers_that_wait_for_the_writer_do_not_keep_the_engine_from_it() {
    let mut house = House::sqlite().await;
    house.deploy(MINUTE, 0).await;
    for _ in 0..8 {
        let store = house.store.clone();
        tokio::spawn(async move {
            let held = store.begin_app().await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(held);
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;

    let run = new_run("mail", 0);
    let written = tokio::time::timeout(Duration::from_secs(2), house.store.enqueue(&run, at(0))).await;

    written.expect("it waits for one handler").unwrap();
}

both! {
    async fn effect_and_settlement_commit_together(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        let mut tx = house.store.begin_app().await.unwrap();
        execute(&mut tx, "insert into effects values ('one')").await.unwrap();

        let settled = house.store.settle_within(tx, &lease, &finish(Outcome::Success), at(2)).await.unwrap();

        assert_eq!((settled, effects(&house).await), (Settled::Applied, 1));
        assert_eq!(house.state(&run).await, State::Finished);
    }

    async fn a_lost_lease_rolls_the_effect_back(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        house.store.give_back(&[(run.id, lease.fence())]).await.unwrap();
        let mut tx = house.store.begin_app().await.unwrap();
        execute(&mut tx, "insert into effects values ('one')").await.unwrap();

        let settled = house.store.settle_within(tx, &lease, &finish(Outcome::Success), at(3)).await.unwrap();

        assert_eq!((settled, effects(&house).await), (Settled::Late, 0));
        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((run.state, run.errors.as_array().unwrap().len()), (State::Due, 1));
    }

    async fn a_dropped_transaction_is_rolled_back_and_blocks_nobody(house: House) {
        let mut house = house;
        let (lease, _) = claimed(&mut house).await;
        let mut tx = house.store.begin_app().await.unwrap();
        execute(&mut tx, "insert into effects values ('one')").await.unwrap();

        drop(tx);

        assert_eq!(effects(&house).await, 0);
        assert_eq!(house.settle(lease, finish(Outcome::Success), 3).await, Settled::Applied);
    }

    async fn a_result_that_cannot_be_stored_takes_the_effect_with_it(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        let mut tx = house.store.begin_app().await.unwrap();
        execute(&mut tx, "insert into effects values ('one')").await.unwrap();
        let nul = Settlement { result: Some(json!("a\0b")), ..finish(Outcome::Success) };

        let settled = house.store.settle_within(tx, &lease, &nul, at(3)).await.unwrap();

        assert!(matches!(settled, Settled::NotStorable(_)));
        assert_eq!(effects(&house).await, 0);
        assert_eq!(house.store.run(run.id).await.unwrap().unwrap().outcome, Some(Outcome::Error));
    }

    async fn the_lease_survives_a_transaction_that_the_handler_broke(house: House) {
        let mut house = house;
        let (lease, _) = claimed(&mut house).await;
        let mut tx = house.store.begin_app().await.unwrap();
        // PostgreSQL refuses everything after an error; on SQLite the handler has ended the transaction itself.
        let _ = execute(&mut tx, "insert into nowhere values (1)").await;
        if matches!(tx, AppConnection::Sqlite(_)) {
            execute(&mut tx, "rollback").await.unwrap();
        }

        let broken = house.store.settle_within(tx, &lease, &finish(Outcome::Success), at(3)).await;

        assert!(!matches!(broken, Ok(Settled::Undone)));
        let settled = house.settle(lease, finish(Outcome::Error), 4).await;
        assert_eq!(settled, Settled::Applied);
    }

    async fn a_commit_that_is_refused_is_no_doubt(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        self::run(&house, "create table owners (id int primary key)").await;
        self::run(&house, "create table things (owner int references owners deferrable initially deferred)").await;
        let mut tx = house.store.begin_app().await.unwrap();
        execute(&mut tx, "insert into things values (7)").await.unwrap();

        let refused = house.store.settle_within(tx, &lease, &finish(Outcome::Success), at(3)).await;

        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert_eq!(house.state(&run).await, State::Running);
        assert_eq!(house.settle(lease, finish(Outcome::Error), 4).await, Settled::Applied);
    }
}
