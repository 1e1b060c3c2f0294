//! Producers and people: enqueue, cancel, retention.

use std::time::Duration;

use emponto::{
    domain::{
        job::Keep,
        run::{Outcome, Reason, RunId, State, Trigger},
    },
    store::{Audit, NewRun, Pruning, StoreError},
};
use serde_json::json;
use uuid::Uuid;

use super::house::{House, MINUTE, at, finish, name, new_run};

both! {
    async fn an_enqueued_run_knows_its_jobs_rules(house: House) {
        let mut house = house;
        house.deploy("[jobs.mail]\npriority = 4\nretry = { max_attempts = 7 }\nrun.noop = {}\n", 0).await;
        let new = NewRun { key: Some("k".into()), trigger: Trigger::Manual, ..new_run("mail", 5) };

        let id = house.store.enqueue(&new, at(1)).await.unwrap();

        let run = house.store.run(id).await.unwrap().unwrap();
        assert_eq!((run.priority, run.max_attempts, run.exclusive, run.covers), (4, 7, false, 0));
        assert_eq!((run.state, run.due_at, run.created_at), (State::Waiting, at(5), at(1)));
        assert_eq!((run.payload, run.key.as_deref(), run.trigger), (json!({ "n": 1 }), Some("k"), Trigger::Manual));
    }

    async fn one_unfinished_run_per_dedupe_key(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let new = NewRun { dedupe_key: Some("company-7".into()), ..new_run("mail", 0) };

        let both = house.store.enqueue_many(&[new.clone(), new.clone()], at(0)).await.unwrap();
        let (lease, _) = house.claim_one(1).await;
        let while_running = house.store.enqueue(&new, at(2)).await.unwrap();
        house.settle(lease, finish(Outcome::Error), 3).await;
        let afterwards = house.store.enqueue(&new, at(4)).await.unwrap();

        assert_eq!((both[0].fresh, both[1].fresh, both[0].run), (true, false, both[1].run));
        assert_eq!(while_running, both[0].run);
        assert_ne!(afterwards, both[0].run);
    }

    async fn an_unknown_job_is_refused_by_name(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;

        let refused = house.store.enqueue_many(&[new_run("mail", 0), new_run("nobody", 0)], at(0)).await;

        assert!(matches!(&refused, Err(StoreError::NotFound(text)) if text.contains("nobody")), "{refused:?}");
        assert!(house.runs("mail").await.is_empty(), "all or none");
    }

    async fn a_payload_that_cannot_be_stored_is_refused(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let new = NewRun { payload: json!(["a\0b"]), ..new_run("mail", 0) };

        let refused = house.store.enqueue(&new, at(0)).await;

        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }

    async fn what_waits_is_cancelled_at_once_and_what_runs_is_asked(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let waiting = house.store.enqueue(&new_run("mail", 60), at(0)).await.unwrap();
        let running = house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let (_lease, _) = house.claim_one(1).await;

        let states = [
            house.store.request_cancel(waiting, at(2)).await.unwrap(),
            house.store.request_cancel(running, at(2)).await.unwrap(),
        ];

        assert_eq!(states, [State::Waiting, State::Running]);
        let ended = house.store.run(waiting).await.unwrap().unwrap();
        assert_eq!((ended.outcome, ended.reason), (Some(Outcome::Cancelled), Some(Reason::Operator)));
        assert_eq!(house.store.run(running).await.unwrap().unwrap().cancel_requested_at, Some(at(2)));
        assert!(matches!(house.store.request_cancel(waiting, at(3)).await, Err(StoreError::Conflict(_))));
        let unknown = house.store.request_cancel(RunId(Uuid::now_v7()), at(3)).await;
        assert!(matches!(unknown, Err(StoreError::NotFound(_))));
    }

    async fn runs_of_a_removed_job_end_after_an_hour_of_absence(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        house.deploy("[jobs.tick]\nevery = \"1min\"\nrun.noop = {}\n", 10).await;

        let early = house.store.cancel_removed(at(3_609)).await.unwrap();
        let late = house.store.cancel_removed(at(3_610)).await.unwrap();

        assert_eq!((early, late), (Vec::new(), vec![name("mail")]));
        let run = house.runs("mail").await.remove(0);
        assert_eq!((run.outcome, run.reason), (Some(Outcome::Cancelled), Some(Reason::Removed)));
    }

    async fn only_audited_rows_past_their_time_are_pruned_and_the_last_success_stays(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        for minute in 1..=4 {
            house.plan(60 * minute).await;
            let (lease, _) = house.claim_one(60 * minute).await;
            let outcome = if minute == 2 { Outcome::Error } else { Outcome::Success };
            house.settle(lease, finish(outcome), 60 * minute + 1).await;
        }
        let keep = Keep { done: Duration::from_secs(60), failed: Duration::from_secs(3_600) };
        let tick = name("tick");
        let pruning = Pruning { job: tick.clone(), keep, outcome: None };

        let unaudited = house.store.prune(&pruning, at(1_000), 10).await.unwrap();
        let window = house.store.audit_windows().await.unwrap().into_iter().find(|window| window.job == tick).unwrap();
        let audit = Audit { job: tick.clone(), from: window.from, until: at(200), account: Default::default() };
        assert!(house.store.store_audit(&audit).await.unwrap());
        let audited = house.store.prune(&pruning, at(1_000), 10).await.unwrap();

        assert_eq!((unaudited, audited), (0, 2));
        let left = ["120..120 x1 schedule error - #1", "240..240 x1 schedule success - #1"];
        assert_eq!(house.rows("tick").await, left);
        let later = Audit { from: at(200), until: at(240), ..audit };
        assert!(house.store.store_audit(&later).await.unwrap());
        assert_eq!(house.store.prune(&pruning, at(9_999), 10).await.unwrap(), 1, "the failure is old now");
        assert_eq!(house.rows("tick").await, left[1..]);
    }

    async fn upkeep_counts_hours_and_forgets(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        let (lease, _) = house.claim_one(60).await;
        house.settle(lease, finish(Outcome::Success), 61).await;

        house.store.upkeep(at(120)).await.unwrap();
        house.store.upkeep(at(180)).await.unwrap();

        assert_eq!(house.runs("tick").await.len(), 1);
    }
}
