//! The running agent: identity, control channel, sessions and health, joined.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::config::Settings;
use super::control::{self, DataChannels, Instruction, Outbox};
use super::health;
use super::identity::{self, Identity};
use super::session::{self, DataChannelSource, Outcome, Supervisor};
use super::transcript::Transcript;
use crate::aws;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::task::TaskComplete;
use crate::runtime::lifecycle;

/// Outcomes that may wait for the control channel's outbox; one per session ending at once.
const OUTCOME_QUEUE: usize = 64;
/// How long open sessions get to say good-bye when the agent stops.
const SESSION_SHUTDOWN: Duration = Duration::from_secs(5);

