//! Live agents and sessions (contract stub).

use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::gateway::store::Store;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::session_document::SessionDocument;

/// The broker.
#[derive(Clone)]
pub struct Broker;

/// Settings of the broker.
pub struct Settings {
    /// Base of stream URLs.
    pub public_url: Url,
    /// How long an agent may take to open its data channel.
    pub start_deadline: Duration,
    /// How long a session outlives its client's connection.
    pub grace: Duration,
}

/// What to start.
pub struct StartRequest {
    /// Node.
    pub node_id: String,
    /// Name of the document.
    pub document_name: String,
    /// Document.
    pub document: SessionDocument,
    /// Values.
    pub parameters: Map<String, Value>,
    /// Arn.
    pub owner: String,
    /// User on the node.
    pub run_as_user: String,
    /// Reason.
    pub reason: String,
}

/// What a client needs to attach.
pub struct Ticket {
    /// Session.
    pub session_id: SessionId,
    /// Token.
    pub token: String,
    /// Where.
    pub stream_url: String,
}

/// Why the broker cannot.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Not connected.
    #[error("node {0} is not connected")]
    NotConnected(String),
    /// No such session.
    #[error("no such session")]
    NotFound,
}

#[expect(
    clippy::todo,
    clippy::unused_async,
    unused_variables,
    reason = "contract"
)]
impl Broker {
    /// New.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn new(
        store: Store,
        settings: Settings,
        cancel: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send), BrokerError> {
        Ok((Self, async move { cancel.cancelled().await }))
    }
    /// Starts.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn start_session(&self, request: StartRequest) -> Result<Ticket, BrokerError> {
        todo!()
    }
    /// Resumes.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn resume_session(&self, id: &SessionId) -> Result<Option<Ticket>, BrokerError> {
        todo!()
    }
    /// Terminates.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn terminate_session(&self, id: &SessionId) -> Result<(), BrokerError> {
        todo!()
    }
    /// Whether connected.
    pub fn is_connected(&self, node_id: &str) -> bool {
        false
    }
    /// Disconnects.
    pub fn disconnect_node(&self, node_id: &str) {}
}
