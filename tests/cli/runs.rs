//! `runs cancel`, `retry`, `prune`: what people change in the ledger, and what they cannot.

use serde_json::Value;

use super::{
    saying::{complain, json, say, told},
    seeded::{IDS, execute, seeded},
};
use crate::support::daemon::Setup;

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

fn run(setup: &Setup, id: &str) -> Value {
    json(&say(setup, &["runs", "show", id, "-o", "json"], 0))
}

#[test]
fn what_waits_is_cancelled_and_what_has_ended_is_not() {
    let setup = seeded();

    let cancelled = json(&say(&setup, &["runs", "cancel", IDS[5], "-o", "json"], 0));

    assert_eq!((&cancelled[0]["run"], &cancelled[0]["was"]), (&IDS[5].into(), &"waiting".into()));
    assert_eq!(
        (&run(&setup, IDS[5])["outcome"], &run(&setup, IDS[5])["reason"]),
        (&"cancelled".into(), &"operator".into())
    );
    let (code, _, stderr) = told(&setup.run(&["runs", "cancel", IDS[5]]));
    assert_eq!(code, Some(8));
    assert!(stderr.contains("has finished"), "{stderr}");
    let (code, _, stderr) = told(&setup.run(&["runs", "cancel", NOBODY]));
    assert_eq!(code, Some(7));
    assert!(stderr.contains("no run 00000000"), "{stderr}");
    complain(&setup, &["runs", "cancel", "seven"], 2, "seven");
    complain(&setup, &["runs", "cancel"], 2, "--job");
    complain(&setup, &["runs", "cancel", "--state", "finished"], 2, "cannot be cancelled");
    complain(&setup, &["runs", "cancel", "--job", "mial"], 7, "did you mean mail?");
}

#[test]
fn one_of_several_that_cannot_be_cancelled_does_not_keep_the_others() {
    let setup = seeded();

    let (code, stdout, stderr) = told(&setup.run(&["runs", "cancel", NOBODY, IDS[0], IDS[5], "-o", "jsonl"]));

    assert_eq!(code, Some(7), "the first reason");
    assert_eq!(json(&stdout)["run"], IDS[5]);
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
}

#[test]
fn runs_are_cancelled_by_filter_and_a_dry_run_changes_nothing() {
    let mut daemon =
        Setup::new("version = 1\n[jobs.mail]\nrun.noop = {}\n[jobs.slow]\nrun.noop = { sleep = \"60s\" }\n").start();
    let setup = &daemon.setup;
    for _ in 0..3 {
        say(setup, &["trigger", "mail", "--in", "1h"], 0);
    }
    let id = say(setup, &["trigger", "slow"], 0).trim().to_owned();
    daemon.wait_for("a run under way", |daemon| run(&daemon.setup, &id)["state"] == "running");
    let setup = &daemon.setup;

    assert_eq!(
        json(&say(setup, &["runs", "cancel", "--job", "mail", "--dry-run", "-o", "json"], 0))["would_cancel"],
        3
    );
    let ended = json(&say(setup, &["runs", "cancel", "--job", "mail", "--state", "waiting", "-o", "json"], 0));
    let again = say(setup, &["runs", "cancel", "--job", "mail"], 0);
    let asked = json(&say(setup, &["runs", "cancel", "--state", "running", "-o", "json"], 0));

    assert_eq!((&ended["cancelled"], &ended["asked_to_end"]), (&3.into(), &0.into()));
    assert_eq!(again, "cancelled     0\nasked to end  0\n");
    assert_eq!((&asked["cancelled"], &asked["asked_to_end"]), (&0.into(), &1.into()));
    daemon.wait_for("the end of what ran", |daemon| run(&daemon.setup, &id)["outcome"] == "cancelled");
}

