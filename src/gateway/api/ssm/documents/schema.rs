//! What the content of a document must look like, whatever its type.

use serde_json::Value;

use super::super::super::answer::ApiError;
use super::super::super::validation::not_in_set;
use super::content::invalid;
use super::find::PREFERENCES;
use super::{COMMAND, PACKAGE, SESSION, command_schema, package_schema, session_schema};

/// What was learnt of a content that is in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) schema_version: String,
    pub(super) description: String,
    pub(super) platforms: Vec<String>,
}

/// Checks the type of a document: one that this gateway has a use for.
///
/// # Errors
/// `ValidationException`.
pub(super) fn check_type(name: &str, document_type: &str) -> Result<(), ApiError> {
    match document_type {
        SESSION => Ok(()),
        COMMAND | PACKAGE if name == PREFERENCES => Err(ApiError::validation(format!(
            "Document {PREFERENCES} must be of type {SESSION}."
        ))),
        COMMAND | PACKAGE => Ok(()),
        other => Err(not_in_set(
            "documentType",
            other,
            &[COMMAND, PACKAGE, SESSION],
        )),
    }
}

/// Checks the content of the document `name`.
///
/// # Errors
/// `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(super) fn check(name: &str, document_type: &str, content: &Value) -> Result<Outline, ApiError> {
    let Value::Object(members) = content else {
        return Err(invalid("The content must be an object.".into()));
    };
    let schema_version = match members.get("schemaVersion") {
        Some(Value::String(version)) => version.clone(),
        Some(_) => return Err(invalid("schemaVersion must be a string.".into())),
        None => return Err(invalid("schemaVersion is missing.".into())),
    };
    let description = match members.get("description") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(invalid("description must be a string.".into())),
    };
    let platforms = match document_type {
        SESSION => {
            session_schema::check(name, &schema_version, content)?;
            platforms(&["Windows", "Linux", "MacOS"])
        }
        PACKAGE => package_schema::check(&schema_version, members)?,
        _ => command_schema::check(&schema_version, members)?,
    };
    Ok(Outline {
        schema_version,
        description,
        platforms,
    })
}

/// A list of platforms.
pub(super) fn platforms(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
