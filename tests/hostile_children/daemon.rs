//! The same through the real binary: stopped, killed, started again, and left alone with orphans.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sqlx::{Connection, SqliteConnection};

use crate::{
    processes::{carriers, wait_until, zombies},
    support::daemon::{Daemon, Setup},
};

/// A table of one job that runs a script each second, with more keys beside it.
fn table(script: &str, more: &str) -> String {
    format!(
        "version = 1\n[defaults]\ntimezone = \"UTC\"\n[executor]\nshutdown_grace = \"8s\"\n\
         [jobs.child]\nevery = \"1s\"\n{more}\nrun.command = {{ argv = [\"sh\", \"-c\", '''{script}'''], env = [\"CANARY_TOKEN\"] }}\n"
    )
}

/// Rows of the ledger: outcome or state, attempt, crashes, result and error, in order of their instants.
async fn rows(daemon: &Daemon) -> Vec<(String, i64, i64, String)> {
    let url = format!("sqlite://{}", daemon.setup.path("workers.db").display());
    let mut connection = SqliteConnection::connect(&url).await.expect("the daemon made its file");
    let query = "select coalesce(outcome, state), attempt, crashes, coalesce(result, '') || coalesce(error, '')
        from workers_runs where attempt > 0 or outcome is not 'skipped' order by scheduled_for";
    sqlx::query_as(query).fetch_all(&mut connection).await.expect("rows")
}

