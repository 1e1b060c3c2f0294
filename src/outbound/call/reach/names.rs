//! Looks up the addresses of a host, and lets through only those that a call may connect to.

use std::{
    error::Error,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::{Network, Refused, check};

/// Look-ups under way at once: each holds a thread, for half a minute when no name server answers, and the threads are
/// shared with all other blocking work.
const MAX_LOOKUPS: usize = 32;
/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 32;

/// The names that the machine knows: its hosts file and its name servers.
pub(in crate::outbound) struct SystemNames {
    turns: Arc<Semaphore>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        let turns = Arc::clone(&self.turns);
        Box::pin(async move {
            let turn = turns.acquire_owned().await?;
            let looked_up = tokio::task::spawn_blocking(move || {
                // Kept until the look-up ends, which nobody can cut short, also when the call has given up.
                let _turn = turn;
                (name.as_str(), 0).to_socket_addrs()
            });
            let found = looked_up.await??;
            Ok(Box::new(found) as Addrs)
        })
    }
}

/// A resolver whose answers go to the connection filtered: what was checked is what is connected to, so that an answer
/// that changes between two look-ups has nothing to win.
pub(in crate::outbound) struct Filtered {
    pub names: Arc<dyn Resolve>,
    pub network: Network,
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, network) = (name.as_str().to_owned(), self.network);
        let looking_up = self.names.resolve(name);
        Box::pin(async move {
            let found = looking_up.await?;
            let allowed = within_reach(&host, found, network)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that a call may connect to. An error when there is none: the first refusal, or that there are no
/// addresses at all.
fn within_reach(host: &str, found: Addrs, network: Network) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    let mut refusal: Option<Refused> = None;
    let mut allowed = Vec::new();
    for address in found.take(MAX_ADDRESSES) {
        match check(host, address.ip(), network) {
            Ok(()) => allowed.push(address),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    match refusal {
        Some(refused) if allowed.is_empty() => Err(refused.into()),
        None if allowed.is_empty() => Err(io::Error::other(format!("host {host:?} has no address")).into()),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn many(count: usize) -> Addrs {
        Box::new((0..count).map(|_| SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    #[tokio::test]
    async fn a_look_up_waits_for_its_turn_and_gives_it_back() {
        let names = SystemNames { turns: Arc::new(Semaphore::new(0)) };
        let name = || "localhost".parse::<Name>().expect("a name");

        let early = tokio::time::timeout(Duration::from_millis(50), names.resolve(name())).await;
        names.turns.add_permits(1);
        let found = names.resolve(name()).await.expect("every machine knows itself");

        assert!(early.is_err());
        assert!(found.into_iter().all(|address| address.ip().is_loopback()));
        assert_eq!(names.turns.available_permits(), 1);
    }

    #[test]
    fn only_so_many_addresses_are_tried() {
        let tried = |count| within_reach("a", many(count), Network::Any).expect("loopback is within reach").len();

        assert_eq!((tried(1), tried(MAX_ADDRESSES), tried(10_000)), (1, MAX_ADDRESSES, MAX_ADDRESSES));
    }
}
