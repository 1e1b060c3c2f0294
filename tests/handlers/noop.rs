//! `noop`: sleeps, fails and stops as told.

use std::time::{Duration, Instant};

use emponto::domain::run::{FailureKind, Report};
use serde_json::json;

use crate::attempt::{checked, commit, context, no_database, work};

#[tokio::test]
async fn noop_does_nothing_and_reports_no_items() {
    let report = commit(work("noop", json!({})).run(context(no_database())).await).await;

    assert_eq!(report, Ok(Report::default()));
}

#[tokio::test]
async fn noop_fails_as_often_as_it_is_told() {
    let failing = work("noop", json!({ "fail": 1 }));
    let sound = work("noop", json!({ "fail": 0.0 }));

    for _ in 0..50 {
        let failure = commit(failing.run(context(no_database())).await).await.expect_err("fail = 1");
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
        assert!(sound.run(context(no_database())).await.is_ok());
    }
    for fail in [-0.1, 1.1] {
        let errors = checked("noop", json!({ "fail": fail }), &Default::default()).expect_err("no share");
        assert_eq!(errors, [format!("fail is {fail}, and must be between 0 and 1")]);
    }
}

#[tokio::test]
async fn noop_sleeps_on_when_the_process_is_told_to_stop() {
    let ctx = context(no_database());
    ctx.cancelled.cancel();
    let begun = Instant::now();

    commit(work("noop", json!({ "sleep": "50ms" })).run(ctx).await).await.expect("it fits into the grace");

    assert!(Duration::from_millis(50) <= begun.elapsed());
}

#[tokio::test]
async fn noop_sleeps_as_long_as_it_is_told() {
    let begun = Instant::now();

    commit(work("noop", json!({ "sleep": "50ms" })).run(context(no_database())).await).await.expect("slept");

    assert!(Duration::from_millis(50) <= begun.elapsed());
}
