//! Jobs of Run Command on the control channel.
//!
//! | message type | from | type here |
//! |---|---|---|
//! | `agent_job` | gateway | [`Job`] |
//! | `agent_job_ack` | agent | [`JobAck`] |
//! | `agent_job_reply` | agent | [`JobReply`] |
//! | `agent_job_reply_ack` | gateway | [`JobReplyAck`] |
//!
//! What a job asks for, and what a reply says, is JSON text within them: see [`super::command`].

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Limit, check_size, from_json, to_json};

/// Topic of jobs that send a command; the name of the document follows after a dot.
pub const SEND_TOPIC: &str = "aws.ssm.sendCommand";
/// Topic of jobs that cancel one.
pub const CANCEL_TOPIC: &str = "aws.ssm.cancelCommand";

/// Start of every job id.
const JOB_PREFIX: &str = "aws.ssm.";
/// Longest command id, in bytes; the service's are UUIDs of 36.
const COMMAND_ID_LIMIT: usize = 128;

/// The id of a command: names its folder and its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(String);

impl CommandId {
    /// Checks that `text` can be a command id.
    ///
    /// The reference takes any text without a dot. Ours becomes part of paths and keys, so it takes
    /// letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] or [`DecodeError::TooLarge`].
    pub fn new(text: impl Into<String>) -> Result<Self, DecodeError> {
        let text = text.into();
        check_size("command id", text.len(), COMMAND_ID_LIMIT)?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || !text.chars().all(is_allowed) {
            return Err(DecodeError::Invalid {
                what: "command id",
                detail: format!(
                    "{text:?} is empty or has other characters than letters, digits, - and _"
                ),
            });
        }
        Ok(Self(text))
    }

    /// The command that a job id `aws.ssm.<command>.<node>` names.
    ///
    /// # Errors
    /// [`DecodeError`] if it has another form.
    pub fn of_job(job_id: &str) -> Result<Self, DecodeError> {
        let command = job_id
            .strip_prefix(JOB_PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .filter(|(_, node)| !node.is_empty())
            .map(|(command, _)| command);
        match command {
            Some(command) => Self::new(command),
            None => Err(DecodeError::Invalid {
                what: "job id",
                detail: format!("{job_id:?} is not aws.ssm.<command id>.<node id>"),
            }),
        }
    }

    /// The id of the job that brings this command to `node_id`.
    pub fn job_on(&self, node_id: &str) -> String {
        format!("{JOB_PREFIX}{self}.{node_id}")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommandId {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        Self::new(text)
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.0
    }
}

/// Payload of `agent_job`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// JSON text of what is asked for; which one the topic tells.
    #[serde(alias = "content")]
    pub content: String,
    /// `aws.ssm.<command id>.<node id>`.
    #[serde(alias = "jobId")]
    pub job_id: String,
    /// [`SEND_TOPIC`] or [`CANCEL_TOPIC`], and more after a dot.
    #[serde(alias = "topic")]
    pub topic: String,
    /// 1.
    #[serde(default, alias = "schemaVersion")]
    pub schema_version: i64,
}

/// What a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Its content is a [`super::command::SendCommand`].
    Send,
    /// Its content is a [`super::command::CancelCommand`].
    Cancel,
}

impl Job {
    /// What the topic says; `None` if this version does not know it. As in the reference, what the
    /// topic begins with decides.
    pub fn subject(&self) -> Option<Subject> {
        if self.topic.starts_with(SEND_TOPIC) {
            Some(Subject::Send)
        } else if self.topic.starts_with(CANCEL_TOPIC) {
            Some(Subject::Cancel)
        } else {
            None
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
        from_json("agent_job", bytes, Limit::PAYLOAD)
    }

    /// The id of a job that cannot be read as a whole.
    pub fn find_id(bytes: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct OnlyId {
            #[serde(rename = "JobId", alias = "jobId")]
            job_id: String,
        }
        from_json::<OnlyId>("agent_job", bytes, Limit::PAYLOAD)
            .ok()
            .map(|only| only.job_id)
    }
}

/// What an agent says of a job that it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAnswer {
    /// It will be done.
    Successful,
    /// The agent is stopping.
    ClosedProcessor,
    /// Too many wait already; the job may come again.
    ProcessorBufferFull,
    /// No processor takes jobs of this kind.
    UnexpectedDocumentType,
    /// It is known already.
    DuplicateCommand,
    /// It cannot be kept.
    InvalidDocument,
    /// Agents in containers take none.
    ContainerNotSupported,
    /// It cannot be read.
    ParseError,
    /// Anything else.
    UnexpectedError,
}

