//! Work that was accepted elsewhere (202) and is looked at again and again: what the rules make of it, in virtual time.

mod support;

use chrono::TimeDelta;
use emponto::domain::{
    run::{Failure, Run},
    settle::Ended,
};
use serde_json::json;
use support::world::{World, success};

/// A job of every minute whose work is accepted at once and done elsewhere, seen at the first look 150 s after its start.
async fn world(overlap: &str, delivery: &str) -> World {
    let rules = format!("overlap = \"{overlap}\"\ndelivery = \"{delivery}\"");
    let table = format!("version = 1\n[jobs.probe]\nevery = \"1min\"\ntimezone = \"UTC\"\n{rules}\nrun.noop = {{}}\n");
    let mut world = World::new(&table, "2026-03-02 08:00:30").await;
    let clock = world.clock.clone();
    world.script("probe", move |run: &Run| {
        let begun = run.started_at.expect("it runs");
        let done = run.resume.is_some() && TimeDelta::seconds(150) <= clock.now() - begun;
        let looks = || Failure::pending(std::time::Duration::from_secs(20), json!({ "location": "/jobs/7" }));
        (TimeDelta::zero(), if done { success() } else { Ended::Answered(Err(looks())) })
    });
    world
}

async fn ledger(overlap: &str) -> Vec<String> {
    let mut world = world(overlap, "at_least_once").await;
    world.run_until("2026-03-02 08:06:10").await;
    World::assert_conserved(&world.accounts().await);
    world.ledger_of("probe").await
}

#[track_caller]
fn assert_lines(ledger: &[String], expected: &[&str]) {
    assert_eq!(ledger, expected, "\ngot:\n{}\n", ledger.join("\n"));
}

#[tokio::test]
async fn a_queued_instant_waits_behind_accepted_work_and_is_not_taken_for_it() {
    assert_lines(
        &ledger("queue").await,
        &[
            "02 08:01:00 success",
            "02 08:02:00..02 08:03:00 x2 waiting accepted late 100s",
            "02 08:04:00..02 08:06:00 x3 due",
        ],
    );
}

#[tokio::test]
async fn accepted_work_overlaps_like_running_work() {
    assert_lines(
        &ledger("skip").await,
        &[
            "02 08:01:00 success",
            "02 08:02:00..02 08:03:00 x2 skipped overlap",
            "02 08:04:00 waiting accepted",
            "02 08:05:00..02 08:06:00 x2 skipped overlap",
        ],
    );
}

#[tokio::test]
async fn accepted_work_that_is_replaced_is_cancelled_and_not_skipped() {
    assert_lines(
        &ledger("replace").await,
        &[
            "02 08:01:00 cancelled replaced",
            "02 08:02:00 cancelled replaced",
            "02 08:03:00 cancelled replaced",
            "02 08:04:00 cancelled replaced",
            "02 08:05:00 cancelled replaced",
            "02 08:06:00 waiting accepted",
        ],
    );
}

#[tokio::test]
async fn a_crash_between_looks_costs_a_look() {
    let mut world = world("skip", "at_most_once").await;
    world.run_until("2026-03-02 08:01:45").await;
    world.crash();
    world.run_until("2026-03-02 08:02:15").await;
    world.start().await;
    world.run_until("2026-03-02 08:04:10").await;

    World::assert_conserved(&world.accounts().await);
    assert_lines(
        &world.ledger_of("probe").await,
        &["02 08:01:00 success", "02 08:02:00..02 08:03:00 x2 skipped overlap", "02 08:04:00 waiting accepted"],
    );
}
