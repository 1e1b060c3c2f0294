//! What became of each job's runs in a stretch of time.

use emponto::{
    domain::{job::Keep, ledger::JobPeriod, run::Outcome},
    store::Pruning,
};

use super::house::{House, MINUTE, at, finish, name};

/// Runs `tick` once for each minute from 08:01, with these outcomes and durations in seconds.
async fn ran(house: &House, ends: &[(Outcome, i64)]) {
    for (minute, (outcome, seconds)) in (1..).zip(ends) {
        house.plan(60 * minute).await;
        let (lease, _) = house.claim_one(60 * minute).await;
        house.settle(lease, finish(*outcome), 60 * minute + seconds).await;
    }
}

async fn period(house: &House, from: i64, until: i64) -> Vec<JobPeriod> {
    house.store.history(at(from), at(until)).await.expect("the ledger is readable")
}

both! {
    async fn the_runs_that_ended_within_a_period_are_counted_by_outcome(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        use Outcome::{Cancelled, Error, Lost, Panic, Partial, Skipped, Success, Timeout, Unknown};
        let ends = [Success, Partial, Error, Timeout, Panic, Lost, Unknown, Skipped, Cancelled];
        ran(&house, &ends.map(|outcome| (outcome, 5))).await;

        let jobs = period(&house, 0, 3_600).await;

        let tick = JobPeriod {
            runs: 9,
            successes: 2,
            failures: 5,
            timeouts: 1,
            skipped: 2,
            p95_duration_ms: Some(5_000),
            max_duration_ms: Some(5_000),
            ..JobPeriod::of(name("tick"))
        };
        assert_eq!(jobs, [JobPeriod::of(name("mail")), tick]);
    }

    async fn a_period_has_its_first_instant_and_not_its_last(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        ran(&house, &[(Outcome::Success, 1), (Outcome::Error, 2), (Outcome::Success, 3)]).await;

        for ((from, until), runs) in [
            ((0, 61), 0), ((61, 62), 1), ((62, 122), 0), ((61, 122), 1), ((61, 123), 2), ((123, 183), 0), ((123, 184), 1),
        ] {
            let tick = period(&house, from, until).await.remove(1);
            assert_eq!(tick.runs, runs, "{from}..{until}");
        }
    }

    async fn slow_runs_show_in_the_durations_of_their_job(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        let mut ends = vec![(Outcome::Success, 1); 20];
        ends[7] = (Outcome::Success, 40);
        ends[11] = (Outcome::Success, 30);
        ran(&house, &ends).await;

        let tick = period(&house, 0, 7_200).await.remove(1);

        assert_eq!((tick.p95_duration_ms, tick.max_duration_ms), (Some(30_000), Some(40_000)));
    }

    async fn runs_that_were_removed_by_age_are_still_counted_by_the_hour(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        ran(&house, &[(Outcome::Error, 5), (Outcome::Success, 5), (Outcome::Success, 5)]).await;
        house.store.upkeep(at(600)).await.unwrap();
        let keep = Keep { done: std::time::Duration::ZERO, failed: std::time::Duration::ZERO };
        let window = house.store.audit_windows().await.unwrap().remove(0);
        let audit = emponto::store::Audit {
            job: window.job, from: window.from, until: window.until, account: Default::default(),
        };
        house.store.store_audit(&audit).await.unwrap();
        let pruned = house.store.prune(&Pruning { job: name("tick"), keep, outcome: None }, at(700), 100).await.unwrap();

        let tick = period(&house, 0, 3_600).await.remove(1);
        let half_an_hour = period(&house, 1, 3_600).await.remove(1);

        assert_eq!(pruned, 2, "the newest success stays");
        assert_eq!((tick.runs, tick.successes, tick.failures), (3, 2, 1));
        assert_eq!(half_an_hour.runs, 1, "an hour that begins before the period is not in it");
    }

    async fn what_no_row_explains_is_told(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(120).await;
        let window = house.store.audit_windows().await.unwrap().remove(0);
        let account = emponto::domain::ledger::Account { missing: 2, doubled: 1, ..Default::default() };
        let audit = emponto::store::Audit { job: window.job, from: window.from, until: window.until, account };
        house.store.store_audit(&audit).await.unwrap();

        let jobs = period(&house, 0, 3_600).await;

        assert_eq!(jobs.iter().map(|job| job.unexplained).collect::<Vec<_>>(), [0, 3]);
    }

    async fn a_job_that_left_the_table_is_told_while_it_has_runs(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        ran(&house, &[(Outcome::Success, 5)]).await;
        house.deploy("[jobs.mail]\nrun.noop = {}\n", 70).await;

        let names = |jobs: Vec<JobPeriod>| jobs.into_iter().map(|job| job.job.to_string()).collect::<Vec<_>>();
        assert_eq!(names(period(&house, 0, 3_600).await), ["mail", "tick"]);
        assert_eq!(names(period(&house, 3_600, 7_200).await), ["mail"]);
    }
}
