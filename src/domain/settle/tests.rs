//! What becomes of a run, as a table of cases.

use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::domain::{
    job::{Backoff, CatchUp, ExpectItems, JobName, Keep, Overlap, Retry},
    run::{RunId, State, Trigger},
};

const SECOND: Duration = Duration::from_secs(1);

fn now() -> DateTime<Utc> {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

fn policy(delivery: Delivery) -> Policy {
    Policy {
        timeout: SECOND * 300,
        slow_after: SECOND * 60,
        retry: Retry {
            max_attempts: 3,
            backoff: Backoff::Exponential { first: SECOND * 5, most: SECOND * 300 },
            jitter: false,
        },
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        catch_up_within: TimeDelta::hours(24),
        delivery,
        critical: false,
        stale_after: None,
        expect_items: ExpectItems::Any,
        priority: 0,
        concurrency: None,
        keep: Keep { done: SECOND, failed: SECOND },
    }
}

fn run(attempt: i32, crashes: i32) -> Run {
    Run {
        id: RunId(Uuid::nil()),
        job: JobName::parse("probe").unwrap(),
        epoch: 1,
        trigger: Trigger::Schedule,
        scheduled_for: Some(now()),
        covers: 1,
        covers_from: Some(now()),
        state: State::Running,
        outcome: None,
        reason: None,
        due_at: now(),
        priority: 0,
        key: None,
        dedupe_key: None,
        payload: Value::Null,
        attempt,
        max_attempts: 3,
        crashes,
        exclusive: true,
        replica: None,
        resume: None,
        retry_of: None,
        cancel_requested_at: None,
        created_at: now(),
        started_at: Some(now()),
        finished_at: None,
        lag_ms: Some(0),
        duration_ms: None,
        items: None,
        items_failed: None,
        response_code: None,
        result: None,
        error: None,
        errors: json!([]),
    }
}

/// `error exhausted`, `again 5s`, `again 0s interrupted, attempt kept`.
fn show(settlement: &Settlement) -> String {
    let kept = if settlement.attempt_spent { "" } else { ", attempt kept" };
    match &settlement.next {
        Next::Finish { outcome, reason } => {
            format!("{outcome}{}{kept}", reason.map(|reason| format!(" {reason}")).unwrap_or_default())
        }
        Next::Again { at, reason } => {
            let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
            format!("again {}s{reason}{kept}", (*at - now()).num_seconds())
        }
    }
}

fn failed(failure: Failure) -> Ended {
    Ended::Answered(Err(failure))
}

#[test]
fn every_end_has_one_outcome() {
    let report =
        |items, items_failed| Ended::Answered(Ok(Report { items: Some(items), items_failed, ..Report::default() }));
    let minute = SECOND * 60;
    const BACK: &str = "again 0s interrupted, attempt kept";
    let cases = [
        (1, 0, report(3, 0), "success", "success"),
        (1, 0, report(0, 0), "success", "success"),
        (1, 0, report(3, 1), "partial", "partial"),
        (1, 0, report(0, 2), "again 5s", "unknown"),
        (1, 0, failed(Failure::retry("x")), "again 5s", "unknown"),
        (2, 0, failed(Failure::retry("x")), "again 10s", "unknown"),
        (3, 0, failed(Failure::retry("x")), "error exhausted", "unknown"),
        (3, 1, failed(Failure::retry("x")), "again 10s", "unknown"),
        (1, 0, failed(Failure::retry("x").before_effect()), "again 5s", "again 5s"),
        (1, 0, failed(Failure::new(FailureKind::RetryAfter(minute), "x")), "again 60s", "unknown"),
        (9, 0, failed(Failure::snooze(minute, "x")), "again 60s, attempt kept", "unknown"),
        (
            9,
            0,
            failed(Failure::snooze(minute, "x").before_effect()),
            "again 60s, attempt kept",
            "again 60s, attempt kept",
        ),
        (1, 0, failed(Failure::snooze(minute * 60 * 25, "x")), "error exhausted", "unknown"),
        (1, 0, failed(Failure::permanent("x")), "error permanent", "error permanent"),
        (
            1,
            0,
            failed(Failure::skipped(Reason::NotConfigured, "x")),
            "skipped not_configured",
            "skipped not_configured",
        ),
        (1, 0, Ended::TimedOut, "again 5s", "unknown"),
        (3, 0, Ended::TimedOut, "timeout exhausted", "unknown"),
        (3, 0, Ended::Panicked("boom".into()), "panic exhausted", "unknown"),
        (3, 0, Ended::Interrupted, BACK, "unknown interrupted"),
        (3, 0, Ended::Stopped(Failure::retry("x")), BACK, "unknown interrupted"),
        (3, 0, Ended::Stopped(Failure::retry("x").before_effect()), BACK, BACK),
        (3, 0, Ended::Stopped(Failure::permanent("x")), "error permanent", "error permanent"),
        (1, 0, Ended::Cancelled(Reason::Operator), "cancelled operator", "unknown operator"),
        (1, 0, Ended::GateClosed, "skipped gate, attempt kept", "skipped gate, attempt kept"),
    ];

    for (attempt, crashes, ended, at_least_once, at_most_once) in cases {
        let run = run(attempt, crashes);
        let least = settle(&run, &policy(Delivery::AtLeastOnce), ended.clone(), now());
        let most = settle(&run, &policy(Delivery::AtMostOnce), ended.clone(), now());
        assert_eq!(
            (show(&least).as_str(), show(&most).as_str()),
            (at_least_once, at_most_once),
            "{attempt} {crashes} {ended:?}"
        );
    }
}

#[test]
fn a_snooze_is_bounded_from_the_first_attempt_that_ended() {
    let mut run = run(1, 0);
    run.errors = json!([{ "attempt": 1, "at": "2026-03-01T08:30:00Z", "error": "busy" }]);
    let policy = policy(Delivery::AtLeastOnce);

    let within = settle(&run, &policy, failed(Failure::snooze(SECOND * 60, "busy")), now());
    let beyond = settle(&run, &policy, failed(Failure::snooze(SECOND * 3_600, "busy")), now());

    assert_eq!((show(&within).as_str(), show(&beyond).as_str()), ("again 60s, attempt kept", "error exhausted"));
}

#[test]
fn what_a_stopped_handler_hands_over_is_kept() {
    let failure = Failure { resume: Some(json!({ "page": 7 })), ..Failure::retry("stopping") };

    let settlement = settle(&run(1, 0), &policy(Delivery::AtLeastOnce), Ended::Stopped(failure), now());

    assert_eq!(settlement.resume, Some(json!({ "page": 7 })));
    assert_eq!(settlement.error.as_deref(), Some("stopping"));
}

#[test]
fn a_gone_endpoint_pauses_its_job() {
    let settlement =
        settle(&run(1, 0), &policy(Delivery::AtLeastOnce), failed(Failure::new(FailureKind::Pause, "410")), now());

    assert!(settlement.pause_job);
    assert_eq!(show(&settlement), "error permanent");
}

#[test]
fn only_a_run_without_an_instant_is_deleted_on_success() {
    let mut policy = policy(Delivery::AtLeastOnce);
    policy.keep.done = Duration::ZERO;
    let ended = Ended::Answered(Ok(Report::default()));
    let queued = Run { scheduled_for: None, covers: 0, covers_from: None, ..run(1, 0) };

    assert!(!settle(&run(1, 0), &policy, ended.clone(), now()).delete);
    assert!(settle(&queued, &policy, ended, now()).delete);
}

#[test]
fn what_comes_from_outside_is_cleaned_and_capped() {
    let report = Report { result: Some(json!({ "text": "a\0b" })), ..Report::items(1) };
    let large = Report { result: Some(json!("x".repeat(MAX_RESULT_BYTES + 1))), ..Report::items(1) };
    let policy = policy(Delivery::AtLeastOnce);

    let kept = settle(&run(1, 0), &policy, Ended::Answered(Ok(report)), now());
    let named = settle(&run(1, 0), &policy, Ended::Answered(Ok(large)), now());
    let error = settle(&run(1, 0), &policy, failed(Failure::permanent("x\0y")), now());

    assert_eq!(kept.result, Some(json!({ "text": "a\u{fffd}b" })));
    assert!(named.result.unwrap().as_str().unwrap().starts_with("result of"));
    assert_eq!(error.error.unwrap(), "x\u{fffd}y");
}

#[test]
fn jitter_moves_a_wait_by_a_quarter_at_most_and_always_the_same_way() {
    let mut policy = policy(Delivery::AtLeastOnce);
    policy.retry.jitter = true;
    policy.retry.backoff = Backoff::Linear { step: SECOND * 50 };

    for attempt in 1..=2 {
        let settled = settle(&run(attempt, 0), &policy, failed(Failure::retry("x")), now());
        let Next::Again { at, .. } = settled.next else { panic!("no retry") };
        let wait = (at - now()).num_milliseconds();
        let plain = 50_000 * (i64::from(attempt) + 1);
        assert!((plain * 3 / 4..=plain * 5 / 4).contains(&wait), "{wait}");
        assert_eq!(settle(&run(attempt, 0), &policy, failed(Failure::retry("x")), now()).next, settled.next);
    }
}

#[test]
fn a_run_that_was_stopped_before_its_handler_began_goes_round_again_whatever_its_delivery() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let settled = settle(&run(1, 0), &policy(delivery), Ended::Unstarted, now());

        assert_eq!(settled.next, Next::Again { at: now(), reason: Some(Reason::Interrupted) });
        assert!(!settled.attempt_spent);
    }
}

