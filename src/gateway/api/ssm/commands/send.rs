//! SendCommand.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::{
    DOCUMENT_NAME, length, matches, not_in_set, pattern, range, required,
};
use super::super::parameters::Given;
use super::super::{Person, documents};
use super::parameters;
use super::summary::Command;
use super::targets::{self, Target};
use crate::gateway::broker::SendRequest;
use crate::gateway::store::commands::{
    CommandNode, CommandRecord, CommandSummary, InvocationStatus,
};
use crate::gateway::store::nodes::Node;
use crate::protocol::wire::codec::Limit;
use crate::protocol::wire::command::SendCommand;
use crate::protocol::wire::job::CommandId;

/// `TimeoutSeconds` unless given; the model allows 30 seconds to 30 days.
const TIMEOUT: i64 = 3600;
const TIMEOUTS: std::ops::RangeInclusive<i64> = 30..=2_592_000;
/// What an invocation may take beyond its steps' own time-outs: an agent that waits for a free
/// worker, a host that starts anew.
const SLACK: Duration = Duration::from_secs(3600);
/// How many times the escaping of a text within a text may make a job longer than a command's content.
const ESCAPED: usize = 2;

static CONCURRENCY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([1-9][0-9]*|[1-9][0-9]%|[1-9]%|100%)$"));
static ERRORS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([1-9][0-9]*|[0]|[1-9][0-9]%|[0-9]%|100%)$"));

/// SendCommand's members. Those that name roles and topics are not served.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    #[serde(default)]
    instance_ids: Vec<String>,
    #[serde(default)]
    targets: Vec<Target>,
    document_name: Option<String>,
    document_version: Option<String>,
    document_hash: Option<String>,
    document_hash_type: Option<String>,
    timeout_seconds: Option<i64>,
    comment: Option<String>,
    #[serde(default)]
    parameters: Given,
    #[serde(rename = "OutputS3Region")]
    output_s3_region: Option<String>,
    #[serde(rename = "OutputS3BucketName")]
    output_s3_bucket_name: Option<String>,
    #[serde(rename = "OutputS3KeyPrefix")]
    output_s3_key_prefix: Option<String>,
    max_concurrency: Option<String>,
    max_errors: Option<String>,
    notification_config: Option<Value>,
    cloud_watch_output_config: Option<CloudWatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CloudWatch {
    cloud_watch_log_group_name: String,
    cloud_watch_output_enabled: bool,
}

/// SendCommand's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Sent {
    command: Command,
}

