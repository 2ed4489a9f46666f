//! Documents: their versions, and which of them counts.
//!
//! A document has at least one version. Versions are numbered from 1 on and never change; a number
//! is not given twice. One of them is the default.

mod read;
mod write;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::activations::Tag;

pub(super) const SCHEMA: &str = "
CREATE TABLE documents (
    name            TEXT PRIMARY KEY,
    document_type   TEXT NOT NULL,
    tags            TEXT NOT NULL,
    default_version INTEGER NOT NULL,
    last_version    INTEGER NOT NULL
) STRICT;
CREATE TABLE document_versions (
    name           TEXT NOT NULL REFERENCES documents (name) ON DELETE CASCADE,
    number         INTEGER NOT NULL,
    version_name   TEXT,
    display_name   TEXT,
    target_type    TEXT,
    format         TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    platforms      TEXT NOT NULL,
    description    TEXT NOT NULL,
    content        TEXT NOT NULL,
    hash           TEXT NOT NULL,
    author         TEXT NOT NULL,
    created_ms     INTEGER NOT NULL,
    PRIMARY KEY (name, number)
) STRICT;
CREATE UNIQUE INDEX document_version_names ON document_versions (name, version_name)
    WHERE version_name IS NOT NULL;
";

/// What packages need beside.
pub(super) const ATTACHMENTS_SCHEMA: &str = "
ALTER TABLE document_versions ADD COLUMN attachments TEXT NOT NULL DEFAULT '[]';
";

/// Documents that one gateway holds; AWS's limit for an account.
pub const DOCUMENT_LIMIT: usize = 500;
/// Versions of one document; AWS's limit.
pub const VERSION_LIMIT: usize = 1000;

/// What a version is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// A name for it, unique among the document's versions.
    pub version_name: Option<String>,
    /// Name for people.
    pub display_name: Option<String>,
    /// Kind of resource it is for.
    pub target_type: Option<String>,
    /// How the content is written, `JSON` or `YAML`.
    pub format: String,
    /// Schema version of the content.
    pub schema_version: String,
    /// Platforms it runs on.
    pub platforms: Vec<String>,
    /// Description in the content; may be empty.
    pub description: String,
    /// The text.
    pub content: String,
    /// SHA-256 of the text, in hexadecimal digits.
    pub hash: String,
    /// Who wrote it, an ARN.
    pub author: String,
    /// The files of a package.
    pub attachments: Vec<Attachment>,
}

/// A file that belongs to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// SHA-256 of its content, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length; 0 if nobody knows.
    pub size: u64,
    /// Where it is; none if the gateway has it.
    pub url: Option<String>,
}

/// What a document is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its name.
    pub name: String,
    /// AWS's word for what it is for.
    pub document_type: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its first version, which is the default.
    pub version: NewVersion,
}

/// One version of a document, with what is known of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Name of the document.
    pub name: String,
    /// AWS's word for what it is for.
    pub document_type: String,
    /// Tags of the document.
    pub tags: Vec<Tag>,
    /// Number of the default version.
    pub default_version: u32,
    /// Number of the newest version.
    pub latest_version: u32,
    /// Number of this version.
    pub number: u32,
    /// When this version was made.
    pub created: SystemTime,
    /// The version.
    pub version: NewVersion,
}

/// Which version of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSelector {
    /// The default one.
    Default,
    /// The newest one.
    Latest,
    /// The one with this number.
    Number(u32),
    /// The one with this name.
    Name(String),
}

/// Why a document cannot be read or written as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// There is a document of that name.
    #[error("there is a document of that name")]
    Exists,
    /// There is none.
    #[error("there is no such document")]
    Unknown,
    /// It has no such version.
    #[error("the document has no such version")]
    UnknownVersion,
    /// Only the newest version can be followed by another.
    #[error("the version is not the newest one")]
    NotLatest,
    /// A version has the same content.
    #[error("a version of the document has the same content")]
    SameContent,
    /// A version has the same name.
    #[error("a version of the document has the same name")]
    SameVersionName,
    /// There are [`DOCUMENT_LIMIT`] documents.
    #[error("there are {DOCUMENT_LIMIT} documents")]
    TooMany,
    /// There are [`VERSION_LIMIT`] versions.
    #[error("the document has {VERSION_LIMIT} versions")]
    TooManyVersions,
    /// The default version stays as long as the document.
    #[error("the version is the default one")]
    IsDefault,
}

#[cfg(test)]
mod tests;
