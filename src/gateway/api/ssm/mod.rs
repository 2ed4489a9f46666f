//! What people and their tools ask for: sessions, commands, nodes, activations, documents,
//! parameters.

mod activations;
mod commands;
pub(super) mod documents;
mod node_filter;
mod nodes;
pub(super) mod parameter_store;
mod parameters;
mod preferences;
mod sessions;
mod start_session;
mod tags;

use super::answer::{ApiError, read, reply};
use super::{ApiState, Arrival};

/// Who calls.
pub(super) struct Person {
    /// The person, an ARN.
    pub(super) arn: String,
    /// User on the hosts that the person's sessions run as; may be empty.
    pub(super) run_as: String,
    /// The listener that the call came over, if not the one with TLS.
    pub(super) arrival: Option<Arrival>,
}

/// Runs `operation` for `person`.
///
/// # Errors
/// Those of the operation, `UnknownOperationException` if there is none of that name.
pub(super) async fn call(
    state: &ApiState,
    operation: &str,
    person: &Person,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match operation {
        "StartSession" => reply(&start_session::start(state, person, read(body)?).await?),
        "ResumeSession" => reply(&sessions::resume(state, person, read(body)?).await?),
        "TerminateSession" => reply(&sessions::terminate(state, read(body)?).await?),
        "DescribeSessions" => reply(&sessions::describe(state, read(body)?).await?),
        "SendCommand" => reply(&commands::send(state, person, read(body)?).await?),
        "CancelCommand" => reply(&commands::cancel(state, person, read(body)?).await?),
        "ListCommands" => reply(&commands::list(state, read(body)?).await?),
        "ListCommandInvocations" => reply(&commands::list_invocations(state, read(body)?).await?),
        "GetCommandInvocation" => reply(&commands::get_invocation(state, read(body)?).await?),
        "PutParameter" => reply(&parameter_store::put(state, person, read(body)?).await?),
        "GetParameter" => reply(&parameter_store::get(state, read(body)?).await?),
        "GetParameters" => reply(&parameter_store::get_many(state, read(body)?).await?),
        "GetParametersByPath" => reply(&parameter_store::get_by_path(state, read(body)?).await?),
        "DescribeParameters" => reply(&parameter_store::describe(state, read(body)?).await?),
        "DeleteParameter" => reply(&parameter_store::delete(state, read(body)?).await?),
        "DeleteParameters" => reply(&parameter_store::delete_many(state, read(body)?).await?),
        "AddTagsToResource" => reply(&tags::add(state, read(body)?).await?),
        "RemoveTagsFromResource" => reply(&tags::remove(state, read(body)?).await?),
        "ListTagsForResource" => reply(&tags::list(state, read(body)?).await?),
        "GetConnectionStatus" => reply(&nodes::connection_status(state, read(body)?)?),
        "DescribeInstanceInformation" => reply(&nodes::describe(state, read(body)?).await?),
        "DeregisterManagedInstance" => reply(&nodes::deregister(state, read(body)?).await?),
        "CreateActivation" => reply(&activations::create(state, read(body)?).await?),
        "DescribeActivations" => reply(&activations::describe(state, read(body)?).await?),
        "DeleteActivation" => reply(&activations::delete(state, read(body)?).await?),
        "CreateDocument" => reply(&documents::create(state, &person.arn, read(body)?).await?),
        "UpdateDocument" => reply(&documents::update(state, &person.arn, read(body)?).await?),
        "UpdateDocumentDefaultVersion" => {
            reply(&documents::set_default_version(state, read(body)?).await?)
        }
        "GetDocument" => reply(&documents::get(state, read(body)?).await?),
        "DescribeDocument" => reply(&documents::describe(state, read(body)?).await?),
        "ListDocuments" => reply(&documents::list(state, read(body)?).await?),
        "ListDocumentVersions" => reply(&documents::list_versions(state, read(body)?).await?),
        "DeleteDocument" => reply(&documents::delete(state, read(body)?).await?),
        _ => Err(ApiError::new(
            "UnknownOperationException",
            format!("this gateway has no operation {operation}"),
        )),
    }
}
