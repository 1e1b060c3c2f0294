//! Settling: once, by the holder of the lease, whatever comes too late, twice, or cannot be stored.

use emponto::{
    domain::{
        run::{Lease, Outcome, Reason, Run, State},
        settle::{Next, Settlement},
    },
    store::Settled,
};
use serde_json::json;

use super::house::{House, MINUTE, again, at, finish, name, new_run};

/// Claims one run of the queue.
async fn claimed(house: &mut House) -> (Lease, Run) {
    house.deploy(MINUTE, 0).await;
    house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
    house.claim_one(1).await
}

both! {
    async fn a_finished_run_holds_what_its_handler_said(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;

        let settled = house.settle(lease, finish(Outcome::Partial), 4).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!(settled, Settled::Applied);
        assert_eq!((run.state, run.outcome, run.duration_ms), (State::Finished, Some(Outcome::Partial), Some(3_000)));
        assert_eq!((run.items, run.items_failed, run.response_code), (Some(3), Some(0), Some(200)));
        assert_eq!((run.result, run.finished_at), (Some(json!({ "done": true })), Some(at(4))));
    }

    async fn a_failed_attempt_waits_and_its_error_is_kept(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;

        house.settle(lease, again(30), 4).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((run.state, run.due_at, run.attempt), (State::Waiting, at(30), 1));
        assert_eq!((run.replica, run.finished_at, run.outcome), (None, None, None));
        assert_eq!(run.errors, json!([{ "attempt": 1, "at": "2026-03-02T08:00:04.000Z", "error": "it failed" }]));
    }

    async fn an_attempt_that_was_nobodys_fault_is_given_back(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        let next = Next::Again { at: at(4), reason: Some(Reason::Interrupted) };

        house.settle(lease, Settlement { next, attempt_spent: false, ..again(4) }, 4).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((run.state, run.attempt, run.reason), (State::Due, 0, Some(Reason::Interrupted)));
    }

    async fn what_a_run_goes_on_from_stays_and_so_does_its_first_start(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        let resume = Some(json!({ "location": "/jobs/7" }));
        let next = Next::Again { at: at(4), reason: Some(Reason::Accepted) };
        let accepted = Settlement { next, resume: resume.clone(), error: None, ..again(4) };

        house.settle(lease, accepted, 4).await;
        let first_look = house.claim_one(7).await;
        house.settle(first_look.0, again(8), 8).await;
        let second_look = house.claim_one(10).await;

        for (look, attempt) in [(first_look.1, 2), (second_look.1, 3)] {
            assert_eq!((look.resume, look.attempt), (resume.clone(), attempt));
            assert_eq!((look.started_at, look.lag_ms), (run.started_at, run.lag_ms));
        }
    }

    async fn accepted_work_of_at_most_once_that_is_cancelled_between_two_looks_is_unknown(house: House) {
        let mut house = house;
        house.deploy("[jobs.mail]\ndelivery = \"at_most_once\"\nrun.noop = {}\n", 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let (lease, run) = house.claim_one(1).await;
        let next = Next::Again { at: at(30), reason: Some(Reason::Accepted) };
        let resume = Some(json!({ "location": "/jobs/7" }));
        house.settle(lease, Settlement { next, resume, error: None, ..again(30) }, 4).await;

        house.store.request_cancel(run.id, at(5)).await.unwrap();

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((run.state, run.outcome), (State::Finished, Some(Outcome::Unknown)));
    }

    async fn a_run_that_was_asked_to_end_does_not_go_on(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        house.store.request_cancel(run.id, at(3)).await.unwrap();

        let settled = house.settle(lease, again(30), 4).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!(settled, Settled::EndedInstead(Outcome::Cancelled));
        assert_eq!((run.state, run.outcome, run.reason), (State::Finished, Some(Outcome::Cancelled), Some(Reason::Operator)));
    }

    async fn the_first_and_the_newest_errors_are_kept(house: House) {
        let mut house = house;
        let (mut lease, run) = claimed(&mut house).await;

        for attempt in 0..25 {
            house.settle(lease, again(attempt), attempt).await;
            lease = house.claim_one(attempt).await.0;
        }

        let errors = house.store.run(run.id).await.unwrap().unwrap().errors;
        assert_eq!(errors.as_array().unwrap().len(), 20);
        assert_eq!(errors[19]["attempt"], 25);
        assert_eq!(errors[0]["attempt"], 1, "since when it fails is not forgotten");
        assert_eq!(errors[1]["attempt"], 7);
    }

    async fn a_result_that_comes_too_late_changes_nothing_and_is_kept(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        house.store.free_lost(emponto::domain::run::ReplicaId(uuid::Uuid::now_v7()), at(40)).await.unwrap();
        let freed = house.store.run(run.id).await.unwrap().unwrap();

        let settled = house.settle(lease, finish(Outcome::Success), 41).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!(settled, Settled::Late);
        assert_eq!((run.state, run.crashes, run.outcome), (State::Due, 1, None));
        assert_eq!(run.errors.as_array().unwrap().len(), freed.errors.as_array().unwrap().len() + 1);
    }

    async fn a_late_result_does_not_disturb_the_next_holder(house: House) {
        let mut house = house;
        let (late, run) = claimed(&mut house).await;
        house.store.give_back(&[(run.id, late.fence())]).await.unwrap();
        let (lease, again) = house.claim_one(3).await;

        let first = house.settle(late, finish(Outcome::Error), 4).await;
        let second = house.settle(lease, finish(Outcome::Success), 5).await;

        assert_eq!((first, second, again.attempt), (Settled::Late, Settled::Applied, 1));
        assert_eq!(house.store.run(run.id).await.unwrap().unwrap().outcome, Some(Outcome::Success));
    }

    async fn a_settlement_sent_twice_is_applied_once(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        let batch = [(lease, finish(Outcome::Success))];

        let first = house.store.settle(&batch, at(2)).await.unwrap();
        let second = house.store.settle(&batch, at(9)).await.unwrap();

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((first, second), (vec![Settled::Applied], vec![Settled::Applied]));
        assert_eq!((run.finished_at, run.errors), (Some(at(2)), json!([])));
    }

    async fn one_result_that_cannot_be_stored_does_not_hold_up_the_batch(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let runs: Vec<_> = (0..3).map(|_| new_run("mail", 0)).collect();
        house.store.enqueue_many(&runs, at(0)).await.unwrap();
        let mut claimed = house.claim(1, 3).await;
        let ids: Vec<_> = claimed.iter().map(|(_, run)| run.id).collect();
        let nul = Settlement { result: Some(json!({ "text": "a\0b" })), ..finish(Outcome::Success) };
        let settlements = [finish(Outcome::Success), nul, finish(Outcome::Error)];
        let batch: Vec<_> = claimed.drain(..).map(|(lease, _)| lease).zip(settlements).collect();

        let settled = house.store.settle(&batch, at(2)).await.unwrap();

        assert!(matches!(settled.as_slice(), [Settled::Applied, Settled::NotStorable(_), Settled::Applied]), "{settled:?}");
        let bad = house.store.run(ids[1]).await.unwrap().unwrap();
        assert_eq!((bad.outcome, bad.reason), (Some(Outcome::Error), Some(Reason::NotStorable)));
        assert!(bad.error.unwrap().starts_with("result not storable"));
    }

    async fn what_need_not_be_kept_is_deleted_unless_it_has_an_instant(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        house.plan(60).await;
        let (scheduled, tick) = house.claim_one(60).await;
        let delete = || Settlement { delete: true, ..finish(Outcome::Success) };
        let batch = [(lease, delete()), (scheduled, delete())];

        let first = house.store.settle(&batch, at(61)).await.unwrap();
        let second = house.store.settle(&batch, at(62)).await.unwrap();

        assert_eq!((&first, &second), (&vec![Settled::Applied; 2], &vec![Settled::Applied; 2]));
        assert_eq!(house.store.run(run.id).await.unwrap(), None);
        assert_eq!(house.store.run(tick.id).await.unwrap().unwrap().outcome, Some(Outcome::Success));
    }

    async fn a_settlement_may_pause_its_job(house: House) {
        let mut house = house;
        let (lease, _) = claimed(&mut house).await;
        let gone = Settlement { pause_job: true, error: Some("410 gone".into()), ..finish(Outcome::Error) };

        house.settle(lease, gone, 4).await;

        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("mail")).unwrap();
        assert_eq!((row.paused_at, row.paused_reason.as_deref()), (Some(at(4)), Some("410 gone")));
    }

    async fn a_run_that_was_asked_to_end_does_not_go_round_again(house: House) {
        let mut house = house;
        let (lease, run) = claimed(&mut house).await;
        house.store.request_cancel(run.id, at(2)).await.unwrap();

        house.settle(lease, again(30), 4).await;

        let run = house.store.run(run.id).await.unwrap().unwrap();
        assert_eq!((run.state, run.outcome, run.reason), (State::Finished, Some(Outcome::Cancelled), Some(Reason::Operator)));
    }

    async fn a_large_batch_is_settled_whole(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let runs: Vec<_> = (0..1_500).map(|_| new_run("mail", 0)).collect();
        house.store.enqueue_many(&runs, at(0)).await.unwrap();
        let claimed = house.claim(1, 1_500).await;
        let batch: Vec<_> = claimed.into_iter().map(|(lease, _)| (lease, finish(Outcome::Success))).collect();

        let settled = house.store.settle(&batch, at(2)).await.unwrap();

        assert_eq!(settled, vec![Settled::Applied; 1_500]);
    }
}
