//! Run Command: documents that the service sends, run step by step and reported.
//!
//! ```text
//!  control channel --jobs--> Commands --spawns--> Runner, one per document --> steps
//!  or mds          <-acks---    |  ^                |          |
//!                  <-replies----+  +---- Reply -----+       Journal (state on disk)
//!  localcommands ------------>  |
//!                              Deliveries of replies, kept on disk until acknowledged
//! ```
//!
//! There are three ways by which a command comes, and what is told of it goes back by its own: the control
//! channel, polls of the message delivery service (`mds`), and files that somebody on this host left.
//! Whichever way it comes, a command is taken once.
//!
//! A job is acknowledged once its command is on disk. From then on it ends in one final reply,
//! whatever happens to the agent or the host.

mod commands;
mod deliveries;
mod document;
mod execution;
mod journal;
mod local;
mod mds;
mod output;
mod precondition;
mod replies;
mod report;
mod route;
mod runner;
mod settings;
mod state;
mod steps;
mod validators;
mod worker;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::commands::Commands;
use super::audit::AuditLog;
use super::parameter_store::ParameterStore;
use crate::aws::Client;
use crate::protocol::wire::Message;
use crate::runtime::backoff::Backoff;

pub use self::mds::{DeliverySettings, DeliveryWatches, open_delivery};
pub use self::settings::{
    FolderCleanUp, Load, OutputCleanUp, QUEUE, RETENTION, Refresh, START_LIMIT, Settings, WORKERS,
};

/// What commands have of a way to the service.
#[derive(Debug)]
pub struct Channels {
    /// The messages that are for commands: jobs, and acknowledgements of replies.
    pub jobs: mpsc::Receiver<Message>,
    /// Takes messages for the service; those that come while there is no connection may be lost.
    pub answers: mpsc::Sender<Message>,
    /// Whether there is a connection; marked as changed with every new one.
    pub connections: watch::Receiver<bool>,
}

/// Where commands come from.
#[derive(Debug)]
pub struct Sources {
    /// The control channel.
    pub gateway: Channels,
    /// The message delivery service, if it is used.
    pub delivery: Option<Channels>,
    /// Says that somebody on this host has left a command.
    pub local: Arc<Notify>,
}

/// What commands have of the rest of the agent.
#[derive(Clone)]
pub struct Services {
    /// The way to Parameter Store, if there is one.
    pub parameters: Option<Arc<dyn ParameterStore>>,
    /// Makes the calls that get content and bring output to S3 and CloudWatch Logs, if there is
    /// somebody.
    pub client: Option<Client>,
    /// Where it is noted what was run.
    pub audit: AuditLog,
}

/// Takes and runs commands until `cancel`; scripts that run then go on. Where the disk cannot be
/// used it is tried again and again.
pub async fn run(
    settings: Settings,
    mut sources: Sources,
    services: Services,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let commands = loop {
        match Commands::open(settings.clone(), sources, services.clone()).await {
            Ok(commands) => break commands,
            Err((error, unused)) => {
                error!(%error, folder = %settings.directory.display(), "no commands are taken, their folder cannot be used");
                sources = unused;
                let wait = tokio::time::sleep(backoff.next_wait());
                if cancel.run_until_cancelled(wait).await.is_none() {
                    return;
                }
            }
        }
    };
    commands.run(cancel).await;
}
