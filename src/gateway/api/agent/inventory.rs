//! PutInventory: what is on a node.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::ApiState;
use super::super::answer::ApiError;
use super::super::signature::SignatureError;
use super::super::validation::{length, required};
use super::speaks_for_itself;
use crate::gateway::store::inventory::{NewItem, Put};

/// Most items in one call, and most that a node keeps, by the model.
const ITEMS: usize = 30;
/// Most rows of an item, by the model.
const ROWS: usize = 10_000;
/// Most attributes of a row, by the model.
const ATTRIBUTES: usize = 50;

/// PutInventory's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    instance_id: Option<String>,
    items: Option<Vec<Item>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    type_name: Option<String>,
    schema_version: Option<String>,
    capture_time: Option<String>,
    #[serde(default)]
    content_hash: String,
    content: Option<Vec<Map<String, Value>>>,
}

/// PutInventory's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Outcome {
    message: &'static str,
}

/// Keeps a node's items. One that comes without content is what the hash stood for last time.
///
/// # Errors
/// `ValidationException`, `InvalidItemContentException`, `ItemContentMismatchException`,
/// `AccessDeniedException`.
pub(super) async fn put(
    state: &ApiState,
    node_id: &str,
    request: Request,
) -> Result<Outcome, ApiError> {
    let named = required("instanceId", request.instance_id)?;
    speaks_for_itself(node_id, Some(&named))?;
    let items = required("items", request.items)?;
    if !(1..=ITEMS).contains(&items.len()) {
        let text = format!("{} items are not 1 to {ITEMS}", items.len());
        return Err(ApiError::validation(text));
    }
    let items = items.into_iter().map(check).collect::<Result<_, _>>()?;
    match state.store.put_inventory(node_id, items).await? {
        Put::Kept => Ok(Outcome {
            message: "Inventory was successfully applied.",
        }),
        Put::Mismatch => Err(ApiError::new(
            "ItemContentMismatchException",
            "The inventory item has invalid content.",
        )),
        Put::NoNode => Err(SignatureError::UnknownKey.into()),
    }
}

fn check(item: Item) -> Result<NewItem, ApiError> {
    let type_name = required("typeName", item.type_name)?;
    length("typeName", &type_name, 1..=100)?;
    if !["AWS:", "Custom:"]
        .iter()
        .any(|space| type_name.starts_with(space))
    {
        let text = format!("The type {type_name} begins with neither AWS: nor Custom:.");
        return Err(ApiError::new("InvalidTypeNameException", text));
    }
    let schema_version = required("schemaVersion", item.schema_version)?;
    length("schemaVersion", &schema_version, 1..=13)?;
    let capture_time = required("captureTime", item.capture_time)?;
    length("captureTime", &capture_time, 1..=40)?;
    length("contentHash", &item.content_hash, 0..=256)?;
    let content = item.content.as_deref().map(rows).transpose()?;
    Ok(NewItem {
        type_name,
        schema_version,
        capture_time,
        content_hash: item.content_hash,
        content,
    })
}

/// Rows of attributes whose values are texts, as JSON.
fn rows(rows: &[Map<String, Value>]) -> Result<String, ApiError> {
    let is_row =
        |row: &Map<String, Value>| row.len() <= ATTRIBUTES && row.values().all(Value::is_string);
    if rows.len() > ROWS || !rows.iter().all(is_row) {
        return Err(ApiError::new(
            "InvalidItemContentException",
            "One or more content items is not valid.",
        ));
    }
    serde_json::to_string(rows).map_err(|error| ApiError::internal(&error))
}
