//! What health and metrics say of the message queue.

use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::place::{FILA, Place, from_now, until, word};
use crate::support::{
    daemon::{Daemon, Setup},
    postgres::Cluster,
};

/// 7 due, 4 of tomorrow, 2 in sending of which one is stuck, 3 given up, 5 sent within the hour and one before.
async fn fill(place: &Place) {
    place.add(3, &[]).await;
    place.add(4, &[("agendar_para", from_now(-600))]).await;
    place.add(4, &[("agendar_para", from_now(86_400))]).await;
    let sending = |since| [("status", word("processando")), ("processando_desde", from_now(since))];
    place.add(1, &sending(-60)).await;
    place.add(1, &sending(-4_000)).await;
    place.add(2, &[("status", word("erro")), ("outcome_at", from_now(-60))]).await;
    place.add(1, &[("status", word("erro")), ("outcome_at", from_now(-7_200))]).await;
    place.add(5, &[("status", word("enviada")), ("enviada_em", from_now(-3_000))]).await;
    place.add(1, &[("status", word("enviada")), ("enviada_em", from_now(-4_000))]).await;
}

fn lines(daemon: &Daemon, family: &str) -> Vec<String> {
    let text = daemon.get("/metrics").body;
    let of_fila = |line: &&str| line.starts_with(family) && line.contains("queue=\"fila_worker\"");
    text.lines().filter(of_fila).map(str::to_owned).collect()
}

/// What must be the same everywhere.
async fn assert_agreed(place: &Place, daemon: &Daemon, due: i64) {
    let workers = until(daemon, "/health/workers", |answer| answer["queue_size"] == due);
    let fila = daemon.get("/health/fila").json();
    let now = from_now(0);

    assert_eq!(workers["queues"]["fila_worker"]["size"], due);
    assert_eq!(fila["metrics"]["pendentes"], due);
    assert_eq!(lines(daemon, "queue_size"), [format!("queue_size{{queue=\"fila_worker\"}} {due}")]);
    let condition = format!("status = 'pendente' and (agendar_para is null or agendar_para <= {now})");
    assert_eq!(place.count(&condition).await, due);
    assert_eq!(place.count("status = 'pendente'").await, due + 4, "those of tomorrow are pendente too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_the_queue_is_one_number_wherever_it_is_asked_and_follows_the_table_without_a_run() {
    let mut places = Place::both(FILA).await;
    let mut daemons = Vec::new();
    for place in &mut places {
        fill(place).await;
        daemons.push(place.start());
    }
    for (place, daemon) in places.iter().zip(&daemons) {
        assert_agreed(place, daemon, 7).await;
        let workers = daemon.get("/health/workers").json();
        let queue = &workers["queues"]["fila_worker"];
        assert_eq!((&queue["running"], &queue["failed"]), (&json!(2), &json!(3)), "{queue}");
        let age = queue["oldest_age_seconds"].as_i64().unwrap();
        assert!((600..3_600).contains(&age), "{queue}");
        assert!(queue["sampled_age_seconds"].as_i64().unwrap() < 60, "{queue}");
        assert_eq!(workers["jobs"]["fila_worker"]["runs_24h"], 0, "no run was needed");
        let state = |state| lines(daemon, &format!("workers_queue_size{{queue=\"fila_worker\",state=\"{state}\"}}"));
        let shown = ["waiting", "later", "running", "stuck", "failed"].map(|name| state(name).concat());
        let sizes = shown.map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned());
        assert_eq!(sizes, ["7", "4", "2", "1", "3"]);
        assert_eq!(lines(daemon, "workers_queue_done_last_hour").concat().rsplit(' ').next(), Some("5"));
        assert_eq!(lines(daemon, "workers_queue_errors_last_hour").concat().rsplit(' ').next(), Some("2"));
        assert_eq!(lines(daemon, "workers_queue_oldest_age_seconds").len(), 1);
    }
    // A paused job has no runs at all, and its queue is looked at all the same.
    for (place, daemon) in places.iter().zip(&daemons) {
        let paused = daemon.setup.run(&["jobs", "pause", "fila_worker", "--reason", "test"]);
        assert!(paused.status.success(), "{paused:?}");
        place.add(495, &[("agendar_para", from_now(-4_000))]).await;
    }
    for (place, daemon) in places.iter().zip(&daemons) {
        assert_agreed(place, daemon, 502).await;
        let answer = daemon.get("/health/fila");
        let names: Vec<Value> = answer.json()["alerts"].as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
        assert_eq!(names, ["QueueBacklog", "FilaBacklog", "FilaStuck", "FilaLate"]);
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("critical")));
        assert_eq!(daemon.get("/health/workers").status, 200, "the daemon itself is not critical");
        assert_eq!(daemon.get("/health/fila?as=200").status, 200);
        place.execute("delete from fila_mensagens where status = 'pendente'").await;
    }
    for daemon in &daemons {
        let fila = until(daemon, "/health/fila", |answer| answer["metrics"]["pendentes"] == 0);
        assert_eq!(fila["metrics"]["mensagem_mais_antiga_min"], 0, "{fila}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_about_the_queue_has_the_documented_shape() {
    let mut places = Place::both(FILA).await;
    for place in &mut places {
        fill(place).await;
        let daemon = place.start();

        let answer = until(&daemon, "/health/fila", |answer| !answer["metrics"]["pendentes"].is_null());

        let body = daemon.get("/health/fila").body;
        assert!(body.starts_with(r#"{"status":"degraded","alerts":[{"name":"FilaStuck","#), "{body}");
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&answer), ["alerts", "metrics", "status", "thresholds", "timestamp"]);
        assert_eq!(
            answer["metrics"],
            json!({
                "pendentes": 7, "processando": 2, "enviadas_ultima_hora": 5, "erros_ultima_hora": 2,
                "mensagem_mais_antiga_min": 10, "travadas": 1,
            })
        );
        assert_eq!(
            answer["thresholds"],
            json!({
                "backlog": { "warning": 100, "critical": 500 }, "stuck": { "warning": 1, "critical": 10 },
                "errors_per_hour": { "warning": 10 }, "oldest_min": { "warning": 60 },
            })
        );
    }
}

/// Whoever is told that the daemon is ready is told the size of its queue too.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_says_it_is_ready_has_looked_at_its_queues() {
    let mut places = Place::both(FILA).await;
    for place in &mut places {
        place.add(3, &[]).await;

        let daemon = place.start();

        let fila = daemon.get("/health/fila").json();
        assert_eq!(fila["metrics"]["pendentes"], 3, "{fila}");
        assert_eq!(lines(&daemon, "workers_queue_size{queue=\"fila_worker\",state=\"later\"}").len(), 1);
    }
}

