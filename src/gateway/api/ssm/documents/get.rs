//! GetDocument, DescribeDocument, ListDocumentVersions.

use std::sync::LazyLock;
use std::time::SystemTime;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::{ApiError, epoch_seconds};
use super::super::super::validation::{
    DOCUMENT_NAME, cursor, invalid_token, matches, page_size, page_token, pattern, required,
};
use super::content::Format;
use super::create::checked_version_name;
use super::description::{ACTIVE, Description};
use super::find::find;
use super::refusal;
use crate::gateway::store::documents::{Attachment, Document, VersionSelector};

const LIST_VERSIONS: &str = "ListDocumentVersions";
/// Versions on a page unless the caller says otherwise; the model allows 1 to 50.
const PAGE_SIZE: usize = 50;

static VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([$]LATEST|[$]DEFAULT|[1-9][0-9]*)$"));
static VERSION_NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[1-9][0-9]*$"));

/// Members of GetDocument and DescribeDocument.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct Request {
    name: Option<String>,
    document_version: Option<String>,
    version_name: Option<String>,
    document_format: Option<String>,
}

/// GetDocument's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct Content {
    name: String,
    created_date: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_name: Option<String>,
    document_version: String,
    status: &'static str,
    content: String,
    document_type: String,
    document_format: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments_content: Vec<AttachmentContent>,
}

/// A file of a package, and where it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttachmentContent {
    name: String,
    size: u64,
    hash: String,
    hash_type: &'static str,
    url: String,
}

/// Gives a document's content: as it was written, or turned into the other format.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidDocumentVersion`.
pub(in crate::gateway::api) async fn get(
    state: &ApiState,
    request: Request,
) -> Result<Content, ApiError> {
    let format = Format::parse(request.document_format.as_deref())?;
    let document = wanted(state, request).await?;
    let version = document.version;
    let written = Format::parse(Some(&version.format))?;
    let content = if format == written {
        version.content
    } else {
        format.write(&written.read(&version.content)?)?
    };
    Ok(Content {
        name: document.name,
        created_date: epoch_seconds(document.created),
        display_name: version.display_name,
        version_name: version.version_name,
        document_version: document.number.to_string(),
        status: ACTIVE,
        content,
        document_type: document.document_type,
        document_format: format.as_str(),
        attachments_content: attachments(state, version.attachments),
    })
}

/// The files of a package. The URLs of those that the gateway has are good for a while only.
fn attachments(state: &ApiState, attachments: Vec<Attachment>) -> Vec<AttachmentContent> {
    let now = SystemTime::now();
    let content = |attachment: Attachment| {
        let Attachment {
            name,
            sha256,
            size,
            url,
        } = attachment;
        let own = || state.attachments.url(&sha256, &name, now).to_string();
        AttachmentContent {
            url: url.unwrap_or_else(own),
            name,
            size,
            hash: sha256,
            hash_type: "Sha256",
        }
    };
    attachments.into_iter().map(content).collect()
}

/// DescribeDocument's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct Described {
    document: Description,
}

/// Describes a document.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidDocumentVersion`.
pub(in crate::gateway::api) async fn describe(
    state: &ApiState,
    request: Request,
) -> Result<Described, ApiError> {
    let document = wanted(state, request).await?;
    Ok(Described {
        document: Description::new(document)?,
    })
}

async fn wanted(state: &ApiState, request: Request) -> Result<Document, ApiError> {
    let name = required("name", request.name)?;
    matches("name", &name, &DOCUMENT_NAME)?;
    let (version, version_name) = (request.document_version, request.version_name);
    let selector = selector(version.as_deref(), version_name.as_deref())?;
    let document = find(state, &name, selector).await?;
    // Where both are given, they have to mean the same version.
    if version_name.is_some() && document.version.version_name != version_name {
        return Err(refusal::unknown_version());
    }
    Ok(document)
}

/// The version that a request means: the default one if it names none.
///
/// # Errors
/// `ValidationException`, `InvalidDocumentVersion`.
pub(super) fn selector(
    version: Option<&str>,
    version_name: Option<&str>,
) -> Result<VersionSelector, ApiError> {
    checked_version_name(version_name)?;
    let Some(version) = version else {
        let named = version_name.map(|name| VersionSelector::Name(name.to_owned()));
        return Ok(named.unwrap_or(VersionSelector::Default));
    };
    matches("documentVersion", version, &VERSION)?;
    match version {
        "$DEFAULT" => Ok(VersionSelector::Default),
        "$LATEST" => Ok(VersionSelector::Latest),
        version => number(version).map(VersionSelector::Number),
    }
}

/// The number of a version.
///
/// # Errors
/// `ValidationException`, `InvalidDocumentVersion`.
pub(super) fn number(version: &str) -> Result<u32, ApiError> {
    matches("documentVersion", version, &VERSION_NUMBER)?;
    version.parse().map_err(|_| refusal::unknown_version())
}

/// ListDocumentVersions' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct ListRequest {
    name: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

/// ListDocumentVersions' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Versions {
    document_versions: Vec<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    document_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_name: Option<String>,
    created_date: f64,
    is_default_version: bool,
    document_format: String,
    status: &'static str,
}

/// Lists the versions of a document, newest first.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidNextToken`.
pub(in crate::gateway::api::ssm) async fn list_versions(
    state: &ApiState,
    request: ListRequest,
) -> Result<Versions, ApiError> {
    let name = required("name", request.name)?;
    matches("name", &name, &DOCUMENT_NAME)?;
    let size = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let before = match cursor(LIST_VERSIONS, request.next_token.as_deref())? {
        Some(text) => Some(text.parse().map_err(|_| invalid_token())?),
        None => None,
    };
    let default = find(state, &name, VersionSelector::Default).await?;
    let page = state
        .store
        .document_versions(&default.name, before, size)
        .await?;
    // Built-in documents are not in the store and have one version.
    let versions = if page.items.is_empty() && before.is_none() {
        vec![default]
    } else {
        page.items
    };
    Ok(Versions {
        document_versions: versions.into_iter().map(Version::from).collect(),
        next_token: page.next.map(|next| page_token(LIST_VERSIONS, &next)),
    })
}

impl From<Document> for Version {
    fn from(document: Document) -> Self {
        Self {
            name: document.name,
            display_name: document.version.display_name,
            document_version: document.number.to_string(),
            version_name: document.version.version_name,
            created_date: epoch_seconds(document.created),
            is_default_version: document.number == document.default_version,
            document_format: document.version.format,
            status: ACTIVE,
        }
    }
}
