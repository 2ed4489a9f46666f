//! What agents ask for: registration, credentials, reports, and what the gateway has nothing for yet.
//!
//! A node speaks for itself only: wherever a request names a node, it must be the one that signed.

mod empty;
mod packages;
mod registration;
mod report;

use super::ApiState;
use super::answer::{ApiError, read, reply};
use super::ssm::{documents, parameter_store};

pub(super) use registration::{register, replace_key, role_token};

/// Runs `operation` of the Systems Manager service for the node `node_id`.
///
/// # Errors
/// Those of the operation, `AccessDeniedException` if it is none for nodes.
pub(super) async fn call(
    state: &ApiState,
    operation: &str,
    node_id: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match operation {
        "UpdateInstanceInformation" => reply(&report::update(state, node_id, read(body)?).await?),
        "GetParameters" => reply(&parameter_store::get_many(state, read(body)?).await?),
        "GetParameter" => reply(&parameter_store::get(state, read(body)?).await?),
        "GetDocument" => reply(&documents::get(state, read(body)?).await?),
        "DescribeDocument" => reply(&documents::describe(state, read(body)?).await?),
        "PutConfigurePackageResult" => reply(&packages::note_result(node_id, &read(body)?)),
        _ => match empty::answer(operation, node_id, &read(body)?)? {
            Some(answer) => reply(&answer),
            None => Err(denied(node_id, "ssm", operation)),
        },
    }
}

/// Checks that a request of `node_id` that names the node `named` speaks for itself. One that
/// names none does.
///
/// # Errors
/// `AccessDeniedException`.
pub(super) fn speaks_for_itself(node_id: &str, named: Option<&str>) -> Result<(), ApiError> {
    match named {
        Some(named) if named != node_id => Err(ApiError::access_denied(format!(
            "{node_id} is not authorized to speak for {named}"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The error for an operation that is none for nodes.
pub(super) fn denied(node_id: &str, service: &str, operation: &str) -> ApiError {
    ApiError::access_denied(format!(
        "node {node_id} is not authorized to perform: {service}:{operation}"
    ))
}
