//! The HTTP clients of the process: keep-alive pools that follow nothing and ask no proxy.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, redirect};

/// Idle connections kept per host.
const MAX_IDLE_PER_HOST: usize = 16;
/// How long an idle connection is kept: below the 60 s after which common servers and balancers close it.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// One client per connect time-out in use, each built at its first call: reading the system's certificates takes
/// longer than a start may take.
#[derive(Debug, Default)]
pub struct HttpClients {
    by_connect_timeout: Mutex<BTreeMap<Duration, Client>>,
}

impl HttpClients {
    /// A client whose name look-up, connection and TLS together take at most `connect_timeout`.
    pub(super) fn client(&self, connect_timeout: Duration) -> Result<Client, reqwest::Error> {
        let mut clients = self.by_connect_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&connect_timeout) {
            return Ok(client.clone());
        }
        let client = build(connect_timeout)?;
        clients.insert(connect_timeout, client.clone());
        Ok(client)
    }
}

fn build(connect_timeout: Duration) -> Result<Client, reqwest::Error> {
    // An error means that a provider is there already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_FOR)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .user_agent(concat!("emponto/", env!("CARGO_PKG_VERSION")))
        .build()
}
