//! What the hash of a job's work depends on: what the job does, and not the host that it runs on.

use emponto::handlers::{Targets, http::Target};
use serde_json::{Value, json};

use crate::retomada::read;

fn hashed(name: &str, settings: &Value, outbound: &Value, variables: &[(&str, &str)]) -> String {
    let targets = Targets::from([("default".into(), Target::at("http://api.example.org"))]);
    read(name, settings.clone(), (&targets, outbound.clone(), variables)).canonical().to_string()
}

const BRIEFING: &str = "http://wiki.example.org/briefing.md";

#[test]
fn replicas_with_other_variables_have_the_same_hashes() {
    let bare: [(&str, &str); 0] = [];
    let other =
        [("APP_ENV", "production"), ("SLACK_WEBHOOK_URL", "https://h/x"), ("OUTBOUND_ALLOWLIST", "551155550100")];
    let limited = [&other[..], &[("MAX_MSGS_POR_HORA", "7"), ("MAX_MSGS_POR_DIA", "70")]].concat();
    for (name, settings, variables) in [
        ("fila", json!({}), &other[..]),
        ("handoffs", json!({}), &limited),
        ("report", json!({}), &limited),
        ("briefing", json!({ "url": BRIEFING }), &limited),
        ("pilot", json!({}), &limited),
        ("retomada", json!({}), &limited),
        ("grupos", json!({}), &limited),
    ] {
        let hash = |variables: &[(&str, &str)]| hashed(name, &settings, &json!({}), variables);

        assert_eq!(hash(&bare), hash(variables), "{name}");
    }
}

#[test]
fn what_a_job_uses_is_in_its_hash() {
    let late = json!({ "hours": { "opens": "10:00" } });
    for name in ["fila", "handoffs", "report", "retomada"] {
        assert_ne!(hashed(name, &json!({}), &late, &[]), hashed(name, &json!({}), &json!({}), &[]), "{name}");
    }
    for (name, settings) in [("pilot", json!({})), ("briefing", json!({ "url": BRIEFING }))] {
        assert_eq!(hashed(name, &settings, &late, &[]), hashed(name, &settings, &json!({}), &[]), "{name}");
    }
    let limits = json!({ "limits": { "per_hour": 3 } });
    let webhook = json!({ "webhook": { "post": "/messages" } });
    for outbound in [limits, webhook] {
        assert_ne!(hashed("fila", &json!({}), &outbound, &[]), hashed("fila", &json!({}), &json!({}), &[]));
    }
}

#[test]
fn a_rotated_password_of_an_address_changes_no_hash() {
    for name in ["grupos", "retomada"] {
        let at = |place: &str| hashed(name, &json!({ "post": place }), &json!({}), &[]);
        let [old, new] = ["c4nary-1", "c4nary-2"].map(|word| at(&format!("http://ana:{word}@api.example.org/x")));

        assert!(!old.contains("c4nary"), "{old}");
        assert_eq!(old, new, "{name}");
        assert_ne!(old, at("http://ana:c4nary-1@api.example.org/y"), "{name}");
        assert_ne!(at("/x"), at("/y"), "{name}");
    }
}
