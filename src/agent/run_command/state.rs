//! What is on disk of a document: the reference's format, so that either agent goes on with what the
//! other one left. The reference ignores the two members that are ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::iso_8601;
use crate::runtime::clock::unix_ms;

/// The date that stands for none.
const NO_DATE: &str = "0001-01-01T00:00:00Z";
/// Type of documents that a job brought.
pub(super) const SEND_COMMAND: &str = "SendCommand";
/// Type of documents that somebody on this host left for the agent.
pub(super) const SEND_COMMAND_OFFLINE: &str = "SendCommandOffline";
/// The service that sends jobs over the control channel.
pub(super) const MESSAGE_GATEWAY: &str = "MessageGatewayService";
/// The service that is polled for them.
pub(super) const MESSAGE_DELIVERY: &str = "MessageDeliveryService";

/// A document and how far it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DocumentState {
    pub(super) document_information: DocumentInformation,
    pub(super) document_type: String,
    pub(super) schema_version: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) instance_plugins_information: Vec<StepState>,
    pub(super) cancel_information: CancelInformation,
    #[serde(rename = "IOConfig")]
    pub(super) io_config: IoConfig,
    pub(super) upstream_service_name: String,
}

/// Which document it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DocumentInformation {
    #[serde(rename = "DocumentID")]
    pub(super) document_id: String,
    #[serde(rename = "CommandID")]
    pub(super) command_id: String,
    #[serde(rename = "AssociationID")]
    pub(super) association_id: String,
    #[serde(rename = "InstanceID")]
    pub(super) instance_id: String,
    /// The id of the job.
    #[serde(rename = "MessageID")]
    pub(super) message_id: String,
    /// When it was accepted, as part of a file name.
    #[serde(rename = "RunID")]
    pub(super) run_id: String,
    pub(super) created_date: String,
    pub(super) document_name: String,
    pub(super) document_version: String,
    pub(super) document_status: Status,
    /// How often an agent started with it.
    pub(super) run_count: u32,
    pub(super) proc_info: ProcInfo,
    pub(super) client_id: String,
    pub(super) run_as_user: String,
    pub(super) session_owner: String,
    /// Ours: the id of its final reply, the same whenever the agent dies on the way to it.
    #[serde(rename = "FinalReplyID")]
    pub(super) final_reply_id: String,
    /// Ours: the boot of the host in which its present step began.
    #[serde(rename = "BootID")]
    pub(super) boot_id: String,
}

/// The reference's worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ProcInfo {
    pid: i64,
    start_time: String,
}

/// A step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StepState {
    pub(super) configuration: Configuration,
    /// The plugin.
    pub(super) name: String,
    pub(super) result: StepResult,
    pub(super) id: String,
}

/// What a step is to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Configuration {
    pub(super) settings: Value,
    pub(super) properties: Value,
    #[serde(rename = "OutputS3KeyPrefix")]
    pub(super) output_s3_key_prefix: String,
    #[serde(rename = "OutputS3BucketName")]
    pub(super) output_s3_bucket_name: String,
    #[serde(rename = "S3EncryptionEnabled")]
    pub(super) s3_encryption_enabled: bool,
    pub(super) cloud_watch_log_group: String,
    pub(super) cloud_watch_encryption_enabled: bool,
    pub(super) cloud_watch_streaming_enabled: bool,
    pub(super) orchestration_directory: String,
    pub(super) message_id: String,
    pub(super) book_keeping_file_name: String,
    pub(super) plugin_name: String,
    #[serde(rename = "PluginID")]
    pub(super) plugin_id: String,
    pub(super) default_working_directory: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) preconditions: BTreeMap<String, Vec<Argument>>,
    pub(super) is_precondition_enabled: bool,
    pub(super) current_associations: Value,
    pub(super) session_id: String,
    pub(super) client_id: String,
    pub(super) kms_key_id: String,
    pub(super) run_as_enabled: bool,
    pub(super) run_as_user: String,
    pub(super) shell_profile: ShellProfile,
    pub(super) session_owner: String,
    pub(super) upstream_service_name: String,
}

/// An argument of a precondition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Argument {
    /// As the document has it.
    #[serde(rename = "InitialArgumentValue")]
    pub(super) initial: String,
    /// With parameters put in.
    #[serde(rename = "ResolvedArgumentValue")]
    pub(super) resolved: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ShellProfile {
    windows: String,
    linux: String,
}

