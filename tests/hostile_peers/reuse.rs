//! Connections that are used again: never a request sent twice, never an answer that belongs to nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use emponto::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{Context, Targets, Tools},
};
use serde_json::json;

use crate::{
    attempt::{commit, context, no_database, work},
    post,
    server::{Server, Step, play, send},
};

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"processed\":7}";

/// A POST that shares its connections with the others of these tools.
async fn call(server: &Server, tools: &Tools) -> Result<Report, Failure> {
    let ctx = Context { tools: tools.clone(), ..context(no_database()) };
    commit(work("http", post(&server.url(), &json!({}))).run(ctx).await).await
}

fn tools() -> Tools {
    Tools::new(Targets::new())
}

#[tokio::test]
async fn a_connection_is_used_again_while_it_is_young() {
    let server = Server::playing(std::iter::repeat_n([Step::Read, send(ANSWER)], 10).flatten().collect());
    let tools = tools();

    for _ in 0..3 {
        assert_eq!(call(&server, &tools).await.expect("answered").items, Some(7));
    }
    let connections = server.connections();
    tokio::time::sleep(Duration::from_secs(3)).await;
    call(&server, &tools).await.expect("answered");

    assert_eq!((connections, server.connections(), server.requests()), (1, 2, 4));
}

#[tokio::test]
async fn no_call_asks_for_an_answer_that_is_packed() {
    let heads = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&heads);
    let server = Server::serving(move |stream: &mut TcpStream, _| {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).unwrap_or_default();
        kept.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]).to_ascii_lowercase());
        let _ = stream.write_all(ANSWER.as_bytes());
    });

    call(&server, &tools()).await.expect("answered");

    // Without the header a server may choose any packing.
    let heads = heads.lock().unwrap();
    assert!(heads.contains("\r\naccept-encoding: identity\r\n"), "{heads}");
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_not_used_again() {
    let server = Server::playing(vec![Step::Read, send(ANSWER)]);
    let tools = tools();

    for _ in 0..20 {
        assert_eq!(call(&server, &tools).await.expect("answered").items, Some(7));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_eq!((server.connections(), server.requests()), (20, 20));
}

#[tokio::test]
async fn a_request_that_a_closing_connection_swallowed_is_in_doubt_and_not_sent_again() {
    for end in [Step::Wait(Duration::ZERO), Step::Reset] {
        // The first answer is good; the second request is read, and lost with its connection.
        let server = Server::playing(vec![Step::Read, send(ANSWER), Step::Read, end]);
        let tools = tools();

        call(&server, &tools).await.expect("answered");
        let failure = call(&server, &tools).await.expect_err("swallowed");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false), "{}", failure.message);
        assert_eq!((server.connections(), server.requests()), (1, 2), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_server_that_closes_just_as_it_is_called_again_gets_no_request_twice() {
    let server = Server::serving(|stream, requests| {
        play(stream, &[Step::Read, send(ANSWER)], requests);
    });
    let tools = tools();

    let mut answered = 0;
    for _ in 0..300 {
        // No pause: the close of the last connection and this request cross on the way.
        match call(&server, &tools).await {
            Ok(_) => answered += 1,
            Err(failure) => assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, false)),
        }
    }

    // Every request that was read was answered, and no call was answered by more than one.
    assert!(0 < answered && answered <= server.requests() && server.requests() <= 300, "{answered}");
}

#[tokio::test]
async fn an_answer_to_nobody_is_not_taken_for_the_next_one() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"processed\":99}";
    let together = vec![Step::Read, send([ANSWER, smuggled].concat()), Step::Hang];
    let apart = vec![Step::Read, send(ANSWER), Step::Wait(Duration::from_millis(5)), send(smuggled), Step::Hang];
    // A second answer that comes when the next request is on its way cannot be told from an answer to it; one that came
    // before can, whether it came with the first or stood in an idle connection.
    for (steps, pause_ms) in [(together.clone(), 0), (together, 50), (apart, 50)] {
        let server = Server::playing(steps);
        let tools = tools();

        for _ in 0..50 {
            match call(&server, &tools).await {
                Ok(report) => assert_eq!(report.items, Some(7), "{pause_ms} ms"),
                Err(failure) => assert!(!format!("{failure:?}").contains("99"), "{failure:?}"),
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

#[tokio::test]
async fn who_forgets_the_length_of_the_last_request_does_not_confuse_the_next() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bodies);
    let server = Server::serving(move |stream: &mut TcpStream, _| {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            counted.fetch_add(piece[..length].windows(7).filter(|it| *it == b"{\"a\":1}").count(), Ordering::SeqCst);
            // An error status while the body may still be on its way.
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let tools = tools();

    for _ in 0..5 {
        let failure = call(&server, &tools).await.expect_err("500");
        assert_eq!(failure.response_code, Some(500), "{}", failure.message);
    }

    assert_eq!(bodies.load(Ordering::SeqCst), 5);
}