#[test]
fn accepted_work_waits_and_looking_at_it_spends_no_attempt_and_leaves_no_error() {
    let resume = json!({ "location": "/jobs/7" });
    let accepted = Run { resume: Some(resume.clone()), ..run(2, 0) };

    for (run, spent) in [(run(1, 0), true), (accepted, false)] {
        let pending = Failure::pending(Duration::from_secs(5), resume.clone());
        let settlement = settle(&run, &policy(Delivery::AtMostOnce), Ended::Answered(Err(pending)), now());

        assert_eq!(settlement.next, Next::Again { at: now() + TimeDelta::seconds(5), reason: Some(Reason::Accepted) });
        let kept = (settlement.attempt_spent, settlement.error, settlement.resume);
        assert_eq!(kept, (spent, None, Some(resume.clone())), "a run that has begun is not one that never started");
    }
}

#[test]
fn at_most_once_waits_only_when_nothing_can_have_happened() {
    let snooze = || Failure::snooze(Duration::from_secs(5), "busy");
    let end = |failure| settle(&run(1, 0), &policy(Delivery::AtMostOnce), Ended::Answered(Err(failure)), now()).next;

    assert_eq!(end(snooze()), Next::Finish { outcome: Outcome::Unknown, reason: None });
    assert_eq!(end(snooze().before_effect()), Next::Again { at: now() + TimeDelta::seconds(5), reason: None });
}

