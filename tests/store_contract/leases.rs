//! Leases: dead for ever once expired, freed once, and only who may be guilty is counted.

use emponto::{
    domain::run::{Outcome, Reason, ReplicaId, Run, State},
    store::{ClaimRequest, Freed, Kind},
};
use uuid::Uuid;

use super::house::{House, MINUTE, at, fence, finish, name, new_run};

/// A replica that lives until 30 and holds so many runs of the queue.
async fn holder(house: &mut House, runs: usize) -> (ReplicaId, Vec<Run>) {
    let replica = ReplicaId(Uuid::now_v7());
    house.register(replica, 0).await;
    let new: Vec<_> = (0..runs).map(|_| new_run("mail", 0)).collect();
    house.store.enqueue_many(&new, at(0)).await.unwrap();
    let request = ClaimRequest { replica, fence: fence(), ..house.claim_request(1, 100) };
    let claimed = house.store.claim(&request).await.unwrap();
    (replica, claimed.into_iter().map(|(_, run)| run).collect())
}

async fn fates(house: &House, runs: &[Run]) -> Vec<(State, Option<Outcome>, i32, i32)> {
    let mut fates = Vec::new();
    for run in runs {
        let run = house.store.run(run.id).await.unwrap().unwrap();
        fates.push((run.state, run.outcome, run.crashes, run.attempt));
    }
    fates
}

