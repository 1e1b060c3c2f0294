//! Children that do not behave: the right outcome, flat memory, and nothing of them left, neither process nor
//! descriptor. By the handler alone first, then by the real binary.

mod support;

#[expect(dead_code, reason = "it is made for more handlers than the one under test here")]
#[path = "handlers/attempt.rs"]
mod attempt;
#[path = "hostile_children/daemon.rs"]
mod daemon;
#[path = "hostile_children/processes.rs"]
mod processes;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use attempt::{commit, context, no_database, run};
use emponto::{
    domain::run::{Failure, FailureKind, Report, Run},
    handlers::{Context, Outbound, Scope, Targets, Work},
};
use processes::{Memory, assert_clean, carriers, descriptors, is_running, wait_until};
use serde_json::{Value, json};
use tokio::sync::RwLock;

/// Under `cargo test` all tests share a process: those that measure it run by themselves.
static ALONE: RwLock<()> = RwLock::const_new(());
/// Between SIGTERM and SIGKILL.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// What an end may take on a busy machine beside what it has to take.
const SLACK: Duration = Duration::from_secs(4);
/// What a child that writes without end may add to our memory.
const FLAT_BYTES: u64 = 24 * 1024 * 1024;

/// A work that runs a script of `sh`.
fn script(text: &str) -> Work {
    command(json!({ "argv": ["sh", "-c", text] }))
}

fn command(settings: Value) -> Work {
    let mut work = Work::parse("command", settings).expect("settings of a command");
    let (targets, variables) = (Targets::new(), std::env::vars().collect());
    let errors = work.check(&Scope {
        targets: &targets,
        outbound: &Outbound::default(),
        folder: Path::new("."),
        variables: &variables,
    });
    assert_eq!(errors, Vec::<String>::new());
    work
}

/// A context of a new run, and the id that its processes carry.
fn new_run() -> (Context, String) {
    let ctx = context(no_database());
    let id = ctx.run.id.to_string();
    (ctx, id)
}

/// Runs a script to its end; nothing of it may be left.
async fn ended(text: &str) -> (Result<Report, Failure>, Duration) {
    let (ctx, id) = new_run();
    let begun = Instant::now();
    let ended = commit(script(text).run(ctx).await).await;
    let took = begun.elapsed();
    assert_clean(&id);
    (ended, took)
}

/// Starts a script, tells it to stop once it has said `ready` by making a file of that name, and waits for its end.
async fn told_to_stop(text: &str) -> (Result<Report, Failure>, Duration) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ctx, id) = new_run();
    let cancelled = ctx.cancelled.clone();
    let work = command(json!({ "argv": ["sh", "-c", text], "cwd": folder.path() }));
    let attempt = tokio::spawn(async move { commit(work.run(ctx).await).await });
    wait_until("it is ready", || folder.path().join("ready").exists());
    let begun = Instant::now();
    cancelled.cancel();
    let ended = attempt.await.expect("it does not panic");
    let took = begun.elapsed();
    assert_clean(&id);
    (ended, took)
}

fn message(ended: &Result<Report, Failure>) -> &str {
    ended.as_ref().err().map_or("", |failure| failure.message.as_str())
}

