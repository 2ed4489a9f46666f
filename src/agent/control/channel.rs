//! Opens the control channel.

use uuid::Uuid;

use super::opening::Opening;
use crate::aws::Client;
use crate::protocol::wire::open_channel::{
    CreateControlChannel, OPEN_SCHEMA_VERSION, OpenControlChannel,
};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::transport::{ConnectError, Connected, Connector};

/// Connects the control channel of one node.
pub struct ControlChannel {
    client: Client,
    node_id: String,
}

impl ControlChannel {
    /// The control channel of `node_id`.
    pub fn new(client: Client, node_id: String) -> Self {
        Self { client, node_id }
    }
}

impl Connector for ControlChannel {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let opening = Opening {
            client: &self.client,
            collection: "control-channel",
            id: &self.node_id,
            query: "role=subscribe&stream=input",
        };
        let create = CreateControlChannel {
            message_schema_version: OPEN_SCHEMA_VERSION.into(),
            request_id: Uuid::new_v4().to_string(),
        };
        let opened = opening.open(create.encode(), first_message).await;
        opened.map_err(|error| ConnectError::Retry(error.into()))
    }
}

fn first_message(token_value: String) -> String {
    OpenControlChannel {
        cookie: None,
        message_schema_version: OPEN_SCHEMA_VERSION.into(),
        request_id: Uuid::new_v4().to_string(),
        token_value,
        agent_version: AGENT_WIRE_VERSION.into(),
        platform_type: "linux".into(),
    }
    .encode()
}
