//! What jobs of Run Command ask for, and what replies say. Each is JSON text within a
//! [`super::job`] message.
//!
//! | content of | type here |
//! |---|---|
//! | `agent_job` with the send topic | [`SendCommand`] |
//! | `agent_job` with the cancel topic | [`CancelCommand`] |
//! | `agent_job_reply` | [`Report`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::codec::{DecodeError, Limit, from_json, to_json};

/// Longest content of a reply, in bytes; the reference drops longer ones.
pub const REPLY_LIMIT: usize = 120_000;
/// Longest `output` of a step, in bytes.
pub const OUTPUT_LIMIT: usize = 2500;
/// Longest `standardOutput` or `standardError` of a step, in bytes.
pub const STREAM_LIMIT: usize = 24_000;

/// A command to run: a document with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SendCommand {
    /// Values of the document's parameters.
    #[serde(default, alias = "parameters", deserialize_with = "null_as_default")]
    pub parameters: Map<String, Value>,
    /// The document as JSON.
    #[serde(alias = "documentContent")]
    pub document_content: Value,
    /// The command.
    #[serde(alias = "commandId")]
    pub command_id: String,
    /// Name of the document.
    #[serde(default, alias = "documentName", deserialize_with = "null_as_default")]
    pub document_name: String,
    /// Start of the keys of its output in S3.
    #[serde(
        default,
        alias = "outputS3KeyPrefix",
        deserialize_with = "null_as_default"
    )]
    pub output_s3_key_prefix: String,
    /// Bucket for its output; empty for none.
    #[serde(
        default,
        alias = "outputS3BucketName",
        deserialize_with = "null_as_default"
    )]
    pub output_s3_bucket_name: String,
    /// Log group for its output; empty for one named after the document.
    #[serde(
        default,
        alias = "cloudWatchLogGroupName",
        deserialize_with = "null_as_default"
    )]
    pub cloud_watch_log_group_name: String,
    /// `"true"` if its output goes to CloudWatch Logs.
    #[serde(
        default,
        alias = "cloudWatchOutputEnabled",
        deserialize_with = "null_as_default"
    )]
    pub cloud_watch_output_enabled: String,
}

impl SendCommand {
    /// The JSON text.
    pub fn encode(&self) -> String {
        String::from_utf8(to_json(self)).expect("JSON is UTF-8")
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        from_json("command", text.as_bytes(), Limit::PAYLOAD)
    }
}

/// A command to cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CancelCommand {
    /// Id of the job that brought the command.
    #[serde(alias = "cancelMessageId")]
    pub cancel_message_id: String,
}

impl CancelCommand {
    /// The JSON text.
    pub fn encode(&self) -> String {
        String::from_utf8(to_json(self)).expect("JSON is UTF-8")
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        from_json("cancellation", text.as_bytes(), Limit::JSON_PAYLOAD)
    }
}

/// How a document or a step stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// Its turn has not come.
    #[default]
    NotStarted,
    /// It runs.
    InProgress,
    /// It ended well.
    Success,
    /// It ended well, and the host has to start anew before it goes on.
    SuccessAndReboot,
    /// The same, from a step that joins a domain.
    PassedAndReboot,
    /// It failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
    /// It did not have to run.
    Skipped,
    /// A status that we do not know.
    Unknown(String),
}

impl Status {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::NotStarted => "NotStarted",
            Self::InProgress => "InProgress",
            Self::Success => "Success",
            Self::SuccessAndReboot => "SuccessAndReboot",
            Self::PassedAndReboot => "PassedAndReboot",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
            Self::Skipped => "Skipped",
            Self::Unknown(text) => text,
        }
    }

    /// Whether nothing follows. A reboot that is due is not the end.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Success | Self::Failed | Self::Cancelled | Self::TimedOut | Self::Skipped => true,
            Self::NotStarted
            | Self::InProgress
            | Self::SuccessAndReboot
            | Self::PassedAndReboot
            | Self::Unknown(_) => false,
        }
    }
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        match text.as_str() {
            "NotStarted" | "" => Self::NotStarted,
            "InProgress" => Self::InProgress,
            "Success" => Self::Success,
            "SuccessAndReboot" => Self::SuccessAndReboot,
            "PassedAndReboot" => Self::PassedAndReboot,
            "Failed" => Self::Failed,
            "Cancelled" => Self::Cancelled,
            "TimedOut" => Self::TimedOut,
            "Skipped" => Self::Skipped,
            _ => Self::Unknown(text),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        status.as_str().to_owned()
    }
}

/// What an agent reports of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Who reports, and when.
    #[serde(default)]
    pub additional_info: AdditionalInfo,
    /// How the whole document stands.
    pub document_status: Status,
    /// Why a document could not be run at all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub document_trace_output: String,
    /// Steps by name: those that this report is about. `null` before the first.
    #[serde(default)]
    pub runtime_status: Option<BTreeMap<String, StepReport>>,
}

