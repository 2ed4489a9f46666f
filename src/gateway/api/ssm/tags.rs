//! AddTagsToResource, RemoveTagsFromResource, ListTagsForResource, for nodes, documents and parameters.

use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::answer::ApiError;
use super::super::validation::{LABEL, length, matches, not_in_set, required};
use super::documents::is_built_in;
use crate::gateway::store::activations::Tag;
use crate::gateway::store::tags::Tagged;

/// Most tags of one resource, as documented.
const TAGS: usize = 50;
/// Most tags in one call, by the model.
const IN_CALL: usize = 1000;
/// Longest id, which is the name of a parameter.
const ID: usize = 1011;
/// What the model knows, and what there is here.
const TYPES: [&str; 3] = ["ManagedInstance", "Document", "Parameter"];

/// What all three name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    resource_type: Option<String>,
    resource_id: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

/// The result of a change.
#[derive(Debug, Serialize)]
pub(super) struct Changed {}

/// ListTagsForResource's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    tag_list: Vec<Tag>,
}

/// Adds tags; one whose key is there already gets the new value.
///
/// # Errors
/// `InvalidResourceType`, `InvalidResourceId`, `TooManyTagsError`, `ValidationException`.
pub(super) async fn add(state: &ApiState, request: Request) -> Result<Changed, ApiError> {
    let tagged = tagged(&request)?;
    if request.tags.len() > IN_CALL {
        let text = format!(
            "{} tags are above the limit of {IN_CALL}",
            request.tags.len()
        );
        return Err(ApiError::validation(text));
    }
    check(&request.tags)?;
    check_reserved(&request.tags)?;
    let added = request.tags;
    let change = move |tags: &mut Vec<Tag>| {
        for tag in added {
            match tags.iter_mut().find(|known| known.key == tag.key) {
                Some(known) => known.value = tag.value,
                None => tags.push(tag),
            }
        }
        check_number(tags)
    };
    state
        .store
        .change_tags(tagged, change)
        .await?
        .ok_or_else(unknown)??;
    Ok(Changed {})
}

/// Removes the tags with these keys.
///
/// # Errors
/// `InvalidResourceType`, `InvalidResourceId`.
pub(super) async fn remove(state: &ApiState, request: Request) -> Result<Changed, ApiError> {
    let tagged = tagged(&request)?;
    let keys = request.tag_keys;
    let change = move |tags: &mut Vec<Tag>| {
        tags.retain(|tag| !keys.contains(&tag.key));
        Ok::<(), ApiError>(())
    };
    state
        .store
        .change_tags(tagged, change)
        .await?
        .ok_or_else(unknown)??;
    Ok(Changed {})
}

/// Lists the tags, in the order of their keys.
///
/// # Errors
/// `InvalidResourceType`, `InvalidResourceId`.
pub(super) async fn list(state: &ApiState, request: Request) -> Result<Listed, ApiError> {
    let tags = state.store.tags(tagged(&request)?).await?;
    Ok(Listed {
        tag_list: tags.ok_or_else(unknown)?,
    })
}

/// Checks keys and values against the model.
///
/// # Errors
/// `ValidationException`.
pub(super) fn check(tags: &[Tag]) -> Result<(), ApiError> {
    for tag in tags {
        length("tags", &tag.key, 1..=128)?;
        length("tags", &tag.value, 0..=256)?;
        matches("tags", &tag.key, &LABEL)?;
        matches("tags", &tag.value, &LABEL)?;
    }
    Ok(())
}

/// Checks the tags of a resource that is made with them.
///
/// # Errors
/// `TooManyTagsError`, `ValidationException`.
pub(super) fn check_first(tags: &[Tag]) -> Result<(), ApiError> {
    check(tags)?;
    check_reserved(tags)?;
    check_number(tags)
}

fn check_reserved(tags: &[Tag]) -> Result<(), ApiError> {
    match tags.iter().find(|tag| tag.key.starts_with("aws:")) {
        None => Ok(()),
        Some(tag) => {
            let text = format!("Tag {} begins with aws:, which is reserved.", tag.key);
            Err(ApiError::validation(text))
        }
    }
}

fn check_number(tags: &[Tag]) -> Result<(), ApiError> {
    if tags.len() > TAGS {
        let text = format!("{} tags are above the limit of {TAGS}", tags.len());
        return Err(ApiError::new("TooManyTagsError", text));
    }
    Ok(())
}

fn tagged(request: &Request) -> Result<Tagged, ApiError> {
    let kind = required("resourceType", request.resource_type.clone())?;
    let id = required("resourceId", request.resource_id.clone())?;
    length("resourceId", &id, 1..=ID)?;
    match kind.as_str() {
        "ManagedInstance" => Ok(Tagged::Node(id)),
        "Document" if is_built_in(&id) => Err(ApiError::new(
            "InvalidResourceId",
            "Documents of Amazon take no tags.",
        )),
        "Document" => Ok(Tagged::Document(id)),
        "Parameter" => Ok(Tagged::Parameter(id)),
        other @ ("MaintenanceWindow" | "PatchBaseline" | "OpsItem" | "OpsMetadata"
        | "Automation" | "Association") => {
            let text = format!("This gateway has no tags on resources of type {other}.");
            Err(ApiError::new("InvalidResourceType", text))
        }
        other => Err(not_in_set("resourceType", other, &TYPES)),
    }
}

fn unknown() -> ApiError {
    ApiError::new(
        "InvalidResourceId",
        "The resource ID isn't valid. Verify that you entered the correct ID and try again.",
    )
}
