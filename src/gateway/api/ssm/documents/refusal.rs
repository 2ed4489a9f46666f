//! Why a document cannot be had or changed, in AWS's words.

use super::super::super::answer::ApiError;
use crate::gateway::store::documents::{DOCUMENT_LIMIT, DocumentRefused};

/// There is no document `name`.
pub(super) fn unknown(name: &str) -> ApiError {
    let text = format!("Document with name {name} does not exist.");
    ApiError::new("InvalidDocument", text)
}

/// The document has no version of that number or name, or it is not the one that was asked for.
pub(super) fn unknown_version() -> ApiError {
    let text = "The document version is not valid or does not exist.";
    ApiError::new("InvalidDocumentVersion", text)
}

/// The document is one of those that every gateway has.
pub(super) fn built_in(name: &str) -> ApiError {
    let text = format!("Document {name} is owned by Amazon and cannot be changed or deleted.");
    ApiError::new("InvalidDocumentOperation", text)
}

/// The content has a schema version that is not known.
pub(super) fn schema_version(got: &str, known: &[&str]) -> ApiError {
    let known = known.join(", ");
    let text = format!("Schema version {got:?} is not supported, only {known}.");
    ApiError::new("InvalidDocumentSchemaVersion", text)
}

/// What the store says of the document `name`.
pub(super) fn refused(refused: DocumentRefused, name: &str) -> ApiError {
    match refused {
        DocumentRefused::Exists => {
            let text = format!("Document with same name {name} already exists");
            ApiError::new("DocumentAlreadyExists", text)
        }
        DocumentRefused::Unknown => unknown(name),
        DocumentRefused::UnknownVersion | DocumentRefused::NotLatest => unknown_version(),
        DocumentRefused::SameContent => ApiError::new(
            "DuplicateDocumentContent",
            "The content of the association document matches another document. \
             Change the content of the document and try again.",
        ),
        DocumentRefused::SameVersionName => ApiError::new(
            "DuplicateDocumentVersionName",
            "The version name has already been used in this document. \
             Specify a different version name, and then try again.",
        ),
        DocumentRefused::TooMany => {
            let text = format!("You can have at most {DOCUMENT_LIMIT} active SSM documents.");
            ApiError::new("DocumentLimitExceeded", text)
        }
        DocumentRefused::TooManyVersions => ApiError::new(
            "DocumentVersionLimitExceeded",
            "The document has too many versions. \
             Delete one or more document versions and try again.",
        ),
        DocumentRefused::IsDefault => ApiError::new(
            "InvalidDocumentOperation",
            "Default version of the document can't be deleted.",
        ),
    }
}
