//! Hostile peers of the `http` handler: servers without manners, names that lie, TLS that does not hold.

mod support;

#[path = "handlers/attempt.rs"]
#[expect(dead_code, reason = "the other handlers are tested elsewhere")]
mod attempt;
#[path = "hostile_peers/behaviours.rs"]
mod behaviours;
#[path = "hostile_peers/memory.rs"]
mod memory;
#[path = "hostile_peers/names.rs"]
mod names;
#[path = "hostile_peers/reuse.rs"]
mod reuse;
#[path = "hostile_peers/daemon.rs"]
mod daemon;
#[path = "hostile_peers/server.rs"]
mod server;
#[path = "hostile_peers/tls.rs"]
mod tls;

use std::time::{Duration, Instant};

use emponto::domain::run::{Failure, Report};
use serde_json::{Value, json};

use crate::{
    attempt::{commit, context, no_database, work},
    behaviours::{Behaviour, End},
    server::Server,
};

/// More than any of these calls may take on a loaded machine, and less than a limit that does not hold.
const SLOW: Duration = Duration::from_secs(20);

/// A POST of a small body to a server, with more settings beside it.
fn post(url: &str, more: &Value) -> Value {
    let mut settings = json!({ "post": format!("{url}/jobs/x"), "json": { "a": 1 }, "timeout": "30s" });
    let more = more.as_object().expect("settings are an object").clone();
    settings.as_object_mut().expect("settings are an object").extend(more);
    settings
}

async fn call(settings: Value) -> Result<Report, Failure> {
    commit(work("http", settings).run(context(no_database())).await).await
}

/// What became of a call, in the words of the table.
fn told(ended: &Result<Report, Failure>) -> (String, &str) {
    match ended {
        Ok(report) => (format!("Done({:?})", report.items), ""),
        Err(failure) => {
            let doubt = if failure.before_effect { "Unsent" } else { "InDoubt" };
            (format!("{doubt}({:?})", failure.kind), &failure.message)
        }
    }
}

/// What the table says must become of it, and the words of the message.
fn wanted(end: &End) -> (String, &'static str) {
    match end {
        End::Done(items) => (format!("Done({items:?})"), ""),
        End::InDoubt(kind, words) => (format!("InDoubt({kind:?})"), words),
        End::Unsent(kind, words) => (format!("Unsent({kind:?})"), words),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_behaviour_ends_as_the_table_says_and_leaves_nothing_open() {
    let mut wrong = Vec::new();
    let mut servers = Vec::new();
    for Behaviour { name, steps, settings, end } in behaviours::all() {
        let server = Server::playing(steps);
        let begun = Instant::now();

        let ended = call(post(&server.url(), &settings)).await;

        let (took, (found, message), (wanted, words)) = (begun.elapsed(), told(&ended), wanted(&end));
        if found != wanted || !message.contains(words) || SLOW < took {
            wrong.push(format!("{name}: {found} {message:?} after {took:?}, wanted {wanted} {words:?}"));
        }
        // One call is one connection and one request, whatever happens to it.
        if server.connections() != 1 || 1 < server.requests() {
            wrong.push(format!("{name}: {} connections, {} requests", server.connections(), server.requests()));
        }
        servers.push((name, server));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let deadline = Instant::now() + SLOW;
    while let Some((name, _)) = servers.iter().find(|(_, server)| 0 < server.open()) {
        assert!(Instant::now() < deadline, "still connected: {name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
