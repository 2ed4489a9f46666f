//! ListInventoryEntries and GetInventory: what nodes have said of what is on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::ApiState;
use super::super::answer::ApiError;
use super::super::validation::{cursor, invalid_token, length, page_size, page_token, required};
use super::nodes::resource_type;
use crate::gateway::store::inventory::Item;
use crate::gateway::store::nodes::{Node, is_node_id};

const ENTRIES: &str = "ListInventoryEntries";
const GET: &str = "GetInventory";
/// Most of a page, by the model.
const PAGE_SIZE: usize = 50;
/// The type that the gateway knows itself, from what agents report.
const INFORMATION: &str = "AWS:InstanceInformation";
/// The only attribute that nodes are chosen by.
const NODE_FILTER: &str = "AWS:InstanceInformation.InstanceId";

/// ListInventoryEntries' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EntriesRequest {
    instance_id: Option<String>,
    type_name: Option<String>,
    filters: Option<Vec<Filter>>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

/// ListInventoryEntries' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EntriesResult {
    type_name: String,
    instance_id: String,
    schema_version: String,
    capture_time: String,
    entries: Vec<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// An attribute, and the values that it may have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
    #[serde(default, rename = "Type")]
    kind: Option<String>,
}

impl Filter {
    /// Refuses comparisons that there are none of here.
    fn check(&self) -> Result<(), ApiError> {
        match self.kind.as_deref() {
            None | Some("Equal") => Ok(()),
            Some(other) => Err(ApiError::new(
                "InvalidFilter",
                format!("this gateway has no filters of type {other}"),
            )),
        }
    }

    fn takes(&self, value: &str) -> bool {
        self.values.iter().any(|wanted| wanted == value)
    }
}

/// Lists the rows of an item of one node.
///
/// # Errors
/// `ValidationException`, `InvalidInstanceId`, `InvalidFilter`, `InvalidNextToken`.
pub(super) async fn entries(
    state: &ApiState,
    request: EntriesRequest,
) -> Result<EntriesResult, ApiError> {
    let instance_id = required("instanceId", request.instance_id)?;
    let type_name = required("typeName", request.type_name)?;
    length("typeName", &type_name, 1..=100)?;
    let filters = request.filters.unwrap_or_default();
    filters.iter().try_for_each(Filter::check)?;
    let limit = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let after = cursor(ENTRIES, request.next_token.as_deref())?;
    let after = after.map(|at| at.parse::<usize>());
    let after = after.transpose().map_err(|_| invalid_token())?.unwrap_or(0);
    let node = match is_node_id(&instance_id) {
        true => state.store.node(&instance_id).await?,
        false => None,
    };
    let node = node.ok_or_else(|| ApiError::new("InvalidInstanceId", ""))?;
    let item = item_of(state, &node, &type_name).await?;
    let Some(item) = item else {
        return Ok(EntriesResult {
            type_name,
            instance_id,
            schema_version: String::new(),
            capture_time: String::new(),
            entries: Vec::new(),
            next_token: None,
        });
    };
    let rows = rows(&item)?
        .into_iter()
        .filter(|row| matches(row, &filters));
    let mut entries: Vec<_> = rows.skip(after).take(limit + 1).collect();
    let next_token = (entries.len() > limit).then(|| {
        entries.truncate(limit);
        page_token(ENTRIES, &(after + limit).to_string())
    });
    Ok(EntriesResult {
        type_name,
        instance_id,
        schema_version: item.schema_version,
        capture_time: item.capture_time,
        entries,
        next_token,
    })
}

/// GetInventory's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRequest {
    filters: Option<Vec<Filter>>,
    aggregators: Option<Vec<Value>>,
    result_attributes: Option<Vec<ResultAttribute>>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResultAttribute {
    type_name: String,
}

/// GetInventory's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetResult {
    entities: Vec<Entity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entity {
    id: String,
    data: BTreeMap<String, Data>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    type_name: String,
    schema_version: String,
    capture_time: String,
    content_hash: String,
    content: Vec<Map<String, Value>>,
}

/// Lists nodes with the types that are asked for; what agents report of themselves if none is.
///
/// # Errors
/// `ValidationException`, `InvalidFilter`, `InvalidAggregatorException`, `InvalidNextToken`.
pub(super) async fn get(state: &ApiState, request: GetRequest) -> Result<GetResult, ApiError> {
    if request.aggregators.is_some_and(|given| !given.is_empty()) {
        let text = "this gateway does not count inventory";
        return Err(ApiError::new("InvalidAggregatorException", text));
    }
    let filters = request.filters.unwrap_or_default();
    for filter in &filters {
        filter.check()?;
        if filter.key != NODE_FILTER {
            let text = format!("this gateway filters by {NODE_FILTER} only");
            return Err(ApiError::new("InvalidFilter", text));
        }
    }
    let attributes = request.result_attributes.unwrap_or_default();
    let types: Vec<String> = match attributes.is_empty() {
        true => vec![INFORMATION.to_owned()],
        false => attributes
            .into_iter()
            .map(|wanted| wanted.type_name)
            .collect(),
    };
    let limit = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let after = cursor(GET, request.next_token.as_deref())?;
    let page = state
        .store
        .nodes(after, limit, move |node: &Node| {
            filters.iter().all(|filter| filter.takes(&node.node_id))
        })
        .await?;
    let mut entities = Vec::with_capacity(page.items.len());
    for node in page.items {
        let mut data = BTreeMap::new();
        for type_name in &types {
            if let Some(item) = item_of(state, &node, type_name).await? {
                data.insert(
                    type_name.clone(),
                    Data {
                        content: rows(&item)?,
                        type_name: item.type_name,
                        schema_version: item.schema_version,
                        capture_time: item.capture_time,
                        content_hash: item.content_hash,
                    },
                );
            }
        }
        entities.push(Entity {
            id: node.node_id,
            data,
        });
    }
    Ok(GetResult {
        entities,
        next_token: page.next.map(|next| page_token(GET, &next)),
    })
}

/// The item of a type; what the agent reports is one too.
async fn item_of(state: &ApiState, node: &Node, type_name: &str) -> Result<Option<Item>, ApiError> {
    if type_name == INFORMATION {
        return Ok(Some(information(node)));
    }
    Ok(state.store.inventory_item(&node.node_id, type_name).await?)
}

fn information(node: &Node) -> Item {
    let report = &node.report;
    let seen = node.last_ping.unwrap_or(node.registered);
    let seen = jiff::Timestamp::try_from(seen).unwrap_or_default();
    let content = json!([{
        "AgentType": report.agent_name,
        "AgentVersion": report.agent_version,
        "ComputerName": report.computer_name,
        "InstanceId": node.node_id,
        "InstanceStatus": report.agent_status,
        "IpAddress": report.ip_address,
        "PlatformName": report.platform_name,
        "PlatformType": report.platform_type,
        "PlatformVersion": report.platform_version,
        "ResourceType": resource_type(&node.node_id),
    }]);
    Item {
        type_name: INFORMATION.to_owned(),
        schema_version: "1.0".to_owned(),
        capture_time: seen.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        content_hash: String::new(),
        content: content.to_string(),
    }
}

fn rows(item: &Item) -> Result<Vec<Map<String, Value>>, ApiError> {
    serde_json::from_str(&item.content).map_err(|error| ApiError::internal(&error))
}

/// The key of a filter may have the type before the attribute.
fn matches(row: &Map<String, Value>, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| {
        let name = filter.key.rsplit('.').next().unwrap_or_default();
        let value = row.get(name).and_then(Value::as_str).unwrap_or_default();
        filter.takes(value)
    })
}
