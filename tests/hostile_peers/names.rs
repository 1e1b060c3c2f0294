//! Addresses out of reach: written in every way, and behind names whose answers lie or change.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use emponto::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{
        Context, Targets, Tools, Work,
        http::{HttpClients, Target},
    },
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Value, json};

use crate::{
    attempt::{checked, commit, context, no_database, work},
    server::{Server, Step, send},
};

/// Gives each look-up the next of its answers, and the last one again and again.
struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn answering(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |answer: &&[&str]| answer.iter().map(|text| text.parse().expect("an address")).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(addresses).collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no test panics while it holds this").len()
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        self.asked.lock().expect("no test panics while it holds this").push(name.as_str().to_owned());
        let mut answers = self.answers.lock().expect("no test panics while it holds this");
        let answer = if 1 < answers.len() { answers.pop_front() } else { answers.front().cloned() };
        let addresses = answer.unwrap_or_default().into_iter().map(|address| SocketAddr::new(address, 0));
        Box::pin(async move { Ok(Box::new(addresses) as Addrs) })
    }
}

/// A server that closes each connection after one good answer.
fn sound() -> Server {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{\"processed\":7}";
    Server::playing(vec![Step::Read, send(answer)])
}

/// A context whose names are looked up here.
fn with_names(names: &Arc<Names>, targets: Targets) -> Context {
    let http = Arc::new(HttpClients::with_names(Arc::<Names>::clone(names)));
    Context { tools: Tools { http, ..Tools::new(targets) }, ..context(no_database()) }
}

fn target(base_url: &str, network: &str) -> Targets {
    let target: Target = serde_json::from_value(json!({ "base_url": base_url, "network": network })).expect("a target");
    Targets::from([("api".into(), target)])
}

async fn post(settings: Value, ctx: Context) -> Result<Report, Failure> {
    // Not checked: what a reader of jobs.toml would refuse must be refused at the connection too.
    commit(Work::parse("http", settings).expect("settings").run(ctx).await).await
}

#[track_caller]
fn assert_refused(ended: Result<Report, Failure>, words: &[&str]) {
    let failure = ended.expect_err("out of reach");
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true), "{}", failure.message);
    for words in words {
        assert!(failure.message.contains(words), "{} should say {words:?}", failure.message);
    }
    assert!(failure.message.ends_with("; nothing was sent"), "{}", failure.message);
}

#[tokio::test]
async fn an_address_out_of_reach_is_refused_however_it_is_written() {
    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.43518",
        "169.16689662",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "025177524776",
        "0xa9.0376.43518",
        "%31%36%39.254.169.254",
        "①⑥⑨.254.169.254",
        "169。254。169。254",
        "user:password@169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fd00:ec2::254]",
        "[fd00:0ec2:0:0:0:0:0:254]",
        "100.100.100.200",
        "0",
        "0.0.0.0",
        "[::]",
        "[::ffff:0:0]",
        "255.255.255.255",
        "224.0.0.251",
        "[ff02::1]",
    ] {
        let settings = json!({ "get": format!("http://{host}:9/latest/meta-data/"), "timeout": "5s" });

        let found = checked("http", settings.clone(), &Targets::new()).expect_err("found while jobs.toml is read");
        let refused = post(settings, context(no_database())).await;

        assert!(found.len() == 1 && found[0].contains(" is refused: it is "), "{host}: {found:?}");
        assert!(!found[0].contains("password"), "{found:?}");
        assert_refused(refused, &[" is refused: it is "]);
    }
}

#[tokio::test]
async fn what_is_private_is_called_unless_the_target_is_public() {
    let server = sound();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}", server.address.port());
        let settings = json!({ "target": "api", "post": "/x" });
        let run = |network| {
            let targets = target(&url, network);
            post(settings.clone(), Context { tools: Tools::new(targets), ..context(no_database()) })
        };

        let called = run("any").await;
        let before = server.connections();
        let refused = run("public").await;

        assert_eq!(called.expect("within reach").items, Some(7), "{host}");
        assert_refused(refused, &["127.0.0.1", "is loopback, and network is \"public\""]);
        assert_eq!(server.connections(), before, "{host}");
    }
    let message = target("http://127.0.0.1", "public")["api"].check();
    assert_eq!(message, ["127.0.0.1 is refused: it is loopback, and network is \"public\""]);
}

