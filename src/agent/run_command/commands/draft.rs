//! The state of a new command.

use jiff::Timestamp;
use uuid::Uuid;

use super::accepting::{Arrival, Rejected};
use crate::agent::run_command::document::Document;
use crate::agent::run_command::settings::Settings;
use crate::agent::run_command::state::{
    CloudWatchConfig, Configuration, DocumentInformation, DocumentState, IoConfig, StepState,
};
use crate::agent::run_command::steps::without_colons;
use crate::agent::run_command::validators;
use crate::protocol::wire::command::SendCommand;
use crate::protocol::wire::job::{CommandId, iso_8601};
use crate::protocol::wire::session_document::StoredParameters;

/// A command that can be kept.
pub(super) struct Draft {
    pub(super) state: DocumentState,
}

/// Makes the state of a new command.
pub(super) fn draft(
    settings: &Settings,
    arrival: &Arrival,
    send: &SendCommand,
    document: &Document,
    stored: &StoredParameters,
) -> Result<Draft, Rejected> {
    let command = &arrival.command;
    let folder = settings.orchestration().join(command.as_str());
    let key_prefix = join(&[
        &send.output_s3_key_prefix,
        command.as_str(),
        &settings.node_id,
    ]);
    validators::check_command(document, &send.parameters, stored)?;
    let steps = document.resolve(&send.parameters, stored)?;
    let steps = steps.into_iter().map(|step| StepState {
        configuration: Configuration {
            settings: step.settings,
            properties: step.properties,
            output_s3_key_prefix: join(&[&key_prefix, &without_colons(&step.plugin)]),
            output_s3_bucket_name: send.output_s3_bucket_name.clone(),
            orchestration_directory: folder.join(&step.id).display().to_string(),
            message_id: arrival.job_id.clone(),
            book_keeping_file_name: command.to_string(),
            plugin_name: step.plugin.clone(),
            plugin_id: step.id.clone(),
            preconditions: step.preconditions,
            is_precondition_enabled: document.has_preconditions(),
            upstream_service_name: arrival.route.upstream().into(),
            ..Configuration::default()
        },
        name: step.plugin,
        id: step.id,
        ..StepState::default()
    });
    let now = Timestamp::now();
    let state = DocumentState {
        document_information: DocumentInformation {
            document_id: command.to_string(),
            command_id: command.to_string(),
            instance_id: settings.node_id.clone(),
            message_id: arrival.job_id.clone(),
            run_id: format!(
                "{}.{:03}Z",
                now.strftime("%Y-%m-%dT%H-%M-%S"),
                now.subsec_millisecond()
            ),
            created_date: iso_8601(arrival.created_ms),
            document_name: send.document_name.clone(),
            final_reply_id: Uuid::new_v4().to_string(),
            ..DocumentInformation::default()
        },
        document_type: arrival.route.document_type().into(),
        schema_version: document.schema_version().to_owned(),
        instance_plugins_information: steps.collect(),
        io_config: IoConfig {
            orchestration_directory: folder.display().to_string(),
            output_s3_bucket_name: send.output_s3_bucket_name.clone(),
            output_s3_key_prefix: key_prefix,
            cloud_watch_config: cloud_watch(settings, command, send),
        },
        upstream_service_name: arrival.route.upstream().into(),
        ..DocumentState::default()
    };
    Ok(Draft { state })
}

/// Joins parts of a key; an empty one leaves no slash.
fn join(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| part.trim_matches('/'));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// The log group that was named, or one after the document.
fn cloud_watch(settings: &Settings, command: &CommandId, send: &SendCommand) -> CloudWatchConfig {
    let is_wanted = matches!(
        send.cloud_watch_output_enabled.as_str(),
        "1" | "t" | "T" | "TRUE" | "true" | "True"
    );
    if !is_wanted {
        return CloudWatchConfig::default();
    }
    let group = match send.cloud_watch_log_group_name.as_str() {
        "" => format!("/aws/ssm/{}", send.document_name),
        named => named.to_owned(),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
    CloudWatchConfig {
        log_group_name: group
            .chars()
            .map(|c| if allowed(c) { c } else { '.' })
            .collect(),
        log_stream_prefix: format!("{command}/{}", settings.node_id),
        ..CloudWatchConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn output_goes_to_the_group_that_was_named_or_to_one_after_the_document() {
        for (is_wanted, named, document, group) in [
            ("true", "/own/group", "Doc", "/own/group"),
            ("1", "", "AWS-RunShellScript", "/aws/ssm/AWS-RunShellScript"),
            (
                "TRUE",
                "",
                "arn:aws:ssm:eu-central-1:1:document/a b",
                "/aws/ssm/arn.aws.ssm.eu-central-1.1.document/a.b",
            ),
            ("T", "a_b-c/d.e#f:*\u{e9}", "Doc", "a_b-c/d.e#f..."),
            ("false", "/own/group", "Doc", ""),
            // What is no such word disables it, and nothing else.
            ("", "/own/group", "Doc", ""),
            ("yes", "/own/group", "Doc", ""),
            ("tRuE", "/own/group", "Doc", ""),
        ] {
            let send = SendCommand {
                parameters: serde_json::Map::new(),
                document_content: json!({}),
                command_id: "c-1".into(),
                document_name: document.into(),
                output_s3_key_prefix: String::new(),
                output_s3_bucket_name: String::new(),
                cloud_watch_log_group_name: named.into(),
                cloud_watch_output_enabled: is_wanted.into(),
            };

            let config = cloud_watch(
                &Settings::new("/var/mi-1".into(), "mi-1"),
                &CommandId::new("c-1").unwrap(),
                &send,
            );

            assert_eq!(
                config.log_group_name, group,
                "{is_wanted} {named} {document}"
            );
            let prefix = if group.is_empty() { "" } else { "c-1/mi-1" };
            assert_eq!(config.log_stream_prefix, prefix);
        }
    }
}
