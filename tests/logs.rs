//! The log of the real binary: its keys, its looks, the texts people search for, what is summed up, and what never appears.

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    daemon::{Daemon, PATIENCE, Setup, http},
    ledger,
    postgres::Database,
};

/// The closed list, in its order (spec 7, Logs).
const KEYS: [&str; 13] = [
    "ts",
    "level",
    "message",
    "component",
    "job_name",
    "run_id",
    "attempt",
    "scheduled_for",
    "lag_ms",
    "duration_ms",
    "outcome",
    "items",
    "replica",
];

/// A job that fires each second, one that fails each second, one that is retried, and a queue.
const MIXED: &str = r#"
version = 1
[defaults]
timezone = "UTC"
[jobs.fast]
every = "1s"
run.noop = {}
[jobs.failing]
every = "1s"
retry = { max_attempts = 1 }
run.noop = { fail = 1.0 }
[jobs.retried]
every = "1s"
retry = { max_attempts = 2, backoff = "100ms" }
overlap = "skip"
run.noop = { fail = 1.0 }
[jobs.mail]
run.noop = {}
"#;

#[derive(Debug, Clone)]
struct Line(BTreeMap<String, Value>);

impl Line {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn says(&self, message: &str) -> bool {
        self.text("message").contains(message)
    }

    fn is_of(&self, job: &str) -> bool {
        self.text("job_name") == job
    }

    fn number(&self, key: &str) -> i64 {
        self.0.get(key).and_then(Value::as_i64).unwrap_or_else(|| panic!("no number {key} in {self:?}"))
    }
}

