//! Every way in which a call can break: sent twice never, and given up on only when nobody can say.

use std::time::Instant;

use emponto::{
    handlers::people::write_to,
    outbound::{Delivery, SendOutcome},
};

use crate::{
    assert_tells_nothing, ctx, evolution, failed,
    gateway::{Gateway, Move, answer, nobody},
    hasty, message, sent,
};

#[tokio::test]
async fn what_may_have_been_accepted_is_never_tried_again() {
    let chunked = "HTTP/1.1 500 Any\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    for (name, next) in [
        ("time-out", Move::Hang),
        ("reset after the request", Move::ResetAfter),
        ("closed without an answer", Move::Bytes("")),
        ("half a head", Move::Bytes("HTTP/1.1 200 O")),
        ("no HTTP", Move::Bytes("5511988887777 c4nary\r\n\r\n")),
        ("500", answer(500, r#"{"number":"5511988887777"}"#)),
        ("500 that breaks off", Move::Bytes(chunked)),
        ("502", answer(502, "<html>c4nary</html>")),
        ("504", answer(504, "")),
    ] {
        let hangs = matches!(next, Move::Hang);
        let gateway = Gateway::start(vec![next]).await;
        let outbound = if hangs { hasty(&gateway.url()) } else { evolution(&gateway.url()) };

        let delivery = write_to(&ctx(), &outbound, &message("7")).await;

        let Delivery::Doubtful { why } = delivery else { panic!("{name}: {delivery:?}") };
        assert_eq!(gateway.connections(), 1, "{name}");
        assert!(why.starts_with("the gateway evolution"), "{name}: {why}");
        assert_tells_nothing(&why);
    }
}

#[tokio::test]
async fn a_good_status_is_a_sent_message_whatever_follows_it() {
    let huge = format!(r#"{{"key":{{"id":"A"}},"rest":"{}"}}"#, "x".repeat(2 << 20));
    for (name, next) in [
        ("no body", answer(201, "")),
        ("HTML", Move::Answer(200, "Content-Type: text/html\r\n", "<html>ok</html>".into())),
        ("broken JSON", answer(200, r#"{"key":{"id":"#)),
        ("huge", answer(200, &huge)),
        ("breaks off", Move::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")),
        ("no id", answer(200, r#"{"key":{"id":["A"]}}"#)),
    ] {
        let gateway = Gateway::start(vec![next]).await;

        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;

        assert_eq!(delivery, sent(None), "{name}");
        assert_eq!(gateway.connections(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_id_that_is_too_long_or_unclean_is_kept_as_far_as_it_can_be() {
    let long = "i".repeat(5_000);
    let gateway = Gateway::answering(200, &format!(r#"{{"key":{{"id":"a\u0000{long}"}}}}"#)).await;

    let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;

    let Delivery::Sent { provider_message_id: Some(id) } = delivery else { panic!("{delivery:?}") };
    assert!(id.chars().count() <= 201 && !id.contains('\0'), "{} characters", id.len());
}

#[tokio::test]
async fn who_cannot_be_connected_to_is_tried_four_times() {
    let url = nobody().await;
    // Links of the host's own network are out of reach, and no name of this kind exists.
    let nowhere = "http://nobody.invalid:1";
    let tries = [url.as_str(), nowhere].map(|url| async move {
        let begun = Instant::now();
        let delivery = write_to(&ctx(), &evolution(url), &message("7")).await;

        assert!(failed(SendOutcome::FailedProvider)(&delivery), "{delivery:?}");
        assert!(2_625 <= begun.elapsed().as_millis(), "{:?}", begun.elapsed());
        let Delivery::Failed { why, .. } = delivery else { panic!("failed") };
        assert!(why.contains("cannot connect") && why.contains("nothing was sent"), "{why}");
        assert!(!why.contains("nobody.invalid"), "{why}");
        assert_tells_nothing(&why);
    });

    futures_util::future::join_all(tries).await;
}

#[tokio::test]
async fn a_connection_that_is_reset_before_the_request_is_read_is_in_doubt_or_tried_again_and_never_sent() {
    let gateway = Gateway::start(vec![Move::ResetBefore]).await;

    let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;

    // The kernel takes the request before it hears of the reset, or after: both are told as they are.
    let is_told = matches!(delivery, Delivery::Doubtful { .. }) || failed(SendOutcome::FailedProvider)(&delivery);
    assert!(is_told, "{delivery:?}");
    assert_eq!(gateway.requests().len(), 0);
}

#[tokio::test]
async fn tls_that_does_not_hold_is_a_failure_to_connect() {
    // It speaks plain HTTP.
    let gateway = Gateway::answering(200, "{}").await;
    let url = gateway.url().replace("http://", "https://");

    let delivery = write_to(&ctx(), &hasty(&url), &message("7")).await;

    assert!(failed(SendOutcome::FailedProvider)(&delivery), "{delivery:?}");
    assert_eq!(gateway.connections(), 4);
    let Delivery::Failed { why, .. } = delivery else { panic!("failed") };
    assert!(why.contains("nothing was sent"), "{why}");
    assert_tells_nothing(&why);
}
