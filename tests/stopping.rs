//! SIGTERM in the middle of fifty runs of all kinds: it ends in time, nothing is lost, nothing is done twice.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use support::{
    daemon::{Daemon, PATIENCE, Setup},
    postgres::Database,
    target::Target,
};

/// The grace that runs may use up, shortened.
const GRACE: Duration = Duration::from_secs(3);
/// What a stop may take beyond the grace: handlers that do not listen are aborted, and their ends written.
const AFTERWARDS: Duration = Duration::from_secs(9);

/// Fifty jobs that all run when the signal comes, each kind as many times as it says.
const KINDS: [(&str, usize); 10] = [
    ("hang", 10),
    ("hang_once", 5),
    ("nap", 10),
    ("nap_once", 5),
    ("query", 3),
    ("deaf", 2),
    ("polite", 1),
    ("silent", 1),
    ("queued", 8),
    ("short", 5),
];

fn table(port: u16, folder: &str, query: &str) -> String {
    let mut text = "version = 1\n[defaults]\ntimezone = \"UTC\"\noverlap = \"skip\"\n".to_owned();
    text += "[executor]\nconcurrency = 8\n";
    for (kind, many) in KINDS {
        for number in 0..many {
            let name = format!("{kind}_{number}");
            let hang = format!("run.http = {{ post = \"http://127.0.0.1:{port}/hang/{name}\" }}");
            // The line is written once the trap is set.
            let shell = |trap: &str| {
                let script = format!("trap '{trap}' TERM; echo {name} >> {folder}/{name}; while :; do sleep 1; done");
                format!("run.command = {{ argv = [\"/bin/sh\", \"-c\", \"{script}\"] }}")
            };
            let work = match kind {
                "hang" => hang,
                "hang_once" => format!("delivery = \"at_most_once\"\n{hang}"),
                "nap" => "run.noop = { sleep = \"100s\" }".into(),
                "nap_once" => "delivery = \"at_most_once\"\nrun.noop = { sleep = \"100s\" }".into(),
                "short" => "run.noop = { sleep = \"2s\" }".into(),
                "query" => format!("run.sql = {{ text = \"{query}\" }}"),
                "deaf" => shell(""),
                "polite" => shell("echo {\\\\\\\"processed\\\\\\\":1}; exit 0"),
                "silent" => shell("exit 0"),
                _ => "run.noop = { sleep = \"100s\" }".into(),
            };
            let schedule = if kind == "queued" { "" } else { "every = \"1h\"\n" };
            text += &format!("[jobs.{name}]\n{schedule}{work}\n");
        }
    }
    text
}

/// A run as the database has it, read past the daemon.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    state: String,
    outcome: String,
    reason: String,
    attempt: i64,
    crashes: i64,
}

async fn runs(url: &str) -> BTreeMap<String, Vec<Run>> {
    let name = if url.starts_with("sqlite") { "workers_runs" } else { "workers.runs" };
    let query = AssertSqlSafe(format!(
        "select job, state, coalesce(outcome, ''), coalesce(reason, ''), cast(attempt as bigint), cast(crashes as bigint)
        from {name} where trigger <> 'schedule' order by job, id"
    ));
    macro_rules! read {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(url).await.expect("the database answers");
            let rows = sqlx::query(query).fetch_all(&mut connection).await.expect("the runs are readable");
            rows.iter()
                .map(|row| {
                    let run = Run {
                        state: row.get(1),
                        outcome: row.get(2),
                        reason: row.get(3),
                        attempt: row.get(4),
                        crashes: row.get(5),
                    };
                    (row.get::<String, _>(0), run)
                })
                .collect::<Vec<_>>()
        }};
    }
    let all = if url.starts_with("sqlite") { read!(SqliteConnection) } else { read!(PgConnection) };
    let mut by_job: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for (job, run) in all {
        by_job.entry(job).or_default().push(run);
    }
    by_job
}

fn names() -> impl Iterator<Item = (&'static str, String)> {
    KINDS.into_iter().flat_map(|(kind, many)| (0..many).map(move |number| (kind, format!("{kind}_{number}"))))
}

fn trigger_all(daemon: &Daemon) {
    for (_, name) in names() {
        let answer = daemon.setup.run(&["trigger", &name]);
        assert!(answer.status.success(), "{name}: {}", String::from_utf8_lossy(&answer.stderr));
    }
}

