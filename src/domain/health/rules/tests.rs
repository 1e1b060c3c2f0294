//! Each rule at its limit and one step beyond, and the table as a whole.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::domain::{
    health::{
        FilaHealth, Status, assess,
        queue::{QueueFigures, WatchedQueue},
        snapshot::FailedReload,
        tests::{at, fine, job, snapshot},
    },
    job::ExpectItems,
    run::Outcome,
};

const NOW: &str = "2026-11-18T13:30:10Z";

/// The alerts of a daemon with one job of every 30 s, after a change.
fn alerts(change: impl FnOnce(&mut Snapshot, &mut Job)) -> Vec<(AlertName, Severity)> {
    let now = at(NOW);
    let (mut look, mut job) = (snapshot(now), job("fila_worker", "every 30s"));
    look.jobs.insert(job.name.clone(), fine(now));
    change(&mut look, &mut job);
    let health = assess(&[Arc::new(job)], &look, now);
    health.alerts.iter().map(|alert| (alert.name, alert.severity)).collect()
}

type Change = fn(&mut Snapshot, &mut Job, i64);

fn stats(look: &mut Snapshot) -> &mut JobStats {
    look.jobs.values_mut().next().expect("there is one job")
}

/// The queue of the job, as it was seen just now.
fn queue<'a>(look: &'a mut Snapshot, job: &mut Job) -> &'a mut QueueFigures {
    job.handler = "fila";
    let fresh = || WatchedQueue { figures: Some(QueueFigures::empty(at(NOW))), ..WatchedQueue::new(ago(3_600)) };
    look.queues.entry(job.name.clone()).or_insert_with(fresh).figures.as_mut().expect("it was seen")
}

fn ago(seconds: i64) -> DateTime<Utc> {
    at(NOW) - TimeDelta::seconds(seconds)
}

/// A rule, how a number puts the daemon at its limit, the last number at which it is silent, the first at which it is not.
const EDGES: &[(AlertName, Change, i64, i64)] = &[
    (AlertName::SchedulerStalled, |s, _, n| s.planner.last_turn = Some(ago(n)), 59, 60),
    (AlertName::SchedulerLag, |s, _, n| s.planner.oldest_owed = Some(ago(n)), 30, 31),
    (AlertName::ClockHold, |s, _, n| s.planner.clock_hold = n == 1, 0, 1),
    (AlertName::DatabaseAway, |s, _, n| s.database.up = n == 0, 0, 1),
    (AlertName::DatabaseLost, |s, _, n| (s.database.up, s.database.since) = (false, ago(n)), 59, 60),
    (AlertName::FiguresOld, |s, _, n| s.sampled_at = Some(ago(n)), 120, 121),
    (AlertName::DatabaseEphemeral, |s, _, n| s.ephemeral = n == 1, 0, 1),
    (AlertName::OccurrencesUnexplained, |s, _, n| s.unexplained = n, 0, 1),
    (
        AlertName::ReloadFailed,
        |s, _, n| s.reload = (n == 1).then(|| FailedReload { since: ago(9), problem: "line 3: no".into() }),
        0,
        1,
    ),
    (AlertName::JobAhead, |s, _, n| stats(s).planned_until = Some(ago(-n)), 60, 61),
    // This replica's own, and one of another replica that has run for its time-out and a minute.
    (AlertName::JobStuck, |s, _, n| stats(s).stuck = n, 0, 1),
    (AlertName::JobStuck, |s, _, n| stats(s).oldest_attempt = Some(ago(n)), 360, 361),
    (AlertName::JobNeverRan, |s, _, n| *stats(s) = JobStats::new(ago(n)), 370, 400),
    (AlertName::JobStale, |s, _, n| stats(s).last_success = Some(ago(n)), 370, 400),
    (AlertName::JobFailingRepeatedly, |s, _, n| stats(s).consecutive_failures = n, 2, 3),
    (AlertName::JobFailures, |s, _, n| stats(s).recent_failures = n, 3, 4),
    (AlertName::JobErrorRate, |s, _, n| (stats(s).day.judged_1h, stats(s).day.failures_1h) = (100, n), 10, 11),
    (AlertName::JobErrorRate, |s, _, n| (stats(s).day.judged_1h, stats(s).day.failures_1h) = (n, n), 9, 10),
    (AlertName::JobFailing, |s, _, n| stats(s).consecutive_failures = n, 0, 1),
    (AlertName::JobSlow, |s, _, n| stats(s).last_duration_ms = Some(n), 60_000, 60_001),
    (
        AlertName::JobSuspicious,
        |s, job, n| {
            job.policy.expect_items = ExpectItems::Some;
            stats(s).empty_successes = n;
        },
        2,
        3,
    ),
    (AlertName::QueueBacklog, |s, _, n| stats(s).waiting = n, 100, 101),
    (AlertName::QueueBacklog, |s, _, n| stats(s).left = Some(n), 100, 101),
    (AlertName::QueueBacklog, |s, job, n| queue(s, job).left = n, 100, 101),
    (AlertName::QueueUnseen, |s, job, n| queue(s, job).at = ago(n), 120, 121),
    (AlertName::FilaBacklog, |s, job, n| queue(s, job).left = n, 500, 501),
    (AlertName::FilaStuck, |s, job, n| queue(s, job).stuck = Some(n), 0, 1),
    (AlertName::FilaStuckMany, |s, job, n| queue(s, job).stuck = Some(n), 9, 10),
    (AlertName::FilaErrors, |s, job, n| queue(s, job).errors_1h = Some(n), 10, 11),
    (AlertName::FilaLate, |s, job, n| queue(s, job).oldest_due = Some(ago(n)), 3_600, 3_601),
];

