//! What commands print, to the letter.

use super::{
    saying::{answering, assert_expected, json, say, steady},
    seeded::{IDS, seeded},
};
use crate::support::daemon::Setup;

/// The help of a command, and of the commands below it.
fn help(setup: &Setup, command: &[&str]) -> String {
    let arguments = [command, &["--help"]].concat();
    let mut text = format!("===== workers {}\n", arguments.join(" "));
    let own = say(setup, &arguments, 0);
    text += &own;
    let listed = own.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for name in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        text += "\n";
        text += &help(setup, &[command, &[name]].concat());
    }
    text
}

#[test]
fn every_command_explains_itself() {
    let setup = Setup::new("");

    let text = help(&setup, &[]);

    assert_expected("help", &text);
    for line in text.lines() {
        assert!(line.chars().count() <= 132, "too long for a terminal: {line}");
    }
}

#[test]
fn what_the_ledger_holds_is_shown_in_three_shapes() {
    let setup = seeded();

    for (name, arguments, code) in [
        ("runs_list", vec!["runs", "list"], 0),
        ("runs_list_failed", vec!["runs", "list", "--job", "sync", "--outcome", "error", "-o", "jsonl"], 0),
        ("runs_show", vec!["runs", "show", IDS[2]], 0),
        ("runs_show_json", vec!["runs", "show", IDS[2], "-o", "json"], 0),
        ("ledger", vec!["ledger"], 1),
        ("ledger_json", vec!["ledger", "--job", "sync", "-o", "json"], 1),
        ("jobs_list", vec!["jobs", "list"], 0),
        ("jobs_show", vec!["jobs", "show", "mail"], 0),
        ("migrate_status", vec!["migrate", "status"], 0),
        ("migrate_status_json", vec!["migrate", "status", "-o", "json"], 0),
        ("runs_retry_dry", vec!["runs", "retry", "--job", "sync", "--dry-run"], 0),
        ("runs_cancel_dry", vec!["runs", "cancel", "--state", "waiting", "--dry-run", "-o", "jsonl"], 0),
        ("runs_prune_dry", vec!["runs", "prune", "--older-than", "1d", "--dry-run"], 0),
        ("queue_list", vec!["queue", "list"], 0),
        ("queue_list_json", vec!["queue", "list", "-o", "jsonl"], 0),
        ("queue_show", vec!["queue", "show"], 0),
        ("queue_retry_dry", vec!["queue", "retry", "--all", "--dry-run"], 0),
        ("runs_cancel", vec!["runs", "cancel", IDS[5]], 0),
    ] {
        assert_expected(name, &steady(&setup, &say(&setup, &arguments, code)));
    }
}

#[test]
fn jobs_and_their_status_are_json_for_programs() {
    let setup = seeded();

    let list = json(&say(&setup, &["jobs", "list", "-o", "json"], 0));
    let lines: Vec<_> = say(&setup, &["jobs", "list", "-o", "jsonl"], 0).lines().map(json).collect();
    let shown = json(&say(&setup, &["jobs", "show", "sync", "-o", "json"], 0));

    assert_eq!(list.as_array().unwrap(), &lines);
    assert_eq!((&list[1]["job"], &list[1]["status"]), (&"report".into(), &"disabled".into()));
    assert_eq!((&shown["schedule"], &shown["critical"]), (&"every 1h".into(), &true.into()));
    assert_eq!(shown["next"].as_array().unwrap().len(), 5);
}

#[test]
fn expressions_settings_and_mistakes_are_shown_as_they_always_were() {
    let setup =
        Setup::new("version = 1\n[jobs.a]\nevry = \"5min\"\nrun.noop = {}\n\n[jobs.b]\nevery = \"1h\"\nrun.nop = {}\n");
    let good = Setup::new("version = 1\n[jobs.a]\nevery = \"1h\"\nrun.noop = {}\n");

    for (name, arguments, code) in [
        ("check", vec!["check"], 3),
        ("check_json", vec!["check", "-o", "json"], 3),
        ("check_github", vec!["check", "--format", "github"], 3),
        ("next_every", vec!["next", "--every", "6h", "--from", "2026-03-02", "-n", "3"], 0),
        (
            "next_json",
            vec!["next", "--at", "08:00", "--days", "mon-fri", "--from", "2026-03-02", "-n", "2", "-o", "json"],
            0,
        ),
        ("config_env", vec!["config", "env"], 0),
        ("version", vec!["version"], 0),
        ("version_json", vec!["version", "--json"], 0),
    ] {
        assert_expected(name, &steady(&setup, &say(&setup, &arguments, code)));
    }
    // The folder's name decides how wide a column is.
    let settings = squeezed(&say(&good, &["config", "show", "--origin"], 0));
    assert_expected("config_show", &steady(&good, &settings));
    assert_eq!(json(&say(&setup, &["config", "schema"], 0))["title"], "Job table of Emponto (jobs.toml)");
}

/// Each line with one blank between its words.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

const UNWELL: &str = r#"{"scheduler":"running","last_job_at":"2026-03-02T05:00:00Z","queue_size":5,"status":"critical",
"lag_seconds":0.004,"replicas":2,"version":"9.9.9","timestamp":"2026-03-02T05:00:01.000Z",
"jobs":{"mail":{"status":"healthy","last_outcome":"success","last_run":"2026-03-02T05:00:00.000Z","next_run":null,
"runs_24h":12,"failures_24h":0,"p95_duration_ms":7,"reason":null},
"sync":{"status":"stale","last_outcome":"error","last_run":"2026-03-01T05:00:00.000Z","next_run":"2026-03-02T06:00:00.000Z",
"runs_24h":2,"failures_24h":2,"p95_duration_ms":9000,"reason":"no_success"}},
"queues":{"mail":{"size":5,"oldest_age_seconds":12,"running":1,"failed":0}},
"alerts":[{"name":"JobStale","severity":"critical","job":"sync","since":"2026-03-02T04:00:00.000Z",
"message":"no success\nsince yesterday"}]}"#;

#[test]
fn the_status_is_a_table_with_reasons_queues_and_alerts() {
    let setup = Setup::new("not a table");
    let url = answering(&[("/health/workers", 503, UNWELL)]);

    assert_expected("status", &say(&setup, &["status", "--url", &url], 5));
    assert_eq!(json(&say(&setup, &["status", "--url", &url, "-o", "json"], 5)), json(UNWELL));
    assert_eq!(say(&setup, &["status", "--url", &url, "-o", "jsonl"], 5).lines().count(), 1);
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    let setup = Setup::new("");

    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = say(&setup, &["completions", shell], 0);
        for word in ["trigger", "prune", "older-than", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    std::fs::write(setup.path("workers.bash"), say(&setup, &["completions", "bash"], 0)).unwrap();
    let asked = "source ./workers.bash; COMP_WORDS=(workers tri); COMP_CWORD=1; _workers workers tri workers; echo ${COMPREPLY[@]}";
    let answer =
        std::process::Command::new("bash").args(["-c", asked]).current_dir(setup.folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "trigger\n", "{}", String::from_utf8_lossy(&answer.stderr));
}
