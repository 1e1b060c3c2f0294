//! `queue list|show|retry|discard`: what people see and decide, beside a daemon and without one.

use serde_json::{Value, json};

use super::place::{FILA, Place, from_now, word};
use crate::support::daemon::Setup;

/// Five dead letters: two of which nobody knows whether they went out, three that were refused; and one message that waits.
async fn fill(place: &Place) {
    let dead = |reason: &str, error: &str, ago| {
        [
            ("status", word("erro")),
            ("tentativas", "3".to_owned()),
            ("erro", word(error)),
            ("outcome_reason_code", word(reason)),
            ("outcome_at", from_now(ago)),
            ("agendar_para", from_now(-200_000)),
        ]
    };
    place.add(2, &dead("unknown", "no answer within 30 s", -7_200)).await;
    place.add(3, &dead("refused", "the gateway answered 400", -3_600)).await;
    place.add(1, &[]).await;
    let letters = "insert into fila_mensagens_dlq (mensagem_id, motivo, created_at) \
                   select id, outcome_reason_code, created_at from fila_mensagens where status = 'erro'";
    place.execute(letters).await;
}

fn said(setup: &Setup, arguments: &[&str], code: i32) -> (String, String) {
    let output = setup.run(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "workers {}\n{stdout}\n{stderr}", arguments.join(" "));
    (stdout, stderr)
}

fn json_of(setup: &Setup, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(setup, &[arguments, &["-o", "json"]].concat(), 0).0).unwrap()
}

