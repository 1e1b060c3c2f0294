//! Claims: each run in one process, in order, within every limit.

use std::{collections::HashSet, sync::Arc};

use emponto::{
    domain::run::{Outcome, ReplicaId, State},
    store::{ClaimRequest, NewRun},
};
use uuid::Uuid;

use super::house::{House, MINUTE, again, at, fence, finish, name, new_run};

fn queue_of(n: usize) -> Vec<NewRun> {
    (0..n).map(|_| new_run("mail", 0)).collect()
}

both! {
    async fn runs_come_by_priority_then_due_instant_then_age(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let urgent = NewRun { priority: Some(5), ..new_run("mail", 3) };
        let runs = [new_run("mail", 2), new_run("mail", 1), urgent, new_run("mail", 1)];
        let enqueued = house.store.enqueue_many(&runs, at(3)).await.unwrap();

        let claimed = house.claim(10, 10).await;

        let ids: Vec<_> = claimed.iter().map(|(_, run)| run.id).collect();
        let wanted: Vec<_> = [2, 1, 3, 0].map(|n| enqueued[n].run).into();
        assert_eq!(ids, wanted);
        assert_eq!(claimed[0].1.lag_ms, Some(7_000));
    }

    async fn a_claim_takes_no_more_than_the_free_slots(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue_many(&queue_of(10), at(0)).await.unwrap();

        let sizes = [house.claim(1, 4).await.len(), house.claim(1, 0).await.len(), house.claim(1, 100).await.len()];

        assert_eq!(sizes, [4, 0, 6]);
    }

    async fn no_run_starts_before_it_is_due(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 60), at(0)).await.unwrap();

        house.store.promote(at(59)).await.unwrap();
        let early = house.claim(59, 1).await.len();
        house.store.promote(at(60)).await.unwrap();

        assert_eq!((early, house.claim(60, 1).await.len()), (0, 1));
    }

    async fn claimants_share_without_overlap(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue_many(&queue_of(300), at(0)).await.unwrap();
        let other = house.ledger.again().await;

        let mut seen = HashSet::new();
        for _ in 0..20 {
            let (mine, theirs) = (house.claim_request(1, 20), house.claim_request(1, 20));
            let (mine, theirs) = tokio::join!(house.store.claim(&mine), other.claim(&theirs));
            for (_, run) in mine.unwrap().into_iter().chain(theirs.unwrap()) {
                assert!(seen.insert(run.id), "{} was claimed twice", run.id);
            }
        }

        assert_eq!(seen.len(), 300);
    }

    async fn a_job_runs_at_most_concurrency_at_once_over_all_replicas(house: House) {
        let mut house = house;
        house.deploy("[jobs.mail]\nconcurrency = 3\nrun.noop = {}\n", 0).await;
        house.store.enqueue_many(&queue_of(30), at(0)).await.unwrap();
        let other = house.ledger.again().await;

        let mut running = 0;
        for _ in 0..10 {
            let (mine, theirs) = (house.claim_request(1, 2), house.claim_request(1, 2));
            let (mine, theirs) = tokio::join!(house.store.claim(&mine), other.claim(&theirs));
            running += mine.unwrap().len() + theirs.unwrap().len();
            assert!(running <= 3, "{running} are running");
        }

        assert_eq!(running, 3);
    }

    async fn an_exclusive_job_runs_once_whatever_made_its_runs(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        house.store.enqueue(&new_run("tick", 60), at(60)).await.unwrap();

        let first = house.claim(61, 10).await;
        let second = house.claim(62, 10).await.len();
        let (lease, _) = first.into_iter().next().unwrap();
        house.settle(lease, finish(Outcome::Success), 63).await;

        assert_eq!((second, house.claim(64, 10).await.len()), (0, 1));
    }

    async fn a_backlog_of_a_job_that_allows_overlap_runs_one_at_a_time_below_live_work(house: House) {
        let mut house = house;
        let table = "[jobs.tick]\nevery = \"1min\"\noverlap = \"allow\"\ncatch_up = \"all\"\nrun.noop = {}\n";
        house.deploy(table, 30).await;
        house.plan(305).await;

        let claimed = house.claim(305, 10).await;

        let instants: Vec<_> = claimed.iter().map(|(_, run)| run.scheduled_for).collect();
        assert_eq!(instants, [Some(at(300)), Some(at(60))]);
        assert!(house.claim(306, 10).await.is_empty());
    }

    async fn paused_and_retired_jobs_are_not_claimed(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let request = house.claim_request(5, 1);

        house.store.pause(&name("mail"), "by hand", Some(at(100)), at(1)).await.unwrap();
        let paused = house.store.claim(&request).await.unwrap().len();
        house.deploy("[jobs.tick]\nevery = \"1min\"\nrun.noop = {}\n", 2).await;
        let request = ClaimRequest { now: at(200), ..request };
        let retired = house.store.claim(&request).await.unwrap().len();
        house.deploy(MINUTE, 3).await;
        let back = house.store.claim(&request).await.unwrap().len();

        assert_eq!((paused, retired, back), (0, 0, 1));
    }

    async fn another_work_than_the_active_one_is_not_claimed(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let old = house.claim_request(5, 1);
        house.deploy("[jobs.mail]\npriority = 3\nrun.noop = {}\n", 1).await;

        assert!(house.store.claim(&old).await.unwrap().is_empty());
        assert_eq!(house.claim(5, 1).await.len(), 1);
    }

    async fn jobs_outside_the_request_are_left_alone(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        house.store.enqueue(&new_run("mail", 60), at(60)).await.unwrap();
        let request = ClaimRequest { jobs: Arc::new(house.scheduled()), ..house.claim_request(61, 10) };

        let claimed = house.store.claim(&request).await.unwrap();

        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].1.job, name("tick"));
    }

    async fn suspects_are_claimed_alone_and_by_request(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let dead = ReplicaId(Uuid::now_v7());
        house.register(dead, 0).await;
        house.store.enqueue_many(&queue_of(2), at(0)).await.unwrap();
        let request = ClaimRequest { replica: dead, ..house.claim_request(1, 2) };
        house.store.claim(&request).await.unwrap();
        house.store.free_lost(house.replica, at(40)).await.unwrap();
        house.store.enqueue(&new_run("mail", 0), at(41)).await.unwrap();

        let innocent = house.claim(42, 10).await;
        let suspects = ClaimRequest { suspects: true, fence: fence(), ..house.claim_request(42, 10) };
        let suspects = house.store.claim(&suspects).await.unwrap();

        assert_eq!(innocent.iter().map(|(_, run)| run.crashes).collect::<Vec<_>>(), [0]);
        assert_eq!(suspects.iter().map(|(_, run)| (run.crashes, run.attempt)).collect::<Vec<_>>(), [(1, 2)]);
    }

    async fn the_lag_of_a_retried_run_is_that_of_its_first_start(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let (lease, _) = house.claim_one(2).await;
        house.settle(lease, again(10), 5).await;
        house.store.promote(at(10)).await.unwrap();

        let (_lease, run) = house.claim_one(11).await;

        assert_eq!((run.attempt, run.lag_ms, run.state), (2, Some(2_000), State::Running));
    }
}

