//! CreateDocument.

use std::sync::LazyLock;
use std::time::SystemTime;

use aws_lc_rs::digest;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::signature::hex;
use super::super::super::validation::{length, matches, pattern, required};
use super::attach::{AttachmentsSource, attach};
use super::content::Format;
use super::description::Description;
use super::{COMMAND, PACKAGE, built_in, refusal, schema};
use crate::gateway::store::activations::Tag;
use crate::gateway::store::documents::{DocumentRefused, NewDocument, NewVersion};

/// Names of documents that can be made.
static NAME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9_\-.]{3,128}$"));
static VERSION_NAME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9_\-.]{1,128}$"));
static DISPLAY_NAME: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\w.\-:/ ]*$"));
static TARGET_TYPE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^/[\w.\-:/]*$"));
/// Beginnings of names that AWS keeps for itself, in any case of letters.
const RESERVED: [&str; 3] = ["aws", "amazon", "amzn"];
/// Tags of one document, by the model.
const TAGS: usize = 1000;

/// CreateDocument's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    document_type: Option<String>,
    tags: Option<Vec<Tag>>,
    #[serde(default)]
    requires: Vec<Value>,
    #[serde(flatten)]
    version: VersionRequest,
}

/// What CreateDocument and UpdateDocument say of a version.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionRequest {
    pub(super) name: Option<String>,
    content: Option<String>,
    display_name: Option<String>,
    version_name: Option<String>,
    document_format: Option<String>,
    target_type: Option<String>,
    #[serde(default)]
    attachments: Vec<AttachmentsSource>,
}

/// CreateDocument's and UpdateDocument's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Described {
    pub(super) document_description: Description,
}

/// Makes a document.
///
/// # Errors
/// `ValidationException`, `DocumentAlreadyExists`, `DocumentLimitExceeded`,
/// `MaxDocumentSizeExceeded`, `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(in crate::gateway::api::ssm) async fn create(
    state: &ApiState,
    owner: &str,
    request: Request,
) -> Result<Described, ApiError> {
    let name = checked_name(request.version.name.as_deref())?;
    if built_in::find(&name).is_some() {
        return Err(refusal::refused(DocumentRefused::Exists, &name));
    }
    if is_reserved(&name) {
        let text = format!("Document name {name} begins with a word that is reserved for AWS.");
        return Err(ApiError::validation(text));
    }
    let document_type = request.document_type.unwrap_or_else(|| COMMAND.into());
    schema::check_type(&name, &document_type)?;
    if !request.requires.is_empty() {
        let text = "Documents that require others are not supported.";
        return Err(ApiError::validation(text));
    }
    let new = NewDocument {
        version: new_version(state, &name, &document_type, owner, request.version).await?,
        tags: checked_tags(request.tags.unwrap_or_default())?,
        document_type,
        name,
    };
    let name = new.name.clone();
    let made = state.store.create_document(new, SystemTime::now()).await?;
    let made = made.map_err(|error| refusal::refused(error, &name))?;
    info!(document = name, "document created");
    Ok(Described {
        document_description: Description::new(made)?,
    })
}

/// A name that a document can have.
///
/// # Errors
/// `ValidationException`.
pub(super) fn checked_name(name: Option<&str>) -> Result<String, ApiError> {
    let name = required("name", name)?;
    matches("name", name, &NAME)?;
    Ok(name.to_owned())
}

/// The name of a version, if there is one.
///
/// # Errors
/// `ValidationException`.
pub(super) fn checked_version_name(name: Option<&str>) -> Result<(), ApiError> {
    name.map_or(Ok(()), |name| matches("versionName", name, &VERSION_NAME))
}

/// Checks what a version is made of.
///
/// # Errors
/// `ValidationException`, `MaxDocumentSizeExceeded`, `InvalidDocumentContent`,
/// `InvalidDocumentSchemaVersion`.
pub(super) async fn new_version(
    state: &ApiState,
    name: &str,
    document_type: &str,
    author: &str,
    request: VersionRequest,
) -> Result<NewVersion, ApiError> {
    let content = required("content", request.content)?;
    length("content", &content, 1..=usize::MAX)?;
    checked_version_name(request.version_name.as_deref())?;
    if let Some(name) = &request.display_name {
        length("displayName", name, 0..=1024)?;
        matches("displayName", name, &DISPLAY_NAME)?;
    }
    if let Some(target) = &request.target_type {
        length("targetType", target, 0..=200)?;
        matches("targetType", target, &TARGET_TYPE)?;
    }
    let is_package = document_type == PACKAGE;
    if !is_package && !request.attachments.is_empty() {
        let text = format!("Documents of type {document_type} with attachments are not supported.");
        return Err(ApiError::validation(text));
    }
    let format = Format::parse(request.document_format.as_deref())?;
    let parsed = format.read(&content)?;
    let outline = schema::check(name, document_type, &parsed)?;
    let attachments = if is_package {
        attach(state, &parsed, request.attachments).await?
    } else {
        Vec::new()
    };
    Ok(NewVersion {
        version_name: request.version_name,
        display_name: request.display_name,
        target_type: request.target_type,
        format: format.as_str().into(),
        schema_version: outline.schema_version,
        platforms: outline.platforms,
        description: outline.description,
        hash: hex(digest::digest(&digest::SHA256, content.as_bytes()).as_ref()),
        content,
        author: author.to_owned(),
        attachments,
    })
}

fn checked_tags(tags: Vec<Tag>) -> Result<Vec<Tag>, ApiError> {
    if tags.len() > TAGS {
        let text = format!("at most {TAGS} tags are allowed");
        return Err(ApiError::validation(text));
    }
    super::super::tags::check(&tags)?;
    Ok(tags)
}

fn is_reserved(name: &str) -> bool {
    let begins_with = |word: &&str| {
        let start = name.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    RESERVED.iter().any(begins_with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_aws_are_reserved() {
        for (name, reserved) in [
            ("AWS-Mine", true),
            ("awsome", true),
            ("Amazon.Doc", true),
            ("amznDoc", true),
            ("SSM-SessionManagerRunShell", false),
            ("My-AWS-Doc", false),
        ] {
            assert_eq!(is_reserved(name), reserved, "{name}");
        }
    }
}
