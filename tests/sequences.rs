//! Sequences: the engine's parts on a real database, with something going wrong between two of their steps.

mod support;

use std::{sync::Arc, time::Duration};

use emponto::{
    domain::{
        health::Snapshot,
        run::{Outcome, Trigger},
        settle::{Next, Settlement},
    },
    engine::{
        attempt, lease,
        planner::Planner,
        runner::Runner,
        running::Claimed,
        settler::{self, Finished},
    },
    store::{AppConnection, Lane, NewRun, Store},
};
use serde_json::Value;
use support::world::{World, name, read_table};

/// A job with an instant each minute, and a queue.
const MINUTE_AND_MAIL: &str = "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.probe]\nevery = \"1min\"\nrun.noop = {}\n[jobs.mail]\nrun.noop = {}\n";

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

/// The end of an attempt that did well.
fn finished(claimed: Claimed) -> Finished {
    let settlement = Settlement::finish(Outcome::Success, None);
    Finished { lease: claimed.lease, settlement, run: Arc::new(claimed.run) }
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

/// The lease was lost, the run was freed and claimed again by the same process, and only then the old attempt ended.
#[tokio::test]
async fn the_end_of_a_lost_attempt_does_not_forget_the_new_one() {
    let world = World::new(MINUTE_AND_MAIL, "2026-03-02 08:00").await;
    enqueue(&world, "mail").await;
    let engine = &world.house.as_ref().unwrap().engine;
    let runner = Runner::new(Arc::clone(engine));
    let old = runner.tick(world.now()).await.unwrap().claimed.remove(0);
    world.store.free_all(world.now()).await.unwrap();
    let new = runner.tick(world.now()).await.unwrap().claimed.remove(0);
    assert_eq!(engine.running.count(Lane::Queue), 2);

    settler::write(engine, vec![finished(old)]).await;

    assert_eq!(engine.running.count(Lane::Queue), 1);
    let held = world.store.renew(engine.running.replica(), world.now(), world.now()).await.unwrap().unwrap();
    assert_eq!(held.iter().map(|held| (held.run, held.fence)).collect::<Vec<_>>(), [(new.run.id, new.lease.fence())]);
    assert!(engine.running.compare(&held).is_empty(), "the new attempt would be put back while it runs");
}

#[tokio::test]
async fn an_end_that_the_database_refuses_holds_up_no_other() {
    let world = World::new(MINUTE_AND_MAIL, "2026-03-02 08:00").await;
    enqueue(&world, "mail").await;
    enqueue(&world, "probe").await;
    let engine = &world.house.as_ref().unwrap().engine;
    let claimed = Runner::new(Arc::clone(engine)).tick(world.now()).await.unwrap().claimed;
    assert_eq!(claimed.len(), 2);
    execute(
        &world.store,
        "create trigger refuse before update on workers_runs when new.job = 'mail' and new.state = 'finished' \
        begin select raise(abort, 'not this one'); end",
    )
    .await;

    let written = settler::write(engine, claimed.into_iter().map(finished).collect());
    tokio::time::timeout(Duration::from_secs(5), written).await.expect("the settler goes on");

    assert_eq!(world.ledger().await, "mail manual running\nprobe manual success\n");
    // The refused end keeps its slot: its run may not be repeated.
    assert_eq!((engine.running.count(Lane::Queue), engine.running.count(Lane::Scheduled)), (1, 0));
}

/// More rows than one transaction takes: the jobs that it left out are planned in the next ones, at once.
#[tokio::test]
async fn a_long_backlog_of_many_jobs_is_recorded_at_once() {
    let jobs: String = (0..12)
        .map(|n| format!("[jobs.job-{n}]\nevery = \"1s\"\ncatch_up = \"all\"\ntimezone = \"UTC\"\nrun.noop = {{}}\n"))
        .collect();
    let mut world = World::new(&format!("version = 1\n{jobs}"), "2026-03-02 08:00").await;
    world.crash();
    world.run_until("2026-03-02 08:03").await;
    world.start().await;
    let mut planner = Planner::new(Arc::clone(&world.house.as_ref().unwrap().engine));
    planner.read_cursors(&world.store.job_rows().await.unwrap());

    let mut passes = 0;
    while planner.next_look().is_some_and(|look| look <= world.now()) {
        planner.tick(world.now()).await.unwrap();
        passes += 1;
    }

    let rows = world.store.job_rows().await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.planned_until == Some(world.now())).count(), 12);
    // Between two of them whatever has become due meanwhile has its turn.
    assert!(1 < passes, "{passes} passes");
}

#[tokio::test]
async fn a_run_that_ends_without_its_process_is_counted() {
    let at_most_once = MINUTE_AND_MAIL.replace("[jobs.mail]", "[jobs.mail]\ndelivery = \"at_most_once\"");
    let world = World::new(&at_most_once, "2026-03-02 08:00").await;
    enqueue(&world, "mail").await;
    enqueue(&world, "probe").await;
    let engine = &world.house.as_ref().unwrap().engine;
    assert_eq!(Runner::new(Arc::clone(engine)).tick(world.now()).await.unwrap().claimed.len(), 2);

    let freed = world.store.free_all(world.now()).await.unwrap();
    lease::note_freed(engine, &freed);

    let snapshot = Snapshot::starting(engine.running.replica(), "", world.now());
    let text = engine.metrics.render(&snapshot, world.now());
    assert!(text.contains("workers_job_runs_total{job_name=\"mail\",outcome=\"unknown\"} 1"), "{text}");
    assert!(text.contains("job_failures{job_name=\"mail\"} 1"), "{text}");
    assert!(!text.contains("workers_job_runs_total{job_name=\"probe\",outcome=\"lost\"} 1"), "it goes on: {text}");
}

#[tokio::test]
async fn a_reload_between_claim_and_start_leaves_the_run_its_old_work() {
    let table = |work: &str| format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.mail]\n{work}\n");
    let mut world = World::new(&table("run.noop = {}"), "2026-03-02 08:00").await;
    let house = world.house.as_ref().unwrap();
    enqueue(&world, "mail").await;
    let mut claims = Runner::new(Arc::clone(&house.engine)).tick(world.now()).await.unwrap();

    house.engine.work_by(read_table(&table("retry = { max_attempts = 1 }\nrun.noop = { fail = 1.0 }")));
    attempt::start(&house.engine, claims.claimed.remove(0));

    let ended = world.house.as_mut().unwrap().finished.recv().await.expect("the attempt ends");
    let success = Next::Finish { outcome: Outcome::Success, reason: None };
    assert_eq!(ended.settlement.next, success, "the new work fails");
}