/// Sends a command.
///
/// # Errors
/// `InvalidDocument`, `InvalidDocumentVersion`, `InvalidParameters`, `InvalidInstanceId`,
/// `DuplicateInstanceId`, `UnsupportedPlatformType`, `MaxDocumentSizeExceeded`,
/// `InvalidOutputFolder`, `InvalidNotificationConfig`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn send(
    state: &ApiState,
    person: &Person,
    request: Request,
) -> Result<Sent, ApiError> {
    check(&request)?;
    let name = required("documentName", request.document_name.clone())?;
    matches("documentName", &name, &DOCUMENT_NAME)?;
    let version = request.document_version.as_deref();
    let document = documents::command_document(state, &name, version).await?;
    if let Some(hash) = &request.document_hash
        && !hash.eq_ignore_ascii_case(&document.hash)
    {
        let text = format!(
            "The hash of document {name} is {}, not {hash}.",
            document.hash
        );
        return Err(ApiError::new("InvalidDocument", text));
    }
    let given = json_text(&request.parameters);
    let values = parameters::values(&document.content, request.parameters)?;
    let nodes = targets::nodes(state, &request.instance_ids, &request.targets).await?;
    check_platforms(&document.platforms, &nodes)?;

    let id =
        CommandId::new(Uuid::new_v4().to_string()).map_err(|error| ApiError::internal(&error))?;
    let cloud_watch = request.cloud_watch_output_config.unwrap_or_default();
    let bucket = request.output_s3_bucket_name.unwrap_or_default();
    let prefix = request.output_s3_key_prefix.unwrap_or_default();
    let execution = parameters::execution(&document.content, &values) + SLACK;
    let content = SendCommand {
        parameters: values,
        document_content: document.content,
        command_id: id.to_string(),
        document_name: document.name.clone(),
        output_s3_key_prefix: prefix.clone(),
        output_s3_bucket_name: bucket.clone(),
        cloud_watch_log_group_name: cloud_watch.cloud_watch_log_group_name.clone(),
        cloud_watch_output_enabled: cloud_watch.cloud_watch_output_enabled.to_string(),
    }
    .encode();
    if content.len() > Limit::PAYLOAD / ESCAPED {
        let text = format!(
            "The document with its parameters has {} bytes, {} are allowed.",
            content.len(),
            Limit::PAYLOAD / ESCAPED
        );
        return Err(ApiError::new("MaxDocumentSizeExceeded", text));
    }
    let timeout_seconds = request.timeout_seconds.unwrap_or(TIMEOUT);
    let requested = SystemTime::now();
    let timeout = Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0));
    let command = CommandRecord {
        command_id: id,
        owner: person.arn.clone(),
        document_name: document.name,
        document_version: request.document_version.unwrap_or_default(),
        comment: request.comment.unwrap_or_default(),
        parameters: given,
        node_ids: json_text(&request.instance_ids),
        targets: json_text(&request.targets),
        max_concurrency: request.max_concurrency.unwrap_or_else(|| "50".into()),
        max_errors: request.max_errors.unwrap_or_else(|| "0".into()),
        s3_bucket: bucket,
        s3_prefix: prefix,
        s3_region: request.output_s3_region.unwrap_or_default(),
        log_group: cloud_watch.cloud_watch_log_group_name,
        log_enabled: cloud_watch.cloud_watch_output_enabled,
        requested,
        expires: requested + timeout,
        timeout_seconds,
        execution,
        content,
        cancelled: false,
    };
    let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
    let summary = CommandSummary {
        command: command.clone(),
        counts: if count == 0 {
            Vec::new()
        } else {
            vec![(InvocationStatus::Pending, count)]
        },
    };
    let nodes = nodes.into_iter().map(|node| CommandNode {
        name: if node.name.is_empty() {
            node.report.computer_name
        } else {
            node.name
        },
        node_id: node.node_id,
    });
    let nodes = nodes.collect();
    state
        .broker
        .send_command(SendRequest { command, nodes })
        .await?;
    Ok(Sent {
        command: summary.into(),
    })
}

fn check(request: &Request) -> Result<(), ApiError> {
    if let Some(seconds) = request.timeout_seconds {
        range("timeoutSeconds", seconds, TIMEOUTS)?;
    }
    if let Some(comment) = &request.comment {
        length("comment", comment, 0..=100)?;
    }
    if let Some(kind) = &request.document_hash_type
        && !matches!(kind.as_str(), "Sha256" | "Sha1")
    {
        return Err(not_in_set("documentHashType", kind, &["Sha256", "Sha1"]));
    }
    if let Some(bucket) = &request.output_s3_bucket_name
        && !bucket.is_empty()
    {
        length("outputS3BucketName", bucket, 3..=63)?;
    }
    if let Some(prefix) = &request.output_s3_key_prefix {
        length("outputS3KeyPrefix", prefix, 0..=500)?;
        if prefix.split('/').any(|part| part == "..") {
            let text = format!("The S3 key prefix {prefix:?} has a part \"..\".");
            return Err(ApiError::new("InvalidOutputFolder", text));
        }
    }
    if let Some(text) = &request.max_concurrency {
        length("maxConcurrency", text, 1..=7)?;
        matches("maxConcurrency", text, &CONCURRENCY)?;
    }
    if let Some(text) = &request.max_errors {
        length("maxErrors", text, 1..=7)?;
        matches("maxErrors", text, &ERRORS)?;
    }
    let has_topic = |config: &Value| {
        let arn = config["NotificationArn"].as_str();
        arn.is_some_and(|arn| !arn.is_empty())
    };
    if request.notification_config.as_ref().is_some_and(has_topic) {
        let text = "This gateway sends no notifications.";
        return Err(ApiError::new("InvalidNotificationConfig", text));
    }
    Ok(())
}

/// Nodes that have not said what they are may be anything.
fn check_platforms(platforms: &[String], nodes: &[Node]) -> Result<(), ApiError> {
    let is_other = |node: &&Node| {
        let platform = &node.report.platform_type;
        !platform.is_empty() && !platforms.contains(platform)
    };
    match nodes.iter().find(is_other) {
        None => Ok(()),
        Some(node) => {
            let text = format!(
                "The document is for {}, node {} is {}.",
                platforms.join(", "),
                node.node_id,
                node.report.platform_type
            );
            Err(ApiError::new("UnsupportedPlatformType", text))
        }
    }
}

fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