#[tokio::test]
async fn a_name_is_refused_when_all_its_addresses_are() {
    for (addresses, network, words) in [
        (
            &["169.254.169.254"][..],
            "any",
            "host \"api.example\" is refused: it is at 169.254.169.254, which is link-local",
        ),
        (
            &["fd00:ec2::254", "169.254.169.254"],
            "any",
            "it is at fd00:ec2::254, which is the metadata service of a cloud",
        ),
        (&["::ffff:169.254.169.254"], "any", "another way to write 169.254.169.254"),
        (&["64:ff9b::a9fe:a9fe"], "any", "another way to write 169.254.169.254"),
        (&["0.0.0.0"], "any", "which is unspecified"),
        (&["127.0.0.1"], "public", "which is loopback"),
        (&["10.1.2.3", "::1"], "public", "it is at 10.1.2.3, which is private"),
        (&["100.64.1.1"], "public", "which is shared by customers of a carrier"),
        (&["fc00::1"], "public", "which is private (unique local)"),
    ] {
        let names = Names::answering(&[addresses]);
        let ctx = with_names(&names, target("http://api.example:9", network));

        let refused = post(json!({ "target": "api", "post": "/x" }), ctx).await;

        assert_refused(refused, &[words]);
        assert_eq!(names.asked(), 1);
    }
}

#[tokio::test]
async fn a_full_url_is_filtered_though_it_has_no_target() {
    let names = Names::answering(&[&["169.254.170.2"]]);

    let refused = post(json!({ "get": "http://api.example/x" }), with_names(&names, Targets::new())).await;

    assert_refused(refused, &["it is at 169.254.170.2, which is link-local"]);
}

#[tokio::test]
async fn of_a_mixed_answer_only_what_is_within_reach_is_connected_to() {
    let server = sound();
    // Were the first ones tried, the call would end late, or elsewhere.
    let names = Names::answering(&[&["169.254.169.254", "0.0.0.0", "fe80::1", "127.0.0.1", "::"]]);
    let url = format!("http://api.example:{}", server.address.port());

    let called = post(json!({ "target": "api", "post": "/x" }), with_names(&names, target(&url, "any"))).await;

    assert_eq!(called.expect("one address is good").items, Some(7));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_answer_that_changes_wins_nothing_because_each_connection_is_made_to_what_was_checked() {
    let server = sound();
    let names = Names::answering(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"], &["0.0.0.0"]]);
    let url = format!("http://api.example:{}", server.address.port());
    let ctx = || with_names(&names, target(&url, "any"));
    let settings = || json!({ "target": "api", "post": "/x", "timeout": "5s" });
    let pool = ctx().tools;
    let again = || Context { tools: pool.clone(), ..context(no_database()) };

    let first = post(settings(), again()).await;
    let second = post(settings(), again()).await;
    let third = post(settings(), again()).await;
    let fourth = post(settings(), again()).await;

    assert_eq!(first.expect("the first answer is good").items, Some(7));
    assert_refused(second, &["it is at 169.254.169.254"]);
    assert_eq!(third.expect("the third answer is good").items, Some(7));
    assert_refused(fourth, &["it is at 0.0.0.0"]);
    // One look-up per connection: there is no second one whose answer could be another.
    assert_eq!((names.asked(), server.connections()), (4, 2));
}

#[tokio::test]
async fn a_connection_made_for_one_target_is_not_used_for_one_that_may_reach_less() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"processed\":7}";
    let server = Server::playing(vec![Step::Read, send(answer), Step::Read, send(answer)]);
    let names = Names::answering(&[&["127.0.0.1"]]);
    let url = format!("http://api.example:{}", server.address.port());
    let tools = with_names(&names, target(&url, "any")).tools;
    let narrow = tools.with_targets(target(&url, "public"));
    let settings = || json!({ "target": "api", "post": "/x" });

    let called = post(settings(), Context { tools, ..context(no_database()) }).await;
    let refused = post(settings(), Context { tools: narrow, ..context(no_database()) }).await;

    assert_eq!(called.expect("within reach").items, Some(7));
    assert_refused(refused, &["it is at 127.0.0.1, which is loopback"]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_name_without_addresses_and_a_name_nobody_looks_up_are_known_to_be_unsent() {
    let nothing = Names::answering(&[&[]]);
    let ended = post(json!({ "get": "http://api.example/x" }), with_names(&nothing, Targets::new())).await;
    let failure = ended.expect_err("nowhere to go");
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
    assert!(failure.message.contains("cannot connect: host \"api.example\" has no address"), "{}", failure.message);

    let silent = HttpClients::with_names(Arc::new(Silent));
    let tools = Tools { http: Arc::new(silent), ..Tools::new(Targets::new()) };
    let settings = json!({ "get": "http://api.example/x", "timeout": "500ms" });
    let ended = commit(work("http", settings).run(Context { tools, ..context(no_database()) }).await).await;
    let failure = ended.expect_err("nobody looks it up");
    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true), "{}", failure.message);
    assert!(failure.message.ends_with("cannot connect: operation timed out; nothing was sent"), "{}", failure.message);
}

/// Name servers that never answer.
struct Silent;

impl Resolve for Silent {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(120)).await;
            Ok(Box::new(std::iter::empty()) as Addrs)
        })
    }
}
