//! Notices to the team.

use emponto::{
    domain::run::FailureKind,
    handlers::people::{Notice, tell_team},
    outbound::Outbound,
};
use serde_json::json;

use crate::{
    ctx,
    gateway::{Gateway, Move, answer, nobody},
    table,
};

pub fn outbound(url: &str) -> Outbound {
    table(&format!("[outbound]\nslack = '{url}/services/c4nary'\n")).0
}

pub fn notice() -> Notice {
    Notice { text: "3 handoffs expired".into(), blocks: vec![json!({ "type": "divider" })] }
}

#[tokio::test]
async fn the_team_is_told_with_text_and_blocks() {
    let slack = Gateway::answering(200, "ok").await;

    let told = tell_team(&ctx(), &outbound(&slack.url()), &notice()).await;
    let plain = Notice { blocks: Vec::new(), ..notice() };
    let told_plainly = tell_team(&ctx(), &outbound(&slack.url()), &plain).await;

    assert!(told.expect("told") && told_plainly.expect("told"));
    let bodies: Vec<serde_json::Value> =
        slack.requests().iter().map(|request| serde_json::from_str(&request.body).expect("JSON")).collect();
    assert_eq!(
        bodies,
        [
            json!({ "text": "3 handoffs expired", "blocks": [{ "type": "divider" }] }),
            json!({ "text": "3 handoffs expired" }),
        ]
    );
    assert_eq!(slack.requests()[0].first_line, "POST /services/c4nary HTTP/1.1");
}

#[tokio::test]
async fn without_a_webhook_nobody_is_told_and_that_is_no_failure() {
    assert!(!tell_team(&ctx(), &Outbound::default(), &notice()).await.expect("no failure"));
}

#[tokio::test]
async fn a_failure_names_slack_and_what_it_answered_and_never_its_address() {
    let asks = Move::Answer(429, "Retry-After: 30\r\n", String::new());
    for (name, next, kind, words) in [
        ("gone", Move::Answer(404, "", "no_service".into()), "permanent", "Slack answered 404: no_service"),
        ("refused", Move::Answer(403, "", "c4nary https://127.0.0.1".into()), "permanent", "Slack answered 403"),
        ("down", answer(500, ""), "retry", "Slack answered 500"),
        ("asked to wait", asks, "snooze", "Slack answered 429"),
        ("reset", Move::ResetAfter, "retry", "Slack: no answer: "),
    ] {
        let slack = Gateway::start(vec![next]).await;

        let failure = tell_team(&ctx(), &outbound(&slack.url()), &notice()).await.expect_err(name);

        let told = match failure.kind {
            FailureKind::Permanent => "permanent",
            FailureKind::Retry => "retry",
            FailureKind::Snooze(_) => "snooze",
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(told, kind, "{name}");
        assert!(failure.message.starts_with(words), "{name}: {}", failure.message);
        assert!(!failure.message.contains("c4nary") && !failure.message.contains("127.0.0.1"), "{}", failure.message);
        assert_eq!(slack.connections(), 1, "{name}");
    }
    let failure = tell_team(&ctx(), &outbound(&nobody().await), &notice()).await.expect_err("nobody listens");
    assert!(failure.message.starts_with("Slack: cannot connect"), "{}", failure.message);
}