impl JobAnswer {
    const ALL: [Self; 9] = [
        Self::Successful,
        Self::ClosedProcessor,
        Self::ProcessorBufferFull,
        Self::UnexpectedDocumentType,
        Self::DuplicateCommand,
        Self::InvalidDocument,
        Self::ContainerNotSupported,
        Self::ParseError,
        Self::UnexpectedError,
    ];

    /// The code on the wire.
    pub fn code(self) -> &'static str {
        self.code_and_text().0
    }

    /// The text that goes with the code.
    pub fn text(self) -> &'static str {
        self.code_and_text().1
    }

    fn code_and_text(self) -> (&'static str, &'static str) {
        match self {
            Self::Successful => ("200", "Successful"),
            Self::ClosedProcessor => ("51401", "ClosedProcessor"),
            Self::ProcessorBufferFull => ("51402", "ProcessorBufferFull"),
            Self::UnexpectedDocumentType => ("51403", "UnexpectedDocumentType"),
            Self::DuplicateCommand => ("51405", "DuplicateCommand"),
            Self::InvalidDocument => ("51406", "InvalidDocument"),
            Self::ContainerNotSupported => ("51407", "ContainerNotSupported"),
            Self::ParseError => ("51408", "AgentJobMessageParseError"),
            Self::UnexpectedError => ("51499", "UnexpectedError"),
        }
    }

    /// The answer with this code; every other code is some error.
    pub fn of_code(code: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|answer| answer.code() == code)
            .unwrap_or(Self::UnexpectedError)
    }
}

/// Payload of `agent_job_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobAck {
    /// The job.
    pub job_id: String,
    /// Id of the `agent_job` message.
    pub acknowledged_message_id: String,
    /// When that message was made, with milliseconds.
    pub created_date: String,
    /// [`JobAnswer::code`].
    pub status_code: String,
    /// [`JobAnswer::text`].
    pub error_message: String,
}

impl JobAck {
    /// Answers the job `job_id`, which came in the message `id` made at `created_ms`.
    pub fn new(job_id: &str, id: super::MessageId, created_ms: u64, answer: JobAnswer) -> Self {
        Self {
            job_id: job_id.to_owned(),
            acknowledged_message_id: id.to_string(),
            created_date: iso_8601(created_ms),
            status_code: answer.code().to_owned(),
            error_message: answer.text().to_owned(),
        }
    }

    /// What it says.
    pub fn answer(&self) -> JobAnswer {
        JobAnswer::of_code(&self.status_code)
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
        from_json("agent_job_ack", bytes, Limit::JSON_PAYLOAD)
    }
}

/// Payload of `agent_job_reply`. The id of its message is the id of the reply: a reply that is
/// repeated keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReply {
    /// 1.
    pub schema_version: i64,
    /// The job.
    pub job_id: String,
    /// JSON text of a [`super::command::Report`].
    pub content: String,
    /// [`SEND_TOPIC`].
    #[serde(default)]
    pub topic: String,
}

impl JobReply {
    /// The reply to `job_id` that says `content`.
    pub fn new(job_id: &str, content: String) -> Self {
        Self {
            schema_version: 1,
            job_id: job_id.to_owned(),
            content,
            topic: SEND_TOPIC.to_owned(),
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
        from_json("agent_job_reply", bytes, Limit::PAYLOAD)
    }
}

/// Payload of `agent_job_reply_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReplyAck {
    /// The job.
    #[serde(default, alias = "JobId")]
    pub job_id: String,
    /// Id of the `agent_job_reply` message.
    #[serde(alias = "AcknowledgedMessageId")]
    pub acknowledged_message_id: String,
}

impl JobReplyAck {
    /// The JSON form.
    pub fn encode(&self) -> bytes::Bytes {
        to_json(self).into()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("agent_job_reply_ack", bytes, Limit::JSON_PAYLOAD)
    }
}

