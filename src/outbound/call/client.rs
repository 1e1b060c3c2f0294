//! The HTTP clients of the process: keep-alive pools that follow nothing, ask no proxy and connect to no address out of
//! reach.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client,
    dns::Resolve,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue},
    redirect,
};

use super::reach::{Filtered, Network, SystemNames};

/// Idle connections kept per host.
const MAX_IDLE_PER_HOST: usize = 16;
/// How long an idle connection is kept: below the 2 s after which gunicorn closes one, and the 5 s of uvicorn and Node.
/// A request that is written while the other side closes is lost, and nobody can say whether it took effect.
const IDLE_FOR: Duration = Duration::from_millis(1_500);
/// Clients kept. Reloads may bring ever new time-outs; when there are more, all are built anew as they are needed.
const MAX_CLIENTS: usize = 16;

/// One client per connect time-out and network in use, each built at its first call: reading the system's certificates
/// takes longer than a start may take.
pub struct HttpClients {
    names: Arc<dyn Resolve>,
    clients: Mutex<BTreeMap<(Duration, Network), Client>>,
}

impl Default for HttpClients {
    fn default() -> Self {
        Self::with_names(Arc::new(SystemNames::default()))
    }
}

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Clients that look names up here instead of asking the system. What is found is filtered all the same.
    pub fn with_names(names: Arc<dyn Resolve>) -> Self {
        Self { names, clients: Mutex::default() }
    }

    /// A client whose name look-up, connection and TLS together take at most `connect_timeout`, and that connects to no
    /// named host outside of `network`. Hosts that are addresses are not looked up, so the caller checks them.
    pub(crate) fn client(&self, connect_timeout: Duration, network: Network) -> Result<Client, reqwest::Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&(connect_timeout, network)) {
            return Ok(client.clone());
        }
        let client = build(connect_timeout, Filtered { names: Arc::clone(&self.names), network })?;
        if MAX_CLIENTS <= clients.len() {
            clients.clear();
        }
        clients.insert((connect_timeout, network), client.clone());
        Ok(client)
    }
}

fn build(connect_timeout: Duration, names: Filtered) -> Result<Client, reqwest::Error> {
    // An error means that a provider is there already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .dns_resolver(names)
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_FOR)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .default_headers(HeaderMap::from_iter([
            // Without this header a server may choose any compression (RFC 9110, 12.5.3).
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]))
        .user_agent(concat!("emponto/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_new_time_outs_do_not_pile_up_clients() {
        let clients = HttpClients::default();

        for seconds in 1..=20 {
            clients.client(Duration::from_secs(seconds), Network::Any).expect("the system has certificates");
        }

        assert!(clients.clients.lock().expect("nobody panicked").len() <= MAX_CLIENTS);
    }
}