/// The lines of a file that the scripts write.
fn lines(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join("lines")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The id of the run that wrote the first line.
fn first_run(daemon: &mut Daemon) -> String {
    daemon.wait_for("a first line", |daemon| !lines(daemon.setup.folder.path()).is_empty());
    let first = lines(daemon.setup.folder.path()).remove(0);
    first.split(' ').next().expect("it begins with the id of the run").to_owned()
}

#[tokio::test]
async fn sigterm_ends_children_in_time_and_their_runs_go_back() {
    let stubborn = "trap \"\" TERM; setsid sleep 300 & echo $WORKERS_RUN_ID >> lines; while :; do sleep 1; done";
    let mut daemon = Setup::new(&table(stubborn, "")).start();
    let run = first_run(&mut daemon);
    let begun = Instant::now();

    let status = daemon.terminate();

    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(carriers(&run), Vec::<u32>::new());
    let rows = rows(&daemon).await;
    assert_eq!((rows[0].0.as_str(), rows[0].1, rows[0].2), ("due", 0, 0), "not spent, not crashed: {rows:?}");
}

#[tokio::test]
async fn a_child_that_finishes_on_sigterm_is_done() {
    let graceful = "trap \"echo \\\"{\\\\\\\"processados\\\\\\\":2}\\\"; exit 0\" TERM; echo $WORKERS_RUN_ID >> lines; while :; do sleep 0.05; done";
    let mut daemon = Setup::new(&table(graceful, "")).start();
    let run = first_run(&mut daemon);
    let begun = Instant::now();

    daemon.terminate();

    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(carriers(&run), Vec::<u32>::new());
    let rows = rows(&daemon).await;
    assert_eq!(rows[0].0, "success", "{rows:?}");
    assert!(rows[0].3.contains("processados"), "{rows:?}");
}

#[tokio::test]
async fn a_time_out_says_what_the_child_said_last() {
    let hanging = "echo $WORKERS_RUN_ID >> lines; echo waiting for a lock >&2; setsid sleep 300 & sleep 300";
    let mut daemon = Setup::new(&table(hanging, "timeout = \"1s\"\nretry.max_attempts = 1")).start();
    let run = first_run(&mut daemon);
    daemon.wait_for("a time-out", |daemon| daemon.output().contains("no end within 1 s"));

    wait_until("nothing is left", || carriers(&run).is_empty());

    let first = rows(&daemon).await.remove(0);
    assert_eq!(first.0, "timeout", "{first:?}");
    let words = "no end within 1 s; sh was told to stop and was killed by SIGTERM: waiting for a lock";
    assert!(first.3.ends_with(words) && first.3.contains("\"stderr\":\"waiting for a lock"), "{first:?}");
}

#[tokio::test]
async fn a_second_signal_leaves_no_child_behind() {
    let stubborn = "trap \"\" TERM; setsid sleep 300 & echo $WORKERS_RUN_ID >> lines; while :; do sleep 1; done";
    let mut daemon = Setup::new(&table(stubborn, "")).start();
    let run = first_run(&mut daemon);

    daemon.signal(Signal::TERM);
    daemon.wait_for("the first signal to be heard", |daemon| {
        daemon.try_get("/readyz").is_none_or(|answer| answer.status != 200)
    });
    daemon.terminate();

    wait_until("nothing is left", || carriers(&run).is_empty());
}

#[tokio::test]
async fn children_that_survive_a_kill_of_the_daemon_are_ended_before_their_run_begins_again() {
    let long = "echo $WORKERS_RUN_ID $WORKERS_ATTEMPT >> lines; [ $WORKERS_ATTEMPT = 2 ] || sleep 300";
    let setup = Setup::new(&table(long, ""));
    let folder = Arc::clone(&setup.folder);
    let mut daemon = setup.start();
    let run = first_run(&mut daemon);

    daemon.kill();

    assert!(!carriers(&run).is_empty(), "nobody is there to end them");
    let mut daemon = daemon.start_again();
    daemon.wait_for("the second attempt", |_| 2 <= lines(folder.path()).len());
    assert_eq!(lines(folder.path())[..2], [format!("{run} 1"), format!("{run} 2")]);
    wait_until("the first attempt is gone", || carriers(&run).is_empty());
    daemon.wait_for("the end of the second attempt", |daemon| {
        daemon.get("/health/workers").json()["jobs"]["child"]["last_outcome"] == "success"
    });
    let rows = rows(&daemon).await;
    assert_eq!((rows[0].0.as_str(), rows[0].1, rows[0].2), ("success", 2, 1), "{rows:?}");
}

#[tokio::test]
async fn a_run_that_must_not_be_repeated_is_in_doubt_after_a_kill_of_its_daemon() {
    let long = "echo $WORKERS_RUN_ID $WORKERS_ATTEMPT >> lines; sleep 300";
    let mut daemon = Setup::new(&table(long, "delivery = \"at_most_once\"")).start();
    let run = first_run(&mut daemon);

    let daemon = daemon.start_again();

    let first = rows(&daemon).await.remove(0);
    assert_eq!(first.0, "unknown", "{first:?}");
    // It is nobody's any more, and whether it is done is for a person to find out.
    assert!(!carriers(&run).is_empty());
    for pid in carriers(&run) {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("not 0");
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[tokio::test]
async fn orphans_that_end_while_a_job_runs_do_not_stay_in_the_list_of_processes() {
    let orphans =
        "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sleep 0.1 &); done; echo $WORKERS_RUN_ID >> lines; sleep 300";
    let mut daemon = Setup::new(&table(orphans, "")).start();
    first_run(&mut daemon);

    std::thread::sleep(Duration::from_secs(1));
    wait_until("no orphan is a zombie of the daemon", || zombies(daemon.pid()).is_empty());

    assert!(daemon.terminate().success());
}

#[tokio::test]
async fn a_canary_in_the_environment_of_a_child_comes_out_nowhere() {
    let loud =
        "echo \"my token is $CANARY_TOKEN\"; echo \"$CANARY_TOKEN failed\" >&2; echo $WORKERS_RUN_ID >> lines; exit 1";
    let setup = Setup::new(&table(loud, "")).env("CANARY_TOKEN", "kanarienvogel-4711");
    let mut daemon = setup.start();
    first_run(&mut daemon);
    daemon.wait_for("a failure", |daemon| daemon.output().contains("*** failed"));

    let pages = ["/health/workers", "/health/jobs", "/metrics"].map(|page| daemon.get(page).body);
    daemon.terminate();
    let told = daemon.setup.run(&["runs"]);

    let rows = rows(&daemon).await;
    assert!(rows[0].3.contains("my token is ***"), "{rows:?}");
    let all = format!("{pages:?} {rows:?} {} {told:?}", daemon.output());
    assert!(!all.contains("kanarienvogel"), "{all}");
}