fn edge(rule: &Rule) -> &'static (AlertName, Change, i64, i64) {
    EDGES.iter().find(|(name, ..)| *name == rule.name).expect("every rule has an edge")
}

#[test]
fn each_rule_holds_beyond_its_limit_and_not_at_it() {
    for (name, change, silent, holding) in EDGES {
        let found = |n| alerts(|look, job| change(look, job, n)).iter().any(|(found, _)| found == name);

        assert!(!found(*silent), "{name} at {silent}");
        assert!(found(*holding), "{name} at {holding}");
    }
}

#[test]
fn every_rule_has_an_edge_and_every_name_a_rule() {
    let ruled: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    let edged: BTreeSet<_> = EDGES.iter().map(|(name, ..)| *name).collect();

    assert_eq!(ruled, AlertName::ALL, "each name has one rule, in the order of the table");
    assert_eq!(edged.into_iter().collect::<Vec<_>>(), ruled);
}

#[test]
fn a_rule_weighs_what_the_table_says() {
    for rule in RULES {
        let (_, change, _, holding) = edge(rule);
        let severity = |critical| {
            let found = alerts(|look, job| {
                job.policy.critical = critical;
                change(look, job, *holding);
            });
            found.iter().find(|(name, _)| *name == rule.name).unwrap().1
        };

        let expected = match rule.weight {
            Weight::Warning => [Severity::Warning, Severity::Warning],
            Weight::Critical => [Severity::Critical, Severity::Critical],
            Weight::OfItsJob => [Severity::Warning, Severity::Critical],
        };
        assert_eq!([severity(false), severity(true)], expected, "{}", rule.name);
    }
}

#[test]
fn a_job_that_is_switched_off_breaks_no_rule_of_a_job() {
    for rule in RULES.iter().filter(|rule| rule.scope() == "job") {
        let (name, change, _, holding) = edge(rule);
        let paused = alerts(|look, job| {
            change(look, job, *holding);
            stats(look).paused = true;
        });
        let disabled = alerts(|look, job| {
            change(look, job, *holding);
            job.disabled = Some("enabled = false".into());
        });

        assert_eq!((paused, disabled), (Vec::new(), Vec::new()), "{name}");
    }
}

#[test]
fn the_limits_of_the_message_queue_are_for_the_message_queue_alone() {
    for rule in RULES.iter().filter(|rule| rule.name.word().starts_with("Fila")) {
        let (name, change, _, holding) = edge(rule);

        let found = alerts(|look, job| {
            change(look, job, *holding);
            job.handler = "drain";
        });

        assert!(!found.iter().any(|(found, _)| found == name), "{name} of a drain");
    }
}