/// Every line of the log; panics when one is no JSON object.
fn lines(log: &str) -> Vec<Line> {
    let parse = |line: &str| Line(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    log.lines().map(parse).collect()
}

fn sqlite(daemon: &Daemon) -> String {
    format!("sqlite://{}", daemon.setup.path("workers.db").display())
}

/// The lines of a daemon that ran until `condition` and was stopped in order.
fn lived(setup: Setup, what: &str, condition: impl Fn(&[Line]) -> bool) -> (Daemon, Vec<Line>) {
    let mut daemon = setup.start();
    daemon.wait_for(what, |daemon| {
        let log = daemon.stderr();
        // The last line may be half written.
        condition(&lines(log.rsplit_once('\n').map_or("", |(whole, _)| whole)))
    });
    assert!(daemon.terminate().success(), "{}", daemon.output());
    let lines = lines(&daemon.stderr());
    (daemon, lines)
}

fn count(lines: &[Line], job: &str, message: &str) -> usize {
    lines.iter().filter(|line| line.is_of(job) && line.says(message)).count()
}

#[test]
fn a_line_is_json_with_keys_of_the_closed_list_in_their_order() {
    let (daemon, lines) = lived(Setup::new(MIXED), "two failures", |lines| 2 < count(lines, "failing", "job finished"));

    assert_eq!(daemon.stdout(), "");
    for (line, text) in lines.iter().zip(daemon.stderr().lines()) {
        let places: Vec<usize> = KEYS.iter().filter_map(|key| text.find(&format!("\"{key}\":"))).collect();
        assert_eq!(places.len(), line.0.len(), "a key that is not on the list: {text}");
        assert!(places.is_sorted(), "{text}");
        assert!(["ERROR", "WARN", "INFO"].contains(&line.text("level")), "{text}");
        assert!(line.text("ts").parse::<DateTime<Utc>>().is_ok() && line.text("ts").ends_with('Z'), "{text}");
        assert!(!line.text("component").is_empty(), "{text}");
    }
    let finished = lines.iter().find(|line| line.is_of("failing") && line.says("job finished")).expect("a failure");
    for key in KEYS.iter().filter(|key| !["lag_ms", "items"].contains(key)) {
        assert!(finished.0.contains_key(*key), "{key} is missing in {finished:?}");
    }
    let started = lines.iter().find(|line| line.says("job started")).expect("a start");
    assert!(started.0.contains_key("lag_ms") && started.text("scheduled_for").ends_with('Z'), "{started:?}");
}

#[test]
fn the_texts_that_people_search_for_are_there() {
    let (_, lines) = lived(Setup::new(MIXED), "a claim and a sign of life", |lines| {
        0 < count(lines, "retried", "claimed job id=")
            && 0 < count(lines, "mail", "alive")
            && 0 < count(lines, "fast", "job finished")
    });

    assert!(lines[0].says("Process starting"), "{:?}", lines[0]);
    assert!(lines.iter().any(|line| line.says("claim loop") && line.text("component") == "scheduler"));
    let claimed = lines.iter().find(|line| line.says("claimed job id=")).expect("waited for");
    assert_eq!(claimed.text("message"), format!("claimed job id={}", claimed.text("run_id")));
    assert_eq!((count(&lines, "fast", "job started"), count(&lines, "fast", "job finished").min(1)), (1, 1));
    assert!(lines.iter().any(|line| line.text("level") == "ERROR" && line.is_of("failing")));
    let alive = lines.iter().find(|line| line.says("alive")).expect("waited for");
    assert_eq!(alive.text("message"), "alive, queue empty (queued=0, processing=0)");
    assert_eq!((alive.text("job_name"), count(&lines, "fast", "alive")), ("mail", 0));
}

#[tokio::test]
async fn successes_of_a_fast_job_are_summed_up_and_none_is_left_out() {
    let (daemon, lines) =
        lived(Setup::new(MIXED), "seconds to go by", |lines| 4 < count(lines, "failing", "job finished"));

    let rows = ledger::rows(&sqlite(&daemon), "fast").await;
    let successes = rows.iter().filter(|row| row.outcome == "success").count();
    let single = lines.iter().filter(|line| line.is_of("fast") && line.text("message") == "job finished").count();
    let sum =
        lines.iter().find(|line| line.is_of("fast") && line.says("times since the last sum")).expect("the end sums up");

    let summed: usize = sum.text("message").split(' ').nth(2).and_then(|word| word.parse().ok()).expect("a count");
    assert_eq!((single, summed), (1, successes - 1), "{sum:?}");
    assert_eq!((sum.text("outcome"), sum.text("level")), ("success", "INFO"));
    assert!(0 <= sum.number("duration_ms"));
}

#[tokio::test]
async fn every_failure_is_logged_at_once_and_once() {
    let (daemon, lines) = lived(Setup::new(MIXED), "failures", |lines| 3 < count(lines, "retried", "job finished"));

    for (job, retries) in [("failing", 0), ("retried", 1)] {
        let rows = ledger::rows(&sqlite(&daemon), job).await;
        let failed = rows.iter().filter(|row| row.outcome == "error").count();
        let errors: Vec<&Line> = lines.iter().filter(|line| line.is_of(job) && line.text("level") == "ERROR").collect();
        let warnings = count(&lines, job, "attempt ended, again at");
        assert_eq!(errors.len(), failed, "{job}: {errors:#?}");
        assert!(
            failed * retries <= warnings && warnings <= rows.len() * retries,
            "{job}: {warnings} of {}",
            rows.len()
        );
        let mut runs: Vec<&str> = errors.iter().map(|line| line.text("run_id")).collect();
        runs.sort_unstable();
        runs.dedup();
        assert_eq!(runs.len(), failed, "{job}: one line for one run");
    }
}

#[test]
fn log_success_says_how_much_is_said() {
    let seen = |mode: &str| {
        let setup = Setup::new(MIXED).env("WORKERS_LOG_SUCCESS", mode);
        let (_, lines) = lived(setup, "seconds to go by", |lines| 4 < count(lines, "failing", "job finished"));
        (count(&lines, "fast", "job started"), count(&lines, "fast", "job finished"))
    };

    let (all, none) = (seen("all"), seen("none"));

    assert!(3 < all.0 && all.0 == all.1, "{all:?}");
    assert_eq!(none, (1, 1), "the first stays, as a sign that it works at all");
}

#[test]
fn a_flood_stays_under_the_limit_and_what_was_dropped_is_said_when_silence_follows() {
    let jobs: String = (0..2_000).map(|n| format!("[jobs.job_{n}]\ncron = \"0 0 1 1 *\"\nrun.noop = {{}}\n")).collect();
    let setup = Setup::new(&format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n{jobs}"));

    let mut daemon = setup.start();
    let begun = Instant::now();
    daemon.wait_for("the count of dropped lines", |daemon| daemon.stderr().contains("log lines: more than"));
    let waited = begun.elapsed();

    assert!(waited < Duration::from_secs(5), "nobody wrote anything, and it took {waited:?}");
    daemon.terminate();
    let mut seconds: BTreeMap<String, usize> = BTreeMap::new();
    let lines = lines(&daemon.stderr());
    for line in &lines {
        *seconds.entry(line.text("ts")[..19].to_owned()).or_default() += 1;
    }
    assert!(seconds.values().all(|lines| *lines < 500), "{seconds:?}");
    let told = lines.iter().find(|line| line.says("log lines: more than")).expect("waited for");
    let dropped: usize = told.text("message").split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a count");
    let banner = lines.iter().filter(|line| line.text("job_name").starts_with("job_")).count();
    // A few of the lines that are not about jobs may be among the dropped.
    assert!((2_000..2_010).contains(&(banner + dropped)), "{banner} written, {told:?}");
    assert_eq!((told.text("component"), told.text("level")), ("logs", "WARN"));
}

/// The same on a terminal: `script` gives the process one.
fn on_a_terminal(setup: &Setup, environment: &[(&str, &str)]) -> String {
    let binary = std::env::var("WORKERS_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_workers").to_owned());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("exec {binary} run mail --once"), "/dev/null"])
        .current_dir(setup.folder.path())
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("script is there (bsdutils or util-linux)");
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

