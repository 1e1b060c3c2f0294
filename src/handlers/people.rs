//! How handlers reach people: one message through the gateway, one notice to the team.

use serde_json::{Value, json};

use super::Context;
use crate::{
    domain::run::Failure,
    outbound::{Delivery, Message, Outbound, Way, give, slack},
};

/// What the team is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Plain text, also for those who see no blocks.
    pub text: String,
    /// Slack's blocks; an empty list = text alone.
    pub blocks: Vec<Value>,
}

/// Gives one message to the gateway, and never tries again what may have been accepted. Ends within
/// [`Outbound::longest_send`]. Numbers that may not be written to are refused here too, whoever asks.
pub async fn write_to(ctx: &Context, outbound: &Outbound, message: &Message) -> Delivery {
    give(message, outbound, &way(ctx)).await
}

/// Tells the team in Slack, within 10 s. `false` = nobody said where. Failures name Slack and what it answered, and never
/// its address.
pub async fn tell_team(ctx: &Context, outbound: &Outbound, notice: &Notice) -> Result<bool, Failure> {
    let Some(webhook) = &outbound.slack else { return Ok(false) };
    let Notice { text, blocks } = notice;
    let body = if blocks.is_empty() { json!({ "text": text }) } else { json!({ "text": text, "blocks": blocks }) };
    slack::tell(webhook, &body, &way(ctx)).await.map(|()| true)
}

fn way(ctx: &Context) -> Way<'_> {
    let tools = &ctx.tools;
    Way {
        clients: &tools.http,
        traffic: &tools.traffic,
        gateways: &tools.gateways,
        run: ctx.run.id,
        cancelled: &ctx.cancelled,
    }
}
