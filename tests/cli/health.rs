//! `health` and `status`: exit codes for those who watch, from a service, a sick service, no service, and something else.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::saying::{answering, complain, json, say, told};
use crate::support::daemon::Setup;

const DEGRADED: &str = r#"{"status":"degraded","scheduler":"running","queue_size":0,"lag_seconds":0,"timestamp":"2026-03-02T05:00:01.000Z",
"jobs":{"mail":{"status":"degraded","reason":"failing"}},
"alerts":[{"name":"JobFailing","severity":"warning","job":"mail","since":null,"message":"the last run failed"}]}"#;
const NOT_READY: &str = r#"{"status":"not_ready","reasons":["the database is away"]}"#;

#[test]
fn the_exit_code_says_how_the_service_is() {
    let setup = Setup::new("not a table");
    let sick = answering(&[
        ("/health/workers", 200, DEGRADED),
        ("/health/workers?strict=1", 503, DEGRADED),
        ("/readyz", 503, NOT_READY),
        ("/livez", 500, r#"{"status":"stalled"}"#),
    ]);

    assert_eq!(say(&setup, &["health", "--url", &sick], 0), "degraded\n");
    assert_eq!(say(&setup, &["health", "--strict", "--url", &sick], 5), "degraded\n");
    assert_eq!(say(&setup, &["health", "--ready", "--url", &sick], 5), "not_ready\n");
    assert_eq!(say(&setup, &["health", "--live", "--url", &sick], 5), "stalled\n");
    let (_, _, stderr) = told(&setup.run(&["health", "--strict", "--url", &sick]));
    assert_eq!(stderr, "JobFailing: the last run failed\n");
    let (_, _, stderr) = told(&setup.run(&["health", "--ready", "--url", &sick]));
    assert_eq!(stderr, "the database is away\n");
    assert_eq!(json(&say(&setup, &["health", "--url", &sick, "-o", "json"], 0)), json(DEGRADED));
    complain(&setup, &["health", "--live", "--ready"], 2, "--ready");
}

#[test]
fn what_is_not_the_service_is_unreachable_and_a_wrong_address_is_usage() {
    let setup = Setup::new("");
    let other =
        answering(&[("/livez", 200, "<html>"), ("/readyz", 302, "{}"), ("/health/workers", 401, r#"{"detail":"no"}"#)]);

    complain(&setup, &["health", "--live", "--url", &other], 4, "no JSON");
    complain(&setup, &["health", "--ready", "--url", &other], 1, "302");
    complain(&setup, &["status", "--url", &other], 3, "WORKERS_TOKEN");
    complain(&setup, &["health", "--url", "localhost:8000"], 2, "http://");
    complain(&setup, &["health", "--url", "ftp://example.org"], 2, "http://");
    complain(&setup, &["status", "--url", "http://"], 2, "--url");
    for address in ["http://ana:canary@127.0.0.1:8000", "http://ana@127.0.0.1:8000", "http://:canary@127.0.0.1:8000"] {
        for command in [&["health"][..], &["status"], &["trigger", "mail"]] {
            let (code, _, stderr) = told(&setup.run(&[command, &["--url", address]].concat()));
            assert_eq!(code, Some(2), "{stderr}");
            assert!(stderr.contains("WORKERS_TOKEN") && !stderr.contains("canary"), "{stderr}");
        }
    }
}

#[test]
fn liveness_needs_no_job_table_and_no_time() {
    let folder = Setup::new("version = 1\n[jobs.a]\nrun.noop = {}\n").start();
    let elsewhere = Setup::new("").env("WORKERS_LISTEN", &format!("127.0.0.1:{}", folder.port));
    std::fs::remove_file(elsewhere.path("jobs.toml")).unwrap();

    let begun = Instant::now();
    assert_eq!(say(&elsewhere, &["health", "--live"], 0), "ok\n");

    // A HEALTHCHECK has 30 s by default; ours takes a few hundredths on a machine that is not loaded.
    assert!(begun.elapsed() < Duration::from_secs(5));
    let nowhere = Setup::new("").without_env("WORKERS_LISTEN").env("PORT", &folder.port.to_string());
    std::fs::remove_file(nowhere.path("jobs.toml")).unwrap();
    assert_eq!(say(&nowhere, &["health", "--live"], 0), "ok\n", "the port alone will do");
    complain(&elsewhere.env("WORKERS_LISTEN", "here"), &["health", "--live"], 3, "WORKERS_LISTEN");
}

#[test]
fn an_edit_of_the_table_does_not_make_a_well_daemon_look_dead() {
    let table = "version = 1\n[jobs.a]\nrun.noop = {}\n";
    let mut daemon = Setup::new(table).start();
    let nameless = |setup: &Setup| {
        let mut command = setup.command(&["health", "--live"]);
        told(&command.env_remove("WORKERS_LISTEN").env_remove("PORT").output().unwrap())
    };

    for edited in ["not a table".to_owned(), format!("{table}[server]\nlisten = \"127.0.0.1:9\"\n")] {
        daemon.setup.write_jobs(&edited);
        let (code, stdout, stderr) = nameless(&daemon.setup);
        assert_eq!((code, stdout.as_str()), (Some(0), "ok\n"), "{stderr}");
        assert!(stderr.contains(&format!("asked http://127.0.0.1:{}", daemon.port)), "{stderr}");
    }
    daemon.terminate();

    assert!(!daemon.setup.path("workers.listen").exists(), "it goes with the daemon");
    std::fs::write(daemon.setup.path("workers.listen"), format!("127.0.0.1:{}\n", daemon.port)).unwrap();
    let (code, _, stderr) = nameless(&daemon.setup);
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("asked http://127.0.0.1:9"), "a stale one is harmless: {stderr}");
}

#[test]
fn watching_goes_on_through_outages_and_ends_when_it_is_told_to() {
    let mut daemon = Setup::new("version = 1\n[jobs.a]\nrun.noop = {}\n").start();
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let watcher = Setup::new("not a table");
    let mut command = watcher.command(&["status", "--watch", "--url", &url]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);

    assert!(lines.any(|line| line.contains(" healthy, scheduler running, queue 0")), "one line per look");
    daemon.terminate();
    assert!(lines.any(|line| line.contains("no answer from")), "an outage is told");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(4), "the code of the last look");
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    let setup = Setup::new("");
    let sick = answering(&[("/health/workers", 503, DEGRADED)]);
    let mut command = setup.command(&["status", "--watch", "-o", "jsonl", "--url", &sick]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);

    assert_eq!(json(&lines.next().unwrap())["status"], "degraded");
    drop(lines);

    assert_eq!(child.wait().unwrap().code(), Some(5));
}