fn ids(letters: &Value) -> Vec<String> {
    letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_without_what_is_personal() {
    for place in &Place::both(FILA).await {
        fill(place).await;
        let setup = place.setup();
        said(setup, &["migrate", "up"], 0);

        let letters = json_of(setup, &["queue", "show", "fila_worker"]);
        let unknown = json_of(setup, &["queue", "show", "--reason", "unknown", "--phones"]);
        let (table, stderr) = said(setup, &["queue", "show", "fila_mensagens", "-n", "4"], 0);

        let reasons: Vec<_> = letters.as_array().unwrap().iter().map(|letter| &letter["reason"]).collect();
        assert_eq!(reasons, ["unknown", "unknown", "refused", "refused", "refused"], "the oldest first");
        let first = &letters[0];
        assert_eq!((&first["phone"], &first["attempts"]), (&json!("***0001"), &json!(3)), "{first}");
        assert_eq!(first["error"], "no answer within 30 s");
        assert!((7_200..10_000).contains(&first["age_seconds"].as_i64().unwrap()), "{first}");
        assert_eq!((unknown.as_array().unwrap().len(), &unknown[0]["phone"]), (2, &json!("5511999990001")));
        assert!(table.starts_with("ID ") && table.lines().count() == 5, "{table}");
        assert!(stderr.contains("1 more"), "{stderr}");
        assert!(!table.contains("Olá") && !table.contains("99999"), "{table}");
        let (_, stderr) = said(setup, &["queue", "show", "mail"], 7);
        assert!(stderr.contains("keeps no dead letters"), "{stderr}");
        let (_, stderr) = said(setup, &["queue", "show", "fila_wroker"], 7);
        assert!(stderr.contains("did you mean fila_worker?"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_with_what_stands_in_them() {
    for place in &Place::both(FILA).await {
        fill(place).await;
        let setup = place.setup();
        said(setup, &["migrate", "up"], 0);
        said(setup, &["config", "activate"], 0);
        said(setup, &["trigger", "mail"], 0);

        let queues = json_of(setup, &["queue", "list"]);

        let fila = &queues[0];
        assert_eq!((&fila["queue"], &fila["handler"]), (&json!("fila_worker"), &json!("fila")));
        assert_eq!((&fila["size"], &fila["failed"], &fila["problem"]), (&json!(1), &json!(5), &Value::Null));
        assert_eq!((&queues[1]["queue"], &queues[1]["size"]), (&json!("mail"), &json!(1)));
        place.execute("drop table fila_mensagens").await;
        place.execute("create table fila_mensagens (id integer)").await;
        let (_, stderr) = said(setup, &["queue", "list"], 1);
        assert!(stderr.contains("fila_mensagens lacks"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_letter_is_due_again_once_and_the_message_says_who_decided() {
    for place in &mut Place::both(FILA).await {
        fill(place).await;
        // Beside a daemon, which holds the SQLite file.
        let daemon = place.start();
        let setup = &daemon.setup;
        let letters = ids(&json_of(setup, &["queue", "show"]));
        let waiting = place.texts("select cast(id as text) from fila_mensagens where status = 'pendente'").await;

        let (stdout, stderr) = said(setup, &["queue", "retry", &letters[0], &waiting[0], "no-such-id"], 8);

        assert!(stdout.contains(&letters[0]) && stdout.contains("pendente"), "{stdout}");
        assert!(stderr.contains("is pendente, and no dead letter"), "{stderr}");
        assert!(stderr.contains("no message no-such-id"), "{stderr}");
        said(setup, &["queue", "retry", &letters[0]], 8);
        let row = |column: &str| {
            format!("select cast({column} as text) from fila_mensagens where cast(id as text) = '{}'", letters[0])
        };
        let state =
            "status || ' ' || tentativas || ' ' || coalesce(erro, '-') || ' ' || coalesce(outcome_reason_code, '-')";
        assert_eq!(place.texts(&row(&format!("({state})"))).await, ["pendente 0 - retried"]);
        let note: Value = serde_json::from_str(&place.texts(&row("metadata")).await[0]).unwrap();
        assert_eq!(note["reenviada"]["por"], "workers queue", "{note}");
        let due = format!("agendar_para > {}", from_now(-600));
        assert_eq!(place.count(&format!("status = 'pendente' and {due}")).await, 1, "due now, not days ago");
        let marked = "select cast(mensagem_id as text) from fila_mensagens_dlq where reenviada_em is not null";
        assert_eq!(place.texts(marked).await, [letters[0].clone()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_letters_of_a_reason_are_decided_over_together_and_a_dry_run_changes_nothing() {
    for place in &Place::both(FILA).await {
        fill(place).await;
        let setup = place.setup();
        said(setup, &["migrate", "up"], 0);

        let dry = json_of(setup, &["queue", "retry", "--all", "--reason", "unknown", "--dry-run"]);
        assert_eq!((&dry["would_retry"], place.count("status = 'erro'").await), (&json!(2), 5));
        let sure = json_of(setup, &["queue", "retry", "--all", "--dry-run"]);
        assert_eq!(sure, json!({ "would_retry": 3, "reasons": { "refused": 3 } }), "none that may have been delivered");
        place.add(1, &[("status", word("erro")), ("outcome_at", from_now(-60))]).await;
        let sure = json_of(setup, &["queue", "retry", "--all", "--dry-run"]);
        assert_eq!(sure["would_retry"], 3, "none without a row among the dead letters");
        place.execute("delete from fila_mensagens where status = 'erro' and outcome_reason_code is null").await;
        let discarded = json_of(setup, &["queue", "discard", "--all", "--reason", "unknown"]);
        assert_eq!(discarded["discarded"], 2);
        assert_eq!(place.count("status = 'cancelada' and outcome_reason_code = 'discarded'").await, 2);

        // Two people decide at once: each letter goes once.
        let mut both: Vec<_> = (0..2).map(|_| setup.command(&["queue", "retry", "--all", "-o", "json"])).collect();
        let both: Vec<_> =
            both.iter_mut().map(|one| one.stdout(std::process::Stdio::piped()).spawn().unwrap()).collect();
        let mut retried = 0;
        for one in both {
            let output = one.wait_with_output().unwrap();
            assert!(output.status.success());
            retried += serde_json::from_slice::<Value>(&output.stdout).unwrap()["retried"].as_i64().unwrap();
        }

        assert_eq!(retried, 3);
        assert_eq!((place.count("status = 'erro'").await, place.count("status = 'pendente'").await), (0, 4));
        assert_eq!(json_of(setup, &["queue", "retry", "--all"])["retried"], 0);
        assert_eq!(json_of(setup, &["queue", "show"]), json!([]));
        let (_, stderr) = said(setup, &["queue", "retry"], 2);
        assert!(stderr.contains("--all"), "{stderr}");
        said(setup, &["queue", "retry", "--reason", "unknown"], 2);
    }
}

#[test]
fn without_the_tables_there_are_no_letters() {
    let setup = Setup::new(FILA);
    said(&setup, &["migrate", "up"], 0);

    assert_eq!(json_of(&setup, &["queue", "show"]), json!([]));
    said(&setup, &["queue", "retry", "7"], 7);
    assert_eq!(json_of(&setup, &["queue", "retry", "--all"])["retried"], 0);
    assert_eq!(json_of(&setup, &["queue", "list"])[0]["size"], 0);
}
