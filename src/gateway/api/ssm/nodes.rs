//! GetConnectionStatus, DescribeInstanceInformation, DeregisterManagedInstance.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::ApiState;
use super::super::answer::{ApiError, epoch_seconds};
use super::super::validation::{cursor, length, page_size, page_token, required};
use super::node_filter::{NodeFilter, StringFilter};
use crate::gateway::store::nodes::Node;

const DESCRIBE: &str = "DescribeInstanceInformation";
/// Nodes on a page unless the caller says otherwise; the model allows 5 to 50.
const PAGE_SIZE: usize = 50;
/// A node that is not connected counts as online for this long after its last report: agents report
/// every 5 minutes unless told otherwise, and one minute is for jitter.
const PING_FRESH: Duration = Duration::from_secs(6 * 60);

/// GetConnectionStatus' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConnectionRequest {
    target: Option<String>,
}

/// GetConnectionStatus' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConnectionResult {
    target: String,
    status: &'static str,
}

/// Tells whether a session could be started on a node.
///
/// # Errors
/// `ValidationException`.
pub(super) fn connection_status(
    state: &ApiState,
    request: ConnectionRequest,
) -> Result<ConnectionResult, ApiError> {
    let target = required("target", request.target)?;
    length("target", &target, 1..=400)?;
    let status = if state.broker.is_connected(&target) {
        "connected"
    } else {
        "notconnected"
    };
    Ok(ConnectionResult { target, status })
}

/// DescribeInstanceInformation's members. The two lists are the old and the new form of filters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeRequest {
    instance_information_filter_list: Option<Vec<OldFilter>>,
    filters: Option<Vec<StringFilter>>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldFilter {
    key: String,
    value_set: Vec<String>,
}

/// DescribeInstanceInformation's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeResult {
    instance_information_list: Vec<Instance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    instance_id: String,
    ping_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_ping_date_time: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    agent_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation_id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    iam_role: String,
    registration_date: f64,
    resource_type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "IPAddress", skip_serializing_if = "String::is_empty")]
    ip_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    computer_name: String,
}

/// Lists nodes by id.
///
/// # Errors
/// `ValidationException`, `InvalidFilterKey`, `InvalidInstanceInformationFilterValue`, `InvalidNextToken`.
pub(super) async fn describe(
    state: &ApiState,
    request: DescribeRequest,
) -> Result<DescribeResult, ApiError> {
    let old = request.instance_information_filter_list.unwrap_or_default();
    let new = request.filters.unwrap_or_default();
    if !old.is_empty() && !new.is_empty() {
        return Err(ApiError::validation(
            "Filters and InstanceInformationFilterList cannot be used together.",
        ));
    }
    let old = old.into_iter().map(|filter| StringFilter {
        key: filter.key,
        values: filter.value_set,
    });
    let filter = NodeFilter::new(old.chain(new))?;
    let size = page_size(request.max_results, 5..=50, PAGE_SIZE)?;
    let after = cursor(DESCRIBE, request.next_token.as_deref())?;
    let (broker, now) = (state.broker.clone(), SystemTime::now());
    let status = move |node: &Node| ping_status(node, broker.is_connected(&node.node_id), now);
    let keep = status.clone();
    let keep = move |node: &Node| filter.accepts(node, keep(node));
    let page = state.store.nodes(after, size, keep).await?;
    let items = page.items.into_iter();
    Ok(DescribeResult {
        instance_information_list: items
            .map(|node| Instance::new(status(&node), node))
            .collect(),
        next_token: page.next.map(|next| page_token(DESCRIBE, &next)),
    })
}

fn ping_status(node: &Node, connected: bool, now: SystemTime) -> &'static str {
    // A report from the future is a clock that was set back, and fresh.
    let is_fresh = |ping: SystemTime| now.duration_since(ping).is_ok_and(|age| age < PING_FRESH);
    let is_fresh = |ping: SystemTime| ping > now || is_fresh(ping);
    if connected || node.last_ping.is_some_and(is_fresh) {
        "Online"
    } else {
        "ConnectionLost"
    }
}

/// The kind of a node in AWS's words.
pub(super) fn resource_type(node_id: &str) -> &'static str {
    if node_id.starts_with("mi-") {
        "ManagedInstance"
    } else {
        "EC2Instance"
    }
}

impl Instance {
    fn new(ping_status: &'static str, node: Node) -> Self {
        Self {
            resource_type: resource_type(&node.node_id),
            instance_id: node.node_id,
            ping_status,
            last_ping_date_time: node.last_ping.map(epoch_seconds),
            agent_version: node.report.agent_version,
            platform_type: node.report.platform_type,
            platform_name: node.report.platform_name,
            platform_version: node.report.platform_version,
            activation_id: node.activation_id,
            iam_role: node.iam_role,
            registration_date: epoch_seconds(node.registered),
            name: node.name,
            ip_address: node.report.ip_address,
            computer_name: node.report.computer_name,
        }
    }
}

/// DeregisterManagedInstance's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeregisterRequest {
    instance_id: Option<String>,
}

/// DeregisterManagedInstance's result.
#[derive(Debug, Serialize)]
pub(super) struct DeregisterResult {}

/// Forgets a node, with its credentials, and closes its channels.
///
/// # Errors
/// `ValidationException`, `InvalidInstanceId`.
pub(super) async fn deregister(
    state: &ApiState,
    request: DeregisterRequest,
) -> Result<DeregisterResult, ApiError> {
    let node_id = required("instanceId", request.instance_id)?;
    length("instanceId", &node_id, 1..=124)?;
    if !state.store.deregister_node(&node_id).await? {
        let text = format!("{node_id} is not a registered node.");
        return Err(ApiError::new("InvalidInstanceId", text));
    }
    state.broker.disconnect_node(&node_id).await;
    info!(node = node_id, "node deregistered");
    Ok(DeregisterResult {})
}

#[cfg(test)]
mod tests {
    use super::super::node_filter::tests::node;
    use super::*;

    #[test]
    fn node_is_online_while_connected_or_freshly_pinged() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let pinged = |last_ping| Node {
            last_ping,
            ..node("mi-1")
        };

        for (last_ping, connected, status) in [
            (None, false, "ConnectionLost"),
            (None, true, "Online"),
            (Some(now - PING_FRESH), false, "ConnectionLost"),
            (Some(now - PING_FRESH), true, "Online"),
            (Some(now), false, "Online"),
            (Some(now + PING_FRESH), false, "Online"),
        ] {
            assert_eq!(ping_status(&pinged(last_ping), connected, now), status);
        }
    }
}
