//! What an agent reports of a command.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Transaction, params};

use super::super::timestamp::to_millis;
use super::super::{Store, StoreError};
use super::InvocationStatus;
use crate::protocol::wire::command::{Report, Status, StepReport};
use crate::protocol::wire::job::CommandId;

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Nobody here sent this command to this node.
    Unknown,
    /// It was noted.
    Noted,
    /// With it the invocation ended.
    Ended(Ended),
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The status.
    pub status: InvocationStatus,
}

impl Store {
    /// Takes a report of the node `node_id`: merges its steps, and ends the invocation if it says so.
    /// The same report twice is the same as once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apply_report(
        &self,
        command_id: &CommandId,
        node_id: &str,
        report: Report,
    ) -> Result<Applied, StoreError> {
        let (command_id, node_id) = (command_id.clone(), node_id.to_owned());
        let now = to_millis(SystemTime::now());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let details: Option<String> = transaction
                .prepare_cached(
                    "SELECT details FROM invocations WHERE command_id = ?1 AND node_id = ?2",
                )?
                .query_row(params![command_id.as_str(), node_id], |row| row.get(0))
                .optional()?;
            let Some(details) = details else {
                return Ok(Applied::Unknown);
            };
            for (name, step) in report.runtime_status.iter().flatten() {
                upsert_step(&transaction, &command_id, &node_id, name, step)?;
            }
            let before = InvocationStatus::of_details(&details);
            let is_over = before.is_some_and(InvocationStatus::is_final);
            let status = status_of(&report.document_status);
            let applied = match status {
                _ if is_over => Applied::Noted,
                Some(status) => {
                    end(
                        &transaction,
                        &command_id,
                        &node_id,
                        status,
                        &report.document_trace_output,
                        now,
                    )?;
                    Applied::Ended(Ended { status })
                }
                None => {
                    begin(&transaction, &command_id, &node_id, now)?;
                    Applied::Noted
                }
            };
            transaction.commit()?;
            Ok(applied)
        })
        .await
    }
}

/// The final status that an agent's word stands for. A reboot that is due is none.
fn status_of(document: &Status) -> Option<InvocationStatus> {
    match document {
        Status::Success | Status::Skipped => Some(InvocationStatus::Success),
        Status::Failed => Some(InvocationStatus::Failed),
        Status::Cancelled => Some(InvocationStatus::Cancelled),
        Status::TimedOut => Some(InvocationStatus::ExecutionTimedOut),
        Status::NotStarted
        | Status::InProgress
        | Status::SuccessAndReboot
        | Status::PassedAndReboot
        | Status::Unknown(_) => None,
    }
}

fn end(
    transaction: &Transaction<'_>,
    command_id: &CommandId,
    node_id: &str,
    status: InvocationStatus,
    trace: &str,
    now: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE invocations SET status = ?3, details = ?4, trace = ?5, end_ms = ?6,
                 delivered_ms = coalesce(delivered_ms, ?6)
             WHERE command_id = ?1 AND node_id = ?2",
        )?
        .execute(params![
            command_id.as_str(),
            node_id,
            status.as_str(),
            status.details(),
            trace,
            now,
        ])
        .map(drop)
}

/// The node has it. One that is to be cancelled stays so.
fn begin(
    transaction: &Transaction<'_>,
    command_id: &CommandId,
    node_id: &str,
    now: i64,
) -> rusqlite::Result<()> {
    let (from, to) = (InvocationStatus::Pending, InvocationStatus::InProgress);
    transaction
        .prepare_cached(
            "UPDATE invocations SET delivered_ms = coalesce(delivered_ms, ?3),
                 status = CASE WHEN details = ?4 THEN ?5 ELSE status END,
                 details = CASE WHEN details = ?4 THEN ?5 ELSE details END
             WHERE command_id = ?1 AND node_id = ?2",
        )?
        .execute(params![
            command_id.as_str(),
            node_id,
            now,
            from.details(),
            to.details()
        ])
        .map(drop)
}

/// A step that was reported as over stays so, whatever a reply that was overtaken says: the agent
/// repeats one that found no acknowledgement for hours, also that a reboot was due.
fn upsert_step(
    transaction: &Transaction<'_>,
    command_id: &CommandId,
    node_id: &str,
    name: &str,
    step: &StepReport,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO invocation_steps (command_id, node_id, step, plugin, status, code, output,
                 stdout, stderr, started, ended, s3_bucket, s3_prefix, stream_name)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)
             ON CONFLICT (command_id, node_id, step) DO UPDATE SET
                 plugin = excluded.plugin, status = excluded.status, code = excluded.code,
                 output = excluded.output, stdout = excluded.stdout, stderr = excluded.stderr,
                 started = excluded.started, ended = excluded.ended, s3_bucket = excluded.s3_bucket,
                 s3_prefix = excluded.s3_prefix, stream_name = excluded.stream_name
             WHERE ?15 OR status NOT IN ('Success', 'Failed', 'Cancelled', 'TimedOut', 'Skipped')",
        )?
        .execute(params![
            command_id.as_str(),
            node_id,
            name,
            step.name,
            step.status.as_str(),
            step.code,
            step.output,
            step.standard_output,
            step.standard_error,
            step.start_date_time,
            step.end_date_time,
            step.output_s3_bucket_name,
            step.output_s3_key_prefix,
            step.step_name,
            step.status.is_final(),
        ])
        .map(drop)
}
