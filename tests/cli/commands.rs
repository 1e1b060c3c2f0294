//! The commands that show and check, beside a daemon and without one.

use std::sync::Arc;

use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

use super::saying::{complain, json, say, told};
use crate::support::{
    self,
    daemon::{Daemon, Setup},
};

const JOBS: &str = r#"
version = 1
[jobs.tick]
every = "100ms"
run.noop = {}
[jobs.broken]
at = "03:00"
timezone = "America/Sao_Paulo"
critical = true
retry = { max_attempts = 1 }
run.noop = { fail = 1.0 }
[jobs.quiet]
every = "1h"
timezone = "UTC"
run.noop = {}
"#;

/// A daemon that has run the ticking job a few times, and whose health knows that its planner turns.
fn busy() -> Daemon {
    let mut daemon = Setup::new(JOBS).start();
    daemon.wait_for("a running planner", |daemon| daemon.get("/health/workers").json()["scheduler"] == "running");
    daemon.wait_for("three runs", |daemon| {
        3 <= json(&say(&daemon.setup, &["runs", "list", "-o", "json"], 0)).as_array().unwrap().len()
    });
    daemon
}

#[test]
fn help_and_version_are_data_and_a_wrong_flag_is_usage() {
    let setup = Setup::new(JOBS);

    let help = say(&setup, &["--help"], 0);
    for command in [
        "start", "run", "check", "explain", "next", "jobs", "runs", "queue", "ledger", "status", "health", "migrate",
        "config",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
    }
    assert!(say(&setup, &["version"], 0).starts_with("workers 0."));
    assert!(json(&say(&setup, &["version", "--json"], 0))["version"].is_string());
    complain(&setup, &["--wrong"], 2, "--wrong");
    complain(&setup, &["--only", "tick", "runs", "list"], 2, "--only");
}

#[test]
fn expressions_are_explained_and_looked_ahead_without_a_table() {
    let setup = Setup::new("not a table");

    assert!(
        say(&setup, &["explain", "0 8 * * 1-5", "--timezone", "America/Sao_Paulo"], 0).contains("Monday to Friday")
    );
    let next = say(
        &setup,
        &[
            "next",
            "--cron",
            "0 8 * * 1-5",
            "--timezone",
            "America/Sao_Paulo",
            "--from",
            "2026-11-20T12:00:00Z",
            "-n",
            "2",
            "-o",
            "json",
        ],
        0,
    );
    assert_eq!(json(&next), serde_json::json!(["2026-11-23T11:00:00Z", "2026-11-24T11:00:00Z"]));
    complain(&setup, &["explain", "61 * * * *"], 2, "61");
    complain(&setup, &["explain", "every 1s", "-n", "100001"], 2, "100000");
    complain(&setup, &["next", "--every", "1s", "-n", "-1"], 2, "-1");
    complain(&setup, &["next"], 3, "jobs.toml");
}

#[test]
fn check_answers_with_the_code_for_configuration() {
    let good = Setup::new(JOBS);
    let bad = Setup::new("version = 1\n[jobs.a]\nevry = \"5min\"\nrun.noop = {}\n");

    assert!(say(&good, &["check"], 0).contains("3 jobs, 0 errors"));
    assert!(say(&bad, &["check"], 3).contains("evry"));
    assert!(say(&good, &["config", "show", "--origin"], 0).contains("WORKERS_LISTEN"));
}

#[test]
fn check_lets_a_database_that_is_there_read_the_sql_of_the_jobs() {
    let sql = |text: &str| {
        format!("version = 1\n[jobs.a]\nevery = \"5min\"\ntimezone = \"UTC\"\nrun.sql = {{ text = \"{text}\" }}\n")
    };
    let setup = Setup::new(&sql("select missing from nowhere"));

    say(&setup, &["check"], 0);
    assert!(!setup.path("workers.db").exists(), "checking makes no database");
    say(&setup, &["migrate", "up"], 0);
    let refused = say(&setup, &["check"], 3);
    assert!(refused.contains("job `a`") && refused.contains("nowhere"), "{refused}");
    setup.write_jobs(
        "version = 1\n[jobs.a]\nevery = \"5min\"\nwhen = { sql = \"select open from gates\" }\nrun.noop = {}\n",
    );
    assert!(say(&setup, &["check"], 3).contains("gates"));
    setup.write_jobs(&sql("select count(*) from workers_runs where due_at < :now"));
    say(&setup, &["check"], 0);
}

