//! How handlers reach people: gateways and what they answer, when one may write, and how often.

pub mod call;
mod delivery;
mod gateway;
mod hours;
mod settings;
pub mod slack;

pub use delivery::{Delivery, Message, SendOutcome};
pub use gateway::{Gateways, Way, give};
pub use hours::Hours;
pub use settings::{
    Allowlist, Confidential, Evolution, GatewayChoice, Limits, Outbound, OutboundTable, Webhook, hours_alone,
};
