//! Commands of Run Command: what was sent, what became of it on each node, and what each step printed.
//!
//! An invocation is one command on one node. It ends once: what comes after its end adds steps and
//! changes no status.

mod read;
mod report;

use std::time::{Duration, SystemTime};

use rusqlite::params;

use super::timestamp::to_millis;
use super::{Store, StoreError};
use crate::protocol::wire::job::CommandId;

pub use read::{Before, CommandFilter, InvocationFilter};
pub use report::{Applied, Ended};

pub(super) const SCHEMA: &str = "
CREATE TABLE commands (
    command_id       TEXT PRIMARY KEY,
    owner            TEXT NOT NULL,
    document_name    TEXT NOT NULL,
    document_version TEXT NOT NULL,
    comment          TEXT NOT NULL,
    parameters       TEXT NOT NULL,
    node_ids         TEXT NOT NULL,
    targets          TEXT NOT NULL,
    max_concurrency  TEXT NOT NULL,
    max_errors       TEXT NOT NULL,
    s3_bucket        TEXT NOT NULL,
    s3_prefix        TEXT NOT NULL,
    s3_region        TEXT NOT NULL,
    log_group        TEXT NOT NULL,
    log_enabled      INTEGER NOT NULL,
    requested_ms     INTEGER NOT NULL,
    expires_ms       INTEGER NOT NULL,
    timeout_seconds  INTEGER NOT NULL,
    execution_ms     INTEGER NOT NULL,
    content          TEXT NOT NULL,
    cancelled        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX commands_by_request ON commands (requested_ms, command_id);
CREATE TABLE invocations (
    command_id   TEXT NOT NULL REFERENCES commands (command_id) ON DELETE CASCADE,
    node_id      TEXT NOT NULL,
    node_name    TEXT NOT NULL,
    status       TEXT NOT NULL,
    details      TEXT NOT NULL,
    trace        TEXT NOT NULL DEFAULT '',
    requested_ms INTEGER NOT NULL,
    delivered_ms INTEGER,
    end_ms       INTEGER,
    PRIMARY KEY (command_id, node_id)
) STRICT;
CREATE INDEX invocations_of_node ON invocations (node_id, requested_ms);
CREATE INDEX open_invocations ON invocations (command_id) WHERE end_ms IS NULL;
CREATE TABLE invocation_steps (
    command_id     TEXT NOT NULL,
    node_id        TEXT NOT NULL,
    step           TEXT NOT NULL,
    plugin         TEXT NOT NULL,
    status         TEXT NOT NULL,
    code           INTEGER NOT NULL,
    output         TEXT NOT NULL,
    stdout         TEXT NOT NULL,
    stderr         TEXT NOT NULL,
    started        TEXT NOT NULL,
    ended          TEXT NOT NULL,
    s3_bucket      TEXT NOT NULL,
    s3_prefix      TEXT NOT NULL,
    stream_name    TEXT NOT NULL,
    PRIMARY KEY (command_id, node_id, step),
    FOREIGN KEY (command_id, node_id) REFERENCES invocations (command_id, node_id) ON DELETE CASCADE
) STRICT;
";

/// How long commands are kept, as in AWS.
pub const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a command stands on one node. The service's two members, `Status` and `StatusDetails`, follow
/// from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InvocationStatus {
    /// It has not reached the node.
    Pending,
    /// The node has it.
    InProgress,
    /// It is to be cancelled, the node has not said that it was.
    Cancelling,
    /// It ended well.
    Success,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It did not reach the node in time.
    DeliveryTimedOut,
    /// It took too long.
    ExecutionTimedOut,
    /// The node did not take it.
    Undeliverable,
    /// It was not sent because too many others failed.
    Terminated,
}

impl InvocationStatus {
    const ALL: [Self; 10] = [
        Self::Pending,
        Self::InProgress,
        Self::Cancelling,
        Self::Success,
        Self::Failed,
        Self::Cancelled,
        Self::DeliveryTimedOut,
        Self::ExecutionTimedOut,
        Self::Undeliverable,
        Self::Terminated,
    ];

