//! The nodes that a command goes to.

use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::length;
use super::super::node_filter::{NodeFilter, StringFilter};
use crate::gateway::store::nodes::Node;

/// Most nodes in one call, by the model.
const NODE_IDS: usize = 50;
/// Most targets in one call, by the model.
const TARGETS: usize = 5;
/// Nodes that are read at once.
const AT_ONCE: usize = 500;

/// Nodes that have one of these values.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Target {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) values: Vec<String>,
}

/// Finds the nodes. Those that are named must exist; where tags are named, there may be none.
///
/// # Errors
/// `InvalidInstanceId`, `DuplicateInstanceId`, `ValidationException`.
pub(super) async fn nodes(
    state: &ApiState,
    ids: &[String],
    targets: &[Target],
) -> Result<Vec<Node>, ApiError> {
    match (ids, targets) {
        ([], []) => Err(ApiError::validation(
            "InstanceIds or Targets must name the nodes that the command goes to.",
        )),
        (ids, []) => named(state, ids).await,
        ([], targets) => matching(state, targets).await,
        (_, _) => Err(ApiError::validation(
            "InstanceIds and Targets cannot be used together.",
        )),
    }
}

async fn named(state: &ApiState, ids: &[String]) -> Result<Vec<Node>, ApiError> {
    if ids.len() > NODE_IDS {
        let text = format!(
            "{} instance ids are above the limit of {NODE_IDS}",
            ids.len()
        );
        return Err(ApiError::validation(text));
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(ids.len());
    for id in ids {
        length("instanceIds", id, 1..=124)?;
        if nodes.iter().any(|node| node.node_id == *id) {
            let text = format!("Instance {id} is named twice.");
            return Err(ApiError::new("DuplicateInstanceId", text));
        }
        let node = state.store.node(id).await?;
        nodes.push(node.ok_or_else(|| {
            let text = format!(
                "Instances [[{id}]] not in a valid state for account: it is not registered."
            );
            ApiError::new("InvalidInstanceId", text)
        })?);
    }
    Ok(nodes)
}

async fn matching(state: &ApiState, targets: &[Target]) -> Result<Vec<Node>, ApiError> {
    if targets.len() > TARGETS {
        let text = format!("{} targets are above the limit of {TARGETS}", targets.len());
        return Err(ApiError::validation(text));
    }
    for target in targets {
        let is_key = target.key == "InstanceIds"
            || target.key == "tag-key"
            || target
                .key
                .strip_prefix("tag:")
                .is_some_and(|name| !name.is_empty());
        if !is_key {
            return Err(ApiError::validation(format!(
                "{:?} is no key of a target: InstanceIds, tag:<name> and tag-key are",
                target.key
            )));
        }
        if !(1..=NODE_IDS).contains(&target.values.len()) {
            return Err(ApiError::validation(format!(
                "target {} has {} values, 1 to {NODE_IDS} are allowed",
                target.key,
                target.values.len()
            )));
        }
    }
    let filters = targets.iter().map(|target| StringFilter {
        key: target.key.clone(),
        values: target.values.clone(),
    });
    let filter = std::sync::Arc::new(NodeFilter::new(filters)?);
    let (mut nodes, mut after) = (Vec::new(), None);
    loop {
        let filter = std::sync::Arc::clone(&filter);
        let keep = move |node: &Node| filter.accepts(node, "");
        let page = state.store.nodes(after, AT_ONCE, keep).await?;
        nodes.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(nodes);
        }
    }
}
