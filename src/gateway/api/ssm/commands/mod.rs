//! Run Command: SendCommand, CancelCommand, ListCommands, ListCommandInvocations,
//! GetCommandInvocation.

mod cancel;
mod get;
mod list;
mod list_invocations;
mod parameters;
mod send;
mod steps;
mod summary;
mod targets;

pub(super) use cancel::cancel;
pub(super) use get::get_invocation;
pub(super) use list::list;
pub(super) use list_invocations::list_invocations;
pub(super) use send::send;

use super::super::answer::ApiError;
use super::super::validation::{length, required};
use crate::protocol::wire::job::CommandId;

/// Checks the id of a command: a UUID by the model.
fn command_id(given: Option<String>) -> Result<CommandId, ApiError> {
    let id = required("commandId", given)?;
    length("commandId", &id, 36..=36)?;
    CommandId::new(id)
        .map_err(|_| ApiError::new("InvalidCommandId", "The specified command ID isn't valid."))
}

fn unknown_command() -> ApiError {
    ApiError::new(
        "InvalidCommandId",
        "The specified command ID isn't valid. Verify the ID and try again.",
    )
}
