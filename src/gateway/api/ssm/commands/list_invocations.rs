//! ListCommandInvocations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::{ApiError, epoch_seconds};
use super::super::super::validation::{page_size, page_token};
use super::list::{Filter, PAGE_SIZE, before, wanted};
use super::steps::steps as steps_of;
use super::summary::{CloudWatchOutput, Notification};
use crate::gateway::store::commands::{
    CommandRecord, Invocation, InvocationFilter, InvocationStep,
};

const LIST: &str = "ListCommandInvocations";

/// Members of ListCommandInvocations.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    command_id: Option<String>,
    instance_id: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
    filters: Option<Vec<Filter>>,
    #[serde(default)]
    details: bool,
}

/// ListCommandInvocations' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Invocations {
    command_invocations: Vec<CommandInvocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommandInvocation {
    command_id: String,
    instance_id: String,
    instance_name: String,
    comment: String,
    document_name: String,
    document_version: String,
    requested_date_time: f64,
    status: &'static str,
    status_details: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace_output: String,
    standard_output_url: String,
    standard_error_url: String,
    command_plugins: Vec<CommandPlugin>,
    service_role: &'static str,
    notification_config: Notification,
    cloud_watch_output_config: CloudWatchOutput,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommandPlugin {
    name: String,
    status: String,
    status_details: String,
    response_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_start_date_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_finish_date_time: Option<f64>,
    output: String,
    standard_output_url: String,
    standard_error_url: String,
    #[serde(rename = "OutputS3Region", skip_serializing_if = "String::is_empty")]
    output_s3_region: String,
    #[serde(rename = "OutputS3BucketName")]
    output_s3_bucket_name: String,
    #[serde(rename = "OutputS3KeyPrefix")]
    output_s3_key_prefix: String,
}

/// Lists what became of commands on their nodes, newest first.
///
/// # Errors
/// `InvalidCommandId`, `InvalidFilterKey`, `InvalidNextToken`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn list_invocations(
    state: &ApiState,
    request: Request,
) -> Result<Invocations, ApiError> {
    let wanted = wanted(request.command_id, request.instance_id, request.filters)?;
    if wanted.is_complete.is_some() {
        let text = "The specified key ExecutionStage isn't valid.";
        return Err(ApiError::new("InvalidFilterKey", text));
    }
    let filter = InvocationFilter {
        commands: wanted.commands,
        status: wanted.status,
    };
    let size = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let from = before(LIST, request.next_token.as_deref())?;
    let page = state.store.invocations(filter, from, size).await?;
    let mut command_invocations = Vec::with_capacity(page.items.len());
    for (invocation, command) in page.items {
        let has_streams = !command.s3_bucket.is_empty();
        let steps = if request.details || has_streams {
            let found = state
                .store
                .invocation(&invocation.command_id, &invocation.node_id)
                .await?;
            found.map(|(_, steps)| steps).unwrap_or_default()
        } else {
            Vec::new()
        };
        let shown = CommandInvocation::new(invocation, &command, steps, request.details);
        command_invocations.push(shown);
    }
    Ok(Invocations {
        command_invocations,
        next_token: page.next.map(|next| page_token(LIST, &next)),
    })
}

impl CommandInvocation {
    /// As in AWS, the invocation has the places of the streams where the document has one step alone.
    fn new(
        invocation: Invocation,
        command: &CommandRecord,
        steps: Vec<InvocationStep>,
        has_details: bool,
    ) -> Self {
        let url = |stream| match steps.as_slice() {
            [only] if steps_of(&command.content, &steps).len() == 1 => {
                stream_url(only, command, stream)
            }
            _ => String::new(),
        };
        Self {
            command_id: invocation.command_id.to_string(),
            instance_id: invocation.node_id,
            instance_name: invocation.node_name,
            comment: command.comment.clone(),
            document_name: command.document_name.clone(),
            document_version: command.document_version.clone(),
            requested_date_time: epoch_seconds(invocation.requested),
            status: invocation.status.as_str(),
            status_details: invocation.status.details(),
            trace_output: invocation.trace,
            standard_output_url: url("stdout"),
            standard_error_url: url("stderr"),
            command_plugins: steps
                .into_iter()
                .filter(|_| has_details)
                .map(|step| CommandPlugin::new(step, command))
                .collect(),
            service_role: "",
            notification_config: Notification::default(),
            cloud_watch_output_config: CloudWatchOutput::of(command),
        }
    }
}

impl CommandPlugin {
    fn new(step: InvocationStep, command: &CommandRecord) -> Self {
        Self {
            standard_output_url: stream_url(&step, command, "stdout"),
            standard_error_url: stream_url(&step, command, "stderr"),
            name: step.step,
            status_details: status_details(&step.status).to_owned(),
            status: status(&step.status).to_owned(),
            response_code: step.code,
            response_start_date_time: seconds(&step.started),
            response_finish_date_time: seconds(&step.ended),
            output: step.output,
            output_s3_region: command.s3_region.clone(),
            output_s3_bucket_name: step.s3_bucket,
            output_s3_key_prefix: step.s3_prefix,
        }
    }
}

/// `Status` of a step: the model knows fewer words than agents.
pub(super) fn status(agents: &str) -> &str {
    match agents {
        "NotStarted" => "Pending",
        "Skipped" => "Success",
        "SuccessAndReboot" | "PassedAndReboot" => "InProgress",
        other => other,
    }
}

pub(super) fn status_details(agents: &str) -> &str {
    match agents {
        "TimedOut" => "ExecutionTimedOut",
        "Skipped" => "Skipped",
        other => status(other),
    }
}

fn seconds(date: &str) -> Option<f64> {
    let at: Timestamp = date.parse().ok()?;
    Some(epoch_seconds(at.into()))
}

/// Where the whole stream is in S3; empty if nowhere.
pub(super) fn stream_url(step: &InvocationStep, command: &CommandRecord, stream: &str) -> String {
    if step.s3_bucket.is_empty() {
        return String::new();
    }
    let host = match command.s3_region.as_str() {
        "" => "s3.amazonaws.com".to_owned(),
        region => format!("s3.{region}.amazonaws.com"),
    };
    let (bucket, prefix, name) = (&step.s3_bucket, &step.s3_prefix, &step.stream_name);
    format!("https://{host}/{bucket}/{prefix}/{name}/{stream}")
}