    /// `Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Cancelling => "Cancelling",
            Self::Success => "Success",
            Self::Failed | Self::Undeliverable => "Failed",
            Self::Cancelled | Self::Terminated => "Cancelled",
            Self::DeliveryTimedOut | Self::ExecutionTimedOut => "TimedOut",
        }
    }

    /// `StatusDetails`, which is different for each.
    pub fn details(self) -> &'static str {
        match self {
            Self::DeliveryTimedOut => "DeliveryTimedOut",
            Self::ExecutionTimedOut => "ExecutionTimedOut",
            Self::Undeliverable => "Undeliverable",
            Self::Terminated => "Terminated",
            Self::Pending
            | Self::InProgress
            | Self::Cancelling
            | Self::Success
            | Self::Failed
            | Self::Cancelled => self.as_str(),
        }
    }

    /// The status with these details.
    pub fn of_details(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.details() == text)
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress | Self::Cancelling)
    }

    /// Whether it counts towards `MaxErrors`. As in AWS, what did not reach its node does not.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut)
    }
}

/// A command as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRecord {
    /// A UUID.
    pub command_id: CommandId,
    /// Who sent it, an ARN.
    pub owner: String,
    /// The document.
    pub document_name: String,
    /// As the request named it; may be empty.
    pub document_version: String,
    /// For people.
    pub comment: String,
    /// Parameters as they came: JSON of names with lists of strings.
    pub parameters: String,
    /// The nodes that were named: JSON of a list.
    pub node_ids: String,
    /// The targets that were named: JSON of a list.
    pub targets: String,
    /// A number or a percentage.
    pub max_concurrency: String,
    /// A number or a percentage.
    pub max_errors: String,
    /// Bucket for its output; may be empty.
    pub s3_bucket: String,
    /// Start of its keys.
    pub s3_prefix: String,
    /// Region of the bucket as the request named it.
    pub s3_region: String,
    /// Log group for its output; may be empty.
    pub log_group: String,
    /// Whether its output goes to CloudWatch Logs.
    pub log_enabled: bool,
    /// When it was sent.
    pub requested: SystemTime,
    /// Until when it may reach its nodes.
    pub expires: SystemTime,
    /// `TimeoutSeconds`.
    pub timeout_seconds: i64,
    /// How long it may run on a node before it is taken for lost there.
    pub execution: Duration,
    /// What agents are told: JSON text.
    pub content: String,
    /// Somebody cancelled all of it.
    pub cancelled: bool,
}

/// A node that a command goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandNode {
    /// Its id.
    pub node_id: String,
    /// What people call it; may be empty.
    pub name: String,
}

/// What became of a command on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The command.
    pub command_id: CommandId,
    /// The node.
    pub node_id: String,
    /// What people call it; may be empty.
    pub node_name: String,
    /// How it stands.
    pub status: InvocationStatus,
    /// Why it could not be run at all.
    pub trace: String,
    /// When the command was sent.
    pub requested: SystemTime,
    /// When the node said that it has it.
    pub delivered: Option<SystemTime>,
    /// When it ended.
    pub end: Option<SystemTime>,
}

/// A step of a command on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationStep {
    /// Its name.
    pub step: String,
    /// Its plugin.
    pub plugin: String,
    /// The agent's word for how it stands.
    pub status: String,
    /// Its exit code.
    pub code: i64,
    /// Both streams in short.
    pub output: String,
    /// The start of what it printed.
    pub stdout: String,
    /// The start of its error output.
    pub stderr: String,
    /// When it began, as the agent wrote it.
    pub started: String,
    /// When it ended, as the agent wrote it.
    pub ended: String,
    /// Bucket with its whole output; may be empty.
    pub s3_bucket: String,
    /// Where in the bucket.
    pub s3_prefix: String,
    /// Name of the streams' folder there.
    pub stream_name: String,
}

