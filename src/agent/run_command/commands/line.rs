//! A way to the service, with the replies that have to go by it.

use std::time::{Duration, Instant};

use tracing::debug;

use super::super::Channels;
use super::super::deliveries::Deliveries;
use super::super::replies::Reply;
use crate::protocol::wire::Message;

/// See the module.
pub(super) struct Line {
    channels: Channels,
    deliveries: Deliveries,
}

/// What came by it.
pub(super) enum Heard {
    /// A message; `None` once there will be none any more.
    Message(Option<Message>),
    /// The connection is there, perhaps a new one, or it is gone.
    Connection,
}

impl Line {
    /// A reply that is not acknowledged goes out again after `first_wait`.
    pub(super) fn new(channels: Channels, first_wait: Duration) -> Self {
        Self {
            channels,
            deliveries: Deliveries::new(first_wait),
        }
    }

    /// What comes next. Nothing is lost when this is cancelled.
    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            message = self.channels.jobs.recv() => Heard::Message(message),
            Ok(()) = self.channels.connections.changed() => Heard::Connection,
        }
    }

    /// Looks whether there is a connection.
    pub(super) fn handle_connection(&mut self, now: Instant) {
        let is_connected = *self.channels.connections.borrow_and_update();
        self.deliveries.handle_connection(is_connected, now);
    }

    /// Takes a reply, to be sent as soon as there is a connection.
    pub(super) fn handle_reply(&mut self, reply: Reply, now: Instant) {
        self.deliveries.handle_reply(reply, now);
    }

    /// The service has the reply with this id; returns it if it was waited for.
    pub(super) fn handle_acknowledgement(&mut self, id: &str, now: Instant) -> Option<Reply> {
        self.deliveries.handle_acknowledgement(id, now)
    }

    /// Gives up on replies that are too old, and returns them.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Reply> {
        self.deliveries.handle_timeout(now)
    }

    /// When [`Self::send_due`] has something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deliveries.poll_timeout()
    }

    /// Sends the replies that are due.
    pub(super) fn send_due(&mut self, now: Instant) {
        while let Some(message) = self.deliveries.poll_message(now) {
            self.send(message);
        }
    }

    /// Hands a message over. One that there is no room for is like one that got lost on the way.
    pub(super) fn send(&self, message: Message) {
        if let Err(error) = self.channels.answers.try_send(message) {
            debug!(%error, "no message is taken now");
        }
    }
}
