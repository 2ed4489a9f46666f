//! What the audit log is told of a connection, once, at its end.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::task::Session;
use super::super::trail::seconds;
use super::destination::{Destination, DialError};
use crate::agent::audit::{Event, Text};
use crate::transport::forward::{Socket, Traffic};

/// What became of a connection whose session was aborted, or panicked.
pub(super) const BROKE_OFF: &str = "the session broke off inside the agent";

/// A connection from the moment it was asked for.
pub(super) struct Account {
    opened: Timestamp,
    since: Instant,
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

    /// The connection is over, or did not come about.
    pub(super) fn close(self, session: &Session, traffic: Traffic, outcome: &str) {
        let target = match self.reached.get() {
            Some(address) => Text::from(address),
            None => Text::from(self.destination.to_string()),
        };
        session.context.settings.audit.record(&Event::Connection {
            session: &session.start.session_id,
            target,
            opened: self.opened,
            seconds: seconds(self.since.elapsed()),
            up: traffic.up,
            down: traffic.down,
            outcome: Text::from(outcome),
        });
    }
}
