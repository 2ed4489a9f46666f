//! The results of sessions, taken in whether there is a connection or not: [`Deliveries`] with a clock
//! and a log.

use std::future::Future;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::outbox::Deliveries;
use crate::protocol::wire::task::TaskComplete;
use crate::protocol::wire::{Message, MessageId, PeerFeatures};
use crate::runtime::clock::unix_ms;

/// Results that the gateway has not taken.
pub struct Results {
    incoming: mpsc::Receiver<TaskComplete>,
    deliveries: Deliveries,
}

impl Results {
    /// Nothing yet; more comes from `incoming`.
    pub fn new(incoming: mpsc::Receiver<TaskComplete>) -> Self {
        Self {
            incoming,
            deliveries: Deliveries::default(),
        }
    }

    /// The next result that a session hands over.
    pub async fn next(&mut self) -> TaskComplete {
        match self.incoming.recv().await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// There is a new connection: everything goes out again at once.
    pub fn handle_connected(&mut self) {
        self.deliveries.handle_connected(now());
    }

    /// The gateway has taken the message with this id; returns whether it was still waited for.
    pub fn handle_acknowledgement(&mut self, message_id: &str) -> bool {
        self.deliveries.handle_acknowledgement(message_id)
    }

    /// The next message that is due, for a gateway with these features.
    pub fn poll_message(&mut self, gateway: PeerFeatures) -> Option<Message> {
        self.deliveries.poll_message(gateway, now())
    }

    /// When there is something to send again or to give up.
    pub fn due(&self) -> Option<Instant> {
        self.deliveries.poll_timeout().map(Instant::from_std)
    }

    /// Awaits `work`, taking in results meanwhile; None if cancelled.
    pub async fn collect_until<T>(
        &mut self,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                result = self.next() => self.keep(result),
                () = cancel.cancelled() => return None,
            }
        }
    }

    /// Takes a result, to be sent at once.
    pub fn keep(&mut self, result: TaskComplete) {
        let id = MessageId::from(Uuid::new_v4());
        let dropped = self.deliveries.handle_result(result, id, unix_ms(), now());
        if let Some(dropped) = dropped {
            let session = dropped.task_id;
            warn!(
                session,
                "result of the session is lost, too many wait for the gateway"
            );
        }
    }

    /// Drops what the gateway will never acknowledge.
    pub fn give_up_hopeless(&mut self) {
        for result in self.deliveries.handle_timeout(now()) {
            let session = result.task_id;
            warn!(
                session,
                "result of the session is lost, the gateway does not acknowledge it"
            );
        }
    }

    /// How many results the gateway has not taken.
    pub fn len(&self) -> usize {
        self.deliveries.len() + self.incoming.len()
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
