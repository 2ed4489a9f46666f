//! The message delivery service, which nodes poll for commands as long as they have no control channel.
//! A node speaks for itself only.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::ApiState;
use super::agent::{denied, speaks_for_itself};
use super::answer::{ApiError, read, reply};
use crate::gateway::broker::DeliveryError;
use crate::protocol::wire::job::{Job, iso_8601};
use crate::protocol::wire::mds::{
    Endpoint, FailMessage, GetEndpoint, GetMessages, Mail, MessageName, Messages, ReplyTaken,
    SendReply, VISIBILITY_SECONDS,
};

/// How long a poll is held. The reference's agents wait between 10 s and 1000 s for an answer, as they
/// are configured, and take one that comes within a second for a reason to pause.
const HOLD: Duration = Duration::from_secs(9);
/// The longest that a message may be withheld from the next poll.
const VISIBILITY_LIMIT: u64 = 12 * 3600;

#[derive(Debug, Serialize)]
struct Nothing {}

/// Runs `operation` for the node `node_id`.
///
/// # Errors
/// `AccessDeniedException` for another node's messages or an operation that does not exist,
/// `InvalidMessageIdException` for a message that is not the node's, `InternalServerException` if a
/// reply cannot be stored.
pub(super) async fn call(
    state: &ApiState,
    operation: &str,
    node_id: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match operation {
        "GetMessages" => reply(&get_messages(state, node_id, read(body)?).await?),
        "AcknowledgeMessage" | "DeleteMessage" => {
            let MessageName { message_id } = read(body)?;
            let acknowledged = state.broker.acknowledge_message(node_id, &message_id);
            acknowledged.await.map_err(refusal)?;
            reply(&Nothing {})
        }
        "FailMessage" => {
            let FailMessage { message_id, .. } = read(body)?;
            let failed = state.broker.fail_message(node_id, &message_id);
            failed.await.map_err(refusal)?;
            reply(&Nothing {})
        }
        "SendReply" => {
            let said: SendReply = read(body)?;
            let taken = state
                .broker
                .take_reply(node_id, &said.message_id, &said.payload);
            taken.await.map_err(refusal)?;
            reply(&ReplyTaken {
                description: String::new(),
                message_id: said.message_id,
                reply_id: said.reply_id,
                reply_status: "Acknowledged".into(),
            })
        }
        "GetEndpoint" => {
            let GetEndpoint { destination } = read(body)?;
            speaks_for_itself(node_id, destination.as_deref())?;
            let endpoint = state.broker.endpoint();
            reply(&Endpoint { endpoint })
        }
        _ => Err(denied(node_id, "ec2messages", operation)),
    }
}

/// Holds the poll until there is something for the node: a quick answer would make the agent ask again
/// at once.
async fn get_messages(
    state: &ApiState,
    node_id: &str,
    request: GetMessages,
) -> Result<Messages, ApiError> {
    speaks_for_itself(node_id, request.destination.as_deref())?;
    let visibility = request
        .visibility_timeout_in_seconds
        .unwrap_or(VISIBILITY_SECONDS);
    let visibility = Duration::from_secs(visibility.min(VISIBILITY_LIMIT));
    let polling = state.broker.poll_jobs(node_id, visibility, HOLD);
    // A poll that the gateway's end cuts short brings nothing.
    let jobs = state.cancel.run_until_cancelled(polling).await;
    let jobs = jobs.unwrap_or_default();
    Ok(Messages {
        destination: node_id.to_owned(),
        messages_request_id: request.messages_request_id.unwrap_or_default(),
        messages: jobs.into_iter().map(|job| mail(node_id, job)).collect(),
    })
}

fn mail(node_id: &str, job: Job) -> Mail {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    Mail {
        created_date: iso_8601(now_ms),
        destination: node_id.to_owned(),
        message_id: job.job_id,
        payload: job.content,
        topic: job.topic,
    }
}

fn refusal(error: DeliveryError) -> ApiError {
    match error {
        DeliveryError::NotYours(_) => ApiError::new("InvalidMessageIdException", error.to_string()),
        DeliveryError::Store(error) => ApiError::internal(&error),
    }
}
