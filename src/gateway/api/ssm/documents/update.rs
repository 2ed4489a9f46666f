//! UpdateDocument, UpdateDocumentDefaultVersion.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::required;
use super::create::{Described, VersionRequest, checked_name, new_version};
use super::description::Description;
use super::get::{number, selector};
use super::{built_in, refusal};
use crate::gateway::store::documents::VersionSelector;

/// UpdateDocument's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    document_version: Option<String>,
    #[serde(flatten)]
    version: VersionRequest,
}

/// Adds a version to a document. The default version stays what it is.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidDocumentOperation`, `InvalidDocumentVersion`,
/// `DuplicateDocumentContent`, `DuplicateDocumentVersionName`, `DocumentVersionLimitExceeded`,
/// `MaxDocumentSizeExceeded`, `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(in crate::gateway::api::ssm) async fn update(
    state: &ApiState,
    owner: &str,
    request: Request,
) -> Result<Described, ApiError> {
    let name = changeable_name(request.version.name.as_deref())?;
    // Only the newest version can be followed by another, so it is what no version means.
    let after = match request.document_version {
        None => VersionSelector::Latest,
        Some(version) => selector(Some(&version), None)?,
    };
    let refused = |error| refusal::refused(error, &name);
    let older = state.store.document(&name, after.clone()).await?;
    let older = older.map_err(refused)?;
    let kind = &older.document_type;
    let mut new = new_version(state, &name, kind, owner, request.version).await?;
    new.display_name = new.display_name.or(older.version.display_name);
    new.target_type = new.target_type.or(older.version.target_type);
    let now = SystemTime::now();
    let added = state
        .store
        .add_document_version(&name, after, new, now)
        .await?;
    let added = added.map_err(refused)?;
    info!(document = name, version = added.number, "document updated");
    Ok(Described {
        document_description: Description::new(added)?,
    })
}

/// UpdateDocumentDefaultVersion's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct DefaultRequest {
    name: Option<String>,
    document_version: Option<String>,
}

/// UpdateDocumentDefaultVersion's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct DefaultResult {
    description: DefaultVersion,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DefaultVersion {
    name: String,
    default_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_version_name: Option<String>,
}

/// Makes a version the default one.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidDocumentOperation`, `InvalidDocumentVersion`.
pub(in crate::gateway::api::ssm) async fn set_default_version(
    state: &ApiState,
    request: DefaultRequest,
) -> Result<DefaultResult, ApiError> {
    let name = changeable_name(request.name.as_deref())?;
    let version = required("documentVersion", request.document_version)?;
    let version = number(&version)?;
    let set = state
        .store
        .set_default_document_version(&name, version)
        .await?;
    let set = set.map_err(|error| refusal::refused(error, &name))?;
    info!(document = name, version, "default version set");
    Ok(DefaultResult {
        description: DefaultVersion {
            name,
            default_version: set.number.to_string(),
            default_version_name: set.version.version_name,
        },
    })
}

/// The name of a document that people made.
///
/// # Errors
/// `ValidationException`, `InvalidDocumentOperation`.
pub(super) fn changeable_name(name: Option<&str>) -> Result<String, ApiError> {
    let name = checked_name(name)?;
    match built_in::find(&name) {
        Some(_) => Err(refusal::built_in(&name)),
        None => Ok(name),
    }
}
