//! `when = { sql = ... }`: what opens a gate.

use emponto::{domain::run::FailureKind, handlers::ask_gate};

use crate::attempt::Home;

#[tokio::test]
async fn a_gate_opens_for_true_and_for_numbers_other_than_0() {
    for home in Home::both().await {
        home.execute("create table flags (name text, value integer)").await;
        home.execute("insert into flags values ('on', 1), ('off', 0), ('much', -7), ('unknown', null)").await;
        for (query, is_open) in [
            ("select value from flags where name = 'on'", true),
            ("select value from flags where name = 'much'", true),
            ("select value from flags where name = 'off'", false),
            ("select value from flags where name = 'unknown'", false),
            ("select value from flags where name = 'absent'", false),
            ("select count(*) from flags", true),
            ("select 1 = 1", true),
            ("select 1 = 2", false),
            ("select name from flags", false),
        ] {
            let tx = (home.app().begin)().await.expect("a transaction");

            assert_eq!(ask_gate(tx, query).await, Ok(is_open), "{query}");
        }
    }
}

#[tokio::test]
async fn a_gate_changes_nothing_and_says_what_is_wrong_with_it() {
    for home in Home::both().await {
        home.execute("create table flags (value integer)").await;
        let begin = || async { (home.app().begin)().await.expect("a transaction") };

        let open = ask_gate(begin().await, "insert into flags values (1) returning value").await;
        let failure = ask_gate(begin().await, "select value from absent").await.expect_err("no such table");

        assert_eq!(open, Ok(true));
        assert!(home.texts("select cast(value as text) from flags").await.is_empty());
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        assert!(failure.message.starts_with("gate: ") && failure.message.contains("absent"), "{}", failure.message);
    }
}