/// Runs statements on the daemon's database file.
fn execute(setup: &Setup, statements: &'static str) {
    let url = format!("sqlite://{}", setup.path("workers.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut database).await.unwrap();
    });
}

#[test]
fn check_tells_what_a_table_lacks_that_is_only_looked_at_and_what_a_queue_refuses() {
    let job = |name: &str| format!("[jobs.{name}]\nevery = \"5min\"\ntimezone = \"UTC\"\nrun.{name} = {{}}\n");
    let jobs: String = ["handoffs", "fila", "report", "grupos"].map(job).concat();
    let setup = Setup::new(&format!("version = 1\n{jobs}"));
    say(&setup, &["migrate", "up"], 0);
    say(&setup, &["check"], 0);
    execute(&setup, "create table doctor_state (cliente_id text); create table fila_processamento_grupos (id integer)");

    let refused = say(&setup, &["check"], 3);

    let told = |job: &str, lacks: &str| refused.lines().any(|line| line.contains(job) && line.contains(lacks));
    assert!(told("job `handoffs`", "table doctor_state lacks permission_state; add with: alter table"), "{refused}");
    assert!(told("job `fila`", "table doctor_state lacks permission_state; add with: alter table"), "{refused}");
    assert!(told("job `grupos`", "table fila_processamento_grupos lacks"), "{refused}");
    assert!(!told("job `report`", "lacks"), "{refused}");
    execute(
        &setup,
        "drop table doctor_state; drop table fila_processamento_grupos;
        create table external_handoffs (id integer primary key);
        create table fila_mensagens (id integer primary key, criada text)",
    );
    let refused = say(&setup, &["check"], 3);
    let told = |job: &str, lacks: &str| refused.lines().any(|line| line.contains(job) && line.contains(lacks));
    assert!(
        told("job `report`", "table fila_mensagens lacks") && told("job `report`", "external_handoffs"),
        "{refused}"
    );
}

#[test]
fn the_ledger_of_a_running_daemon_balances_and_a_row_taken_out_by_hand_is_missed() {
    let mut daemon = busy();

    let account = json(&say(&daemon.setup, &["ledger", "-o", "json"], 0));
    let total = account.as_array().unwrap().last().unwrap();
    assert_eq!((&total["job"], &total["unexplained"]), (&"total".into(), &0.into()));
    assert_eq!(total["expected"].as_i64(), Some(counted(total)));
    daemon.terminate();
    take_out_a_row(&daemon);

    let account = json(&say(&daemon.setup, &["ledger", "--job", "tick", "-o", "json"], 1));

    assert_eq!((&account[0]["missing"], &account[0]["unexplained"]), (&1.into(), &1.into()));
    complain(&daemon.setup, &["ledger", "--job", "nobody"], 7, "nobody");
}

/// What an account says became of its instants.
fn counted(account: &Value) -> i64 {
    let skipped: i64 = account["skipped"].as_object().unwrap().values().filter_map(Value::as_i64).sum();
    ["ran", "late", "open"].iter().filter_map(|key| account[key].as_i64()).sum::<i64>() + skipped
}

fn take_out_a_row(daemon: &Daemon) {
    let url = format!("sqlite://{}", daemon.setup.path("workers.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        let taken =
            "delete from workers_runs where id = (select min(id) from workers_runs where covers = 1 and job = 'tick')";
        assert_eq!(sqlx::query(taken).execute(&mut database).await.unwrap().rows_affected(), 1);
    });
}