/// A drain that was edited into something else leaves no numbers behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_drains_no_table_any_more_has_no_queue_after_a_reload() {
    let [mut place, _] = Place::both(FILA).await;
    place.add(3, &[]).await;
    let mut daemon = place.start();
    until(&daemon, "/health/workers", |answer| answer["queues"]["fila_worker"]["size"] == 3);

    daemon.setup.write_jobs(&FILA.replace("run.fila = {}", "run.http = { get = \"http://127.0.0.1:9/\" }"));
    daemon.signal(Signal::HUP);
    daemon.wait_for("the reload", |daemon| daemon.output().contains("job table reloaded"));

    let workers = until(&daemon, "/health/workers", |answer| answer["queues"].get("fila_worker").is_none());
    assert_eq!(workers["queue_size"], 0, "{workers}");
    assert_eq!(lines(&daemon, "workers_queue_"), Vec::<String>::new());
}

/// As in the daemon: nobody here drains it, and its table need not be there.
#[test]
fn the_list_of_queues_looks_at_no_table_of_a_job_that_is_switched_off() {
    let setup = Setup::new(&FILA.replace("critical", "enabled = false\ncritical"));
    assert!(setup.run(&["migrate", "up"]).status.success());

    let listed = setup.run(&["queue", "list"]);

    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && text.contains("mail") && !text.contains("fila_worker"), "{listed:?}");
}

#[test]
fn a_table_without_the_queue_says_so_and_a_missing_table_is_an_empty_queue() {
    let none = Setup::new("version = 1\n[jobs.mail]\nrun.noop = {}\n").start();
    let answer = none.get("/health/fila");
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("not_configured")));
    assert_eq!((&answer.json()["alerts"], &answer.json()["metrics"]["pendentes"]), (&json!([]), &Value::Null));

    let disabled = Setup::new(&FILA.replace("critical", "enabled = false\ncritical")).start();
    assert_eq!(disabled.get("/health/fila").json()["status"], "not_configured", "nobody drains it here");

    let new = Setup::new(FILA).start();
    let answer = until(&new, "/health/fila", |answer| answer["metrics"]["pendentes"] == 0);
    assert_eq!(answer["status"], "healthy", "the first run makes the table");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_the_queue_is_answered_from_memory_while_the_database_is_away() {
    let cluster = Arc::new(Cluster::start());
    let mut place = Place::on_cluster(&cluster, FILA).await;
    place.add(3, &[]).await;
    let daemon = place.start();
    until(&daemon, "/health/fila", |answer| answer["metrics"]["pendentes"] == 3);

    cluster.stop();

    let answer = until(&daemon, "/health/fila", |answer| answer["alerts"][0]["name"] == "DatabaseAway");
    assert_eq!(answer["metrics"]["pendentes"], 3, "{answer}");
    assert_eq!(daemon.get("/health/workers").json()["queue_size"], 3);
    cluster.start_again();
    until(&daemon, "/health/fila", |answer| answer["status"] == "healthy");
}

/// A queue that cannot be looked at: its old number stays, its age grows and is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_seen_keeps_its_number_and_grows_old() {
    let mut places = Place::both(FILA).await;
    for place in &mut places {
        place.add(3, &[]).await;
        let daemon = place.start();
        until(&daemon, "/health/fila", |answer| answer["metrics"]["pendentes"] == 3);

        place.execute("alter table fila_mensagens rename to fila_de_ontem").await;
        place.execute("create table fila_mensagens (id integer)").await;

        let workers = until(&daemon, "/health/workers", |answer| {
            35 < answer["queues"]["fila_worker"]["sampled_age_seconds"].as_i64().unwrap_or(0)
        });
        assert_eq!(workers["queue_size"], 3, "{workers}");
        assert_eq!(daemon.get("/readyz").status, 200);
    }
}
