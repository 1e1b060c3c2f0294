//! What people ask for together or once more: retry, cancel by filter, counts before they say yes.

use std::time::Duration;

use emponto::{
    domain::{
        job::Keep,
        run::{Outcome, RunId, State, Trigger},
    },
    store::{Cancelled, NewRun, Pruning, Retrying, StoreError, Unfinished},
};
use serde_json::json;
use uuid::Uuid;

use super::house::{House, MINUTE, at, finish, name, new_run};

/// Enqueues a run of the queue at this second, does it, and lets it end so.
async fn done(house: &House, seconds: i64, outcome: Outcome) -> RunId {
    let id = house.store.enqueue(&new_run("mail", seconds), at(seconds)).await.unwrap();
    let (lease, run) = house.claim_one(seconds).await;
    assert_eq!(run.id, id);
    house.settle(lease, finish(outcome), seconds + 1).await;
    id
}

both! {
    async fn a_finished_run_is_done_again_by_a_new_one(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let new = NewRun { key: Some("k".into()), dedupe_key: Some("d".into()), priority: Some(3), ..new_run("mail", 0) };
        let old = house.store.enqueue(&new, at(0)).await.unwrap();
        let (lease, _) = house.claim_one(1).await;
        let early = house.store.retry(old, None, at(2)).await;
        house.settle(lease, finish(Outcome::Error), 3).await;
        let fact = house.store.run(old).await.unwrap();

        let again = house.store.retry(old, None, at(4)).await.unwrap();

        assert!(matches!(&early, Err(StoreError::Conflict(text)) if text.contains("running")), "{early:?}");
        let run = house.store.run(again).await.unwrap().unwrap();
        assert_eq!((run.trigger, run.retry_of, run.state), (Trigger::Retry, Some(old), State::Due));
        assert_eq!((run.payload, run.key.as_deref(), run.priority), (json!({ "n": 1 }), Some("k"), 3));
        assert_eq!((run.dedupe_key, run.attempt, run.covers), (None, 0, 0));
        assert_eq!(house.store.run(old).await.unwrap(), fact, "the old row is a fact");
        let twice = house.store.retry(old, None, at(5)).await;
        assert!(matches!(&twice, Err(StoreError::Conflict(text)) if text.contains(&again.to_string())), "{twice:?}");
        house.store.request_cancel(again, at(6)).await.unwrap();
        let ended = house.store.retry(old, None, at(7)).await;
        assert!(matches!(&ended, Err(StoreError::Conflict(text)) if text.contains(&again.to_string())), "{ended:?}");
        let other = house.store.retry(again, Some(json!("other")), at(8)).await.unwrap();
        assert_eq!(house.store.run(other).await.unwrap().unwrap().payload, json!("other"));
    }

    async fn what_was_done_again_is_not_repeated_after_the_row_of_its_retry_has_gone(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let old = done(&house, 0, Outcome::Error).await;
        let all = Retrying::default();
        let first = house.store.retry_many(&all, at(10), 10).await.unwrap();
        let (lease, run) = house.claim_one(11).await;
        house.settle(lease, finish(Outcome::Success), 12).await;
        done(&house, 20, Outcome::Success).await;
        let keep = Keep { done: Duration::ZERO, failed: Duration::from_secs(86_400) };
        let pruned = house.store.prune(&Pruning { job: name("mail"), keep, outcome: None }, at(30), 10).await.unwrap();

        let counted = house.store.count_retryable(&all).await.unwrap();
        let second = house.store.retry_many(&all, at(31), 10).await.unwrap();
        let named = house.store.retry(old, None, at(32)).await;

        assert_eq!((first.len(), first[0].run, pruned), (1, run.id, 1));
        assert_eq!((counted, second), (0, Vec::new()));
        assert!(matches!(&named, Err(StoreError::Conflict(text)) if text.contains("retried before")), "{named:?}");
    }

    async fn a_retry_that_failed_too_can_be_done_again(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let old = done(&house, 0, Outcome::Error).await;
        let second = house.store.retry(old, None, at(10)).await.unwrap();
        let (lease, _) = house.claim_one(11).await;
        house.settle(lease, finish(Outcome::Error), 12).await;

        let retried = house.store.retry_many(&Retrying::default(), at(13), 10).await.unwrap();

        assert_eq!(retried.iter().map(|one| one.retry_of).collect::<Vec<_>>(), [second]);
    }

    async fn what_went_well_is_done_again_when_it_is_asked_for_by_its_outcome(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        done(&house, 0, Outcome::Error).await;
        let well = done(&house, 10, Outcome::Success).await;
        let which = Retrying { outcome: Some(Outcome::Success), ..Retrying::default() };

        let found = house.store.count_retryable(&which).await.unwrap();
        let retried = house.store.retry_many(&which, at(20), 10).await.unwrap();

        assert_eq!((found, retried.iter().map(|one| one.retry_of).collect::<Vec<_>>()), (1, vec![well]));
        assert_eq!(house.store.count_retryable(&which).await.unwrap(), 0);
    }

    async fn what_cannot_be_done_again_says_why(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let failed = done(&house, 0, Outcome::Error).await;

        let unknown = house.store.retry(RunId(Uuid::now_v7()), None, at(5)).await;
        let unfit = house.store.retry(failed, Some(json!("a\0b")), at(5)).await;
        house.deploy("[jobs.tick]\nevery = \"1min\"\nrun.noop = {}\n", 10).await;
        let removed = house.store.retry(failed, None, at(11)).await;

        assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
        assert!(matches!(unfit, Err(StoreError::Refused(_))), "{unfit:?}");
        assert!(matches!(&removed, Err(StoreError::NotFound(text)) if text.contains("mail")), "{removed:?}");
        assert_eq!(house.store.count_retryable(&Retrying::default()).await.unwrap(), 0, "its job is gone");
        assert!(house.store.retry_many(&Retrying::default(), at(12), 10).await.unwrap().is_empty());
    }

    async fn failures_are_done_again_together_and_only_once(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let mut ids = Vec::new();
        for (index, outcome) in [Outcome::Error, Outcome::Success, Outcome::Timeout, Outcome::Error].into_iter().enumerate() {
            ids.push(done(&house, 10 * index as i64, outcome).await);
        }
        let all = Retrying::default();

        let found = house.store.count_retryable(&all).await.unwrap();
        let first = house.store.retry_many(&all, at(100), 1).await.unwrap();
        let late = Retrying { since: Some(at(25)), ..Retrying::default() };
        let late = house.store.retry_many(&late, at(101), 10).await.unwrap();
        let other_job = Retrying { job: Some(name("tick")), ..Retrying::default() };
        let other_job = house.store.count_retryable(&other_job).await.unwrap();
        let timeouts = Retrying { job: Some(name("mail")), outcome: Some(Outcome::Timeout), since: None };
        let timeouts = house.store.retry_many(&timeouts, at(102), 10).await.unwrap();
        let rest = house.store.retry_many(&all, at(103), 10).await.unwrap();

        assert_eq!((found, other_job), (3, 0));
        let of = |retried: &[emponto::store::Retried]| retried.iter().map(|one| one.retry_of).collect::<Vec<_>>();
        assert_eq!((of(&first), of(&late), of(&timeouts)), (vec![ids[0]], vec![ids[3]], vec![ids[2]]));
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(house.store.run(first[0].run).await.unwrap().unwrap().retry_of, Some(ids[0]));
    }

    async fn two_who_retry_the_same_failures_make_one_run_of_each(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        for index in 0..20 {
            done(&house, 10 * index, Outcome::Error).await;
        }
        let (other, all) = (house.ledger.again().await, Retrying::default());

        let (mine, yours) = tokio::join!(
            house.store.retry_many(&all, at(300), 20),
            other.retry_many(&all, at(300), 20)
        );

        assert_eq!(mine.unwrap().len() + yours.unwrap().len(), 20);
        assert_eq!(house.runs("mail").await.len(), 40);
    }

    async fn what_waits_and_what_runs_is_cancelled_together(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        for seconds in [0, 0, 60, 60, 60] {
            house.store.enqueue(&new_run("mail", seconds), at(0)).await.unwrap();
        }
        house.claim_one(1).await;
        let all = Unfinished::default();
        let waiting = Unfinished { job: Some(name("mail")), state: Some(State::Waiting) };
        let counts = [
            house.store.count_unfinished(&all).await.unwrap(),
            house.store.count_unfinished(&waiting).await.unwrap(),
            house.store.count_unfinished(&Unfinished { job: Some(name("tick")), state: None }).await.unwrap(),
        ];

        let some = house.store.cancel_many(&waiting, at(2), 2).await.unwrap();
        let rest = house.store.cancel_many(&all, at(3), 100).await.unwrap();
        let none = house.store.cancel_many(&all, at(4), 100).await.unwrap();

        assert_eq!(counts, [5, 3, 0]);
        assert_eq!(some, Cancelled { ended: 2, asked: 0 });
        assert_eq!(rest, Cancelled { ended: 2, asked: 1 });
        assert_eq!(none, Cancelled::default(), "who was asked is not asked again");
        let runs = house.runs("mail").await;
        assert_eq!(runs.iter().filter(|run| run.outcome == Some(Outcome::Cancelled)).count(), 4);
        assert_eq!(runs.iter().find(|run| run.state == State::Running).unwrap().cancel_requested_at, Some(at(3)));
    }

    async fn as_many_are_pruned_as_were_counted_of_one_outcome(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        for (index, outcome) in [Outcome::Success, Outcome::Error, Outcome::Error, Outcome::Success].into_iter().enumerate() {
            done(&house, 10 * index as i64, outcome).await;
        }
        let keep = Keep { done: Duration::from_secs(60), failed: Duration::from_secs(60) };
        let failures = Pruning { job: name("mail"), keep, outcome: Some(Outcome::Error) };
        let all = Pruning { outcome: None, ..failures.clone() };

        assert_eq!(house.store.count_prunable(&all, at(50)).await.unwrap(), 0, "too young");
        assert_eq!(house.store.count_prunable(&failures, at(1_000)).await.unwrap(), 2);
        assert_eq!(house.store.prune(&failures, at(1_000), 10).await.unwrap(), 2);
        let left = house.store.count_prunable(&all, at(1_000)).await.unwrap();
        assert_eq!(house.store.prune(&all, at(1_000), 10).await.unwrap(), left);
        assert_eq!(left, 1, "the newest success stays");
        assert_eq!(house.runs("mail").await.len(), 1);
    }
}