fn result(report: &Report) -> &Value {
    report.result.as_ref().expect("a result")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_when_told_is_done_or_was_stopped() {
    let _others = ALONE.read().await;
    for (on_term, kind) in [
        (r#"echo "{\"processed\":1}"; exit 0"#, None),
        // It was polite, and did not say that its work is done.
        ("exit 0", Some(FailureKind::Retry)),
        ("echo stopped; exit 0", Some(FailureKind::Retry)),
        (r#"echo "{\"success\":false}"; exit 0"#, Some(FailureKind::Retry)),
        (r#"echo "{\"skipped\":true}"; exit 0"#, Some(FailureKind::Retry)),
        ("exit 1", Some(FailureKind::Retry)),
        // Whatever it says after it was told to stop, it says for that reason.
        ("exit 75", Some(FailureKind::Retry)),
        ("exit 78", Some(FailureKind::Retry)),
        ("trap - TERM; kill -TERM $$", Some(FailureKind::Retry)),
    ] {
        let (ended, took) =
            told_to_stop(&format!("trap '{on_term}' TERM; : > ready; while :; do sleep 0.02; done")).await;

        assert_eq!(ended.as_ref().err().map(|failure| failure.kind), kind, "{on_term}: {ended:?}");
        assert!(took < STOP_WAIT, "{on_term}: {took:?}");
        assert!(ended.is_ok() || message(&ended).starts_with("sh was told to stop and "), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ignores_sigterm_is_killed_after_five_seconds() {
    let _others = ALONE.read().await;
    let (ended, took) = told_to_stop("trap '' TERM; : > ready; while :; do sleep 1; done").await;

    assert_eq!(message(&ended), "sh was told to stop and was killed by SIGKILL");
    assert!(STOP_WAIT <= took && took < STOP_WAIT + SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_has_its_five_seconds_although_the_leader_is_gone() {
    let _others = ALONE.read().await;
    // The shell dies of SIGTERM at once; the child it waits for needs a second to put its things away.
    let slow = "sh -c 'trap \"sleep 1; echo tidy; exit 0\" TERM; : > ready; while :; do sleep 0.02; done'; true";

    let (ended, took) = told_to_stop(slow).await;

    let failure = ended.expect_err("the leader was killed");
    assert!(failure.message.starts_with("sh was told to stop and was killed by SIGTERM"), "{}", failure.message);
    assert_eq!(failure.report.map(|report| result(&report)["stdout"].clone()), Some(json!("tidy\n")));
    assert!(Duration::from_secs(1) <= took && took < STOP_WAIT, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stopped_itself_is_woken_to_hear_that_it_must_end() {
    let _others = ALONE.read().await;
    let (ended, took) = told_to_stop(": > ready; kill -STOP $$; exit 0").await;

    assert_eq!(message(&ended), "sh was told to stop and was killed by SIGTERM");
    assert!(took < STOP_WAIT, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_a_stopped_job_goes_with_it() {
    let _others = ALONE.read().await;
    let (ended, took) =
        told_to_stop("setsid sleep 300 & setsid sh -c 'trap \"\" TERM; sleep 300' & : > ready; wait").await;

    assert!(ended.is_err(), "{ended:?}");
    assert!(took < STOP_WAIT + SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_for_a_run_that_is_told_to_stop_already() {
    let _others = ALONE.read().await;
    let (ctx, _) = new_run();
    ctx.cancelled.cancel();

    let failure = commit(script("exit 0").run(ctx).await).await.expect_err("not started");

    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_attempt_takes_all_its_processes_along() {
    let _others = ALONE.read().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ctx, id) = new_run();
    let text =
        "trap '' TERM; setsid sleep 300 & (setsid sleep 300 &) ; sleep 300 & : > ready; while :; do sleep 1; done";
    let work = command(json!({ "argv": ["sh", "-c", text], "cwd": folder.path() }));
    let attempt = tokio::spawn(async move { work.run(ctx).await.is_ok() });
    wait_until("it is ready", || folder.path().join("ready").exists() && 4 <= carriers(&id).len());

    attempt.abort();
    assert!(attempt.await.is_err(), "aborted");

    assert_clean(&id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_leaves_behind_is_killed_and_its_end_is_its_own() {
    let _others = ALONE.read().await;
    for (text, is_told) in [
        ("sleep 300 & exit 0", false),
        ("sleep 300 > /dev/null 2>&1 & exit 0", false),
        ("setsid sleep 300 & sleep 0.2; exit 0", true),
        ("setsid sleep 300 & exit 0", false),
        ("setsid sleep 300 < /dev/null > /dev/null 2>&1 & sleep 0.2; exit 0", true),
        // A daemon in the book: its parent, and the parent of that, are gone.
        ("( setsid sh -c '( sleep 300 & ) ' > /dev/null 2>&1 < /dev/null & ) ; sleep 0.2; exit 0", true),
        // A group of its own within the session.
        ("timeout 300 sleep 300 & sleep 0.2; exit 0", true),
        // Without a trace of the run in its environment, but still in the group.
        ("env -i sleep 300 > /dev/null 2>&1 & exit 0", false),
        ("trap '' TERM HUP; (trap '' TERM HUP; sleep 300) & exit 0", false),
    ] {
        let (ended, took) = ended(text).await;

        let report = ended.unwrap_or_else(|failure| panic!("{text}: {}", failure.message));
        let note = report.result.as_ref().map(|result| result["note"].clone());
        assert!(!is_told || note == Some(json!("processes that it left behind were killed")), "{text}: {report:?}");
        assert!(took < SLACK, "{text}: {took:?}");
    }
    let (ended, _) = ended("setsid sleep 300 & exit 7").await;
    assert_eq!(message(&ended), "sh exited with 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wiped_its_environment_goes_with_its_group() {
    let _others = ALONE.read().await;
    let (ended, _) = ended("env -i sleep 300 > /dev/null 2>&1 & echo $!; exit 0").await;

    let report = ended.expect("0");
    let pid: u32 = result(&report)["stdout"].as_str().and_then(|text| text.trim().parse().ok()).expect("a process id");
    wait_until("it is gone", || !is_running(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_forks_is_over_with_its_run() {
    let _others = ALONE.read().await;
    let storm = "storm() { [ $1 = 0 ] || { setsid sh -c \"$self\" storm $(($1 - 1)) & setsid sh -c \"$self\" storm $(($1 - 1)) & }; }";
    let text = format!(
        "self='{storm}; storm $1; sleep 300'; eval \"{}\"; storm 5; sleep 0.3; exit 0",
        storm.replace('"', "\\\"").replace('$', "\\$")
    );

    let (ended, took) = ended(&text).await;

    assert!(ended.is_ok(), "{ended:?}");
    assert!(took < 2 * SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_attempt_that_lived_on_is_ended_before_the_next_begins() {
    let _others = ALONE.read().await;
    let crashed = |run: &mut Run| run.crashes = 1;
    // It went down beside another run that is blamed for it: no attempt is spent, and no crash counts.
    let freed = |run: &mut Run| run.errors = json!([{ "attempt": 1, "at": "2025-01-08T12:00:00Z", "error": "gone" }]);
    for (attempt, past) in [(2, (|_| {}) as fn(&mut Run)), (1, crashed), (1, freed)] {
        let mut again = run();
        past(&mut again);
        let ctx = Context { attempt, run: Arc::new(again), ..context(no_database()) };
        let id = ctx.run.id.to_string();
        let mut left =
            std::process::Command::new("sleep").arg("300").env("WORKERS_RUN_ID", &id).spawn().expect("sleep");
        wait_until("it carries the run", || carriers(&id) == [left.id()]);
        let look = json!({ "argv": ["sh", "-c", format!("kill -0 {} && grep -q sleep /proc/{0}/comm && ! grep -q '^State:.Z' /proc/{0}/status && exit 9; exit 0", left.id())] });

        let ended = commit(command(look).run(ctx).await).await;

        assert!(ended.is_ok(), "beside its successor: {ended:?}");
        assert!(matches!(left.try_wait(), Ok(Some(status)) if !status.success()), "it was killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_other_runs_are_left_alone() {
    let _others = ALONE.read().await;
    let (other, id) = new_run();
    let mut neighbour =
        std::process::Command::new("sleep").arg("300").env("WORKERS_RUN_ID", &id).spawn().expect("sleep");
    drop(other);

    let (ended, _) = ended("setsid sleep 300 & exit 0").await;

    assert!(ended.is_ok());
    assert!(matches!(neighbour.try_wait(), Ok(None)), "it lives");
    neighbour.kill().expect("ours");
    neighbour.wait().expect("ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_its_pipes_lives_on_until_its_own_end() {
    let _others = ALONE.read().await;
    let (ended, took) = ended("exec < /dev/null > /dev/null 2>&1; sleep 1; exit 3").await;

    assert_eq!(message(&ended), "sh exited with 3");
    assert!(Duration::from_secs(1) <= took);
    let (ended, _) = self::ended("exec <&- >&- 2>&-; sleep 0.1; exit 0").await;
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_reads_its_payload_is_not_held_up_by_it() {
    let _others = ALONE.read().await;
    for text in ["sleep 0.2; exit 0", "exec <&-; sleep 0.2; exit 0", "exit 0", "head -c 10 > /dev/null; exit 0"] {
        let mut large = run();
        large.payload = json!("x".repeat(1024 * 1024));
        let ctx = Context { run: Arc::new(large), ..context(no_database()) };
        let begun = Instant::now();

        let ended = commit(script(text).run(ctx).await).await;

        assert_eq!(ended, Ok(Report::default()), "{text}");
        assert!(begun.elapsed() < SLACK, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gigabytes_without_a_line_end_leave_memory_flat() {
    let _nobody_else = ALONE.write().await;
    let memory = Memory::watch();

    let (ended, _) = ended("head -c 10G /dev/zero; echo; echo '{\"processados\":1}'").await;

    assert!(memory.grew() < FLAT_BYTES, "{} bytes", memory.grew());
    let report = ended.expect("0");
    assert_eq!((report.items, &result(&report)["json"]), (Some(1), &json!({ "processados": 1 })));
    let kept = result(&report)["stdout"].as_str().expect("both ends");
    assert!(kept.starts_with("\u{fffd}\u{fffd}") && kept.contains("[...") && kept.len() < 70_000, "{}", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_on_both_streams_are_drained_and_both_ends_kept() {
    let _nobody_else = ALONE.write().await;
    let memory = Memory::watch();
    let flood = "echo first; echo oops >&2; (yes out | head -c 1G) & (yes err | head -c 1G >&2) & wait; echo last; echo end >&2";

    let (ended, _) = ended(&format!("{flood}; exit 1")).await;

    assert!(memory.grew() < FLAT_BYTES, "{} bytes", memory.grew());
    let failure = ended.expect_err("1");
    assert!(
        failure.message.starts_with("sh exited with 1: err\n") && failure.message.ends_with("err\nend"),
        "{}",
        failure.message
    );
    let report = failure.report.expect("a report");
    for (stream, first, last) in [("stdout", "first\nout\n", "out\nlast\n"), ("stderr", "oops\nerr\n", "err\nend\n")] {
        let kept = result(&report)[stream].as_str().expect("both ends");
        assert!(kept.starts_with(first) && kept.ends_with(last), "{stream}");
    }
    assert!(result(&report).to_string().len() <= 64 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_kept_as_text() {
    let _others = ALONE.read().await;
    let (ended, _) = ended(r"printf 'a\000b\377\376\n'; printf '\033[31mred\000\n' >&2; exit 1").await;

    let failure = ended.expect_err("1");
    assert!(!failure.message.contains('\0'), "{:?}", failure.message);
    let report = failure.report.expect("a report");
    assert_eq!(result(&report)["stdout"], "a\u{fffd}b\u{fffd}\u{fffd}\n");
    assert_eq!(result(&report)["stderr"], "\u{1b}[31mred\u{fffd}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_object_on_the_last_line_is_judged_and_one_over_the_limit_is_not() {
    let _others = ALONE.read().await;
    let object = |bytes: u32| {
        format!(r#"echo begin; printf '{{"processados":3,"x":"'; head -c {bytes} /dev/zero | tr '\000' x; echo '"}}'"#)
    };

    let (judged, _) = ended(&object(900_000)).await;
    let (refused, _) = ended(&object(1_200_000)).await;

    let report = judged.expect("judged");
    assert_eq!(report.items, Some(3));
    assert_eq!(result(&report)["json"]["truncated"], true);
    assert!(result(&report).to_string().len() <= 64 * 1024);
    let failure = refused.expect_err("nobody knows what it says");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert_eq!(failure.message, "sh: its last line has more than 1048576 bytes, too many to be judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_end_each_with_its_own_status_and_leave_nothing() {
    let _nobody_else = ALONE.write().await;
    // Whatever a runtime opens once is open before the count.
    let _ = ended("exit 0").await;
    let before = descriptors();

    let attempts = (0..60).map(|number| {
        tokio::spawn(async move {
            let (ctx, id) = new_run();
            let ended =
                commit(script(&format!("sleep 0.{}; (setsid sleep 300 &); exit {number}", number % 7)).run(ctx).await)
                    .await;
            (number, ended, id)
        })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        let (number, ended, id) = attempt.await.expect("it does not panic");
        let code = ended.map_or_else(|failure| failure.report.and_then(|report| report.result), |report| report.result);
        assert_eq!(code.map_or(0, |result| result["exit"].as_i64().expect("a code")), number);
        assert_clean(&id);
    }

    wait_until("all descriptors are closed", || descriptors() <= before);
}
