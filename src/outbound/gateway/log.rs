//! The gateway `log`: writes that a message would be sent, and carries it nowhere.

use crate::outbound::{Delivery, Message};

/// Says so without number and text, which are nobody's business in a log.
pub(super) fn write(message: &Message) -> Delivery {
    tracing::info!(
        component = "outbound",
        message_id = message.id,
        "a message of type {:?} would be sent: the gateway is log",
        message.tipo
    );
    Delivery::Sent { provider_message_id: Some(format!("log:{}", message.id)) }
}