async fn wait_until_running(daemon: &Daemon, url: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let runs = runs(url).await;
        let running = runs.values().flatten().filter(|run| run.state == "running").count();
        let quick = |name: &str| name.starts_with("short") || name.starts_with("query") && url.starts_with("sqlite");
        let quick = names().filter(|(_, name)| quick(name)).count();
        if 50 - quick <= running {
            return;
        }
        assert!(Instant::now() < deadline, "only {running} run: {runs:#?}\n{}", daemon.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn interrupted(run: &Run) -> bool {
    (run.state.as_str(), run.reason.as_str(), run.attempt, run.crashes) == ("due", "interrupted", 0, 0)
}

fn ended(run: &Run, outcome: &str) -> bool {
    run.state == "finished" && run.outcome == outcome
}

#[track_caller]
fn assert_ends(runs: &BTreeMap<String, Vec<Run>>, sleeps: bool) {
    for (kind, name) in names() {
        let [run] = runs[&name].as_slice() else { panic!("{name} has one run: {:?}", runs[&name]) };
        let right = match kind {
            "hang_once" | "nap_once" => ended(run, "unknown"),
            "short" | "polite" => ended(run, "success"),
            "query" if !sleeps => ended(run, "success"),
            _ => interrupted(run),
        };
        assert!(right, "{name}: {run:?}");
    }
}

async fn stop_and_start_again(setup: Setup, url: &str, target: &Target) {
    let mut daemon = setup.env("WORKERS_SHUTDOWN_GRACE", "3s").start();
    trigger_all(&daemon);
    wait_until_running(&daemon, url).await;
    let programs = |daemon: &Daemon| ["deaf_", "polite_", "silent_"].map(|kind| lines_of(daemon, kind));
    daemon.wait_for("the programs to listen", |daemon| programs(daemon) == [2, 1, 1]);

    let asked = Instant::now();
    let status = daemon.terminate();

    let took = asked.elapsed();
    assert!(status.success(), "{status}\n{}", daemon.output());
    assert!(took < GRACE + AFTERWARDS, "it took {took:?}");
    assert_ends(&runs(url).await, !url.starts_with("sqlite"));
    for (_, name) in names().filter(|(kind, _)| kind.starts_with("hang")) {
        assert_eq!(target.calls().iter().filter(|path| path.ends_with(&format!("/{name}"))).count(), 1, "{name}");
    }
    assert_nothing_is_left_of(&daemon);

    let mut again = daemon.start_again();
    again.wait_for("the interrupted commands to run again", |daemon| lines_of(daemon, "deaf_") == 4);
    again.wait_for("what said nothing to run again", |daemon| lines_of(daemon, "silent_") == 2);
    assert_eq!(lines_of(&again, "polite_"), 1, "what ended well is not done again");
    let runs = runs(url).await;
    for (_, name) in names().filter(|(kind, _)| kind.ends_with("_once")) {
        assert!(ended(&runs[&name][0], "unknown") && runs[&name].len() == 1, "{name}: {:?}", runs[&name]);
    }
    again.kill();
}

/// Lines that the commands of these jobs left, one per start.
fn lines_of(daemon: &Daemon, prefix: &str) -> usize {
    let files = fs::read_dir(daemon.setup.folder.path()).expect("the folder is readable").flatten();
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    ours.map(|file| fs::read_to_string(file.path()).unwrap_or_default().lines().count()).sum()
}

/// Processes whose command line names the daemon's folder.
#[track_caller]
fn assert_nothing_is_left_of(daemon: &Daemon) {
    let folder = daemon.setup.folder.path().to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("Linux tells its processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let left: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect();
    let left: Vec<_> = left.into_iter().filter(|line| line.contains(&folder)).collect();
    assert!(left.is_empty(), "{left:#?}");
}

fn setup(target: &Target, query: &str) -> Setup {
    let setup = Setup::new("");
    let folder = setup.folder.path().to_string_lossy().into_owned();
    setup.write_jobs(&table(target.port, &folder, query));
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_runs_of_all_kinds_are_stopped_in_time_on_sqlite() {
    let target = Target::start();
    let setup = setup(&target, "select 1");
    let url = format!("sqlite://{}", setup.path("workers.db").display());

    stop_and_start_again(setup, &url, &target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_runs_of_all_kinds_are_stopped_in_time_on_postgresql() {
    let (target, database) = (Target::start(), Database::new().await);
    let setup = setup(&target, "select pg_sleep(100)").database(&database.url);

    stop_and_start_again(setup, &database.url, &target).await;
}