#[test]
fn runs_are_listed_filtered_and_shown() {
    let daemon = busy();
    let setup = &daemon.setup;

    let runs =
        json(&say(setup, &["runs", "list", "--job", "tick", "--outcome", "success", "-n", "1", "-o", "json"], 0));
    let id = runs[0]["id"].as_str().unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!(json(&say(setup, &["runs", "show", id, "-o", "json"], 0)), runs[0]);
    assert!(say(setup, &["runs", "show", id], 0).contains("outcome         success\n"));
    assert_eq!(say(setup, &["runs", "list", "--job", "quiet", "-o", "jsonl"], 0), "");
    assert_eq!(say(setup, &["runs", "list", "--since", "1h", "--job", "quiet", "-o", "json"], 0), "[]\n");
    assert_ne!(say(setup, &["runs", "list", "--since", "1h", "-o", "jsonl"], 0), "");
    complain(setup, &["runs", "list", "--job", "tok"], 7, "no job \"tok\"");
    complain(setup, &["runs", "list", "--since", "soon"], 2, "nor a length of time such as 24h");
    complain(setup, &["runs", "show", "00000000-0000-7000-8000-000000000000"], 7, "no run");
    complain(setup, &["runs", "list", "--state", "asleep"], 2, "asleep");
}

#[test]
fn a_job_is_paused_and_resumed_beside_the_daemon() {
    let mut daemon = busy();

    say(&daemon.setup, &["jobs", "pause", "tick", "--reason", "a look at it"], 0);
    // Health samples its figures every 30 s, which is all our patience.
    std::thread::sleep(std::time::Duration::from_secs(3));
    daemon.wait_for("paused in health", |daemon| {
        daemon.get("/health/workers").json()["tick"] == "paused" || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            false
        }
    });
    assert!(say(&daemon.setup, &["jobs", "show", "tick"], 0).contains("a look at it"));
    say(&daemon.setup, &["jobs", "resume", "tick"], 0);
    assert!(!say(&daemon.setup, &["jobs", "show", "tick"], 0).contains("a look at it"));

    complain(&daemon.setup, &["jobs", "pause", "tock"], 7, "did you mean tick?");
    complain(&daemon.setup, &["jobs", "rewind", "tick"], 8, "is not ahead of the clock");
    let jobs = json(&say(&daemon.setup, &["jobs", "list", "-o", "json"], 0));
    assert_eq!(
        jobs.as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect::<Vec<_>>(),
        ["broken", "quiet", "tick"]
    );
    let balance = say(&daemon.setup, &["ledger", "-o", "json"], 0);
    assert!(balance.contains("paused"), "{balance}");
}

#[test]
fn status_and_health_ask_the_service_and_say_when_nobody_answers() {
    let mut daemon = busy();

    assert!(say(&daemon.setup, &["status"], 0).contains("\ntick"));
    assert_eq!(json(&say(&daemon.setup, &["status", "-o", "json"], 0))["scheduler"], "running");
    assert_eq!(say(&daemon.setup, &["health"], 0), "healthy\n");
    assert_eq!(say(&daemon.setup, &["health", "--live"], 0), "ok\n");
    assert_eq!(say(&daemon.setup, &["health", "--ready"], 0), "ready\n");
    let url = format!("http://127.0.0.1:{}/", daemon.port);
    assert_eq!(say(&daemon.setup, &["health", "--url", &url], 0), "healthy\n");
    daemon.terminate();

    complain(&daemon.setup, &["health", "--live"], 4, "no answer from http://127.0.0.1:");
    complain(&daemon.setup, &["status"], 4, "refused");
}

#[test]
fn the_job_table_is_shown_without_its_secrets() {
    let setup = Setup::new(
        "version = 1\n[targets.shop]\nbase_url = \"http://127.0.0.1:1\"\nheaders.Authorization = \"Bearer canary-a\"\n\
        [jobs.token_refresh]\nevery = \"1h\"\ntimezone = \"UTC\"\npayload = { senha = \"canary-b\", to = \"x-${SHOP_TOKEN}-y\" }\n\
        run.http = { target = \"shop\", get = \"/x?api_key=canary-c&n=1\" }\n",
    )
    .env("SHOP_TOKEN", "canary-d");

    let shown = say(&setup, &["config", "show", "-o", "json"], 0);

    assert!(!shown.contains("canary"), "{shown}");
    let job = &json(&shown)["table"]["jobs"]["token_refresh"];
    assert_eq!((&job["every"], &job["payload"]["to"]), (&"1h".into(), &"x-***-y".into()));
    assert_eq!(job["run"]["http"]["get"], "/x?api_key=***&n=1");
}

