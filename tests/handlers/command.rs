//! `command` with real programs: what they are given, how they end, and what is made of it.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report},
    handlers::{Context, Outbound, Scope, Targets, Work},
};
use serde_json::{Value, json};

use crate::attempt::{commit, context, job, no_database, run};

/// The variables that the daemon of these tests has.
fn variables() -> BTreeMap<String, String> {
    let path = std::env::var("PATH").expect("tests have a PATH");
    let pairs = [
        ("PATH", path.as_str()),
        ("HOME", "/nowhere"),
        ("LANG", "C.UTF-8"),
        ("TZ", "America/Sao_Paulo"),
        ("API_TOKEN", "t0ken-in-the-environment"),
        ("DATABASE_URL", "postgres://ana:s3cr3t-passw0rd@db/app"),
        ("GREETING", "bom dia"),
        ("EMPTY", ""),
        ("WORKERS_TOKEN", "the daemon's own"),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn checked(settings: Value) -> Result<Work, Vec<String>> {
    let mut work = Work::parse("command", settings).map_err(|error| vec![error.to_string()])?;
    let (targets, variables) = (Targets::new(), variables());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handlers");
    let errors = work.check(&Scope {
        targets: &targets,
        outbound: &Outbound::default(),
        folder: &folder,
        variables: &variables,
    });
    if errors.is_empty() { Ok(work) } else { Err(errors) }
}

async fn attempt(settings: Value) -> Result<Report, Failure> {
    attempt_in(context(no_database()), settings).await
}

async fn attempt_in(ctx: Context, settings: Value) -> Result<Report, Failure> {
    commit(checked(settings).expect("settings that can run").run(ctx).await).await
}

/// Settings that run a script of `sh`, with more settings beside it.
fn script(text: &str, more: Value) -> Value {
    let mut settings = json!({ "argv": ["sh", "-c", text] });
    let more = more.as_object().expect("settings are an object").clone();
    settings.as_object_mut().expect("settings are an object").extend(more);
    settings
}

/// What a program wrote on stdout.
fn stdout(report: &Report) -> &str {
    report.result.as_ref().and_then(|result| result["stdout"].as_str()).unwrap_or_default()
}

fn payload(payload: Value) -> Context {
    let mut run = run();
    run.payload = payload;
    Context { run: Arc::new(run), ..context(no_database()) }
}

#[tokio::test]
async fn a_program_finds_in_its_environment_what_is_listed_and_nothing_else() {
    let ctx = Context { attempt: 2, ..context(no_database()) };
    let (id, scheduled_for) = (ctx.run.id.to_string(), "2025-01-08T11:59:58Z");

    let report = attempt_in(ctx, json!({ "argv": ["env"], "env": ["GREETING", "EMPTY", "NOT_SET"] })).await;

    let report = report.expect("env ends well");
    let mut lines: Vec<&str> = stdout(&report).lines().filter(|line| !line.starts_with("PATH=")).collect();
    lines.sort_unstable();
    let expected = [
        "EMPTY=",
        "GREETING=bom dia",
        "HOME=/nowhere",
        "LANG=C.UTF-8",
        "TZ=America/Sao_Paulo",
        "WORKERS_ATTEMPT=2",
        "WORKERS_JOB=nightly",
        &format!("WORKERS_RUN_ID={id}"),
        &format!("WORKERS_SCHEDULED_FOR={scheduled_for}"),
    ];
    assert_eq!(lines, expected);
    assert!(stdout(&report).contains("PATH=/"));
}

#[tokio::test]
async fn a_run_that_nobody_planned_has_no_instant_in_its_environment() {
    let mut run = run();
    run.scheduled_for = None;
    let ctx = Context { run: Arc::new(run), ..context(no_database()) };

    let report = attempt_in(ctx, json!({ "argv": ["env"] })).await.expect("env ends well");

    assert!(!stdout(&report).contains("WORKERS_SCHEDULED_FOR"), "{report:?}");
}

#[tokio::test]
async fn a_variable_that_is_listed_and_not_set_is_warned_of() {
    let work = checked(json!({ "argv": ["env"], "env": ["GREETING", "NOT_SET"] })).expect("it can run");

    assert_eq!(work.warnings(), ["env lists NOT_SET, which is not set: the program gets no such variable"]);
}

#[tokio::test]
async fn values_of_variables_are_no_part_of_the_work() {
    let work = checked(json!({ "argv": ["env"], "env": ["API_TOKEN"] })).expect("it can run");

    assert!(!format!("{work:?}{}", work.canonical()).contains("t0ken"), "{work:?}");
    assert!(work.canonical().to_string().contains("API_TOKEN"));
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let report = attempt(json!({ "argv": ["printf", "%s|", "$HOME", "a b", "; exit 3", "*", "`id`", "é\n"] })).await;

    assert_eq!(stdout(&report.expect("printf ends well")), "$HOME|a b|; exit 3|*|`id`|é\n|");
}

#[tokio::test]
async fn the_payload_comes_on_stdin_as_json() {
    for (given, expected) in [
        (json!({ "tenant": "a\u{0}é", "n": [1, 2.5] }), "{\"n\":[1,2.5],\"tenant\":\"a\\u0000é\"}\n"),
        (json!(false), "false\n"),
        (Value::Null, ""),
    ] {
        let report = attempt_in(payload(given), json!({ "argv": ["cat"] })).await.expect("cat ends well");

        let echoed: String = report.result.map_or(String::new(), |result| match &result["json"] {
            Value::Null => result["stdout"].as_str().unwrap_or_default().to_owned(),
            answer => format!("{answer}\n").replace("\u{fffd}", "\\u0000"),
        });
        assert_eq!(echoed, expected);
    }
}

#[tokio::test]
async fn a_payload_larger_than_a_pipe_arrives_whole() {
    let large = json!("x".repeat(1024 * 1024));

    let report = attempt_in(payload(large), json!({ "argv": ["wc", "-c"] })).await.expect("wc ends well");

    assert_eq!(stdout(&report).trim(), (1024 * 1024 + 3).to_string());
}

#[tokio::test]
async fn the_jobs_own_payload_stands_in_for_that_of_the_run() {
    let mut job = job();
    job.payload = json!([1]);
    let ctx = Context { job: Arc::new(job), ..context(no_database()) };

    let report = attempt_in(ctx, json!({ "argv": ["cat"] })).await.expect("cat ends well");

    assert_eq!(stdout(&report), "[1]\n");
}

#[tokio::test]
async fn exit_codes_mean_what_the_page_says() {
    for (code, kind, words) in [
        (1, FailureKind::Retry, "sh exited with 1"),
        (2, FailureKind::Retry, "sh exited with 2"),
        (63, FailureKind::Retry, "sh exited with 63"),
        (64, FailureKind::Permanent, "sh exited with 64 (EX_USAGE)"),
        (74, FailureKind::Permanent, "sh exited with 74 (EX_IOERR)"),
        (75, FailureKind::Snooze(Duration::from_secs(60)), "sh exited with 75 (EX_TEMPFAIL)"),
        (76, FailureKind::Permanent, "sh exited with 76 (EX_PROTOCOL)"),
        (78, FailureKind::Permanent, "sh exited with 78 (EX_CONFIG)"),
        (79, FailureKind::Retry, "sh exited with 79"),
        (127, FailureKind::Retry, "sh exited with 127"),
        (255, FailureKind::Retry, "sh exited with 255"),
    ] {
        let failure = attempt(script(&format!("exit {code}"), json!({}))).await.expect_err("not 0");

        assert_eq!((failure.kind, failure.message.as_str(), failure.before_effect), (kind, words, false));
        assert_eq!(failure.report.and_then(|report| report.result), Some(json!({ "exit": code })));
    }
    let report = attempt(script("exit 0", json!({}))).await.expect("0");
    assert_eq!(report, Report::default());
}

#[tokio::test]
async fn death_by_a_signal_is_told_by_name_and_leaves_a_doubt() {
    for signal in ["KILL", "SEGV", "TERM", "ABRT", "HUP", "PIPE"] {
        let failure =
            attempt(script(&format!("echo half >&2; kill -{signal} $$"), json!({}))).await.expect_err("killed");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false), "{signal}");
        assert_eq!(failure.message, format!("sh was killed by SIG{signal}: half"));
        let result = failure.report.and_then(|report| report.result).expect("a result");
        assert_eq!(result, json!({ "exit": format!("SIG{signal}"), "stderr": "half\n" }));
    }
}

