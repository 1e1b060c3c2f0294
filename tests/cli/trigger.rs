//! `trigger` and `run --once`: a run now, or later, of the database or over HTTP.

use std::{
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use super::saying::{complain, json, say, told};
use crate::support::daemon::{Daemon, Setup};

const JOBS: &str = r#"
version = 1
[jobs.mail]
payload = { to = "nobody" }
run.noop = {}
[jobs.broken]
retry = { max_attempts = 1 }
run.noop = { fail = 1.0 }
[jobs.slow]
run.noop = { sleep = "10s" }
[jobs.report]
every = "1d"
timezone = "UTC"
run.noop = {}
[jobs.off]
every = "1h"
enabled = false
run.noop = {}
"#;

fn url(daemon: &Daemon) -> String {
    format!("http://127.0.0.1:{}", daemon.port)
}

/// The ways to ask: of the database, and over HTTP.
fn both_ways(daemon: &Daemon) -> [Vec<String>; 2] {
    [Vec::new(), vec!["--url".into(), url(daemon)]]
}

fn with<'a>(arguments: &[&'a str], way: &'a [String]) -> Vec<&'a str> {
    arguments.iter().copied().chain(way.iter().map(String::as_str)).collect()
}

#[test]
fn a_run_that_is_waited_for_tells_its_end_by_word_and_exit_code() {
    let daemon = Setup::new(JOBS).start();
    for way in both_ways(&daemon) {
        let said = say(&daemon.setup, &with(&["trigger", "mail", "--wait"], &way), 0);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!((lines.len(), lines[1]), (2, "success"), "the id first, then how it ended");
        let shown = say(&daemon.setup, &["runs", "show", lines[0], "-o", "json"], 0);
        assert_eq!(json(&shown)["payload"]["to"], "nobody", "the job's own payload");

        assert!(say(&daemon.setup, &with(&["trigger", "broken", "--wait"], &way), 1).ends_with("\nerror\n"));

        let given = ["trigger", "report", "--wait", "-o", "json", "--payload", "{\"n\": 7}"];
        let run = json(&say(&daemon.setup, &with(&given, &way), 0));
        assert_eq!((&run["outcome"], &run["payload"]["n"]), (&"success".into(), &7.into()));
        assert_eq!((&run["trigger"], &run["covers"]), (&"manual".into(), &0.into()), "no instant is used up");
        let run = json(&say(&daemon.setup, &with(&["trigger", "mail", "--wait", "-o", "jsonl"], &way), 0));
        assert_eq!(run["trigger"], "enqueue", "a queue has no other runs");
    }
}

#[test]
fn a_run_is_put_off_and_told_apart_by_its_priority_and_keys() {
    let daemon = Setup::new(JOBS).start();
    for way in both_ways(&daemon) {
        let given = ["trigger", "mail", "-o", "json", "--in", "1h", "--priority", "-3", "--key", "ana"];
        let run = json(&say(&daemon.setup, &with(&given, &way), 0));
        assert_eq!((&run["state"], &run["priority"], &run["key"]), (&"waiting".into(), &(-3).into(), &"ana".into()));
        let ahead = |run: &serde_json::Value| {
            let due: chrono::DateTime<chrono::Utc> = run["due_at"].as_str().unwrap().parse().unwrap();
            (due - chrono::Utc::now()).num_minutes()
        };
        assert!((50..=60).contains(&ahead(&run)), "{run}");

        let soon = (chrono::Utc::now() + chrono::TimeDelta::minutes(30)).to_rfc3339();
        let run = json(&say(&daemon.setup, &with(&["trigger", "mail", "-o", "json", "--at", &soon], &way), 0));
        assert!((20..=30).contains(&ahead(&run)), "{run}");
        let past = ["trigger", "mail", "--at", "2001-01-01", "--wait"];
        assert!(say(&daemon.setup, &with(&past, &way), 0).ends_with("\nsuccess\n"), "what has passed is now");

        let keyed = ["trigger", "mail", "--in", "2h", "--dedupe-key", &url(&daemon)];
        assert_eq!(say(&daemon.setup, &with(&keyed, &way), 0), say(&daemon.setup, &with(&keyed, &way), 0));

        complain(&daemon.setup, &with(&["trigger", "mail", "--in", "9999d"], &way), 2, "366 days");
        complain(&daemon.setup, &with(&["trigger", "mail", "--priority", "11"], &way), 2, "11");
        complain(&daemon.setup, &with(&["trigger", "mail", "--in", "1h", "--at", "2030-01-01"], &way), 2, "--at");
        complain(&daemon.setup, &with(&["trigger", "mail", "--in", "soon"], &way), 2, "soon");
        complain(&daemon.setup, &with(&["trigger", "mail", "--timeout", "1s"], &way), 2, "--wait");
    }
}

