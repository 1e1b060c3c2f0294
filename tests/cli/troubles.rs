//! What goes wrong around a command: no database, no place, no reader, no terminal, no text.

use std::{
    ffi::OsStr,
    fs::File,
    net::TcpListener,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use super::{
    saying::{complain, say, told},
    seeded::{IDS, seeded},
};
use crate::support::daemon::Setup;

const JOBS: &str = "version = 1\n[jobs.mail]\nrun.noop = {}\n";
/// Every command that reads the job table, each with what else it needs.
const ON_THE_TABLE: [&[&str]; 12] = [
    &["start"],
    &["run", "mail", "--once"],
    &["trigger", "mail"],
    &["next"],
    &["jobs", "list"],
    &["jobs", "pause", "mail"],
    &["runs", "list"],
    &["runs", "show", IDS[0]],
    &["runs", "prune"],
    &["ledger"],
    &["config", "activate"],
    &["check"],
];

#[test]
fn a_broken_table_stops_what_needs_it_with_the_code_for_configuration() {
    let broken = Setup::new("version = 1\n[jobs.mail]\nevry = \"5min\"\nrun.noop = {}\n");
    let none = Setup::new("");
    std::fs::remove_file(none.path("jobs.toml")).unwrap();
    let binary = Setup::new("");
    std::fs::write(binary.path("jobs.toml"), b"version = 1\n# caf\xe9\n").unwrap();

    for (setup, words) in [(&broken, "evry"), (&none, "cannot read jobs.toml"), (&binary, "UTF-8")] {
        for command in ON_THE_TABLE {
            let (code, stdout, stderr) = told(&setup.run(command));
            assert_eq!(code, Some(3), "{command:?}\n{stderr}");
            assert!(format!("{stdout}{stderr}").contains(words), "{command:?}\n{stdout}\n{stderr}");
            assert_eq!(stdout.is_empty(), command != ["check"], "only check's answer is data: {stdout}");
        }
        assert!(!setup.path("workers.db").exists(), "nothing was begun");
    }
    complain(&none, &["--config", "other.toml", "next"], 3, "other.toml");
    complain(&Setup::new(JOBS).env("WORKERS_CONCURRENCY", "many"), &["start"], 3, "WORKERS_CONCURRENCY");
}

#[test]
fn a_database_that_is_away_is_told_as_such_and_its_password_is_not() {
    let setup = Setup::new(JOBS).database("postgres://me:s3cret@127.0.0.1:9/none");

    for command in [
        &["trigger", "mail"][..],
        &["jobs", "list"],
        &["jobs", "show", "mail"],
        &["jobs", "pause", "mail"],
        &["jobs", "resume", "mail"],
        &["jobs", "rewind", "mail"],
        &["runs", "list"],
        &["runs", "show", IDS[0]],
        &["runs", "cancel", IDS[0]],
        &["runs", "retry", IDS[0]],
        &["runs", "prune"],
        &["ledger"],
        &["migrate", "up"],
        &["migrate", "status"],
        &["config", "activate"],
    ] {
        let (code, stdout, stderr) = told(&setup.run(command));
        assert_eq!((code, stdout.as_str()), (Some(4), ""), "{command:?}\n{stderr}");
        assert!(stderr.starts_with("error: ") && !stderr.contains("s3cret"), "{command:?}\n{stderr}");
    }
    for command in [&["next"][..], &["check"], &["config", "show"], &["migrate", "sql"]] {
        assert!(!say(&setup, command, 0).contains("s3cret"), "{command:?} needs no database");
    }
}

#[test]
fn what_another_process_holds_is_a_conflict() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::new(JOBS).env("WORKERS_LISTEN", &address);
    let (code, _, stderr) = told(&setup.run(&["start"]));
    assert_eq!(code, Some(8), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");

    let daemon = Setup::new(JOBS).start();
    let second = Setup::beside(std::sync::Arc::clone(&daemon.setup.folder), JOBS);
    let (code, _, stderr) = told(&second.run(&["start"]));
    assert_eq!(code, Some(8), "{stderr}");
    assert!(stderr.contains("workers.db"), "{stderr}");
}

#[test]
fn names_that_nobody_has_are_not_found() {
    let setup = seeded();
    for command in [
        &["start", "--only", "mial"][..],
        &["start", "--except", "mial"],
        &["run", "mial"],
        &["run", "mial", "--once"],
        &["trigger", "mial"],
        &["next", "mial"],
        &["jobs", "show", "mial"],
        &["jobs", "pause", "mial"],
        &["jobs", "resume", "mial"],
        &["jobs", "rewind", "mial"],
        &["runs", "list", "--job", "mial"],
        &["runs", "cancel", "--job", "mial"],
        &["runs", "retry", "--job", "mial"],
        &["runs", "prune", "--job", "mial"],
        &["ledger", "--job", "mial"],
    ] {
        complain(&setup, command, 7, "did you mean mail?");
    }
    complain(&setup, &["trgger", "mail"], 2, "trigger");
    complain(&setup, &["runs", "lst"], 2, "list");
    complain(&setup, &["completions", "tcsh"], 2, "tcsh");
    complain(&setup, &["-o", "xml", "runs", "list"], 2, "xml");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let setup = seeded();
    for command in [&["runs", "list", "-o", "jsonl"][..], &["config", "schema"], &["completions", "bash"], &["--help"]]
    {
        let mut child =
            setup.command(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let (code, _, stderr) = told(&child.wait_with_output().unwrap());
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_data_that_nobody_got_is_not_success() {
    let setup = seeded();
    let full = File::options().write(true).open("/dev/full").unwrap();

    let output =
        setup.command(&["runs", "list"]).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().unwrap();

    let (code, _, stderr) = told(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[test]
fn arguments_and_variables_that_are_not_text_are_refused() {
    let setup = seeded();
    let odd = OsStr::from_bytes(b"mail\xff\xfe");
    for before in [&["trigger"][..], &["runs", "list", "--job"], &["--config"], &["explain"], &["jobs", "show"]] {
        let output = setup.command(before).arg(odd).stdin(Stdio::null()).output().unwrap();
        let (code, stdout, stderr) = told(&output);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{before:?}\n{stderr}");
        assert!(stderr.contains("UTF-8"), "{before:?}\n{stderr}");
    }
    let output = setup.command(&["jobs", "list"]).env("WORKERS_LISTEN", odd).stdin(Stdio::null()).output().unwrap();
    let (code, _, stderr) = told(&output);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("WORKERS_LISTEN"), "{stderr}");
}

#[test]
fn control_characters_of_the_ledger_do_not_reach_the_terminal() {
    let setup = seeded();
    super::seeded::execute(&setup, "update workers_runs set error = 'a' || char(27) || '[2Jb' where job = 'mail'");

    let shown = say(&setup, &["runs", "show", IDS[4]], 0);

    assert!(shown.contains("a\\u{1b}[2Jb"), "{shown}");
}

/// `workers ARGUMENTS` on a terminal; what the terminal was told.
#[cfg(target_os = "linux")]
fn on_a_terminal(setup: &Setup, arguments: &str, variables: &[(&str, &str)]) -> String {
    let workers = setup.command(&[]);
    let line = format!("{} {arguments}", workers.get_program().display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(setup.folder.path()).env_clear().env("TERM", "xterm");
    for (name, value) in workers.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    String::from_utf8(command.output().expect("util-linux has script").stdout).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    const ESCAPE: char = '\x1b';
    let setup = Setup::new(JOBS);

    assert!(on_a_terminal(&setup, "run mail --once", &[]).contains(ESCAPE), "the log is coloured");
    assert!(!on_a_terminal(&setup, "run mail --once", &[("NO_COLOR", "1")]).contains(ESCAPE));
    assert!(!on_a_terminal(&setup, "--help", &[("NO_COLOR", "1")]).contains(ESCAPE));
    assert!(!on_a_terminal(&setup, "check", &[("NO_COLOR", "1")]).contains(ESCAPE));
    let piped = setup.env("LOG_FORMAT", "text");
    let (_, stdout, stderr) = told(&piped.run(&["run", "mail", "--once"]));
    assert!(!stdout.contains(ESCAPE) && !stderr.contains(ESCAPE), "{stderr}");
}