#[tokio::test]
async fn the_last_line_is_judged_like_an_answer_when_it_is_an_object() {
    let items = |items: u64, items_failed| Ok((Some(items), items_failed));
    for (written, settings, ending) in [
        (r#"{"status":"ok","processados":3}"#, json!({}), items(3, 0)),
        (r#"{"processados":3,"erros":1}"#, json!({}), items(3, 1)),
        (r#"{"a":{"n":7}}"#, json!({ "items": "a.n" }), items(7, 0)),
        (r#"{"success":false,"message":"no db"}"#, json!({}), Err((FailureKind::Retry, "sh: success is false: no db"))),
        (r#"{"erros":2}"#, json!({}), Err((FailureKind::Retry, "sh: 2 failed and none was done"))),
        (r#"{"skipped":true,"reason":"night"}"#, json!({}), Err((FailureKind::Skipped(Reason::Handler), "sh: night"))),
        (r#"{"status":"skipped"}"#, json!({}), Err((FailureKind::Skipped(Reason::Handler), "sh: the program skipped"))),
        (r#"{"success":false}"#, json!({ "judge": "status" }), Ok((None, 0))),
        (r#"{"success":false"#, json!({}), Ok((None, 0))),
        (r#"["success",false]"#, json!({}), Ok((None, 0))),
        ("false", json!({}), Ok((None, 0))),
    ] {
        for around in ["%s", "%s\n", "before\n%s\r\n\n"] {
            let more = settings.clone();
            let ended = attempt(script(&format!("printf '{around}' '{written}'"), more)).await;

            let ended = ended.map(|report| (report.items, report.items_failed));
            let ended = ended.as_ref().map_err(|failure| (failure.kind, failure.message.as_str()));
            assert_eq!(ended.copied(), ending, "{written}");
        }
    }
}

#[tokio::test]
async fn a_bad_word_is_no_excuse_for_a_bad_code() {
    let failure = attempt(script(r#"echo '{"status":"ok","processados":3}'; exit 1"#, json!({}))).await;

    let failure = failure.expect_err("1");
    assert_eq!(failure.kind, FailureKind::Retry);
    let report = failure.report.expect("what it said is kept");
    assert_eq!(report.result, Some(json!({ "json": { "status": "ok", "processados": 3 }, "exit": 1 })));
}

#[tokio::test]
async fn what_was_written_is_kept_and_an_error_says_the_last_of_it() {
    let written = "echo loading; echo warning >&2; echo 'Traceback:' >&2; echo '  no such table' >&2; exit 1";

    let failure = attempt(script(written, json!({}))).await.expect_err("1");

    assert_eq!(failure.message, "sh exited with 1: warning\nTraceback:\n  no such table");
    let result = failure.report.and_then(|report| report.result).expect("a result");
    let stderr = "warning\nTraceback:\n  no such table\n";
    assert_eq!(result, json!({ "exit": 1, "stdout": "loading\n", "stderr": stderr }));

    let failure = attempt(script("echo 'said on stdout'; exit 1", json!({}))).await.expect_err("1");
    assert_eq!(failure.message, "sh exited with 1: said on stdout");

    let report = attempt(script(r#"echo one; echo '{"n":1}'"#, json!({}))).await.expect("0");
    assert_eq!(report.result, Some(json!({ "exit": 0, "stdout": "one", "json": { "n": 1 } })));
}

#[tokio::test]
async fn secrets_of_the_environment_are_masked_in_all_that_is_kept() {
    let said = r#"echo "$DATABASE_URL"; echo "Bearer $API_TOKEN" >&2; echo "{\"note\":\"$API_TOKEN\"}""#;
    let settings = |end: &str| script(&format!("{said}{end}"), json!({ "env": ["API_TOKEN", "DATABASE_URL"] }));

    let report = attempt(settings("")).await.expect("0");
    let failure = attempt(settings("; exit 1")).await.expect_err("1");

    assert_eq!(
        report.result,
        Some(json!({
            "exit": 0, "json": { "note": "***" }, "stdout": "postgres://ana:***@db/app", "stderr": "Bearer ***\n"
        }))
    );
    assert_eq!(failure.message, "sh exited with 1: Bearer ***");
    let all = format!("{report:?}{failure:?}");
    assert!(!all.contains("t0ken") && !all.contains("s3cr3t"), "{all}");
}

#[tokio::test]
async fn what_cannot_be_started_has_no_effect_and_stays_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("plain");
    std::fs::write(&file, "not a program").expect("a writable folder");
    let unstartable = file.to_str().expect("a plain name");
    let failures = [
        attempt(json!({ "argv": ["no-such-program-anywhere"] })).await,
        attempt(json!({ "argv": [unstartable] })).await,
        attempt(json!({ "argv": ["/"] })).await,
        attempt(json!({ "argv": ["true", "x".repeat(4 * 1024 * 1024)] })).await,
    ];
    for ended in failures {
        let failure = ended.expect_err("it cannot start");
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true), "{}", failure.message);
        assert!(failure.message.starts_with("cannot start "), "{}", failure.message);
        assert!(failure.message.len() < 300);
    }

    // A file that may be run and is no program of this system.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("ours");
    let failure = attempt(json!({ "argv": [unstartable] })).await.expect_err("no format of a program");
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true), "{}", failure.message);
}

#[tokio::test]
async fn the_folder_is_that_of_cwd_and_is_looked_for_each_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().canonicalize().expect("it is there");
    let work = checked(json!({ "argv": ["pwd"], "cwd": path })).expect("it can run");

    let report = commit(work.run(context(no_database())).await).await.expect("pwd ends well");
    assert_eq!(stdout(&report).trim(), path.to_str().expect("a plain name"));

    drop(folder);
    let failure = commit(work.run(context(no_database())).await).await.expect_err("it is gone");
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
    assert_eq!(failure.message, format!("cwd {} is not a folder that exists", path.display()));

    let report = attempt(json!({ "argv": ["ls", "-a"], "cwd": "." })).await.expect("ls ends well");
    assert!(stdout(&report).contains("command.rs"), "relative to the folder of jobs.toml: {report:?}");
}

/// Descriptors that whoever started this process left open for everything it starts; none of ours are.
fn inheritable() -> Vec<u32> {
    let descriptors = std::fs::read_dir("/proc/self/fdinfo").expect("Linux").flatten();
    let is_inheritable = |entry: &std::fs::DirEntry| {
        let described = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = described.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).unwrap_or_default();
        const CLOSE_ON_EXEC: u32 = 0o2_000_000;
        u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().parse().ok();
    descriptors.filter(is_inheritable).filter_map(number).filter(|number| 2 < *number).collect()
}

#[tokio::test]
async fn a_program_starts_with_three_descriptors_and_plain_signals() {
    let _ours = (std::fs::File::open("/dev/null"), tokio::net::TcpListener::bind("127.0.0.1:0").await);
    let look = "ls -l /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status";

    let report = attempt(script(look, json!({}))).await.expect("it ends well");

    let said = stdout(&report);
    // `ls` itself has the list open.
    let links = said.lines().filter_map(|line| line.rsplit_once(" -> ")).filter(|(_, to)| !to.starts_with("/proc/"));
    let number = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<u32>().ok()).expect("a number");
    let given: Vec<(u32, &str)> = links.map(|(line, to)| (number(line), to)).collect();
    let given: Vec<_> = given.into_iter().filter(|(number, _)| !inheritable().contains(number)).collect();
    assert_eq!(given.len(), 3, "{said}");
    assert_eq!(given[0], (0, "/dev/null"));
    assert!(given[1].1.starts_with("pipe:") && given[2].1.starts_with("pipe:") && given[1].1 != given[2].1, "{said}");
    let signals = |kind: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(kind)).expect("a line of signals");
        u64::from_str_radix(line.trim(), 16).expect("a mask of signals")
    };
    const PIPE: u64 = 1 << 12;
    assert_eq!((signals("SigBlk:"), signals("SigIgn:") & PIPE), (0, 0), "{said}");
}

#[test]
fn what_cannot_work_is_refused_when_the_table_is_read() {
    for (settings, words) in [
        (json!({}), "argv is empty"),
        (json!({ "argv": [] }), "argv is empty"),
        (json!({ "argv": [""] }), "argv[0] is empty"),
        (json!({ "argv": ["a", "b\0c"] }), "argv[1] has a NUL"),
        (json!({ "argv": "python -m x" }), "invalid type"),
        (json!({ "argv": ["a"], "cwd": "/no/such/folder" }), "cwd /no/such/folder is not a folder"),
        (json!({ "argv": ["a"], "cwd": "command.rs" }), "is not a folder"),
        (json!({ "argv": ["a"], "cwd": "a\0b" }), "is not a folder"),
        (json!({ "argv": ["a"], "env": ["A=1"] }), "not the name of a variable"),
        (json!({ "argv": ["a"], "env": [""] }), "not the name of a variable"),
        (json!({ "argv": ["a"], "env": ["WORKERS_TOKEN"] }), "the daemon's own"),
        (json!({ "argv": ["a"], "items": "a..b" }), "items has an empty part"),
        (json!({ "argv": ["a"], "shell": true }), "unknown field"),
        (json!({ "argv": ["a", "--token=t0ken-in-the-environment"] }), "holds the secret of API_TOKEN"),
    ] {
        let errors = checked(settings.clone()).expect_err("refused");

        assert!(errors.len() == 1 && errors[0].contains(words), "{settings}: {errors:?}");
        assert!(!errors[0].contains("t0ken"), "{errors:?}");
    }
}
