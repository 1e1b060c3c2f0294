//! Reload on the real binary: a new job table replaces the old one whole, a bad one changes nothing and is seen.

mod support;

use std::{fs, sync::Arc, thread, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, Setup},
    ledger,
    postgres::{Cluster, Database},
};

/// A job every second that no edit touches, and these lines.
fn table(lines: &str) -> String {
    format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.tick]\nevery = \"1s\"\nrun.noop = {{}}\n{lines}\n")
}

fn noop(name: &str, every: &str) -> String {
    format!("[jobs.{name}]\nevery = \"{every}\"\nrun.noop = {{}}\n")
}

fn health(daemon: &Daemon) -> Value {
    daemon.get("/health/workers?as=200").json()
}

fn has_job(daemon: &Daemon, name: &str) -> bool {
    health(daemon)["jobs"].get(name).is_some()
}

/// Runs of the job that ended, newest first.
fn ended(daemon: &Daemon, job: &str) -> Vec<Value> {
    let answer = daemon.setup.run(&["runs", "list", "--job", job, "--limit", "1000", "-o", "json"]);
    let runs: Vec<Value> = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    runs.into_iter().filter(|run| run["state"] == "finished" && run["outcome"] != "skipped").collect()
}

fn times_logged(daemon: &Daemon, words: &str) -> usize {
    daemon.output().matches(words).count()
}

/// Asks for a reload and waits until it was done or refused.
fn reload(daemon: &mut Daemon, jobs_toml: &str, words: &str) {
    let before = times_logged(daemon, words);
    daemon.setup.write_jobs(jobs_toml);
    daemon.signal(Signal::HUP);
    daemon.wait_for(words, |daemon| before < times_logged(daemon, words));
}

const DONE: &str = "job table reloaded";
const REFUSED: &str = "reload failed, the old job table stays";

/// Every instant of the untouched job is in the ledger once, and the account of all jobs balances.
async fn assert_conserved(daemon: &mut Daemon, url: &str) {
    daemon.terminate();
    ledger::assert_unbroken(&ledger::rows(url, "tick").await, 1_000);
    let account = daemon.setup.run(&["ledger"]);
    assert_eq!(account.status.code(), Some(0), "{}", String::from_utf8_lossy(&account.stdout));
}

fn sqlite(daemon: &Daemon) -> String {
    format!("sqlite://{}", daemon.setup.path("workers.db").display())
}