/// Who reports, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdditionalInfo {
    /// The agent.
    pub agent: AgentInfo,
    /// When, with milliseconds.
    pub date_time: String,
    /// Empty.
    pub run_id: String,
    /// How many of the steps that are over have which status. `null` before the first.
    pub runtime_status_counts: Option<BTreeMap<String, u64>>,
    /// Whether the control channel is open; only replies over the message delivery service say so.
    #[serde(
        rename = "ableToOpenMGSConnection",
        skip_serializing_if = "Option::is_none"
    )]
    pub able_to_open_mgs_connection: Option<bool>,
}

/// The agent, as replies name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentInfo {
    /// `en-US`.
    pub lang: String,
    /// `amazon-ssm-agent`.
    pub name: String,
    /// `linux`.
    pub os: String,
    /// `1`.
    pub osver: String,
    /// Its version.
    pub ver: String,
}

/// One step in a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepReport {
    /// How it stands.
    pub status: Status,
    /// Its exit code.
    pub code: i64,
    /// Name of its plugin, such as `aws:runShellScript`.
    pub name: String,
    /// Both streams in [`OUTPUT_LIMIT`] bytes, or the error that kept it from running.
    #[serde(deserialize_with = "null_as_default")]
    pub output: String,
    /// When it began, with milliseconds.
    pub start_date_time: String,
    /// When it ended, with milliseconds.
    pub end_date_time: String,
    /// Bucket with its whole output; empty for none.
    pub output_s3_bucket_name: String,
    /// Where in the bucket.
    pub output_s3_key_prefix: String,
    /// Its own name where a bucket was asked for; empty otherwise.
    pub step_name: String,
    /// What it printed, the first [`STREAM_LIMIT`] bytes.
    pub standard_output: String,
    /// Its error output, the first [`STREAM_LIMIT`] bytes.
    pub standard_error: String,
}

impl Report {
    /// The JSON text.
    pub fn encode(&self) -> String {
        String::from_utf8(to_json(self)).expect("JSON is UTF-8")
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        from_json("reply", text.as_bytes(), Limit::PAYLOAD)
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_read_as_the_service_writes_it() {
        let text = r#"{"Parameters":{"commands":["echo hi"]},"DocumentContent":{"schemaVersion":"2.2"},
            "CommandId":"c-1","DocumentName":"AWS-RunShellScript","OutputS3KeyPrefix":null,
            "OutputS3BucketName":"","CloudWatchLogGroupName":"","CloudWatchOutputEnabled":"false"}"#;

        let command = SendCommand::decode(text).unwrap();

        assert_eq!(command.command_id, "c-1");
        assert_eq!(command.parameters["commands"][0], "echo hi");
        assert_eq!(command.document_content["schemaVersion"], "2.2");
        assert_eq!(SendCommand::decode(&command.encode()).unwrap(), command);
    }

    #[test]
    fn command_without_a_document_or_an_id_is_refused() {
        for text in [
            "{}",
            r#"{"CommandId":"c"}"#,
            r#"{"DocumentContent":{}}"#,
            "null",
            "",
        ] {
            assert!(SendCommand::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn report_is_written_as_the_reference_does() {
        let text = concat!(
            r#"{"additionalInfo":{"agent":{"lang":"en-US","name":"amazon-ssm-agent","os":"linux","osver":"1","ver":"3.3.0.0"},"#,
            r#""dateTime":"2024-10-15T21:22:06.130Z","runId":"","runtimeStatusCounts":{"Success":1}},"#,
            r#""documentStatus":"Success","documentTraceOutput":"","runtimeStatus":{"step1":{"status":"Success","code":0,"#,
            r#""name":"aws:runShellScript","output":"hi\n","startDateTime":"2024-10-15T21:22:05.123Z","#,
            r#""endDateTime":"2024-10-15T21:22:06.123Z","outputS3BucketName":"","outputS3KeyPrefix":"","stepName":"","#,
            r#""standardOutput":"hi\n","standardError":""}}}"#,
        );

        let report = Report::decode(text).unwrap();

        assert_eq!(report.encode(), text);
        assert_eq!(
            report.runtime_status.unwrap()["step1"].standard_output,
            "hi\n"
        );
    }

    #[test]
    fn first_report_has_no_steps() {
        let text = r#"{"additionalInfo":{"runtimeStatusCounts":null},"documentStatus":"InProgress",
            "documentTraceOutput":"","runtimeStatus":null}"#;

        let report = Report::decode(text).unwrap();

        assert_eq!(report.document_status, Status::InProgress);
        assert_eq!(report.runtime_status, None);
        assert!(report.encode().contains(r#""runtimeStatus":null"#));
    }

    #[test]
    fn status_of_a_later_agent_is_kept_as_it_is() {
        let status = Status::from("Resting".to_owned());

        assert_eq!(status, Status::Unknown("Resting".into()));
        assert!(!status.is_final());
        assert_eq!(String::from(status), "Resting");
    }
}