#[test]
fn a_retry_is_a_new_run_that_names_the_old_one() {
    let setup = seeded();
    let old = run(&setup, IDS[4]);

    let retried = json(&say(&setup, &["runs", "retry", IDS[4], "--payload", "{\"n\": 2}", "-o", "json"], 0));

    assert_eq!((&retried[0]["retry_of"], &retried[0]["job"]), (&IDS[4].into(), &"mail".into()));
    let new = run(&setup, retried[0]["run"].as_str().unwrap());
    assert_eq!((&new["retry_of"], &new["trigger"], &new["state"]), (&IDS[4].into(), &"retry".into(), &"due".into()));
    assert_eq!(new["payload"]["n"], 2);
    assert_eq!(run(&setup, IDS[4]), old, "the old row is a fact");
    let (code, _, stderr) = told(&setup.run(&["runs", "retry", IDS[4]]));
    assert_eq!(code, Some(8));
    assert!(stderr.contains("was retried before, by run"), "{stderr}");
    assert_eq!(told(&setup.run(&["runs", "retry", IDS[5]])).0, Some(8), "it has not finished");
    assert_eq!(told(&setup.run(&["runs", "retry", NOBODY])).0, Some(7));
    complain(&setup, &["runs", "retry", "--job", "mail", "--payload", "{}"], 2, "--payload");
    complain(&setup, &["runs", "retry"], 2, "--since");
}

#[test]
fn failures_are_retried_together_once_and_no_more_than_the_limit() {
    let setup = seeded();
    let all = ["runs", "retry", "--since", "2026-01-01"];
    let with = |more: &[&'static str]| [&all[..], more].concat();

    assert_eq!(say(&setup, &with(&["--dry-run", "-n", "1"]), 0), "would retry  1\nmatching     2\n");
    let (code, stdout, stderr) = told(&setup.run(&with(&["-n", "1", "-o", "jsonl"])));
    assert_eq!((code, &json(&stdout)["retry_of"]), (Some(0), &IDS[2].into()), "the oldest first");
    assert!(stderr.contains("1 more match"), "{stderr}");
    let rest = json(&say(&setup, &with(&["-o", "json"]), 0));
    assert_eq!((rest.as_array().unwrap().len(), &rest[0]["retry_of"]), (1, &IDS[4].into()));
    assert_eq!(say(&setup, &with(&["-o", "json"]), 0), "[]\n", "saying it twice does nothing twice");
    let partial = json(&say(&setup, &["runs", "retry", "--outcome", "partial", "-o", "json"], 0));
    assert_eq!(partial[0]["retry_of"], IDS[3]);
    complain(&setup, &with(&["-n", "0"]), 2, "0");
    complain(&setup, &["runs", "retry", "--outcome", "sad"], 2, "sad");
}

#[test]
fn only_what_the_audit_has_counted_is_pruned() {
    let setup = seeded();
    let prune = ["runs", "prune", "--older-than", "1d", "-o", "json"];

    let before = json(&say(&setup, &["runs", "prune", "--job", "sync", "--older-than", "1d", "-o", "json"], 0));
    assert_eq!(before[0]["runs"], 0, "nothing of it was counted yet");
    execute(&setup, "update workers_jobs set audited_until = planned_until where name = 'sync'");
    let dry = json(&say(&setup, &[&prune[..], &["--dry-run"]].concat(), 0));
    let kept = json(&say(&setup, &["runs", "list", "-o", "json"], 0)).as_array().unwrap().len();
    let failed = json(&say(&setup, &[&prune[..], &["--outcome", "error"]].concat(), 0));
    let done = json(&say(&setup, &prune, 0));

    assert_eq!(kept, IDS.len(), "a dry run removes nothing");
    let runs =
        |lines: &Value| -> i64 { lines.as_array().unwrap().iter().map(|line| line["runs"].as_i64().unwrap()).sum() };
    assert_eq!((runs(&failed), runs(&failed) + runs(&done)), (1, runs(&dry)));
    let left: Vec<_> = json(&say(&setup, &["runs", "list", "-o", "json"], 0)).as_array().unwrap().clone();
    assert!(left.iter().any(|run| run["id"] == IDS[5]), "what waits stays");
    assert!(left.iter().any(|run| run["job"] == "sync" && run["outcome"] != "error"), "the last that went well stays");
    complain(&setup, &["runs", "prune", "--job", "nobody"], 7, "nobody");
    complain(&setup, &["runs", "prune", "--older-than", "old"], 2, "old");
    let (code, stdout, stderr) = told(&setup.run(&["runs", "prune", "--older-than", "99d"]));
    assert_eq!((code, stdout.as_str()), (Some(0), "JOB  PRUNED\n"));
    assert!(stderr.contains("nothing is old enough"), "{stderr}");
}
