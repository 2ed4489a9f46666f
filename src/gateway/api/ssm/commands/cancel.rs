//! CancelCommand.

use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::Person;
use super::{command_id, unknown_command};

/// CancelCommand's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    command_id: Option<String>,
    instance_ids: Option<Vec<String>>,
}

/// CancelCommand's result.
#[derive(Debug, Serialize)]
pub(in crate::gateway::api::ssm) struct Cancelled {}

/// Cancels a command, on all its nodes or on some.
///
/// # Errors
/// `InvalidCommandId`, `InvalidInstanceId`.
pub(in crate::gateway::api::ssm) async fn cancel(
    state: &ApiState,
    person: &Person,
    request: Request,
) -> Result<Cancelled, ApiError> {
    let id = command_id(request.command_id)?;
    if state.store.command(&id).await?.is_none() {
        return Err(unknown_command());
    }
    let nodes = request.instance_ids.filter(|nodes| !nodes.is_empty());
    for node in nodes.iter().flatten() {
        if state.store.invocation(&id, node).await?.is_none() {
            let text = format!("The command was not sent to {node}.");
            return Err(ApiError::new("InvalidInstanceId", text));
        }
    }
    info!(command = %id, by = person.arn, "command is cancelled");
    state.broker.cancel_command(&id, nodes).await?;
    Ok(Cancelled {})
}
