//! One call over HTTP and its answer: what all rooms that call the world share. It reaches no address out of bounds, goes as
//! often as its lane lets it, and no secret of its own comes back in what it heard.

mod client;
mod exchange;
mod plain;
mod reach;
mod retry_after;
mod signature;
mod target;
mod traffic;

pub use client::HttpClients;
pub(crate) use exchange::{Answer, Content, MAX_ANSWER_BYTES};
pub(crate) use plain::{Call, checked_headers, connect_limit};
pub use reach::Network;
pub(crate) use reach::within_reach;
pub use signature::Secret;
pub use target::{DEFAULT_TARGET, Target, Targets};
pub(crate) use target::{hide, web_url, without_password};
pub use traffic::{BreakerSettings, OpenFor, Rate, Traffic};
pub(crate) use traffic::{Caller, Heard, Lane, Unheard, finding, send};
