//! The ways out: whom a message is given to.

use super::{Delivery, Message};

/// A provider that carries messages to people.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Gateway {
    /// Prints the message and carries it nowhere: the default when nothing is configured.
    #[default]
    Log,
}

impl Gateway {
    /// Gives one message away. Never longer than a named limit, and never twice where the first may have been accepted.
    pub async fn send(&self, message: &Message) -> Delivery {
        match self {
            Self::Log => {
                tracing::info!(
                    component = "outbound",
                    message_id = message.id,
                    "a message of type {} would be sent",
                    message.tipo
                );
                Delivery::Sent { provider_message_id: Some(format!("log:{}", message.id)) }
            }
        }
    }
}