/// A command with how many of its invocations stand how.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSummary {
    /// The command.
    pub command: CommandRecord,
    /// Its invocations by status.
    pub counts: Vec<(InvocationStatus, u64)>,
}

/// An invocation that is not over, for whoever delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenInvocation {
    /// The command.
    pub command_id: CommandId,
    /// The node.
    pub node_id: String,
    /// How it stands.
    pub status: InvocationStatus,
    /// When the node said that it has it.
    pub delivered: Option<SystemTime>,
}

impl Store {
    /// Keeps a command and what is to become of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_command(
        &self,
        command: CommandRecord,
        nodes: Vec<CommandNode>,
    ) -> Result<(), StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let requested_ms = to_millis(command.requested);
            transaction
                .prepare_cached(
                    "INSERT INTO commands (command_id, owner, document_name, document_version, comment,
                         parameters, node_ids, targets, max_concurrency, max_errors, s3_bucket, s3_prefix,
                         s3_region, log_group, log_enabled, requested_ms, expires_ms, timeout_seconds,
                         execution_ms, content)
                     VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)",
                )?
                .execute(params![
                    command.command_id.as_str(),
                    command.owner,
                    command.document_name,
                    command.document_version,
                    command.comment,
                    command.parameters,
                    command.node_ids,
                    command.targets,
                    command.max_concurrency,
                    command.max_errors,
                    command.s3_bucket,
                    command.s3_prefix,
                    command.s3_region,
                    command.log_group,
                    command.log_enabled,
                    requested_ms,
                    to_millis(command.expires),
                    command.timeout_seconds,
                    i64::try_from(command.execution.as_millis()).unwrap_or(i64::MAX),
                    command.content,
                ])?;
            let pending = InvocationStatus::Pending;
            for node in nodes {
                transaction
                    .prepare_cached(
                        "INSERT INTO invocations
                             (command_id, node_id, node_name, status, details, requested_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![
                        command.command_id.as_str(),
                        node.node_id,
                        node.name,
                        pending.as_str(),
                        pending.details(),
                        requested_ms,
                    ])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Notes how invocations stand that are not over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_invocations(
        &self,
        changes: Vec<(CommandId, String, InvocationStatus)>,
    ) -> Result<(), StoreError> {
        let now = to_millis(SystemTime::now());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            for (command_id, node_id, status) in changes {
                let end_ms = status.is_final().then_some(now);
                let delivered_ms = (status == InvocationStatus::InProgress).then_some(now);
                transaction
                    .prepare_cached(
                        "UPDATE invocations SET status = ?3, details = ?4, end_ms = ?5,
                             delivered_ms = coalesce(delivered_ms, ?6)
                         WHERE command_id = ?1 AND node_id = ?2 AND end_ms IS NULL",
                    )?
                    .execute(params![
                        command_id.as_str(),
                        node_id,
                        status.as_str(),
                        status.details(),
                        end_ms,
                        delivered_ms,
                    ])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Notes that somebody cancelled a command.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_cancelled(&self, command_id: &CommandId) -> Result<(), StoreError> {
        let command_id = command_id.clone();
        self.call(move |connection| {
            connection
                .prepare_cached("UPDATE commands SET cancelled = 1 WHERE command_id = ?1")?
                .execute([command_id.as_str()])
                .map(drop)
        })
        .await
    }

    /// Deletes commands that were sent longer ago than [`HISTORY`]; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_commands(&self, now: SystemTime) -> Result<usize, StoreError> {
        let before = to_millis(now.checked_sub(HISTORY).unwrap_or(SystemTime::UNIX_EPOCH));
        self.call(move |connection| {
            connection.execute("DELETE FROM commands WHERE requested_ms < ?1", [before])
        })
        .await
    }
}

#[cfg(test)]
mod tests;