/// Milliseconds since the epoch as the reference writes dates: UTC, three decimals, `Z`. What lies
/// beyond all calendars is the epoch.
pub fn iso_8601(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default();
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::MessageId;

    #[test]
    fn job_names_its_command_and_its_subject() {
        let job = Job::decode(
            br#"{"Content":"{}","JobId":"aws.ssm.c-1.mi-1","Topic":"aws.ssm.sendCommand.AWS-RunShellScript","SchemaVersion":1}"#,
        )
        .unwrap();

        let command = CommandId::of_job(&job.job_id).unwrap();
        assert_eq!(job.subject(), Some(Subject::Send));
        assert_eq!(command.as_str(), "c-1");
        assert_eq!(command.job_on("mi-1"), job.job_id);
        let cancel = Job {
            topic: "aws.ssm.cancelCommand".into(),
            ..job.clone()
        };
        assert_eq!(cancel.subject(), Some(Subject::Cancel));
        let other = Job {
            topic: "aws.ssm.else".into(),
            ..job
        };
        assert_eq!(other.subject(), None);
    }

    #[test]
    fn ids_that_could_leave_their_folder_are_refused() {
        for job_id in [
            "",
            "aws.ssm.",
            "aws.ssm.c",
            "aws.ssm.c.",
            "aws.ssm..mi-1",
            "aws.ssm.a/b.mi-1",
            "aws.ssm.a b.mi-1",
            "c.mi-1",
        ] {
            assert!(CommandId::of_job(job_id).is_err(), "{job_id}");
        }
        let long = format!("aws.ssm.{}.mi-1", "c".repeat(COMMAND_ID_LIMIT + 1));
        assert!(matches!(
            CommandId::of_job(&long),
            Err(DecodeError::TooLarge { limit: 128, .. })
        ));
    }

    #[test]
    fn acknowledgement_is_written_as_the_reference_does() {
        let id = MessageId::from_random([0; 16]);

        let ack = JobAck::new("aws.ssm.c.i", id, 1_700_000_000_125, JobAnswer::Successful);

        let expected = concat!(
            r#"{"jobId":"aws.ssm.c.i","acknowledgedMessageId":"00000000-0000-4000-8000-000000000000","#,
            r#""createdDate":"2023-11-14T22:13:20.125Z","statusCode":"200","errorMessage":"Successful"}"#,
        );
        assert_eq!(std::str::from_utf8(&ack.encode()).unwrap(), expected);
        assert_eq!(JobAck::decode(expected.as_bytes()).unwrap(), ack);
    }

    #[test]
    fn every_code_is_read_back() {
        for answer in JobAnswer::ALL {
            assert_eq!(JobAnswer::of_code(answer.code()), answer);
        }
        assert_eq!(JobAnswer::of_code("51404"), JobAnswer::UnexpectedError);
    }

    #[test]
    fn date_beyond_all_calendars_does_not_panic() {
        assert_eq!(iso_8601(u64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn reply_and_its_acknowledgement_are_written_as_the_reference_does() {
        let reply = JobReply::new("aws.ssm.c.i", "{}".into());
        let ack = JobReplyAck {
            job_id: "j".into(),
            acknowledged_message_id: "m".into(),
        };

        assert_eq!(
            std::str::from_utf8(&reply.encode()).unwrap(),
            r#"{"schemaVersion":1,"jobId":"aws.ssm.c.i","content":"{}","topic":"aws.ssm.sendCommand"}"#
        );
        assert_eq!(
            std::str::from_utf8(&ack.encode()).unwrap(),
            r#"{"jobId":"j","acknowledgedMessageId":"m"}"#
        );
        assert_eq!(JobReply::decode(&reply.encode()).unwrap(), reply);
        assert_eq!(JobReplyAck::decode(&ack.encode()).unwrap(), ack);
    }

    #[test]
    fn job_that_cannot_be_read_may_still_be_named() {
        let unreadable = br#"{"JobId":"aws.ssm.c.i","Topic":7}"#;

        assert!(Job::decode(unreadable).is_err());
        assert_eq!(Job::find_id(unreadable).as_deref(), Some("aws.ssm.c.i"));
        assert_eq!(Job::find_id(b"{}"), None);
        assert_eq!(Job::find_id(b"garbage"), None);
    }
}