/// Whoever counts what runs must be alone until what he claimed is committed.
#[tokio::test]
async fn a_limited_job_is_left_alone_while_another_claims_from_it() {
    let mut house = House::postgres().await;
    house.deploy("[jobs.mail]\nconcurrency = 3\nrun.noop = {}\n[jobs.post]\nrun.noop = {}\n", 0).await;
    house.store.enqueue_many(&[new_run("mail", 0), new_run("post", 0)], at(0)).await.unwrap();
    let mut other = house.ledger.database.as_ref().unwrap().connect().await;
    let lock = "begin; select pg_advisory_xact_lock(hashtextextended('workers.job.mail', 0))";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();

    let meanwhile = house.claim(1, 10).await;
    sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
    let afterwards = house.claim(2, 10).await;

    assert_eq!(meanwhile.iter().map(|(_, run)| run.job.as_str()).collect::<Vec<_>>(), ["post"]);
    assert_eq!(afterwards.iter().map(|(_, run)| run.job.as_str()).collect::<Vec<_>>(), ["mail"]);
}

/// A planner that finds the scope taken records the row all the same; it is claimed later.
#[tokio::test]
async fn a_row_is_not_born_running_while_another_claims_from_its_job() {
    let mut house = House::postgres().await;
    house.deploy(MINUTE, 30).await;
    let mut other = house.ledger.database.as_ref().unwrap().connect().await;
    let lock = "begin; select pg_advisory_xact_lock(hashtextextended('workers.job.tick', 0))";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();

    let planned = house.store.plan(&house.plan_request(60, 5)).await.unwrap();

    assert!(planned.started.is_empty());
    assert_eq!(house.rows("tick").await, ["60..60 x1 schedule due - #0"]);
}

/// A job whose row another transaction holds is named, and its cursor stays.
#[tokio::test]
async fn a_locked_job_is_planned_later_and_holds_up_nobody() {
    let mut house = House::postgres().await;
    house.deploy("[jobs.a]\nevery = \"1min\"\nrun.noop = {}\n[jobs.b]\nevery = \"1min\"\nrun.noop = {}\n", 30).await;
    let mut other = house.ledger.database.as_ref().unwrap().connect().await;
    let lock = "begin; select 1 from workers.jobs where name = 'a' for update";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();

    let meanwhile = house.plan(60).await;
    sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
    let afterwards = house.plan(61).await;

    assert_eq!((meanwhile.locked, meanwhile.recorded.len()), (vec![name("a")], 1));
    assert_eq!((afterwards.locked.len(), afterwards.recorded.len()), (0, 1));
}