#[tokio::test]
async fn a_new_table_takes_the_place_of_the_old_one_whole() {
    let mut daemon = Setup::new(&table(&noop("leaves", "1s"))).start();
    daemon.wait_for("runs of the old table", |daemon| !ended(daemon, "leaves").is_empty());

    reload(&mut daemon, &table(&noop("comes", "1s")), DONE);

    assert!(has_job(&daemon, "comes") && !has_job(&daemon, "leaves"));
    daemon.wait_for("a run of the new job", |daemon| !ended(daemon, "comes").is_empty());
    let metrics = daemon.get("/metrics").body;
    assert!(metrics.contains("job_name=\"comes\"") && !metrics.contains("job_name=\"leaves\""), "{metrics}");
    assert!(metrics.contains("workers_config_last_reload_successful 1"), "{metrics}");
    assert!(daemon.output().contains("3 jobs") || daemon.output().contains("new: comes; gone: leaves"));
    let url = sqlite(&daemon);
    assert_conserved(&mut daemon, &url).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_visible_until_a_good_one_comes() {
    let good = table(&noop("stays", "1s"));
    let mut daemon = Setup::new(&good).start();

    reload(&mut daemon, &table("[jobs.wrong]\nevry = \"1s\"\nrun.noop = {}\n"), REFUSED);

    assert!(has_job(&daemon, "stays") && !has_job(&daemon, "wrong"));
    assert!(daemon.output().contains("evry") && daemon.output().contains("did you mean"), "{}", daemon.output());
    daemon.wait_for("health to say it", |daemon| health(daemon)["status"] == "degraded");
    let alerts = health(&daemon)["alerts"].to_string();
    assert!(alerts.contains("ReloadFailed"), "{alerts}");
    assert!(daemon.get("/metrics").body.contains("workers_config_last_reload_successful 0"));
    let runs = |daemon: &Daemon| health(daemon)["jobs"]["stays"]["last_run"].to_string();
    let before = runs(&daemon);
    daemon.wait_for("the old table to go on", |daemon| before != runs(daemon));

    reload(&mut daemon, &good, DONE);

    daemon.wait_for("health to be well again", |daemon| !health(daemon)["alerts"].to_string().contains("ReloadFailed"));
    assert!(daemon.get("/metrics").body.contains("workers_config_last_reload_successful 1"));
    let url = sqlite(&daemon);
    assert_conserved(&mut daemon, &url).await;
}

#[tokio::test]
async fn a_missing_and_an_unreadable_file_change_nothing() {
    let mut daemon = Setup::new(&table("")).start();
    daemon.wait_for("a run", |daemon| !ended(daemon, "tick").is_empty());
    let file = daemon.setup.path("jobs.toml");

    fs::remove_file(&file).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("a word about the missing file", |daemon| 0 < times_logged(daemon, "cannot read"));
    fs::write(&file, [0xff, 0xfe]).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("a word about the broken file", |daemon| 0 < times_logged(daemon, "is not UTF-8"));

    assert!(has_job(&daemon, "tick"));
    daemon.setup.write_jobs(&table(""));
    let url = sqlite(&daemon);
    assert_conserved(&mut daemon, &url).await;
}

#[tokio::test]
async fn what_runs_finishes_under_its_old_definition() {
    let job =
        |settings: &str| table(&format!("[jobs.long]\nevery = \"1h\"\nretry = {{ max_attempts = 1 }}\n{settings}"));
    let slow = job("run.noop = { sleep = \"3s\" }");
    let mut daemon = Setup::new(&slow).start();
    let triggered = daemon.setup.run(&["trigger", "long"]);
    assert!(triggered.status.success(), "{}", String::from_utf8_lossy(&triggered.stderr));
    daemon.wait_for("a running run", |daemon| {
        health(daemon)["jobs"]["long"]["status"].is_string() && {
            let answer = daemon.setup.run(&["runs", "list", "--job", "long", "-o", "json"]);
            String::from_utf8_lossy(&answer.stdout).contains("\"running\"")
        }
    });

    reload(&mut daemon, &job("run.noop = { fail = 1.0 }"), DONE);

    daemon.wait_for("the end of the run", |daemon| ended(daemon, "long").len() == 1);
    assert_eq!(ended(&daemon, "long")[0]["outcome"], "success", "the old work sleeps and succeeds");
    assert!(daemon.setup.run(&["trigger", "long"]).status.success());
    daemon.wait_for("a run by the new table", |daemon| ended(daemon, "long").len() == 2);
    assert_eq!(ended(&daemon, "long")[0]["outcome"], "error", "the new work fails");
}

#[tokio::test]
async fn an_edited_schedule_is_followed_at_once_and_nothing_of_the_old_one_is_lost() {
    let mut daemon = Setup::new(&table(&noop("edited", "1s"))).start();
    daemon.wait_for("runs by the old schedule", |daemon| 2 <= ended(daemon, "edited").len());

    reload(&mut daemon, &table(&noop("edited", "200ms")), DONE);
    let before = ended(&daemon, "edited").len();
    daemon.wait_for("runs by the new schedule", |daemon| before + 10 <= ended(daemon, "edited").len());
    // An edit taken back: the same table as at the start, seen before.
    reload(&mut daemon, &table(&noop("edited", "1s")), DONE);
    let before = ended(&daemon, "edited").len();
    daemon.wait_for("runs by the first schedule again", |daemon| before + 2 <= ended(daemon, "edited").len());

    let url = sqlite(&daemon);
    assert_conserved(&mut daemon, &url).await;
}

#[tokio::test]
async fn many_reloads_in_a_row_lose_nothing() {
    let mut daemon = Setup::new(&table(&noop("a", "1s"))).start();

    for round in 0..15 {
        daemon.setup.write_jobs(&table(&noop(if round % 2 == 0 { "b" } else { "a" }, "1s")));
        daemon.signal(Signal::HUP);
        thread::sleep(Duration::from_millis(100));
    }
    reload(&mut daemon, &table(&noop("last", "1s")), DONE);

    daemon.wait_for("the last table", |daemon| has_job(daemon, "last") && !ended(daemon, "last").is_empty());
    let url = sqlite(&daemon);
    assert_conserved(&mut daemon, &url).await;
}

#[tokio::test]
async fn a_watched_file_is_reloaded_when_it_changes_however_it_is_replaced() {
    let mut daemon = Setup::new(&table("")).spawn(&["start", "--watch"]);
    daemon.wait_until_ready();

    daemon.setup.write_jobs(&table(&noop("written", "1h")));
    daemon.wait_for("the written file", |daemon| has_job(daemon, "written"));
    let other = daemon.setup.path("jobs.new");
    fs::write(&other, table(&noop("renamed", "1h"))).unwrap();
    fs::rename(&other, daemon.setup.path("jobs.toml")).unwrap();
    daemon.wait_for("the renamed file", |daemon| has_job(daemon, "renamed"));

    assert_eq!(times_logged(&daemon, DONE), 2);
    daemon.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_made_while_the_database_is_awaited_is_seen_by_who_watches() {
    let cluster = std::sync::Arc::new(Cluster::start());
    let database = cluster.database().await;
    cluster.stop();
    let mut daemon = Setup::new(&table("")).database(&database.url).spawn(&["start", "--watch"]);
    daemon.wait_for("the wait for the database", |daemon| 0 < times_logged(daemon, "trying again"));

    daemon.setup.write_jobs(&table(&noop("edited", "1h")));
    cluster.start_again();

    daemon.wait_for("the edited table", |daemon| has_job(daemon, "edited"));
    daemon.terminate();
}

#[tokio::test]
async fn settings_of_the_process_are_named_as_waiting_for_a_start() {
    let mut daemon = Setup::new(&table("")).start();

    reload(&mut daemon, &format!("{}[executor]\nscheduled = 7\n", table("")), DONE);

    daemon.wait_for("the warning", |daemon| 0 < times_logged(daemon, "executor.scheduled has changed"));
}

#[tokio::test]
async fn a_lone_worker_refuses_a_table_without_its_job() {
    let mut daemon = Setup::new(&table(&noop("mine", "1s"))).spawn(&["run", "mine"]);
    daemon.wait_for("a run", |daemon| !ended(daemon, "mine").is_empty());

    reload(&mut daemon, &table(""), REFUSED);

    assert!(daemon.output().contains("\\\"mine\\\"") || daemon.output().contains("\"mine\""), "{}", daemon.output());
    assert!(daemon.terminate().success());
}

#[tokio::test]
async fn replicas_that_reload_one_after_the_other_lose_and_double_nothing() {
    let database = Database::new().await;
    let (old, new) = (table(&noop("edited", "1s")), table(&noop("edited", "200ms")));
    let mut replicas = [(); 2].map(|()| Setup::new(&old).database(&database.url).start());
    let [first, second] = &mut replicas;
    first.wait_for("runs", |daemon| 2 <= ended(daemon, "edited").len());

    for table in [&new, &old] {
        reload(first, table, DONE);
        thread::sleep(Duration::from_secs(1));
        reload(second, table, DONE);
        let before = ended(second, "edited").len();
        second.wait_for("runs by the new table", |daemon| before + 3 <= ended(daemon, "edited").len());
    }

    first.terminate();
    assert_conserved(second, &database.url).await;
}

#[tokio::test]
async fn a_good_table_waits_for_a_database_that_is_away() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let database = cluster.database().await;
    let mut daemon = Setup::new(&table("")).database(&database.url).start();

    cluster.kill();
    reload(&mut daemon, &table(&noop("later", "1s")), REFUSED);
    assert!(!has_job(&daemon, "later"));
    cluster.start_again();

    daemon.wait_for("the reload after all", |daemon| has_job(daemon, "later"));
    daemon.wait_for("a run of it", |daemon| !ended(daemon, "later").is_empty());
    assert_conserved(&mut daemon, &database.url).await;
}
