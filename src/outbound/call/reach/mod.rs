//! What a call may reach: never the metadata of a cloud, and nothing private when a target says so.

mod blocks;
mod lost;
mod names;

use std::{error::Error, fmt, net::IpAddr};

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Host;

pub(in crate::outbound) use lost::{cause, no_answer, out_of_reach};
pub(in crate::outbound) use names::{Filtered, SystemNames};

/// How far the calls of a target may reach. Cloud metadata, link-local, unspecified, multicast and broadcast addresses
/// are out of reach in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Loopback and private networks too.
    #[default]
    Any,
    /// The public internet alone.
    Public,
}

/// An address that no call may connect to.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::outbound) struct Refused {
    host: String,
    address: IpAddr,
    why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, why } = self;
        if host.parse() == Ok(*address) {
            return write!(f, "{address} is refused: it is {why}");
        }
        write!(f, "host {host:?} is refused: it is at {address}, which is {why}")
    }
}

impl Error for Refused {}

/// Refuses a URL whose host is an address out of reach, in whatever notation: the parser of URLs made one of it. A name
/// passes, because only the resolver knows its addresses.
pub(in crate::outbound) fn check_literal(url: &Url, network: Network) -> Result<(), Refused> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    check(&address.to_string(), address, network)
}

/// `check_literal`, in the words of a mistake in a job table.
pub(crate) fn within_reach(url: &Url, network: Network) -> Result<(), String> {
    check_literal(url, network).map_err(|refused| refused.to_string())
}

/// Refuses an address out of reach. `host` is what the URL names.
fn check(host: &str, address: IpAddr, network: Network) -> Result<(), Refused> {
    match blocks::out_of_reach(address, network) {
        Some(why) => Err(Refused { host: host.to_owned(), address, why }),
        None => Ok(()),
    }
}
