//! DeleteDocument.

use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::get::selector;
use super::refusal;
use super::update::changeable_name;

/// DeleteDocument's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    name: Option<String>,
    document_version: Option<String>,
    version_name: Option<String>,
}

/// DeleteDocument's result.
#[derive(Debug, Serialize)]
pub(in crate::gateway::api::ssm) struct Deleted {}

/// Deletes a document, or one version of it. Sessions that were started with it go on.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidDocumentVersion`, `InvalidDocumentOperation`.
pub(in crate::gateway::api::ssm) async fn delete(
    state: &ApiState,
    request: Request,
) -> Result<Deleted, ApiError> {
    let name = changeable_name(request.name.as_deref())?;
    let (version, version_name) = (request.document_version, request.version_name);
    let deleted = if version.is_none() && version_name.is_none() {
        state.store.delete_document(&name).await?
    } else {
        let selector = selector(version.as_deref(), version_name.as_deref())?;
        state.store.delete_document_version(&name, selector).await?
    };
    deleted.map_err(|error| refusal::refused(error, &name))?;
    info!(document = name, version, version_name, "document deleted");
    Ok(Deleted {})
}