#[test]
fn at_most_once_may_go_on_from_where_the_work_was_accepted() {
    let policy = policy(Delivery::AtMostOnce);
    let accepted = Run { resume: Some(json!({ "location": "/jobs/7" })), ..run(1, 0) };

    for ended in [Ended::TimedOut, Ended::Interrupted, Ended::Answered(Err(Failure::retry("reset")))] {
        let doubtful = settle(&run(1, 0), &policy, ended.clone(), now());
        let safe = settle(&accepted, &policy, ended, now());

        assert!(matches!(doubtful.next, Next::Finish { outcome: Outcome::Unknown, .. }), "{doubtful:?}");
        assert!(matches!(safe.next, Next::Again { .. }), "{safe:?}");
    }
}

#[test]
fn last_words_explain_an_end_and_do_not_decide_it() {
    let report = Report { result: Some(json!({ "stderr": "waiting for a lock" })), ..Report::default() };
    let words = Failure::permanent("python was told to stop").with_report(report);
    for (ended, shown, error) in [
        (Ended::TimedOut, "timeout exhausted", "no end within 300 s; python was told to stop"),
        (Ended::Interrupted, "again 0s interrupted, attempt kept", "python was told to stop"),
        (Ended::Cancelled(Reason::Operator), "cancelled operator", "python was told to stop"),
    ] {
        let settlement = settle(&run(3, 0), &policy(Delivery::AtLeastOnce), ended, now()).with_last_words(&words);

        assert_eq!(show(&settlement), shown);
        assert_eq!(settlement.error.as_deref(), Some(error));
        assert_eq!(settlement.result, Some(json!({ "stderr": "waiting for a lock" })));
    }
}