#[test]
fn what_waits_is_told_while_its_job_is_paused_and_never_turns_the_daemon_critical() {
    let now = at(NOW);
    let (mut look, mut job) = (snapshot(now), job("fila_worker", "every 30s"));
    job.policy.critical = true;
    look.jobs.insert(job.name.clone(), JobStats { paused: true, ..fine(now) });
    (queue(&mut look, &mut job).left, look.database.up) = (501, true);

    let jobs = [Arc::new(job)];
    let health = assess(&jobs, &look, now);

    let names: Vec<_> = health.alerts.iter().map(|alert| alert.name).collect();
    assert_eq!(names, [AlertName::QueueBacklog, AlertName::FilaBacklog]);
    assert_eq!((health.status, health.queue_size), (Status::Degraded, 501));
    assert_eq!(FilaHealth::new(&jobs, &look, &health).status, "critical");
}

#[test]
fn an_alert_says_since_when_and_gives_words_from_outside_apart() {
    let now = at(NOW);
    let job = Arc::new(job("fila_worker", "every 30s"));
    let mut look = snapshot(now);
    look.reload = Some(FailedReload { since: ago(9), problem: "line 3: s3cret".into() });
    let failed = JobStats { consecutive_failures: 3, last_error: Some("s3cret".into()), ..fine(now) };
    look.jobs.insert(job.name.clone(), JobStats { last_failure: Some(ago(5)), ..failed });

    let health = assess(&[job], &look, now);

    let said = serde_json::to_string(&health).unwrap();
    let public = serde_json::to_string(&health.clone().without_free_text()).unwrap();
    assert_eq!((said.matches("s3cret").count(), public.matches("s3cret").count()), (3, 0), "{said}");
    let alert = |name| health.alerts.iter().find(|alert| alert.name == name).unwrap();
    assert_eq!(alert(AlertName::ReloadFailed).since, Some(ago(9)));
    assert_eq!(alert(AlertName::JobFailing).since, Some(ago(5)));
}

#[test]
fn a_rule_that_must_hold_for_a_while_knows_since_when_it_does() {
    for rule in RULES.iter().filter(|rule| !rule.held_for.is_zero()) {
        let (_, change, silent, _) = edge(rule);
        let now = at(NOW);
        let (mut look, mut job) = (snapshot(now), job("fila_worker", "every 30s"));
        change(&mut look, &mut job, *silent);

        let Decide::Daemon(decide) = rule.decide else { panic!("{} waits, and is no rule of the daemon", rule.name) };

        let found = decide(&Look { snapshot: &look, now });
        assert!(found.is_some_and(|found| found.since.is_some()), "{}", rule.name);
    }
}

#[test]
fn the_expression_of_a_rule_has_its_limit() {
    for rule in RULES {
        let expression = rule.expression();

        assert!(!expression.contains("{limit}") && !expression.contains("  "), "{expression}");
        if let Limit::Constant { value, .. } = rule.limit {
            assert!(expression.contains(&value.to_string()), "{}: {expression}", rule.name);
        }
    }
}

#[test]
fn the_share_of_failures_counts_the_outcomes_that_are_failures() {
    let share = RULES.iter().find(|rule| rule.name == AlertName::JobErrorRate).unwrap().expression();
    let matcher = |which: &dyn Fn(Outcome) -> bool| -> BTreeSet<&str> {
        Outcome::ALL.iter().copied().filter(|outcome| which(*outcome)).map(Outcome::word).collect()
    };
    let matchers: Vec<BTreeSet<&str>> =
        share.split("outcome=~\"").skip(1).map(|rest| rest.split('"').next().unwrap().split('|').collect()).collect();

    let failed = matcher(&Outcome::is_failure);
    let judged = matcher(&|outcome| outcome.is_failure() || outcome.is_success());
    assert_eq!(matchers, [failed, judged.clone(), judged]);
    assert!(share.contains(&format!(">= {FEWEST_JUDGED} ")), "{share}");
}
