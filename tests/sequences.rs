//! Sequences: the engine's parts on a real database, with something going wrong between two of their steps.

mod support;

use std::sync::Arc;

use emponto::{
    domain::run::Trigger,
    engine::runner::Runner,
    store::{AppConnection, NewRun, Store},
};
use serde_json::Value;
use support::world::{World, name};

/// A job with an instant each minute, and a queue.
const MINUTE_AND_MAIL: &str =
    "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.probe]\nevery = \"1min\"\nrun.noop = {}\n[jobs.mail]\nrun.noop = {}\n";

/// Runs statements of the test itself, on SQLite.
async fn execute(store: &Store, text: &'static str) {
    let AppConnection::Sqlite(mut writer) = store.begin_app().await.unwrap() else { panic!("this is not SQLite") };
    sqlx::raw_sql(text).execute(&mut *writer).await.unwrap();
    sqlx::raw_sql("commit").execute(&mut *writer).await.unwrap();
}

async fn enqueue(world: &World, job: &str) {
    let run = NewRun {
        job: name(job),
        trigger: Trigger::Manual,
        payload: Value::Null,
        due_at: world.now(),
        priority: None,
        key: None,
        dedupe_key: None,
        max_attempts: None,
        retry_of: None,
    };
    world.store.enqueue(&run, world.now()).await.unwrap();
}

#[tokio::test]
async fn what_was_claimed_before_a_claim_failed_is_started_all_the_same() {
    let world = World::new(MINUTE_AND_MAIL, "2026-03-02 08:00").await;
    enqueue(&world, "probe").await;
    enqueue(&world, "mail").await;
    execute(
        &world.store,
        "create trigger refuse before update on workers_runs when new.job = 'mail' and new.state = 'running' \
        begin select raise(abort, 'not this one'); end",
    )
    .await;
    let engine = &world.house.as_ref().unwrap().engine;

    let claims = Runner::new(Arc::clone(engine)).tick(world.now()).await.expect("one claim went well");

    assert_eq!(claims.claimed.iter().map(|claimed| claimed.run.job.as_str()).collect::<Vec<_>>(), ["probe"]);
}
