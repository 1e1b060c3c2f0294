//! The audit and the rewind: what the ledger says adds up, also after a wrong clock.

use emponto::{
    domain::{ledger::reconcile, run::Outcome},
    store::{Audit, StoreError},
};

use super::house::{House, MINUTE, at, finish, name};

/// The account of `tick` from its first instant to its cursor.
async fn unexplained(house: &House) -> i64 {
    let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
    let until = row.planned_until.unwrap();
    let entries = house.store.ledger_entries(&row.name, row.first_seen, until).await.unwrap();
    let epochs = house.store.epochs(&row.name).await.unwrap();
    reconcile(&epochs, &entries, row.first_seen, until).unwrap().unexplained()
}

both! {
    async fn a_window_is_audited_once(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        house.plan(120).await;
        let window = house.store.audit_windows().await.unwrap().remove(0);
        let entries = house.store.ledger_entries(&window.job, window.from, window.until).await.unwrap();
        let account = reconcile(&window.epochs, &entries, window.from, window.until).unwrap();
        let audit = Audit { job: window.job, from: window.from, until: window.until, account };

        let first = house.store.store_audit(&audit).await.unwrap();
        let second = house.store.store_audit(&audit).await.unwrap();

        assert_eq!((first, second), (true, false));
        assert_eq!((window.from, window.until), (at(30), at(120)));
        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
        assert_eq!((row.audit.expected, row.audit.open, row.audit.unexplained()), (2, 1, 0));
        assert_eq!(row.audit.skipped.get("overlap"), Some(&1));
        assert!(house.store.audit_windows().await.unwrap().is_empty());
    }

    async fn a_job_that_comes_back_is_compared_from_where_its_rows_begin(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        let (lease, _) = house.claim_one(60).await;
        house.settle(lease, finish(Outcome::Success), 61).await;
        let window = house.store.audit_windows().await.unwrap().remove(0);
        let entries = house.store.ledger_entries(&window.job, window.from, window.until).await.unwrap();
        let account = reconcile(&window.epochs, &entries, window.from, window.until).unwrap();
        let audit = Audit { job: window.job, from: window.from, until: window.until, account };
        house.store.store_audit(&audit).await.unwrap();
        house.deploy("[jobs.mail]\nrun.noop = {}\n", 70).await;

        house.store.upkeep(at(40 * 86_400)).await.unwrap();
        house.deploy(MINUTE, 40 * 86_400 + 30).await;

        assert!(house.runs("tick").await.iter().all(|run| run.scheduled_for != Some(at(60))), "it was pruned");
        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
        assert_eq!(row.pruned_until, Some(at(60)));
    }

    async fn a_rewind_leaves_no_row_ahead_of_now_and_nothing_doubles(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        let (lease, _) = house.claim_one(60).await;
        // The clock is wrong by an hour for a while: instants are skipped, folded and run that have not come.
        house.plan(120).await;
        house.plan(3_600).await;
        house.settle(lease, finish(Outcome::Success), 3_605).await;
        house.plan(3_660).await;
        let (lease, _) = house.claim_one(3_660).await;
        house.settle(lease, finish(Outcome::Success), 3_661).await;
        house.plan(3_720).await;

        let rewound = house.store.rewind(&name("tick"), at(150)).await.unwrap();
        for minute in 3..=70 {
            house.plan(60 * minute).await;
            for (lease, _) in house.claim(60 * minute, 1).await {
                house.settle(lease, finish(Outcome::Success), 60 * minute).await;
            }
        }

        assert_eq!((rewound.from, rewound.detached), (at(3_720), 1));
        assert_eq!((rewound.removed, rewound.cut), (1, 1), "{rewound:?}");
        assert_eq!(unexplained(&house).await, 0);
        let early = house.runs("tick").await.into_iter().filter(|run| run.scheduled_for.is_none()).count();
        assert_eq!(early, 1, "what happened stays, without an instant");
    }

    async fn a_cursor_that_is_not_ahead_is_left_alone(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;

        for not_ahead in [60, 30, 0] {
            let refused = house.store.rewind(&name("tick"), at(not_ahead)).await;
            assert!(matches!(refused, Err(StoreError::Conflict(_))), "{not_ahead}: {refused:?}");
        }

        let rows = house.store.job_rows().await.unwrap();
        let cursor = rows.iter().find(|row| row.name == name("tick")).and_then(|row| row.planned_until);
        assert_eq!(cursor, Some(at(60)));
        assert!(matches!(house.store.rewind(&name("mail"), at(60)).await, Err(StoreError::Conflict(_))));
        assert!(matches!(house.store.rewind(&name("nobody"), at(60)).await, Err(StoreError::NotFound(_))));
    }
}