both! {
    async fn a_renewal_returns_what_runs_in_the_replicas_name(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (replica, runs) = holder(&mut house, 2).await;
        house.store.request_cancel(runs[0].id, at(5)).await.unwrap();

        let mut held = house.store.renew(replica, at(10), at(40)).await.unwrap().expect("the lease stands");

        held.sort_by_key(|held| held.run);
        assert_eq!(held.iter().map(|held| held.run).collect::<Vec<_>>(), [runs[0].id, runs[1].id]);
        assert_eq!(held.iter().map(|held| held.cancel_requested).collect::<Vec<_>>(), [true, false]);
        assert_eq!(held[0].cancel_reason, Some(Reason::Operator));
    }

    async fn an_expired_lease_is_dead_for_ever(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (replica, _) = holder(&mut house, 1).await;

        let late = house.store.renew(replica, at(31), at(61)).await.unwrap();

        // On SQLite the file lock proves life and death, so a lease cannot expire there.
        assert_eq!(late.is_none(), house.store.kind() == Kind::Postgres);
        assert!(house.store.renew(ReplicaId(Uuid::now_v7()), at(1), at(31)).await.unwrap().is_none());
    }

    async fn a_living_replica_loses_nothing(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, runs) = holder(&mut house, 1).await;

        let freed = house.store.free_lost(house.replica, at(29)).await.unwrap();

        assert!(freed.is_empty());
        assert_eq!(fates(&house, &runs).await, [(State::Running, None, 0, 1)]);
    }

    async fn nobody_frees_his_own(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (replica, runs) = holder(&mut house, 1).await;

        assert!(house.store.free_lost(replica, at(99)).await.unwrap().is_empty());
        assert_eq!(house.store.free_lost(house.replica, at(99)).await.unwrap().len(), 1);
        assert_eq!(fates(&house, &runs).await, [(State::Due, None, 1, 1)]);
    }

    async fn who_is_not_on_the_list_does_not_free_his_own_either(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let (_lease, run) = house.claim_one(1).await;

        assert!(house.store.free_lost(house.replica, at(99)).await.unwrap().is_empty());
        assert_eq!(house.state(&run).await, State::Running);
    }

    async fn a_freed_replica_cannot_renew(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (replica, _) = holder(&mut house, 1).await;
        house.store.free_lost(house.replica, at(31)).await.unwrap();

        // A clock that runs behind does not bring it back to life.
        assert!(house.store.renew(replica, at(20), at(50)).await.unwrap().is_none());
    }

    async fn what_runs_in_the_name_of_nobody_is_freed_too(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let request = ClaimRequest { replica: ReplicaId(Uuid::now_v7()), fence: fence(), ..house.claim_request(29, 1) };
        house.store.claim(&request).await.unwrap();

        assert_eq!(house.store.free_lost(house.replica, at(35)).await.unwrap().len(), 1);
    }

    async fn the_dead_start_nothing(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.register(house.replica, 30).await;
        house.store.free_lost(ReplicaId(Uuid::now_v7()), at(61)).await.unwrap();
        house.store.enqueue(&new_run("mail", 31), at(31)).await.unwrap();

        let planned = house.store.plan(&house.plan_request(61, 9)).await.unwrap();
        let claimed = house.claim(61, 9).await;

        // On SQLite the file lock proves that whoever asks is alive.
        if house.store.kind() == Kind::Postgres {
            assert!(planned.started.is_empty() && claimed.is_empty());
        }
        assert_eq!(planned.recorded.len(), 1);
    }

    async fn a_poison_run_does_not_convict_its_neighbours(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, poison) = holder(&mut house, 1).await;
        house.store.free_lost(house.replica, at(31)).await.unwrap();
        let (replica, mut aboard) = holder(&mut house, 2).await;
        let suspects = ClaimRequest { replica, fence: fence(), suspects: true, ..house.claim_request(32, 1) };
        house.store.claim(&suspects).await.unwrap();
        aboard.extend(poison);

        house.store.free_lost(house.replica, at(62)).await.unwrap();

        let innocent = (State::Due, None, 0, 0);
        assert_eq!(fates(&house, &aboard).await, [innocent, innocent, (State::Due, None, 2, 2)]);
    }

    async fn the_third_crash_loses_the_run(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, runs) = holder(&mut house, 1).await;
        for seconds in [31, 62, 93] {
            house.store.free_lost(house.replica, at(seconds)).await.unwrap();
            let replica = ReplicaId(Uuid::now_v7());
            house.register(replica, seconds).await;
            let request = ClaimRequest { replica, fence: fence(), suspects: true, ..house.claim_request(seconds, 1) };
            house.store.claim(&request).await.unwrap();
        }

        let run = house.store.run(runs[0].id).await.unwrap().unwrap();
        assert_eq!((run.outcome, run.reason, run.crashes), (Some(Outcome::Lost), Some(Reason::Crashed), 3));
        assert_eq!(run.finished_at, Some(at(93)));
    }

    async fn at_most_once_ends_as_unknown(house: House) {
        let mut house = house;
        house.deploy("[jobs.mail]\ndelivery = \"at_most_once\"\nrun.noop = {}\n", 0).await;
        let (_, runs) = holder(&mut house, 1).await;

        let freed = house.store.free_lost(house.replica, at(31)).await.unwrap();

        assert_eq!(freed, [Freed { run: runs[0].id, job: name("mail"), outcome: Some(Outcome::Unknown) }]);
        assert_eq!(fates(&house, &runs).await, [(State::Finished, Some(Outcome::Unknown), 1, 1)]);
    }

    async fn a_lost_run_that_was_to_be_cancelled_is_cancelled(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, runs) = holder(&mut house, 1).await;
        house.store.request_cancel(runs[0].id, at(2)).await.unwrap();

        house.store.free_lost(house.replica, at(31)).await.unwrap();

        let run = house.store.run(runs[0].id).await.unwrap().unwrap();
        assert_eq!((run.outcome, run.reason), (Some(Outcome::Cancelled), Some(Reason::Operator)));
    }

    async fn two_rescuers_free_a_run_once(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, runs) = holder(&mut house, 10).await;
        let other = house.ledger.again().await;

        let (mine, theirs) = tokio::join!(
            house.store.free_lost(ReplicaId(Uuid::now_v7()), at(31)),
            other.free_lost(ReplicaId(Uuid::now_v7()), at(31)),
        );

        assert_eq!(mine.unwrap().len() + theirs.unwrap().len(), 10);
        assert!(fates(&house, &runs).await.iter().all(|fate| *fate == (State::Due, None, 1, 1)));
    }

    async fn giving_back_spends_no_attempt(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        house.store.enqueue(&new_run("mail", 0), at(0)).await.unwrap();
        let (lease, run) = house.claim_one(1).await;

        house.store.give_back(&[(run.id, fence())]).await.unwrap();
        let not_his = house.state(&run).await;
        house.store.give_back(&[(run.id, lease.fence())]).await.unwrap();

        assert_eq!(not_his, State::Running);
        assert_eq!(fates(&house, &[run]).await, [(State::Due, None, 0, 0)]);
    }

    async fn who_left_in_order_leaves_nothing_behind(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (replica, _) = holder(&mut house, 1).await;

        house.store.leave(replica, at(5)).await.unwrap();

        assert!(house.store.renew(replica, at(6), at(36)).await.unwrap().is_none());
        assert_eq!(house.store.free_lost(house.replica, at(7)).await.unwrap().len(), 1);
    }

    async fn all_running_rows_are_freed_at_the_start_of_the_only_daemon(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 0).await;
        let (_, runs) = holder(&mut house, 2).await;
        let finished = house.store.free_all(at(3)).await.unwrap().len();

        assert_eq!(finished, 2);
        assert_eq!(fates(&house, &runs).await, [(State::Due, None, 1, 1); 2]);
        let request = ClaimRequest { suspects: true, ..house.claim_request(4, 5) };
        let (lease, _) = house.store.claim(&request).await.unwrap().remove(0);
        house.settle(lease, finish(Outcome::Success), 5).await;
    }
}
