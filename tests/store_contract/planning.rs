//! Planning: every instant once, whoever plans and whatever happens in between.

use std::collections::BTreeSet;

use emponto::domain::run::{Outcome, State};

use super::house::{House, MINUTE, at, finish, name};

both! {
    async fn a_new_job_owes_nothing_from_before(house: House) {
        let mut house = house;
        let activation = house.deploy(MINUTE, 30).await;

        let planned = house.plan(30).await;

        assert_eq!(activation.added, [name("mail"), name("tick")]);
        assert!(planned.recorded.is_empty());
        assert_eq!(planned.cursors, [(name("tick"), at(30))]);
    }

    async fn a_due_instant_becomes_one_row_however_often_it_is_planned(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;

        for seconds in [60, 60, 61, 70] {
            house.plan(seconds).await;
        }

        assert_eq!(house.rows("tick").await, ["60..60 x1 schedule due - #0"]);
        assert_eq!(house.plan(75).await.cursors, [(name("tick"), at(75))]);
    }

    async fn a_row_may_be_born_running_and_holds_its_scope(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;

        let planned = house.store.plan(&house.plan_request(60, 1)).await.unwrap();

        let (lease, run) = planned.started.into_iter().next().expect("it is born running");
        assert_eq!((run.state, run.attempt, run.lag_ms), (State::Running, 1, Some(0)));
        assert_eq!(run.started_at, Some(at(60)));
        assert_eq!(run.replica, Some(house.replica));
        assert!(house.claim(61, 10).await.is_empty());
        house.settle(lease, finish(Outcome::Success), 62).await;
        assert_eq!(house.rows("tick").await, ["60..60 x1 schedule success - #1"]);
    }

    async fn nothing_is_born_running_without_a_slot(house: House) {
        let mut house = house;
        house.deploy("[jobs.a]\nevery = \"1min\"\nrun.noop = {}\n[jobs.b]\nevery = \"1min\"\nrun.noop = {}\n", 30).await;

        let planned = house.store.plan(&house.plan_request(60, 1)).await.unwrap();

        assert_eq!(planned.started.len(), 1);
        assert_eq!(house.claim(60, 10).await.len(), 1);
    }

    async fn overlap_skips_fold_into_one_row(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        let (lease, _) = house.claim_one(60).await;

        for minute in 2..6 {
            house.plan(60 * minute).await;
        }
        house.settle(lease, finish(Outcome::Success), 310).await;
        house.plan(360).await;

        let rows = ["60..60 x1 schedule success - #1", "120..300 x4 schedule skipped overlap #0", "360..360 x1 schedule due - #0"];
        assert_eq!(house.rows("tick").await, rows);
    }

    async fn a_queue_of_one_folds_while_it_waits_and_not_once_it_runs(house: House) {
        let mut house = house;
        house.deploy("[jobs.tick]\nevery = \"1min\"\noverlap = \"queue\"\nrun.noop = {}\n", 30).await;
        house.plan(60).await;
        let (lease, _) = house.claim_one(60).await;
        house.plan(120).await;
        house.plan(180).await;
        house.settle(lease, finish(Outcome::Success), 190).await;

        let (_running, run) = house.claim_one(190).await;
        house.plan(240).await;

        assert_eq!((run.covers, run.scheduled_for), (2, Some(at(180))));
        let rows = house.rows("tick").await;
        assert_eq!(rows[1..], ["120..180 x2 schedule running - #1", "240..240 x1 schedule due - #0"]);
    }

    async fn replace_asks_the_running_one_to_end_and_ends_the_waiting_one(house: House) {
        let mut house = house;
        house.deploy("[jobs.tick]\nevery = \"1min\"\noverlap = \"replace\"\nrun.noop = {}\n", 30).await;
        house.register(house.replica, 30).await;
        house.plan(60).await;
        let (_lease, run) = house.claim_one(60).await;
        house.plan(120).await;
        house.plan(180).await;

        let held = house.store.renew(house.replica, at(40), at(70)).await.unwrap().expect("the lease stands");

        assert!(held[0].run == run.id && held[0].cancel_requested);
        assert_eq!(held[0].cancel_reason.map(|reason| reason.word()), Some("replaced"));
        let rows = house.rows("tick").await;
        assert_eq!(rows[1..], ["120..120 x1 schedule skipped replaced #0", "180..180 x1 schedule due - #0"]);
    }

    async fn two_replicas_never_record_an_instant_twice(house: House) {
        let mut house = house;
        let jobs: String = (0..20).map(|n| format!("[jobs.job-{n}]\nevery = \"1s\"\nrun.noop = {{}}\n")).collect();
        house.deploy(&jobs, 0).await;
        let other = house.ledger.again().await;

        for second in 1..=5 {
            let (mine, theirs) = (house.plan_request(second, 0), house.plan_request(second, 0));
            let (mine, theirs) = tokio::join!(house.store.plan(&mine), other.plan(&theirs));
            // Whoever found a job locked tries it again, as the planner does.
            assert!(mine.unwrap().locked.is_empty() || theirs.is_ok());
            house.plan(second).await;
        }

        for n in 0..20 {
            let runs = house.runs(&format!("job-{n}")).await;
            let covered: i64 = runs.iter().map(|run| run.covers).sum();
            let instants: BTreeSet<_> = runs.iter().map(|run| run.scheduled_for).collect();
            assert_eq!((covered, instants.len()), (5, runs.len()), "job-{n}");
        }
    }

    async fn a_job_of_another_schedule_is_foreign(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        let old = house.plan_request(60, 0);
        house.deploy("[jobs.tick]\nevery = \"2min\"\nrun.noop = {}\n", 40).await;

        let planned = house.store.plan(&old).await.unwrap();

        assert_eq!(planned.foreign, [name("tick")]);
        assert!(house.rows("tick").await.is_empty());
    }

    async fn a_paused_job_records_its_instants_as_paused(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.store.pause(&name("tick"), "by hand", None, at(50)).await.unwrap();
        house.plan(60).await;
        house.plan(120).await;

        house.store.resume(&name("tick"), at(130)).await.unwrap();
        house.plan(180).await;

        let rows = ["60..120 x2 schedule skipped paused #0", "180..180 x1 schedule due - #0"];
        assert_eq!(house.rows("tick").await, rows);
    }

    async fn a_pause_that_ended_while_nobody_planned_covers_only_its_own_time(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.store.pause(&name("tick"), "by hand", Some(at(150)), at(50)).await.unwrap();

        let planned = house.plan(240).await;
        house.plan(240).await;

        assert_eq!(planned.more, [name("tick")]);
        let rows = house.rows("tick").await;
        assert_eq!(rows, ["60..120 x2 schedule skipped paused #0", "180..240 x2 schedule due - #0"]);
        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
        assert_eq!((row.paused_at, row.planned_until), (None, Some(at(240))));
    }

    async fn resume_records_a_pause_that_nobody_planned(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.store.pause(&name("tick"), "by hand", None, at(50)).await.unwrap();

        house.store.resume(&name("tick"), at(200)).await.unwrap();
        house.plan(240).await;

        let rows = house.rows("tick").await;
        assert_eq!(rows, ["60..180 x3 schedule skipped paused #0", "240..240 x1 schedule due - #0"]);
    }

    async fn many_jobs_are_planned_in_bulk(house: House) {
        let mut house = house;
        let jobs: String = (0..1_200).map(|n| format!("[jobs.job-{n}]\nevery = \"1min\"\nrun.noop = {{}}\n")).collect();
        house.deploy(&jobs, 30).await;

        let planned = house.plan(60).await;

        assert_eq!((planned.recorded.len(), planned.more.len()), (1_000, 200));
    }

    async fn jitter_waits_and_is_promoted(house: House) {
        let mut house = house;
        house.deploy("[jobs.tick]\nevery = \"1h\"\njitter = \"30min\"\nrun.noop = {}\n", 30).await;
        house.plan(3_600).await;
        let run = house.runs("tick").await.remove(0);

        let early = house.store.promote(at(3_600)).await.unwrap();
        let before = house.claim(3_600, 1).await.len();
        let none = house.store.promote(run.due_at).await.unwrap();

        assert_eq!((run.state, early, before, none), (State::Waiting, Some(run.due_at), 0, None));
        assert_eq!(house.state(&run).await, State::Due);
    }
}