/// How a step ended, or stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StepResult {
    #[serde(rename = "pluginID")]
    pub(super) plugin_id: String,
    pub(super) plugin_name: String,
    #[serde(with = "empty_if_not_started")]
    pub(super) status: Status,
    pub(super) code: i64,
    /// Both streams in short.
    #[serde(deserialize_with = "text_or_default")]
    pub(super) output: String,
    pub(super) start_date_time: String,
    pub(super) end_date_time: String,
    #[serde(rename = "outputS3BucketName")]
    pub(super) output_s3_bucket_name: String,
    #[serde(rename = "outputS3KeyPrefix")]
    pub(super) output_s3_key_prefix: String,
    pub(super) step_name: String,
    /// Why it could not run at all; stands for the output then.
    pub(super) error: String,
    pub(super) standard_output: String,
    pub(super) standard_error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CancelInformation {
    #[serde(rename = "CancelMessageID")]
    cancel_message_id: String,
    #[serde(rename = "CancelCommandID")]
    cancel_command_id: String,
    payload: String,
    debug_info: String,
}

/// Where its output goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IoConfig {
    /// Folder of the command.
    pub(super) orchestration_directory: String,
    #[serde(rename = "OutputS3BucketName")]
    pub(super) output_s3_bucket_name: String,
    #[serde(rename = "OutputS3KeyPrefix")]
    pub(super) output_s3_key_prefix: String,
    pub(super) cloud_watch_config: CloudWatchConfig,
}

/// Where its output goes in CloudWatch Logs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CloudWatchConfig {
    pub(super) log_group_name: String,
    pub(super) log_stream_prefix: String,
    pub(super) log_group_encryption_enabled: bool,
}

/// What is reported of a document, as the reference keeps it until it is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DocumentResult {
    pub(super) document_name: String,
    pub(super) document_version: String,
    /// The id of the job.
    #[serde(rename = "MessageID")]
    pub(super) message_id: String,
    #[serde(rename = "AssociationID")]
    pub(super) association_id: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) plugin_results: BTreeMap<String, StepResult>,
    pub(super) status: Status,
    /// The step that this is about; empty at the end.
    pub(super) last_plugin: String,
    /// How many steps there are.
    #[serde(rename = "NPlugins")]
    pub(super) n_plugins: usize,
    pub(super) upstream_service_name: String,
    pub(super) result_type: String,
    pub(super) related_document_type: String,
    /// Ours: why a document could not be run at all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) trace: String,
}

impl Default for DocumentInformation {
    fn default() -> Self {
        Self {
            document_id: String::new(),
            command_id: String::new(),
            association_id: String::new(),
            instance_id: String::new(),
            message_id: String::new(),
            run_id: String::new(),
            created_date: String::new(),
            document_name: String::new(),
            document_version: String::new(),
            document_status: Status::InProgress,
            run_count: 0,
            proc_info: ProcInfo::default(),
            client_id: String::new(),
            run_as_user: String::new(),
            session_owner: String::new(),
            final_reply_id: String::new(),
            boot_id: String::new(),
        }
    }
}

impl Default for ProcInfo {
    fn default() -> Self {
        Self {
            pid: 0,
            start_time: NO_DATE.to_owned(),
        }
    }
}

impl Default for StepResult {
    fn default() -> Self {
        Self {
            plugin_id: String::new(),
            plugin_name: String::new(),
            status: Status::NotStarted,
            code: 0,
            output: String::new(),
            start_date_time: NO_DATE.to_owned(),
            end_date_time: NO_DATE.to_owned(),
            output_s3_bucket_name: String::new(),
            output_s3_key_prefix: String::new(),
            step_name: String::new(),
            error: String::new(),
            standard_output: String::new(),
            standard_error: String::new(),
        }
    }
}

impl StepResult {
    /// The step begins now.
    pub(super) fn begin(&mut self) {
        self.status = Status::InProgress;
        self.start_date_time = iso_8601(unix_ms());
    }

    /// The step has failed after all, whatever it did before.
    pub(super) fn fail(&mut self, why: &str) {
        self.error = why.to_owned();
        if !self.standard_error.is_empty() {
            self.standard_error.push('\n');
        }
        self.standard_error.push_str(why);
        self.code = 1;
        self.end(Status::Failed);
    }

    /// The step is over now.
    pub(super) fn end(&mut self, status: Status) {
        if self.start_date_time == NO_DATE {
            self.start_date_time = iso_8601(unix_ms());
        }
        self.status = status;
        self.end_date_time = iso_8601(unix_ms());
    }
}

impl DocumentState {
    /// The results of the steps that are over, by name.
    pub(super) fn finished(&self) -> impl Iterator<Item = &StepState> {
        let steps = self.instance_plugins_information.iter();
        steps.filter(|step| match step.result.status {
            Status::NotStarted | Status::InProgress => false,
            Status::Success
            | Status::SuccessAndReboot
            | Status::PassedAndReboot
            | Status::Failed
            | Status::Cancelled
            | Status::TimedOut
            | Status::Skipped
            | Status::Unknown(_) => true,
        })
    }
}

