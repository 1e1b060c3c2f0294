//! `http` and Standard Webhooks: what is signed is what is sent, and a receiver of the standard can tell.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use emponto::handlers::{Context, Targets, Tools, http::Target};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    attempt::{checked, commit, context, no_database, noon},
    http_script::{Asked, Script, accepted, reply, standing},
};

/// HMAC over SHA-256 by the words of RFC 2104; the implementation under test uses a crate.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// What a receiver does: the id, the timestamp and the raw body against each signature.
fn is_signed_by(asked: &Asked, key: &[u8]) -> bool {
    let (id, timestamp) = (asked.header("webhook-id"), asked.header("webhook-timestamp"));
    let message = [format!("{id}.{timestamp}.").as_bytes(), &asked.body].concat();
    let expected = format!("v1,{}", STANDARD.encode(hmac(key, &message)));
    asked.header("webhook-signature").split(' ').any(|signature| signature == expected)
}

fn targets(url: &str, secret: &str) -> Targets {
    let target = json!({ "base_url": url, "secret": secret });
    Targets::from([("default".to_owned(), serde_json::from_value::<Target>(target).expect("a target"))])
}

#[tokio::test]
async fn a_receiver_of_the_standard_believes_each_call() {
    let keys = [[1_u8; 24].to_vec(), (0..64).collect::<Vec<u8>>()];
    let secret = format!("whsec_{}  {}", STANDARD.encode(&keys[0]), STANDARD.encode(&keys[1]));
    for (settings, payload) in [
        (json!({ "post": "/x" }), json!({ "nome": "ação", "n": 1.5, "deep": [null, { "b": 1, "a": "\u{1F600}" }] })),
        (json!({ "put": "/x", "json": "text" }), Value::Null),
        (json!({ "get": "/x?a=1" }), Value::Null),
        (json!({ "delete": "/x" }), Value::Null),
    ] {
        let server = Script::replying(vec![reply(200, "")]).await;
        let targets = targets(&server.url, &secret);
        let work = checked("http", settings, &targets).expect("settings that can run");
        let mut run = crate::attempt::run();
        run.payload = payload;
        let ctx = Context { run: Arc::new(run), tools: Tools::new(targets), ..context(no_database()) };

        commit(work.run(ctx).await).await.expect("answered");

        let asked = server.asked().remove(0);
        assert!(keys.iter().all(|key| is_signed_by(&asked, key)), "{asked:?}");
        assert!(!is_signed_by(&asked, &[2; 24]), "another key signs something else");
        assert_eq!(asked.header("webhook-timestamp"), noon().timestamp().to_string());
        assert_eq!(asked.header("webhook-signature").split(' ').count(), 2);
        let other = Asked { body: [&asked.body[..], b" "].concat(), ..asked };
        assert!(!is_signed_by(&other, &keys[0]), "a space more is another body");
    }
}

#[tokio::test]
async fn each_attempt_and_each_look_is_signed_for_its_own_moment_under_one_id() {
    let key = [3_u8; 32];
    let server = Script::replying(vec![reply(500, ""), accepted("/jobs/1"), standing("done")]).await;
    let targets = targets(&server.url, &STANDARD.encode(key));
    let work = checked("http", json!({ "post": "/x", "json": {} }), &targets).expect("settings that can run");
    let mut run = crate::attempt::run();

    for attempt in 0..3_u32 {
        let now = noon() + TimeDelta::minutes(i64::from(attempt));
        let tools = Tools::new(targets.clone());
        let ctx = Context { run: Arc::new(run.clone()), attempt: attempt + 1, now, tools, ..context(no_database()) };
        let ended = commit(work.run(ctx).await).await;
        run.resume = ended.err().and_then(|failure| failure.resume);
    }

    let asked = server.asked();
    assert_eq!(server.calls(), ["POST /x", "POST /x", "GET /jobs/1"]);
    for (attempt, asked) in asked.iter().enumerate() {
        assert!(is_signed_by(asked, &key), "{asked:?}");
        assert_eq!(asked.header("webhook-timestamp"), (noon().timestamp() + 60 * attempt as i64).to_string());
        assert_eq!(asked.header("workers-attempt"), (attempt + 1).to_string());
        for name in ["webhook-id", "idempotency-key"] {
            assert_eq!(asked.header(name), run.id.to_string());
        }
    }
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    for secret in ["", "  "] {
        let server = Script::replying(vec![reply(200, "")]).await;
        let targets = targets(&server.url, secret);
        let work = checked("http", json!({ "post": "/x" }), &targets).expect("settings that can run");

        let tools = Tools::new(targets);
        commit(work.run(Context { tools, ..context(no_database()) }).await).await.expect("answered");

        let asked = server.asked().remove(0);
        assert!(!asked.headers.contains_key("webhook-signature") && !asked.headers.contains_key("webhook-timestamp"));
        assert!(asked.headers.contains_key("webhook-id"));
    }
}

#[test]
fn a_rotated_token_is_no_edit_and_another_base_url_is() {
    let secret = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
    let work = |target: Value, token: &str| {
        let targets = Targets::from([("default".to_owned(), serde_json::from_value(target).expect("a target"))]);
        let call = json!({ "post": "/x", "headers": { "X-Key": token }, "query": { "token": token, "page": 1 } });
        checked("http", call, &targets).expect("settings that can run")
    };
    let target = |url: &str, token: &str, secret: &str| json!({ "base_url": url, "headers": { "Authorization": token }, "secret": secret });
    let before = work(target("http://ana:pa55@x", "t0ken-1", &secret(1)), "t0ken-1");

    assert!(!format!("{before:?}").contains(&secret(1)), "{before:?}");
    for value in ["t0ken", &secret(1), "pa55"] {
        assert!(!before.canonical().to_string().contains(value), "{}", before.canonical());
    }
    let rotated = work(target("http://ana:pa56@x", "t0ken-2", &secret(2)), "t0ken-2");
    assert_eq!(before.canonical(), rotated.canonical());
    let mut edits = vec![
        target("http://ana:pa55@y", "t0ken-1", &secret(1)),
        target("http://ana:pa55@x", "t0ken-1", ""),
        json!({ "base_url": "http://ana:pa55@x", "headers": { "X-Other": "t0ken-1" }, "secret": secret(1) }),
    ];
    for (key, value) in [("timeout", "3s"), ("rate", "5/s"), ("network", "public")] {
        let mut edited = target("http://ana:pa55@x", "t0ken-1", &secret(1));
        edited[key] = value.into();
        edits.push(edited);
    }
    for edited in edits {
        assert_ne!(before.canonical(), work(edited.clone(), "t0ken-1").canonical(), "{edited}");
    }
}

#[test]
fn work_that_is_accepted_may_take_its_time_beyond_the_attempts() {
    let call = json!({ "post": "http://x/y", "poll": { "within": "2h" } });
    let work = checked("http", call, &Targets::new()).expect("settings that can run");

    assert_eq!(work.follows_for(), Duration::from_secs(2 * 3_600));
}
