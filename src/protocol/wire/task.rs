//! The result of a session, agent to gateway, and its acknowledgement.

use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Limit, from_json, to_json};

/// Topic of both messages.
pub const TASK_COMPLETE_TOPIC: &str = "agent_task_complete";
/// The reference cuts `Output` to about this many characters.
pub const OUTPUT_LIMIT: usize = 2500;

/// How a session ended. Other words from other agents are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TaskStatus {
    /// The session ran and ended, whatever its exit status.
    Success,
    /// It could not start, or broke.
    Failed,
    /// It was cancelled before it started.
    Cancelled,
    /// It ran out of time.
    TimedOut,
    /// Another word.
    Unknown(String),
}

impl From<String> for TaskStatus {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Success" => Self::Success,
            "Failed" => Self::Failed,
            "Cancelled" => Self::Cancelled,
            "TimedOut" => Self::TimedOut,
            _ => Self::Unknown(text),
        }
    }
}

impl From<TaskStatus> for String {
    fn from(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Success => "Success".into(),
            TaskStatus::Failed => "Failed".into(),
            TaskStatus::Cancelled => "Cancelled".into(),
            TaskStatus::TimedOut => "TimedOut".into(),
            TaskStatus::Unknown(text) => text,
        }
    }
}

/// Payload of `agent_task_complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskComplete {
    /// 1.
    pub schema_version: u32,
    /// The session id.
    pub task_id: String,
    /// [`TASK_COMPLETE_TOPIC`].
    pub topic: String,
    /// The result.
    pub final_task_status: TaskStatus,
    /// False.
    #[serde(default)]
    pub is_routing_failure: bool,
    /// Empty.
    #[serde(default)]
    pub aws_account_id: String,
    /// The node.
    #[serde(default)]
    pub instance_id: String,
    /// Text for the user; empty when all went well.
    #[serde(default)]
    pub output: String,
    /// Bucket the transcript went to.
    #[serde(default)]
    pub s3_bucket: String,
    /// Key in that bucket.
    #[serde(default)]
    pub s3_url_suffix: String,
    /// Log group the transcript went to.
    #[serde(default)]
    pub cwl_group: String,
    /// Stream in that group.
    #[serde(default)]
    pub cwl_stream: String,
    /// 1 on first transmission.
    #[serde(default)]
    pub retry_number: u32,
    /// Exit status of the shell or command; ours, only sent to a gateway that announced it
    /// understands exit codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The files that recorded the session; ours, only sent to a gateway that announced that it takes
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<Recording>,
}

/// A file on the node that recorded the session. Its digest, kept elsewhere, shows whether the file
/// was changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Recording {
    /// Its name in the node's folder of recordings.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of the whole file, in hexadecimal.
    pub sha256: String,
}

impl TaskComplete {
    /// The result of `session_id` on `node`, first transmission; `output` is cut to [`OUTPUT_LIMIT`].
    pub fn new(session_id: &str, node: &str, status: TaskStatus, output: &str) -> Self {
        Self {
            schema_version: 1,
            task_id: session_id.into(),
            topic: TASK_COMPLETE_TOPIC.into(),
            final_task_status: status,
            is_routing_failure: false,
            aws_account_id: String::new(),
            instance_id: node.into(),
            output: output.chars().take(OUTPUT_LIMIT).collect(),
            s3_bucket: String::new(),
            s3_url_suffix: String::new(),
            cwl_group: String::new(),
            cwl_stream: String::new(),
            retry_number: 1,
            exit_code: None,
            recordings: Vec::new(),
        }
    }

    /// The JSON form.
    pub fn encode(&self) -> bytes::Bytes {
        to_json(self).into()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("agent_task_complete", bytes, Limit::JSON_PAYLOAD)
    }
}

/// Payload of `agent_task_acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskAcknowledge {
    /// 1.
    #[serde(default)]
    pub schema_version: u32,
    /// Id of the `agent_task_complete` message.
    #[serde(alias = "messageId")]
    pub message_id: String,
    /// The session id.
    #[serde(default, alias = "taskId")]
    pub task_id: String,
    /// [`TASK_COMPLETE_TOPIC`].
    #[serde(default, alias = "topic")]
    pub topic: String,
}

impl TaskAcknowledge {
    /// The JSON form.
    pub fn encode(&self) -> bytes::Bytes {
        to_json(self).into()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("agent_task_acknowledge", bytes, Limit::JSON_PAYLOAD)
    }
}