#[test]
fn on_a_terminal_lines_are_aligned_and_coloured_unless_somebody_minds() {
    let setup = Setup::new(MIXED);

    let plain = on_a_terminal(&setup, &[("NO_COLOR", "1")]);
    let coloured = on_a_terminal(&setup, &[("NO_COLOR", "")]);

    let line = plain.lines().find(|line| line.contains("job finished")).unwrap_or_else(|| panic!("{plain}"));
    let (ts, rest) = line.split_once(' ').expect("words");
    assert!(ts.parse::<DateTime<Utc>>().is_ok(), "{line}");
    assert!(rest.starts_with("INFO  scheduler job finished job_name=mail run_id="), "{line}");
    assert!(rest.ends_with(" outcome=success"), "{line}");
    assert!(!plain.contains('\x1b'), "{plain}");
    let line = coloured.lines().find(|line| line.contains("job finished")).unwrap_or_else(|| panic!("{coloured}"));
    assert!(line.starts_with("\x1b[2m2") && line.contains("\x1b[32mINFO \x1b[0m scheduler job finished"), "{line:?}");
}

#[test]
fn the_look_can_be_asked_for_and_has_no_colour_where_nobody_looks() {
    let setup = Setup::new(MIXED).env("WORKERS_LOG_FORMAT", "text");

    let run = setup.run(&["run", "mail", "--once"]);

    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(log.contains(" INFO  scheduler job finished job_name=mail run_id=") && !log.contains('\x1b'), "{log}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "success\n");
    let asked = on_a_terminal(&setup, &[("WORKERS_LOG_FORMAT", "json")]);
    assert!(asked.contains("\"message\":\"job finished\""), "{asked}");
}

/// A target that refuses, and quotes its request in the answer, as an application in debug mode does: all but the body,
/// which is its own to quote.
fn echo() -> u16 {
    fn answer(stream: &TcpStream) -> std::io::Result<()> {
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        let (mut said, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            length =
                line.to_lowercase().strip_prefix("content-length:").map_or(length, |it| it.trim().parse().unwrap_or(0));
            said += &line.replace("\r\n", "; ");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let answer = serde_json::json!({ "status": "error", "error": said }).to_string();
        write!(
            writer,
            "HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        )
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&stream).unwrap_or_default()));
    port
}

#[tokio::test]
async fn no_secret_and_no_payload_is_ever_written() {
    let database = Database::new().await;
    let url = database.url.replacen("postgres@", "postgres:canary-password@", 1);
    assert!(url.contains("canary-password"), "{url}");
    let port = echo();
    let table = format!(
        r#"
version = 1
[defaults]
timezone = "UTC"
retry = {{ max_attempts = 2, backoff = "100ms" }}
[targets.api]
base_url = "http://127.0.0.1:{port}"
headers = {{ Authorization = "Bearer ${{APP_TOKEN}}", X-Key = "${{APP_KEY}}" }}
secret = "${{WEBHOOK_SECRET}}"
[targets.gone]
base_url = "http://127.0.0.1:1"
headers = {{ Authorization = "Bearer ${{APP_TOKEN}}" }}
[jobs.refused]
every = "1s"
payload = {{ text = "canary-payload" }}
run.http = {{ target = "api", post = "/x", query = {{ key = "${{APP_KEY}}" }} }}
[jobs.unanswered]
every = "1s"
payload = {{ text = "canary-payload" }}
run.http = {{ target = "gone", post = "/x", query = {{ key = "${{APP_KEY}}" }} }}
[jobs.sql]
every = "1s"
payload = {{ text = "canary-payload" }}
run.sql = {{ text = "select 1 / (case when cast(:payload as text) is null then 1 else 0 end)" }}
"#
    );
    let setup = Setup::new(&table)
        .database(&url)
        .env("LOG_LEVEL", "trace")
        .env("WORKERS_TOKEN", "canary-token-of-operators")
        .env("WORKERS_READ_TOKEN", "canary-token-of-readers")
        .env("APP_TOKEN", "canary-app-token")
        .env("APP_KEY", "canary-app-key")
        .env("WEBHOOK_SECRET", "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LW9mLTMyLWJ5dGVz");

    let (daemon, lines) = lived(setup, "failures of all three", |lines| {
        ["refused", "unanswered", "sql"].iter().all(|job| 1 < count(lines, job, "job finished"))
    });

    let output = daemon.output();
    for canary in ["canary-", "Y2FuYXJ5", "postgres:canary"] {
        let leak: Vec<&str> = output.lines().filter(|line| line.contains(canary)).take(3).collect();
        assert!(leak.is_empty(), "{canary} in:\n{}", leak.join("\n"));
    }
    assert!(lines.iter().any(|line| line.text("level") == "DEBUG"), "the level was not asked for");
}

/// A daemon whose stderr is a pipe, and what becomes of it while the pipe is treated so.
fn with_a_pipe(treat: impl FnOnce(std::process::ChildStderr) -> Option<std::process::ChildStderr>) {
    let jobs: String = (0..60).map(|n| format!("[jobs.job_{n}]\nevery = \"1s\"\nrun.noop = {{}}\n")).collect();
    let setup = Setup::new(&format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n{jobs}"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_workers"))
        .current_dir(setup.folder.path())
        .env_clear()
        .env("WORKERS_LISTEN", format!("127.0.0.1:{}", setup.port))
        .env("WORKERS_LOG_SUCCESS", "all")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let kept = treat(child.stderr.take().expect("a pipe"));
    let fired = |at_least: f64| {
        let metrics = http(setup.port, "GET", "/metrics", &[], "").map(|answer| answer.body).unwrap_or_default();
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix("workers_job_runs_total{job_name=\"job_7\",outcome=\"success\"} "));
        value.and_then(|value| value.parse::<f64>().ok()).is_some_and(|runs| at_least <= runs)
    };
    let deadline = Instant::now() + PATIENCE;
    // 60 jobs write some 25 KiB a second, and a pipe holds 64.
    while !fired(8.0) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it does not fire any more");
        thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline + PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
    drop(kept);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_stands_still_holds_nothing_up() {
    with_a_pipe(Some);
}

#[test]
fn a_reader_that_went_away_ends_nothing() {
    with_a_pipe(|pipe| {
        drop(pipe);
        None
    });
}
