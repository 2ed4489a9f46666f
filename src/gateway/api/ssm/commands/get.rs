//! GetCommandInvocation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::{length, required};
use super::command_id;
use super::list_invocations::{status, status_details, stream_url};
use super::steps::{self, named};
use super::summary::CloudWatchOutput;
use crate::gateway::store::commands::{InvocationStatus, InvocationStep};

/// Characters of `StandardOutputContent`, as documented.
const OUTPUT: usize = 24_000;
/// Characters of `StandardErrorContent`, as documented.
const ERROR: usize = 8_000;

/// GetCommandInvocation's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    command_id: Option<String>,
    instance_id: Option<String>,
    plugin_name: Option<String>,
}

/// GetCommandInvocation's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Found {
    command_id: String,
    instance_id: String,
    comment: String,
    document_name: String,
    document_version: String,
    plugin_name: String,
    response_code: i64,
    execution_start_date_time: String,
    execution_elapsed_time: String,
    execution_end_date_time: String,
    status: String,
    status_details: String,
    standard_output_content: String,
    standard_output_url: String,
    standard_error_content: String,
    standard_error_url: String,
    cloud_watch_output_config: CloudWatchOutput,
}

/// What became of a command on a node: of its only step, or of the one that is named.
///
/// # Errors
/// `InvalidCommandId`, `InvocationDoesNotExist`, `InvalidPluginName`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn get_invocation(
    state: &ApiState,
    request: Request,
) -> Result<Found, ApiError> {
    let id = command_id(request.command_id)?;
    let node_id = required("instanceId", request.instance_id)?;
    length("instanceId", &node_id, 1..=124)?;
    let missing = || {
        let text = "The command ID and managed node ID you specified didn't match any invocations. \
                    Verify the command ID and the managed node ID and try again.";
        ApiError::new("InvocationDoesNotExist", text)
    };
    let found = state.store.invocation(&id, &node_id).await?;
    let (invocation, reported) = found.ok_or_else(missing)?;
    let command = state.store.command(&id).await?.ok_or_else(missing)?;
    let steps = steps::steps(&command.content, &reported);
    let name = match &request.plugin_name {
        Some(name) => Some(named(&steps, name)?),
        None => None,
    };
    let step = match (name, reported.as_slice()) {
        (Some(name), reported) => reported.iter().find(|step| step.step == name),
        (None, []) => None,
        (None, [only]) => Some(only),
        (None, _) => return Err(steps::unknown(&steps)),
    };
    let of_step = name.is_some() && steps.len() > 1;
    let (status, details) = match step {
        Some(step) if of_step => (status(&step.status), status_details(&step.status)),
        None if of_step && is_to_come(invocation.status) => ("Pending", "Pending"),
        Some(_) | None => (invocation.status.as_str(), invocation.status.details()),
    };
    let (status, status_details) = (status.to_owned(), details.to_owned());
    let empty = InvocationStep {
        step: name.unwrap_or_default().to_owned(),
        plugin: String::new(),
        status: String::new(),
        // There is no code yet.
        code: -1,
        output: String::new(),
        stdout: String::new(),
        stderr: invocation.trace,
        started: String::new(),
        ended: String::new(),
        s3_bucket: String::new(),
        s3_prefix: String::new(),
        stream_name: String::new(),
    };
    let step = step.unwrap_or(&empty);
    Ok(Found {
        command_id: id.to_string(),
        instance_id: node_id,
        comment: command.comment.clone(),
        document_name: command.document_name.clone(),
        document_version: command.document_version.clone(),
        plugin_name: step.step.clone(),
        response_code: step.code,
        execution_elapsed_time: elapsed(&step.started, &step.ended),
        execution_start_date_time: step.started.clone(),
        execution_end_date_time: step.ended.clone(),
        status,
        status_details,
        standard_output_content: step.stdout.chars().take(OUTPUT).collect(),
        standard_output_url: stream_url(step, &command, "stdout"),
        standard_error_content: step.stderr.chars().take(ERROR).collect(),
        standard_error_url: stream_url(step, &command, "stderr"),
        cloud_watch_output_config: CloudWatchOutput::of(&command),
    })
}

/// Whether a step that was not reported still will be. Agents report every step of what ended well,
/// but the report of its end may overtake that of its last step.
fn is_to_come(invocation: InvocationStatus) -> bool {
    !invocation.is_final() || invocation == InvocationStatus::Success
}

/// A duration in ISO 8601, as `PT1.25S`; empty unless both are known.
fn elapsed(started: &str, ended: &str) -> String {
    let (Ok(started), Ok(ended)) = (started.parse::<Timestamp>(), ended.parse::<Timestamp>())
    else {
        return String::new();
    };
    let millis = (ended.as_millisecond() - started.as_millisecond()).max(0);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    if millis == 0 {
        format!("PT{seconds}S")
    } else {
        let fraction = format!("{millis:03}");
        format!("PT{seconds}.{}S", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_iso_8601() {
        let start = "2024-10-15T21:22:05.123Z";
        for (end, text) in [
            ("2024-10-15T21:22:05.123Z", "PT0S"),
            ("2024-10-15T21:22:06.373Z", "PT1.25S"),
            ("2024-10-15T21:23:05.124Z", "PT60.001S"),
            ("2024-10-15T21:22:04.123Z", "PT0S"),
            ("", ""),
        ] {
            assert_eq!(elapsed(start, end), text);
        }
    }
}
