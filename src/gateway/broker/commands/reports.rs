//! What nodes say of commands.

use bytes::Bytes;
use tracing::{debug, info, warn};

use super::super::frames;
use super::super::hub::Hub;
use super::courier::Event;
use crate::gateway::store::StoreError;
use crate::gateway::store::commands::Applied;
use crate::protocol::wire::command::Report;
use crate::protocol::wire::job::{CommandId, JobAck, JobReply};
use crate::protocol::wire::{DecodeError, Message};

/// Takes a node's answer to a job.
pub(in crate::gateway::broker) async fn handle_ack(
    hub: &Hub,
    node_id: &str,
    message: &Message,
) -> Result<(), DecodeError> {
    let ack = JobAck::decode(&message.payload)?;
    let answer = ack.answer();
    let Some(command) = command_of(&ack.job_id, node_id) else {
        return Ok(());
    };
    debug!(%command, answer = answer.text(), "job is answered");
    let event = Event::Answered {
        command,
        node: node_id.to_owned(),
        answer,
    };
    hub.commands.tell(event).await;
    Ok(())
}

/// Takes a node's report and returns its acknowledgement: once the report is in the store, or if
/// nobody here asked for it. Without one the agent keeps the report on its disk and repeats it.
pub(in crate::gateway::broker) async fn handle_reply(
    hub: &Hub,
    node_id: &str,
    message: &Message,
) -> Result<Option<Bytes>, DecodeError> {
    let reply = JobReply::decode(&message.payload)?;
    let noted = note_report(hub, node_id, &reply.job_id, &reply.content).await;
    Ok(match noted {
        Ok(()) => Some(frames::job_reply_ack(message.id, &reply.job_id)),
        Err(error) => {
            warn!(job = reply.job_id, %error, "a report cannot be stored, the node will repeat it");
            None
        }
    })
}

/// Notes what a node reports of a job. What is not understood, or was not asked for here, is dropped.
///
/// # Errors
/// [`StoreError`]: the node has to report again.
pub(super) async fn note_report(
    hub: &Hub,
    node_id: &str,
    job_id: &str,
    content: &str,
) -> Result<(), StoreError> {
    let report = match Report::decode(content) {
        Ok(report) => report,
        Err(error) => {
            warn!(job = job_id, %error, "a report of a command is not understood");
            return Ok(());
        }
    };
    let Some(command) = command_of(job_id, node_id) else {
        warn!(job = job_id, "a report of a job that was not the node's");
        return Ok(());
    };
    let ended = match hub.store.apply_report(&command, node_id, report).await? {
        // Cancellations are commands of their own, of which nothing is kept.
        Applied::Unknown => return Ok(()),
        Applied::Noted => None,
        Applied::Ended(ended) => {
            info!(%command, status = ended.status.details(), "command ended");
            Some(ended.status)
        }
    };
    let event = Event::Reported {
        command,
        node: node_id.to_owned(),
        ended,
    };
    hub.commands.tell(event).await;
    Ok(())
}

/// The command of a job that is this node's.
pub(super) fn command_of(job_id: &str, node_id: &str) -> Option<CommandId> {
    let command = CommandId::of_job(job_id).ok()?;
    (command.job_on(node_id) == job_id).then_some(command)
}
