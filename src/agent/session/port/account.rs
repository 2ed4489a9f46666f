//! What the audit log will be told of a connection.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::time::Instant;

use super::destination::{Destination, DialError};
use crate::agent::audit::Text;
use crate::transport::forward::Socket;

/// A connection from the moment it was asked for.
pub(super) struct Account {
    pub(super) opened: Timestamp,
    pub(super) since: Instant,
    destination: Arc<Destination>,
    /// The address that answered.
    reached: Arc<OnceLock<String>>,
}

impl Account {
    /// A connection is asked for now.
    pub(super) fn open(destination: &Arc<Destination>) -> Self {
        Self {
            opened: Timestamp::now(),
            since: Instant::now(),
            destination: Arc::clone(destination),
            reached: Arc::default(),
        }
    }

    /// Makes the connection.
    pub(super) fn dial(
        &self,
    ) -> impl Future<Output = Result<Socket, DialError>> + Send + use<> + 'static {
        let destination = Arc::clone(&self.destination);
        let reached = Arc::clone(&self.reached);
        async move {
            let dialled = destination.dial().await?;
            reached.get_or_init(|| dialled.to);
            Ok(dialled.socket)
        }
    }

    /// The address that answered, else the destination.
    pub(super) fn target(&self) -> Text {
        match self.reached.get() {
            Some(address) => Text::from(address),
            None => Text::from(self.destination.to_string()),
        }
    }
}
