//! Nodes that poll for their jobs, and answer them one call each.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::super::hub::Hub;
use super::courier::Event;
use super::reports::{command_of, note_report};
use crate::gateway::store::StoreError;
use crate::protocol::wire::job::{Job, JobAnswer};

/// Why the broker does not take what a node says of a message.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It is not the node's.
    #[error("{0:?} is no message of this node")]
    NotYours(String),
    /// The store failed.
    #[error("the reply cannot be stored")]
    Store(#[from] StoreError),
}

/// Waits for jobs for a node, for as long as `hold`. A node with a control channel gets none here; should
/// it lose the channel meanwhile, it does.
pub(in crate::gateway::broker) async fn poll_jobs(
    hub: &Hub,
    node_id: &str,
    visibility: Duration,
    hold: Duration,
) -> Vec<Job> {
    let until = Instant::now() + hold;
    let mut control = hub.registry.watch(node_id);
    loop {
        if control.borrow_and_update().is_some() {
            hub.letterboxes.clear(node_id);
            tokio::select! {
                _ = control.changed() => continue,
                () = sleep_until(until) => return Vec::new(),
            }
        }
        let poll = hub.letterboxes.poll(node_id, Instant::now());
        if poll.is_new {
            info!(node = node_id, "node polls for commands");
            let event = Event::Connected(node_id.to_owned());
            hub.commands.tell(event).await;
        }
        tokio::select! {
            biased;
            // What waits here then goes there.
            _ = control.changed() => {}
            jobs = poll.jobs(visibility) => return jobs,
            () = sleep_until(until) => return Vec::new(),
        }
    }
}

/// The node answered a message so.
pub(in crate::gateway::broker) async fn answer(
    hub: &Hub,
    node_id: &str,
    message_id: &str,
    answer: JobAnswer,
) -> Result<(), DeliveryError> {
    let command = command_of(message_id, node_id)
        .ok_or_else(|| DeliveryError::NotYours(message_id.to_owned()))?;
    debug!(%command, answer = answer.text(), "message is answered");
    let event = Event::Answered {
        command,
        node: node_id.to_owned(),
        answer,
    };
    hub.commands.tell(event).await;
    Ok(())
}

/// The node replied to a message.
pub(in crate::gateway::broker) async fn take_reply(
    hub: &Hub,
    node_id: &str,
    message_id: &str,
    content: &str,
) -> Result<(), DeliveryError> {
    if command_of(message_id, node_id).is_none() {
        return Err(DeliveryError::NotYours(message_id.to_owned()));
    }
    Ok(note_report(hub, node_id, message_id, content).await?)
}
