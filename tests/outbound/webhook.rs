//! The gateway `webhook`: an endpoint of the team's own, through its target.

use std::time::Duration;

use emponto::{
    handlers::{Context, Tools, people::write_to},
    outbound::{Delivery, Outbound, SendOutcome},
};

use crate::{
    assert_tells_nothing, ctx, failed,
    gateway::{Gateway, answer},
    message, sent, table,
};

/// Base64 of 32 bytes.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn webhook(url: &str, more: &str) -> (Context, Outbound) {
    let (outbound, targets) = table(&format!(
        "[outbound]\nwebhook = {{ target = 'api', post = '/c4nary/send?a=1' }}\n\
         [targets.api]\nbase_url = '{url}/v1'\nheaders = {{ Authorization = 'Bearer c4nary' }}\n{more}\n"
    ));
    (Context { tools: Tools::new(targets), ..ctx() }, outbound)
}

#[tokio::test]
async fn the_endpoint_gets_the_message_signed_and_can_know_a_repeat() {
    let gateway = Gateway::start(vec![answer(503, "{}"), answer(200, r#"{"message_id":4711}"#)]).await;
    let (ctx, outbound) = webhook(&gateway.url(), &format!("secret = '{SECRET}'"));

    let delivery = write_to(&ctx, &outbound, &message("7")).await;

    assert_eq!(delivery, sent(Some("4711")));
    let requests = gateway.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.first_line, "POST /v1/c4nary/send?a=1 HTTP/1.1");
        assert_eq!(request.headers["authorization"], "Bearer c4nary");
        assert_eq!((request.headers["idempotency-key"].as_str(), request.headers["webhook-id"].as_str()), ("7", "7"));
        assert!(request.headers["webhook-signature"].starts_with("v1,"), "{:?}", request.headers);
        assert!(request.headers["webhook-timestamp"].parse::<i64>().is_ok());
        let body: serde_json::Value = serde_json::from_str(&request.body).expect("a JSON body");
        let expected = serde_json::json!({
            "to": crate::NUMBER, "text": crate::TEXT, "id": "7", "tipo": "campanha"
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn an_endpoint_that_knows_no_such_person_is_not_asked_again() {
    let gateway = Gateway::answering(404, "{}").await;
    let (ctx, outbound) = webhook(&gateway.url(), "");

    let delivery = write_to(&ctx, &outbound, &message("7")).await;

    assert!(failed(SendOutcome::FailedValidation)(&delivery), "{delivery:?}");
    let Delivery::Failed { why, .. } = delivery else { panic!("failed") };
    assert_eq!(why, "the gateway webhook (target \"api\") answered 404");
    assert_tells_nothing(&why);
}

#[tokio::test]
async fn the_rate_and_the_breaker_of_the_target_hold_for_messages_too() {
    let sound = Gateway::answering(200, "{}").await;
    let (ctx, outbound) = webhook(&sound.url(), "rate = '2/h'");
    let mut told = Vec::new();
    for id in ["1", "2", "3"] {
        told.push(write_to(&ctx, &outbound, &message(id)).await);
    }
    assert_eq!(told[0], sent(None));
    let Some(Delivery::CircuitOpen { after }) = told.last() else { panic!("{told:?}") };
    assert!(Duration::from_secs(60) < *after && *after <= Duration::from_secs(3_600), "{after:?}");
    assert_eq!(sound.requests().len(), told.iter().filter(|delivery| **delivery == sent(None)).count());

    let broken = Gateway::answering(500, "{}").await;
    let (ctx, outbound) = webhook(&broken.url(), "breaker = { failures = 2, open_for = '1min' }");
    for _ in 0..2 {
        assert!(matches!(write_to(&ctx, &outbound, &message("7")).await, Delivery::Doubtful { .. }));
    }
    assert!(matches!(write_to(&ctx, &outbound, &message("7")).await, Delivery::CircuitOpen { .. }));
    assert_eq!(broken.requests().len(), 2);
}

#[tokio::test]
async fn without_a_breaker_of_its_own_the_target_is_left_alone_after_five_failures() {
    let gateway = Gateway::answering(500, "{}").await;
    let (ctx, outbound) = webhook(&gateway.url(), "");

    for _ in 0..5 {
        assert!(matches!(write_to(&ctx, &outbound, &message("7")).await, Delivery::Doubtful { .. }));
    }

    assert!(matches!(write_to(&ctx, &outbound, &message("7")).await, Delivery::CircuitOpen { .. }));
    assert_eq!(gateway.requests().len(), 5);
}
