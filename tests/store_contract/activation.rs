//! Activation: which table is the active one, and what an edit does to what is owed.

use emponto::{domain::run::ReplicaId, store::Kind};
use uuid::Uuid;

use super::house::{House, MINUTE, at, name, read_table};

const HOURLY: &str = "[jobs.tick]\nevery = \"1h\"\nrun.noop = {}\n[jobs.mail]\nrun.noop = {}\n";
const ONLY_MAIL: &str = "[jobs.mail]\nrun.noop = {}\n";

both! {
    async fn the_active_table_stays_when_it_is_activated_again(house: House) {
        let mut house = house;
        assert_eq!(house.store.active_table().await.unwrap(), None);
        house.deploy(MINUTE, 0).await;

        let again = house.activate(10, false).await;

        assert_eq!((again.active, again.changed), (true, false));
        assert_eq!(house.store.active_table().await.unwrap(), Some(house.table.hash.clone()));
    }

    async fn an_unseen_table_activates_and_one_seen_before_waits_for_the_living(house: House) {
        let mut house = house;
        let (old, new) = (ReplicaId(Uuid::now_v7()), ReplicaId(Uuid::now_v7()));
        house.replica = old;
        assert!(house.activate(0, false).await.changed);
        let (old_table, new_table) = (read_table(MINUTE), read_table(HOURLY));
        house.replica = new;
        house.table = new_table.clone();
        house.register(new, 10).await;
        assert!(house.activate(10, false).await.changed);
        house.store.renew(new, at(20), at(50)).await.unwrap();

        // The old container restarts in the middle of the rollout.
        house.replica = old;
        house.table = old_table;
        let early = house.activate(30, false).await;
        let late = house.activate(81, false).await;

        let alone = house.store.kind() == Kind::Sqlite;
        assert_eq!(early.active, alone, "on SQLite nobody else can be there");
        assert!(late.active);
        assert_eq!(early.active_table == new_table.hash, !alone);
    }

    async fn a_higher_revision_activates_at_once(house: House) {
        let mut house = house;
        let first = format!("revision = 1\n{MINUTE}");
        let second = format!("revision = 2\n{MINUTE}");
        house.deploy(&second, 0).await;
        house.deploy(&first, 1).await;
        house.register(ReplicaId(Uuid::now_v7()), 1).await;

        house.table = read_table(&second);
        let higher = house.activate(2, false).await;
        house.register(ReplicaId(Uuid::now_v7()), 2).await;
        house.table = read_table(&first);
        let lower = house.activate(3, false).await;

        assert!(higher.changed);
        assert_eq!(lower.active, house.store.kind() == Kind::Sqlite);
    }

    async fn an_edit_closes_the_epoch_and_records_what_was_owed(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;

        let activation = house.deploy(HOURLY, 245).await;
        house.plan(3_600).await;

        assert_eq!(activation.epochs_opened, [name("tick")]);
        let rows = [
            "60..60 x1 schedule due - #0",
            "120..180 x2 schedule skipped edited #0",
            "240..240 x1 schedule skipped overlap #0",
            "3600..3600 x1 schedule skipped overlap #0",
        ];
        assert_eq!(house.rows("tick").await, rows);
        assert_eq!(activation.bill.iter().map(|row| row.covers).sum::<i64>(), 3);
        let epochs = house.store.epochs(&name("tick")).await.unwrap();
        let spans: Vec<_> = epochs.iter().map(|epoch| (epoch.epoch, epoch.valid_from, epoch.valid_until)).collect();
        assert_eq!(spans, [(1, at(30), Some(at(245))), (2, at(245), None)]);
    }

    async fn a_removed_job_owes_nothing_and_comes_back_owing_nothing(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;

        let removed = house.deploy(ONLY_MAIL, 130).await;
        let back = house.deploy(MINUTE, 400).await;
        house.plan(420).await;

        assert_eq!((removed.retired, back.epochs_opened), (vec![name("tick")], vec![name("tick")]));
        let rows = ["60..120 x2 schedule skipped removed #0", "420..420 x1 schedule due - #0"];
        assert_eq!(house.rows("tick").await, rows);
    }

    async fn a_renamed_job_keeps_history_and_cursor(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;
        let renamed = "[jobs.tock]\nevery = \"1min\"\nprevious_names = [\"tick\"]\nrun.noop = {}\n";

        let activation = house.deploy(renamed, 70).await;
        house.plan(120).await;

        assert_eq!(activation.renamed, [(name("tick"), name("tock"))]);
        assert!(house.rows("tick").await.is_empty());
        let rows = ["60..60 x1 schedule due - #0", "120..120 x1 schedule skipped overlap #0"];
        assert_eq!(house.rows("tock").await, rows);
        assert_eq!(house.store.epochs(&name("tock")).await.unwrap().len(), 1);
    }

    async fn a_change_of_rules_opens_no_epoch(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;
        house.plan(60).await;

        let activation = house.deploy("[jobs.tick]\nevery = \"1min\"\npriority = 4\nrun.noop = {}\n", 70).await;

        assert!(activation.epochs_opened.is_empty() && activation.bill.is_empty());
        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
        assert_eq!((row.epoch, row.planned_until), (1, Some(at(60))));
        assert_eq!(row.work_hash, house.table.jobs[&name("tick")].job.work_hash);
    }

    async fn a_job_that_becomes_a_queue_has_no_cursor_any_more(house: House) {
        let mut house = house;
        house.deploy(MINUTE, 30).await;

        house.deploy("[jobs.tick]\nrun.noop = {}\n", 100).await;

        let row = house.store.job_rows().await.unwrap().into_iter().find(|row| row.name == name("tick")).unwrap();
        assert_eq!((row.epoch, row.planned_until), (2, None));
        let epochs = house.store.epochs(&name("tick")).await.unwrap();
        assert!(epochs[1].schedule.is_none());
    }

    async fn two_replicas_activate_a_new_table_once(house: House) {
        let mut house = house;
        house.table = read_table(MINUTE);
        let other = house.ledger.again().await;
        let (mine, theirs) = (house.activation(0, false), house.activation(0, false));

        let (mine, theirs) = tokio::join!(house.store.activate(&mine), other.activate(&theirs));

        let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
        assert!(mine.active && theirs.active);
        assert_ne!(mine.changed, theirs.changed);
    }
}