#[test]
fn the_tables_are_brought_up_to_date_on_demand() {
    let setup = Setup::new(JOBS);

    complain(&setup, &["ledger"], 8, "workers migrate up");
    assert!(say(&setup, &["migrate", "status"], 1).contains("0001_ledger"));
    assert!(say(&setup, &["migrate", "up"], 0).contains("0001_ledger"));
    assert!(say(&setup, &["migrate", "up"], 0).contains("up to date"));
    assert!(!say(&setup, &["migrate", "status"], 0).contains("pending"));
    assert!(say(&setup, &["migrate", "sql"], 0).contains("create table workers_jobs"));
    assert!(say(&setup, &["ledger"], 0).contains("total"));
    let unreachable = setup.database("postgres://nobody:s3cret@127.0.0.1:9/none");
    let (code, _, stderr) = told(&unreachable.run(&["ledger"]));
    assert_eq!(code, Some(4), "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn run_once_runs_a_job_now_and_ends_as_it_ended() {
    let alone = Setup::new(JOBS);

    assert_eq!(say(&alone, &["run", "quiet", "--once"], 0), "success\n");
    assert_eq!(say(&alone, &["run", "broken", "--once"], 1), "error\n");
    complain(&alone, &["run", "nobody", "--once"], 7, "nobody");
    let (_, _, banner) = told(&alone.run(&["run", "quiet", "--once"]));
    let banner: Vec<_> = banner.lines().filter(|line| line.contains("\"banner\"")).collect();
    assert!(banner.iter().any(|line| line.contains("listening nowhere")), "{banner:#?}");
    assert!(banner.iter().any(|line| line.contains("quiet")), "{banner:#?}");
    assert!(!banner.iter().any(|line| line.contains("tick") || line.contains("listening on")), "{banner:#?}");
    let daemon = Setup::beside(Arc::clone(&alone.folder), JOBS).start();
    assert_eq!(say(&daemon.setup, &["run", "quiet", "--once"], 0), "success\n");
    let runs = json(&say(&daemon.setup, &["runs", "list", "--job", "quiet", "-o", "json"], 0));
    let manual =
        runs.as_array().unwrap().iter().filter(|run| run["trigger"] == "manual" && run["outcome"] == "success");
    assert_eq!(manual.count(), 3);
}

#[test]
fn log_lines_are_json_with_the_closed_list_of_keys() {
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
    let mut daemon = Setup::new(JOBS).env("LOG_LEVEL", "DEBUG").start();
    daemon.wait_for("a finished run", |daemon| daemon.stderr().contains("job finished"));
    daemon.terminate();

    let log = daemon.stderr();

    for line in log.lines() {
        let line = json(line);
        let strange: Vec<_> = line.as_object().unwrap().keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
        assert!(strange.is_empty(), "{strange:?} in {line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&line["level"].as_str().unwrap()), "{line}");
    }
    let finished = log.lines().map(json).find(|line| line["message"] == "job finished").unwrap();
    for key in ["job_name", "run_id", "attempt", "duration_ms", "outcome", "replica"] {
        assert!(!finished[key].is_null(), "{key} is not in {finished}");
    }
    assert!(log.contains("Process starting") && log.contains("sqlite"), "{log}");
    assert_eq!(daemon.stdout(), "");
    complain(&Setup::new(JOBS).env("LOG_LEVEL", "loud"), &[], 3, "LOG_LEVEL");
}

#[test]
fn beyond_loopback_all_but_health_needs_the_token() {
    let mut setup = Setup::new(JOBS);
    // A port that is free on loopback may be taken on another address.
    let port = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
    setup.port = port;
    let daemon = setup.env("WORKERS_LISTEN", &format!("0.0.0.0:{port}")).env("WORKERS_READ_TOKEN", "s3cret").start();
    let ask = |header: &str| support::daemon::http(daemon.port, "GET", "/metrics", &[header], "").unwrap().status;

    assert_eq!(daemon.get("/health/workers").status, 200);
    assert_eq!(daemon.get("/metrics").status, 401);
    assert_eq!(ask("Authorization: Bearer wrong"), 401);
    assert_eq!(ask("Authorization: Bearer s3cret"), 200);
    assert!(!daemon.output().contains("s3cret"));
}
