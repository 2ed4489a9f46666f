//! A document as CreateDocument, UpdateDocument and DescribeDocument describe it.

use serde::Serialize;
use serde_json::Value;

use super::super::super::answer::{ApiError, epoch_seconds};
use super::super::super::signature::ACCOUNT;
use super::built_in;
use super::content::Format;
use crate::gateway::store::activations::Tag;
use crate::gateway::store::documents::Document;

/// AWS's DocumentDescription.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Description {
    hash: String,
    hash_type: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_name: Option<String>,
    owner: &'static str,
    created_date: f64,
    status: &'static str,
    document_version: String,
    description: String,
    parameters: Vec<Parameter>,
    platform_types: Vec<String>,
    document_type: String,
    schema_version: String,
    latest_version: String,
    default_version: String,
    document_format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_type: Option<String>,
    tags: Vec<Tag>,
    author: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments_information: Vec<AttachmentInformation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttachmentInformation {
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    name: String,
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_value: Option<String>,
}

impl Description {
    /// Describes `document`.
    ///
    /// # Errors
    /// `InvalidDocumentContent`, if what is stored cannot be read any more.
    pub(super) fn new(document: Document) -> Result<Self, ApiError> {
        let version = document.version;
        let content = Format::parse(Some(&version.format))?.read(&version.content)?;
        Ok(Self {
            hash: version.hash,
            hash_type: "Sha256",
            display_name: version.display_name,
            version_name: version.version_name,
            owner: owner(&document.name),
            name: document.name,
            created_date: epoch_seconds(document.created),
            // A document is there in one step.
            status: ACTIVE,
            document_version: document.number.to_string(),
            description: version.description,
            parameters: parameters(&content["parameters"]),
            platform_types: version.platforms,
            document_type: document.document_type,
            schema_version: version.schema_version,
            latest_version: document.latest_version.to_string(),
            default_version: document.default_version.to_string(),
            document_format: version.format,
            target_type: version.target_type,
            tags: document.tags,
            author: version.author,
            attachments_information: version
                .attachments
                .into_iter()
                .map(|attachment| AttachmentInformation {
                    name: attachment.name,
                })
                .collect(),
        })
    }
}

/// AWS's word for a document that can be used.
pub(super) const ACTIVE: &str = "Active";

/// Who owns the document `name`: the account, unless every gateway has it.
pub(super) fn owner(name: &str) -> &'static str {
    match built_in::find(name) {
        Some(_) => built_in::OWNER,
        None => ACCOUNT,
    }
}

fn parameters(definitions: &Value) -> Vec<Parameter> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parameter = |(name, definition): (&String, &Value)| Parameter {
        name: name.clone(),
        r#type: text(&definition["type"]),
        description: text(&definition["description"]),
        default_value: definition.get("default").map(|default| match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
    };
    let members = definitions.as_object();
    members.map_or_else(Vec::new, |members| members.iter().map(parameter).collect())
}