/// The reference leaves the status of a step empty until it begins.
mod empty_if_not_started {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::protocol::wire::command::Status;

    pub(super) fn serialize<S: Serializer>(status: &Status, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(match status {
            Status::NotStarted => "",
            other => other.as_str(),
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Status, D::Error> {
        String::deserialize(d).map(Status::from)
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Output may be of any type; only text is of use.
fn text_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            String::new()
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A state as the reference writes it.
    pub(in super::super) const REFERENCE: &str = r#"{"DocumentInformation":{"DocumentID":"c-1","CommandID":"c-1","AssociationID":"","InstanceID":"mi-1",
        "MessageID":"aws.ssm.c-1.mi-1","RunID":"2024-10-15T21-22-05.123Z","CreatedDate":"56000-01-01T00:00:00.000Z",
        "DocumentName":"AWS-RunShellScript","DocumentVersion":"","DocumentStatus":"InProgress","RunCount":1,
        "ProcInfo":{"Pid":77,"StartTime":"2024-10-15T21:22:05Z"},"ClientId":"","RunAsUser":"","SessionOwner":""},
        "DocumentType":"SendCommand","SchemaVersion":"2.2",
        "InstancePluginsInformation":[{"Configuration":{"Settings":null,"Properties":{"runCommand":["ls"]},"OutputS3KeyPrefix":"",
        "OutputS3BucketName":"","S3EncryptionEnabled":false,"CloudWatchLogGroup":"","CloudWatchEncryptionEnabled":false,
        "CloudWatchStreamingEnabled":false,"OrchestrationDirectory":"/o","MessageId":"m","BookKeepingFileName":"c-1",
        "PluginName":"aws:runShellScript","PluginID":"s","DefaultWorkingDirectory":"","Preconditions":null,
        "IsPreconditionEnabled":true,"CurrentAssociations":null,"SessionId":"","ClientId":"","KmsKeyId":"","RunAsEnabled":false,
        "RunAsUser":"","ShellProfile":{"windows":"","linux":""},"SessionOwner":"","UpstreamServiceName":""},
        "Name":"aws:runShellScript","Result":{"pluginID":"","pluginName":"","status":"","code":0,"output":null,
        "startDateTime":"0001-01-01T00:00:00Z","endDateTime":"0001-01-01T00:00:00Z","outputS3BucketName":"",
        "outputS3KeyPrefix":"","stepName":"","error":"","standardOutput":"","standardError":""},"Id":"s"}],
        "CancelInformation":{"CancelMessageID":"","CancelCommandID":"","Payload":"","DebugInfo":""},
        "IOConfig":{"OrchestrationDirectory":"/o","OutputS3BucketName":"","OutputS3KeyPrefix":"",
        "CloudWatchConfig":{"LogGroupName":"","LogStreamPrefix":"","LogGroupEncryptionEnabled":false}},
        "UpstreamServiceName":"MessageGatewayService"}"#;

    #[test]
    fn what_the_reference_left_is_read_and_written_back_member_by_member() {
        let state: DocumentState = serde_json::from_str(REFERENCE).unwrap();

        let step = &state.instance_plugins_information[0];
        assert_eq!(step.configuration.properties, json!({"runCommand": ["ls"]}));
        assert_eq!(step.result, StepResult::default());
        let mut written = serde_json::to_value(&state).unwrap();
        let mut expected: Value = serde_json::from_str(REFERENCE).unwrap();
        let information = written["DocumentInformation"].as_object_mut().unwrap();
        information.remove("FinalReplyID").unwrap();
        information.remove("BootID").unwrap();
        let step = "/InstancePluginsInformation/0";
        expected.pointer_mut(&format!("{step}/Result")).unwrap()["output"] = json!("");
        expected
            .pointer_mut(&format!("{step}/Configuration"))
            .unwrap()["Preconditions"] = json!({});
        assert_eq!(written, expected);
    }

    #[test]
    fn state_with_a_result_is_read_back() {
        let mut state: DocumentState = serde_json::from_str(REFERENCE).unwrap();
        let result = &mut state.instance_plugins_information[0].result;
        result.begin();
        result.end(Status::SuccessAndReboot);
        state.document_information.boot_id = "b".into();

        let text = serde_json::to_vec(&state).unwrap();

        assert_eq!(
            serde_json::from_slice::<DocumentState>(&text).unwrap(),
            state
        );
        assert_eq!(state.finished().count(), 1);
    }
}
