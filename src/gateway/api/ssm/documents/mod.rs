//! Documents: what people make, read, change and delete, and what sessions are started with.
//!
//! | file | what it is |
//! |---|---|
//! | `content` | JSON and YAML |
//! | `schema`, `session_schema`, `command_schema`, `package_schema` | what a content must look like |
//! | `built_in`, `built_in_commands`, `built_in_packages` | the documents that every gateway has |
//! | `find` | one document by name and version |
//! | `attach` | the files of packages |
//! | `create`, `update`, `delete`, `get`, `list` | the operations |
//! | `description`, `refusal` | their results and errors |

mod attach;
mod built_in;
mod built_in_commands;
mod built_in_packages;
mod command_schema;
mod content;
mod create;
mod delete;
mod description;
mod find;
mod get;
mod list;
mod package_schema;
mod refusal;
mod schema;
mod session_schema;
mod update;

pub(super) use create::create;
pub(super) use delete::delete;
pub(super) use find::{command_document, session_document};
pub(super) use get::list_versions;
pub(in crate::gateway::api) use get::{describe, get};
pub(super) use list::list;
pub(super) use update::{set_default_version, update};

/// Whether every gateway has a document of this name.
pub(super) fn is_built_in(name: &str) -> bool {
    built_in::find(name).is_some()
}

/// AWS's word for a document with which sessions are started.
const SESSION: &str = "Session";
/// AWS's word for a document that Run Command runs.
const COMMAND: &str = "Command";
/// AWS's word for a document that is a package.
const PACKAGE: &str = "Package";
