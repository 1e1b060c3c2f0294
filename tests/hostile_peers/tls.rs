//! TLS that does not hold: certificates of nobody, of yesterday and of somebody else, and peers that speak something else.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use emponto::domain::run::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};

use crate::{
    call, post,
    server::{Server, Step, flood, play, send},
    support::daemon::Setup,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{\"processed\":7}";

/// An authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for one test");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a server for `host` shows, valid until the end of a year.
    fn for_host(&self, host: &str, last_year: i32) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is that of the certificate");
        Arc::new(config)
    }
}

/// A server that answers over TLS, and counts the requests that got as far as being read. With `cut`, it closes the
/// connection under TLS in the middle of an answer whose length nobody knows.
fn serving(config: Arc<ServerConfig>, cut: bool) -> Server {
    Server::serving(move |stream, requests| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a sound configuration");
        let mut tls = StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match tls.read(&mut piece) {
                Ok(length @ 1..) => head.extend_from_slice(&piece[..length]),
                _ => return,
            }
        }
        requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if cut {
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nwords that go");
            let _ = tls.flush();
            return;
        }
        let _ = tls.write_all(ANSWER);
        tls.conn.send_close_notify();
        let _ = tls.flush();
    })
}

fn https(server: &Server) -> String {
    server.url().replace("http:", "https:")
}

#[tokio::test]
async fn a_certificate_of_nobody_is_refused_before_anything_is_sent() {
    let server = serving(Authority::new().for_host("127.0.0.1", 2099), false);

    let failure = call(post(&https(&server), &json!({}))).await.expect_err("nobody trusts it");

    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
    let words = "cannot connect: its certificate is signed by nobody whom this machine trusts; nothing was sent";
    assert!(failure.message.ends_with(words), "{}", failure.message);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn what_is_not_tls_is_known_to_be_unsent() {
    let alert = b"\x15\x03\x03\0\x02\x02\x28";
    for (name, steps, words) in [
        ("answers in plain HTTP", vec![Step::Glance, send("HTTP/1.1 400 No\r\n\r\n")], "does not speak TLS"),
        ("sends garbage", vec![Step::Glance, flood(0xff)], "does not speak TLS"),
        ("refuses with an alert", vec![Step::Glance, send(alert)], "TLS failed: "),
        ("closes", vec![Step::Glance], ""),
        ("resets", vec![Step::Glance, Step::Reset], ""),
        ("resets before it reads", vec![Step::Reset], ""),
        ("closes in the handshake", vec![Step::Glance, send(b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03")], ""),
        ("hangs in the handshake", vec![Step::Glance, send(b"\x16\x03\x03\0\x7a\x02"), Step::Hang], "timed out"),
        ("drips the handshake", vec![Step::Drip(vec![0x16], Duration::from_millis(20))], ""),
    ] {
        let server = Server::playing(steps);

        let ended = call(post(&https(&server), &json!({ "connect_timeout": "1s" }))).await;

        let failure = ended.expect_err(name);
        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true), "{name}: {}", failure.message);
        let message = &failure.message;
        assert!(message.contains(": cannot connect: ") && message.ends_with("; nothing was sent"), "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_no_answer() {
    let server = serving(Authority::new().for_host("127.0.0.1", 2099), false);

    let failure = call(post(&server.url(), &json!({}))).await.expect_err("TLS does not understand it");

    assert_eq!(failure.kind, FailureKind::Retry);
    assert!(failure.message.contains("no answer: "), "{}", failure.message);
    assert_eq!(server.requests(), 0);
}

/// One run of each job in a folder, with the real binary; the rows of the ledger by job.
fn ran(setup: &Setup, jobs: &[&str]) -> Vec<Value> {
    jobs.iter()
        .map(|job| {
            setup.run(&["run", job, "--once"]);
            let rows = setup.run(&["runs", "list", "--job", job, "-o", "json"]);
            let rows: Value = serde_json::from_slice(&rows.stdout).expect("JSON");
            rows[0].clone()
        })
        .collect()
}

fn trusting(authority: &Authority, jobs_toml: &str) -> Setup {
    let setup = Setup::new(jobs_toml);
    let trusted = setup.path("trusted.pem");
    fs::write(&trusted, &authority.pem).expect("the folder can be written");
    let trusted: &Path = &trusted;
    setup.env("SSL_CERT_FILE", trusted.to_str().expect("the folder has a plain name"))
}

#[test]
fn the_binary_trusts_the_authorities_of_the_system_and_no_certificate_that_is_late_or_for_others() {
    let authority = Authority::new();
    let sound = serving(authority.for_host("localhost", 2099), false);
    let expired = serving(authority.for_host("localhost", 2020), false);
    let elsewhere = serving(authority.for_host("elsewhere.example", 2099), false);
    let cut = serving(authority.for_host("localhost", 2099), true);
    let job = |name: &str, server: &Server| {
        let url = format!("https://localhost:{}/x", server.address.port());
        format!(
            "[jobs.{name}]\nevery = \"1h\"\nretry.max_attempts = 1\ndelivery = \"at_most_once\"\nrun.http = {{ post = \"{url}\" }}\n"
        )
    };
    let names = ["sound", "expired", "elsewhere", "cut"];
    let servers = [&sound, &expired, &elsewhere, &cut];
    let jobs: String = names.iter().zip(servers).map(|(name, server)| job(name, server)).collect();
    let setup = trusting(&authority, &format!("version = 1\n[defaults]\ntimezone = \"UTC\"\n{jobs}"));

    let rows = ran(&setup, &names);

    let ends: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap_or_default()).collect();
    // What was surely not sent is an error; what broke off in the answer is in doubt, and never called a success.
    assert_eq!(ends, ["success", "error", "error", "unknown"], "{rows:#?}");
    assert_eq!(rows[0]["items"], 7);
    for (row, words) in
        rows.iter().zip(["", "its certificate has expired; nothing", "for another host; nothing", "broke off"])
    {
        assert!(row["error"].as_str().unwrap_or_default().contains(words), "{row:#}");
    }
    assert_eq!(servers.map(Server::requests), [1, 0, 0, 1]);
}

#[test]
fn the_binary_asks_no_proxy_unless_it_is_told() {
    let sound = Server::serving(|stream: &mut TcpStream, requests| play(stream, &[Step::Read, send(ANSWER)], requests));
    let proxy = Server::playing(vec![Step::Read, send("HTTP/1.1 502 Proxy\r\ncontent-length: 0\r\n\r\n")]);
    let jobs = format!(
        "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.a]\nevery = \"1h\"\nrun.http = {{ post = \"{}/x\" }}\n",
        sound.url()
    );
    let mut setup = Setup::new(&jobs);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        setup = setup.env(name, &proxy.url());
    }

    let rows = ran(&setup, &["a"]);

    assert_eq!(rows[0]["outcome"], "success", "{rows:#?}");
    assert_eq!((sound.requests(), proxy.connections()), (1, 0));
}

#[test]
fn one_tls_provider_is_linked_and_it_is_ring() {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("the lock file");
    let is_locked = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));

    assert!(is_locked("rustls") && is_locked("ring"));
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring", "rustls-openssl"] {
        assert!(!is_locked(other), "two providers in one process panic at the first handshake: {other} is locked");
    }
}
