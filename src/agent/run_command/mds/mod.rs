//! The message delivery service (`ec2messages`): commands for a node without a control channel. To
//! [`super::Commands`] it looks like a control channel.
//!
//! ```text
//!  ec2messages <--GetMessages------------------------ Poller --agent_job-------------> Commands
//!              <--SendReply, AcknowledgeMessage------ Teller <--agent_job_ack, _reply--
//!                                                          \--agent_job_reply_ack---->
//! ```
//!
//! What of a command came by it goes back by it, also once it is not polled any more.

mod poller;
mod teller;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::poller::Poller;
use self::teller::Teller;
use super::Channels;
use crate::aws::Client;

/// Messages that may wait on either side.
const MESSAGES: usize = 256;

/// How long no poll follows an empty answer that came within a second, as in the reference; half of it is
/// random.
const PAUSE: Duration = Duration::from_millis(2500);

/// How the service is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The node.
    pub node_id: String,
    /// What a call may take, a poll too.
    pub timeout: Duration,
    /// Calls that tell something at one time.
    pub calls: usize,
}

/// What the rest of the agent knows.
#[derive(Debug, Clone)]
pub struct DeliveryWatches {
    /// Whether it is to be polled.
    pub polling: watch::Receiver<bool>,
    /// Whether the control channel is open.
    pub gateway: watch::Receiver<bool>,
}

/// Makes the channels of commands, and the task that the caller spawns. It runs until `cancel`.
pub fn open_delivery(
    settings: DeliverySettings,
    client: Client,
    watches: DeliveryWatches,
    cancel: CancellationToken,
) -> (Channels, impl Future<Output = ()> + Send + 'static) {
    open_with(settings, client, watches, PAUSE, cancel)
}

/// The same with another pause after a quick answer.
fn open_with(
    settings: DeliverySettings,
    client: Client,
    watches: DeliveryWatches,
    pause: Duration,
    cancel: CancellationToken,
) -> (Channels, impl Future<Output = ()> + Send + 'static) {
    let (jobs, taken) = mpsc::channel(MESSAGES);
    let (answers, answered) = mpsc::channel(MESSAGES);
    // Replies are calls: each finds out for itself whether the service can be reached.
    let (connected, connections) = watch::channel(true);
    let channels = Channels {
        jobs: taken,
        answers,
        connections,
    };
    let DeliveryWatches { polling, gateway } = watches;
    let poller = Poller {
        settings: settings.clone(),
        client: client.clone(),
        polling,
        gateway: gateway.clone(),
        jobs: jobs.clone(),
        connected,
        pause,
    };
    let teller = Teller {
        settings,
        client,
        gateway,
        jobs,
    };
    let task = async move {
        let both = async { tokio::join!(poller.run(), teller.run(answered)) };
        cancel.run_until_cancelled(both).await;
    };
    (channels, task)
}