#[test]
fn payloads_come_from_arguments_files_and_standard_input() {
    let daemon = Setup::new(JOBS).start();
    std::fs::write(daemon.setup.path("given.json"), "{\"from\": \"a file\"}").unwrap();
    std::fs::write(daemon.setup.path("huge.json"), format!("\"{}\"", "x".repeat(1024 * 1024))).unwrap();
    for way in both_ways(&daemon) {
        let run = say(&daemon.setup, &with(&["trigger", "mail", "--payload", "@given.json", "-o", "json"], &way), 0);
        assert_eq!(json(&run)["payload"]["from"], "a file");

        let mut command = daemon.setup.command(&with(&["trigger", "mail", "--payload", "-", "-o", "json"], &way));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"[\"a pipe\"]").unwrap();
        let (code, stdout, _) = told(&child.wait_with_output().unwrap());
        assert_eq!((code, &json(&stdout)["payload"][0]), (Some(0), &"a pipe".into()));

        let ask = |payload: &str, words: &str| {
            complain(&daemon.setup, &with(&["trigger", "mail", "--payload", payload], &way), 2, words);
        };
        ask("{to: ana}", "--payload is not JSON");
        ask("@nothing.json", "nothing.json");
        ask("@huge.json", "more than 1048576 bytes");
        ask("-", "standard input is not JSON");
    }
    complain(&daemon.setup, &["run", "mail", "--once", "--payload", "{"], 2, "--payload is not JSON");
    complain(&daemon.setup, &["run", "mail", "--payload", "{}"], 2, "--once");
}

#[test]
fn a_job_that_would_not_run_is_refused_with_its_reason() {
    let setup = Setup::new(JOBS);
    say(&setup, &["migrate", "up"], 0);
    say(&setup, &["config", "activate"], 0);
    // Health samples its figures every 30 s; what was so before the start it knows at once.
    say(&setup, &["jobs", "pause", "report", "--reason", "a look at it"], 0);
    say(&setup, &["jobs", "pause", "mail"], 0);
    let daemon = setup.start();

    for way in both_ways(&daemon) {
        complain(&daemon.setup, &with(&["trigger", "mial"], &way), 7, "did you mean mail?");
        complain(&daemon.setup, &with(&["trigger", "zzz/../mail"], &way), 7, "zzz/../mail");
        complain(&daemon.setup, &with(&["trigger", "off"], &way), 8, "disabled");
        complain(&daemon.setup, &with(&["trigger", "report"], &way), 8, "paused (a look at it)");
        let waits = json(&say(&daemon.setup, &with(&["trigger", "mail", "-o", "json"], &way), 0));
        assert_eq!(waits["state"], "due", "a paused queue takes it, and it waits");
    }
    complain(&daemon.setup, &["run", "report", "--once"], 8, "paused (a look at it)");
    say(&daemon.setup, &["jobs", "resume", "report"], 0);
    for way in both_ways(&daemon) {
        say(&daemon.setup, &with(&["trigger", "report"], &way), 0);
    }
    // A job that this table has, and the active one has not.
    daemon.setup.write_jobs(&format!("{JOBS}\n[jobs.new]\nrun.noop = {{}}\n"));
    complain(&daemon.setup, &["trigger", "new"], 7, "not in the active job table");
    // One that the active table had, and this one has no more.
    daemon.setup.write_jobs("version = 1\n[jobs.other]\nrun.noop = {}\n");
    complain(&daemon.setup, &["trigger", "report"], 7, "no job \"report\"");
}

