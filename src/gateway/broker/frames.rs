//! The messages that the broker makes itself, encoded.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::protocol::wire::control::{ChannelClosed, StartSession};
use crate::protocol::wire::job::{Job, JobReplyAck};
use crate::protocol::wire::task::{TASK_COMPLETE_TOPIC, TaskAcknowledge};
use crate::protocol::wire::{Message, MessageId, MessageType, SessionId};

/// `interactive_shell`.
pub(super) fn start(start: &StartSession) -> Bytes {
    frame(MessageType::InteractiveShell, start.encode().into())
}

/// `start_publication`: a client with these features is there.
pub(super) fn start_publication(features: &str) -> Bytes {
    let features = Bytes::copy_from_slice(features.as_bytes());
    frame(MessageType::StartPublication, features)
}

/// `pause_publication`: nobody takes output for now.
pub(super) fn pause_publication() -> Bytes {
    frame(MessageType::PausePublication, Bytes::new())
}

/// `channel_closed`. Agents know neither `output` nor `exit_code`.
pub(super) fn channel_closed(
    session: &SessionId,
    node_id: &str,
    output: &str,
    exit_code: Option<i32>,
) -> Bytes {
    let closed = ChannelClosed {
        message_type: MessageType::ChannelClosed.as_str().into(),
        message_id: Uuid::new_v4().to_string(),
        destination_id: node_id.into(),
        session_id: session.as_str().into(),
        schema_version: 1,
        created_date: jiff::Timestamp::now().to_string(),
        output: output.into(),
        exit_code,
    };
    frame(MessageType::ChannelClosed, closed.encode())
}

/// `agent_task_acknowledge` for the completion message `id`.
pub(super) fn task_acknowledge(id: MessageId, session: &str) -> Bytes {
    let acknowledge = TaskAcknowledge {
        schema_version: 1,
        message_id: id.to_string(),
        task_id: session.into(),
        topic: TASK_COMPLETE_TOPIC.into(),
    };
    frame(MessageType::AgentTaskAcknowledge, acknowledge.encode())
}

/// `agent_job`.
pub(super) fn job(job: &Job) -> Bytes {
    frame(MessageType::AgentJob, job.encode())
}

/// `agent_job_reply_ack` for the reply message `id`.
pub(super) fn job_reply_ack(id: MessageId, job_id: &str) -> Bytes {
    let ack = JobReplyAck {
        job_id: job_id.to_owned(),
        acknowledged_message_id: id.to_string(),
    };
    frame(MessageType::AgentJobReplyAck, ack.encode())
}

fn frame(message_type: MessageType, payload: Bytes) -> Bytes {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let created_ms = since.map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1));
    // Zero is invalid on the wire.
    let created_ms = created_ms.max(1);
    let id = MessageId::from(Uuid::new_v4());
    Message::of_control_channel(message_type, id, created_ms, payload).encode()
}
