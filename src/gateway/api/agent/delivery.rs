//! The message delivery service, which agents poll until their control channel is up. The gateway
//! sends everything over the control channel, so a poll never brings anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::answer::{ApiError, read, reply};
use super::{denied, speaks_for_itself};

/// How long a poll is held unless the agent says otherwise, which it does (10 s).
const DEFAULT_HOLD: u64 = 10;
/// The longest a poll is held. Agents give up after 20 s or more.
const LONGEST_HOLD: u64 = 15;

/// GetMessages' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetMessages {
    destination: Option<String>,
    messages_request_id: Option<String>,
    visibility_timeout_in_seconds: Option<u64>,
}

/// GetMessages' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Messages {
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_request_id: Option<String>,
    messages: [(); 0],
}

#[derive(Debug, Serialize)]
struct Nothing {}

/// Runs `operation` for the node `node_id`.
///
/// # Errors
/// `AccessDeniedException` for another node's messages or an operation that does not exist.
pub(super) async fn call(
    state: &ApiState,
    operation: &str,
    node_id: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match operation {
        "GetMessages" => reply(&get_messages(state, node_id, read(body)?).await?),
        "AcknowledgeMessage" | "SendReply" | "FailMessage" | "DeleteMessage" | "GetEndpoint" => {
            reply(&Nothing {})
        }
        _ => Err(denied(node_id, "ec2messages", operation)),
    }
}

/// Holds the poll for the time the agent asks, or until the gateway stops: a quick answer would
/// make the agent ask again at once.
async fn get_messages(
    state: &ApiState,
    node_id: &str,
    request: GetMessages,
) -> Result<Messages, ApiError> {
    speaks_for_itself(node_id, request.destination.as_deref())?;
    let hold = request
        .visibility_timeout_in_seconds
        .unwrap_or(DEFAULT_HOLD);
    let hold = Duration::from_secs(hold.min(LONGEST_HOLD));
    // Both outcomes are the same empty answer.
    let _ = tokio::time::timeout(hold, state.cancel.cancelled()).await;
    Ok(Messages {
        destination: node_id.to_owned(),
        messages_request_id: request.messages_request_id,
        messages: [],
    })
}
