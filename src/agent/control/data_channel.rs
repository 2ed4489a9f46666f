//! Opens the data channels of sessions.

use uuid::Uuid;

use super::opening::{OpenError, Opening};
use crate::aws::Client;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::open_channel::{
    CreateDataChannel, OPEN_SCHEMA_VERSION, OpenDataChannel,
};
use crate::transport::{ConnectError, Connected, Connector};

/// What the gateway's refusal of a token says when the session has ended meanwhile.
const ALREADY_TERMINATED: &str = "Session is already terminated";

/// Makes connectors for the data channels of a node's sessions.
#[derive(Clone)]
pub struct DataChannels {
    client: Client,
    node_id: String,
}

impl DataChannels {
    /// The data channels of `node_id`.
    pub fn new(client: Client, node_id: String) -> Self {
        Self { client, node_id }
    }

    /// What connects the data channel of `session`, the first time and after each cut.
    pub fn connector(&self, session: &SessionId) -> DataChannelConnector {
        DataChannelConnector {
            client: self.client.clone(),
            node_id: self.node_id.clone(),
            session: session.clone(),
        }
    }
}

/// Connects the data channel of one session.
pub struct DataChannelConnector {
    client: Client,
    node_id: String,
    session: SessionId,
}

impl Connector for DataChannelConnector {
    async fn connect(&mut self, _attempt: u32) -> Result<Connected, ConnectError> {
        let opening = Opening {
            client: &self.client,
            collection: "data-channel",
            id: self.session.as_str(),
            query: "role=publish_subscribe",
        };
        let create = CreateDataChannel {
            message_schema_version: OPEN_SCHEMA_VERSION.into(),
            request_id: Uuid::new_v4().to_string(),
            client_id: String::new(),
        };
        let first_message = |token| first_message(token, self.node_id.clone());
        let opened = opening.open(create.encode(), first_message).await;
        opened.map_err(|error| match error {
            OpenError::Token(call) if call.body_contains(ALREADY_TERMINATED) => {
                ConnectError::Ended(call.to_string())
            }
            error => ConnectError::Retry(error.into()),
        })
    }
}

fn first_message(token_value: String, node_id: String) -> String {
    OpenDataChannel {
        message_schema_version: OPEN_SCHEMA_VERSION.into(),
        request_id: Uuid::new_v4().to_string(),
        token_value,
        client_instance_id: Some(node_id),
        client_id: String::new(),
        client_version: None,
        features: None,
    }
    .encode()
}