#[test]
fn waiting_has_an_end() {
    let daemon = Setup::new(JOBS).start();
    for way in both_ways(&daemon) {
        let begun = Instant::now();
        let impatient = daemon.setup.run(&with(&["trigger", "slow", "--wait", "--timeout", "300ms"], &way));
        let (code, stdout, stderr) = told(&impatient);
        assert_eq!(code, Some(6), "{stderr}");
        assert!(begun.elapsed() < Duration::from_secs(9), "the run itself takes longer");
        let id = stdout.trim();
        assert!(stderr.contains(&format!("run {id} of slow is ")) && stderr.contains("after 300ms"), "{stderr}");
        say(&daemon.setup, &["runs", "cancel", id], 0);
    }
}

#[test]
fn the_database_takes_a_run_while_no_service_is_there_and_the_next_one_does_it() {
    let setup = Setup::new(JOBS);
    complain(&setup, &["trigger", "mail"], 8, "workers migrate up");
    assert!(!setup.path("workers.db").exists(), "asking makes no database");
    say(&setup, &["migrate", "up"], 0);
    complain(&setup, &["trigger", "mail"], 7, "workers config activate");
    say(&setup, &["config", "activate"], 0);

    let id = say(&setup, &["trigger", "mail"], 0).trim().to_owned();
    let (code, _, stderr) = told(&setup.run(&["trigger", "mail", "--wait", "--timeout", "200ms"]));
    assert_eq!(code, Some(6));
    assert!(stderr.contains("is the service running?"), "{stderr}");
    let nobody = format!("http://127.0.0.1:{}", setup.port);
    complain(&setup, &["trigger", "mail", "--url", &nobody], 4, "no answer from");

    let mut daemon = setup.start();
    daemon.wait_for("the run's end", |daemon| {
        json(&say(&daemon.setup, &["runs", "show", &id, "-o", "json"], 0))["outcome"] == "success"
    });
}

#[test]
fn over_http_the_token_of_the_settings_is_shown() {
    let daemon =
        Setup::new(JOBS).env("WORKERS_TOKEN", "operate-s3cret").env("WORKERS_READ_TOKEN", "read-s3cret").start();
    let url = url(&daemon);
    let ask = ["trigger", "mail", "--wait", "--url", &url];

    assert!(say(&daemon.setup, &ask, 0).ends_with("\nsuccess\n"));
    let stranger = Setup::new("not a table");
    complain(&stranger, &ask, 3, "WORKERS_TOKEN");
    let wrong = Setup::new("").env("WORKERS_TOKEN", "wr0ng");
    let (code, _, stderr) = told(&wrong.run(&ask));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(!stderr.contains("wr0ng"), "{stderr}");
    let reader = Setup::new("").env("WORKERS_READ_TOKEN", "read-s3cret");
    complain(&reader, &ask, 3, "403");
    let with_password = format!("http://me:pa55@127.0.0.1:{}", Setup::new("").port);
    let (code, _, stderr) = told(&stranger.run(&["trigger", "mail", "--url", &with_password]));
    assert_eq!(code, Some(2));
    assert!(!stderr.contains("pa55"), "{stderr}");
}

#[test]
fn a_lone_worker_runs_a_job_once_with_the_payload_it_is_given() {
    let setup = Setup::new(JOBS);

    assert_eq!(say(&setup, &["run", "mail", "--once", "--payload", "{\"n\": 9}"], 0), "success\n");
    assert_eq!(say(&setup, &["run", "broken", "--once"], 1), "error\n");
    let told = json(&say(&setup, &["run", "broken", "--once", "-o", "json"], 1));
    assert_eq!(told, serde_json::json!({ "job": "broken", "outcome": "error" }));

    let runs = json(&say(&setup, &["runs", "list", "--job", "mail", "-o", "json"], 0));
    assert_eq!((&runs[0]["payload"]["n"], &runs[0]["outcome"]), (&9.into(), &"success".into()));
    // The process may end before SQLite has removed the file; what must be gone is what it held.
    let wal = std::fs::metadata(setup.path("workers.db-wal")).map_or(0, |file| file.len());
    assert_eq!(wal, 0, "the file is left in one piece");
}
