//! UpdateInstanceInformation: what an agent says about itself, and that it is alive.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::answer::ApiError;
use super::super::signature::SignatureError;
use super::speaks_for_itself;
use crate::gateway::store::nodes::Report;

/// Characters kept of each member; host names end at 255.
const MEMBER_LIMIT: usize = 256;

/// UpdateInstanceInformation's members; a starting agent sends four of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    instance_id: Option<String>,
    agent_name: Option<String>,
    agent_status: Option<String>,
    agent_version: Option<String>,
    platform_type: Option<String>,
    platform_name: Option<String>,
    platform_version: Option<String>,
    #[serde(rename = "IPAddress")]
    ip_address: Option<String>,
    computer_name: Option<String>,
    #[serde(rename = "SSMConnectionChannel")]
    connection_channel: Option<String>,
}

/// UpdateInstanceInformation's result.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {}

/// Keeps the report.
///
/// # Errors
/// `AccessDeniedException` for another node, `UnrecognizedClientException` if the node was
/// deregistered meanwhile.
pub(super) async fn update(
    state: &ApiState,
    node_id: &str,
    request: Request,
) -> Result<Outcome, ApiError> {
    speaks_for_itself(node_id, request.instance_id.as_deref())?;
    let report = Report {
        agent_name: bounded(request.agent_name),
        agent_status: bounded(request.agent_status),
        agent_version: bounded(request.agent_version),
        platform_type: bounded(request.platform_type),
        platform_name: bounded(request.platform_name),
        platform_version: bounded(request.platform_version),
        ip_address: bounded(request.ip_address),
        computer_name: bounded(request.computer_name),
        connection_channel: bounded(request.connection_channel),
    };
    let now = SystemTime::now();
    if state.store.record_report(node_id, report, now).await? {
        Ok(Outcome {})
    } else {
        Err(SignatureError::UnknownKey.into())
    }
}

fn bounded(member: Option<String>) -> String {
    let member = member.unwrap_or_default();
    member.chars().take(MEMBER_LIMIT).collect()
}
