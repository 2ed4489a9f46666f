//! Run Command: documents that the service sends, run step by step and reported.
//!
//! ```text
//!  control channel --jobs--> Commands --spawns--> Runner, one per document --> steps
//!                  <-acks---    |  ^                |          |
//!                  <-replies----+  +---- Reply -----+       Journal (state on disk)
//!                                 Deliveries, kept on disk until acknowledged
//! ```
//!
//! A job is acknowledged once its command is on disk. From then on it ends in one final reply,
//! whatever happens to the agent or the host.

mod commands;
mod document;
mod journal;
mod output;
mod precondition;
mod replies;
mod report;
mod runner;
mod settings;
mod state;
mod steps;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::commands::Commands;
use super::audit::AuditLog;
use super::parameter_store::ParameterStore;
use crate::aws::Client;
use crate::protocol::wire::Message;
use crate::runtime::backoff::Backoff;

pub use self::settings::{Load, QUEUE, RETENTION, Refresh, START_LIMIT, Settings, WORKERS};

/// What commands have of the control channel.
#[derive(Debug)]
pub struct Channels {
    /// The messages that are for commands: jobs, and acknowledgements of replies.
    pub jobs: mpsc::Receiver<Message>,
    /// Takes messages for the gateway; those that come while there is no connection may be lost.
    pub answers: mpsc::Sender<Message>,
    /// Whether there is a connection; marked as changed with every new one.
    pub connections: watch::Receiver<bool>,
}

/// What commands have of the rest of the agent.
#[derive(Clone)]
pub struct Services {
    /// The way to Parameter Store, if there is one.
    pub parameters: Option<Arc<dyn ParameterStore>>,
    /// Signs the calls that bring output to S3 and CloudWatch Logs, if there is somebody.
    pub client: Option<Client>,
    /// Where it is noted what was run.
    pub audit: AuditLog,
}

/// Takes and runs commands until `cancel`; scripts that run then go on. Where the disk cannot be
/// used it is tried again and again.
pub async fn run(
    settings: Settings,
    mut channels: Channels,
    services: Services,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let commands = loop {
        match Commands::open(settings.clone(), channels, services.clone()).await {
            Ok(commands) => break commands,
            Err((error, unused)) => {
                error!(%error, folder = %settings.directory.display(), "no commands are taken, their folder cannot be used");
                channels = unused;
                let wait = tokio::time::sleep(backoff.next_wait());
                if cancel.run_until_cancelled(wait).await.is_none() {
                    return;
                }
            }
        }
    };
    commands.run(cancel).await;
}
