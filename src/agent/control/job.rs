//! What the agent answers to run-command jobs: it takes none yet, and says so.
//!
//! | code | error message | sent when |
//! |---|---|---|
//! | 51403 | `UnexpectedDocumentType` | a job of any topic: no processor here takes it |
//! | 51408 | `AgentJobMessageParseError` | the job's envelope cannot be read but names the job |
//!
//! Of the codes there are, 51402 would make the service offer the job again for ever, and 51499 says
//! that the agent is broken.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::wire::codec::{Limit, from_json, to_json};
use crate::protocol::wire::{DecodeError, Message};

/// Payload of `agent_job`, as far as a refusal needs it.
#[derive(Deserialize)]
struct Job {
    #[serde(rename = "JobId", alias = "jobId")]
    job_id: String,
    #[serde(rename = "Topic", alias = "topic", default)]
    topic: Value,
}

/// Payload of `agent_job_ack`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobAck {
    job_id: String,
    acknowledged_message_id: String,
    created_date: String,
    status_code: &'static str,
    error_message: &'static str,
}

/// The payload of the `agent_job_ack` that refuses the job in `message`.
///
/// # Errors
/// [`DecodeError`] if the message does not even name the job.
pub fn refusal(message: &Message) -> Result<Bytes, DecodeError> {
    let job: Job = from_json("agent_job", &message.payload, Limit::PAYLOAD)?;
    let (status_code, error_message) = if job.topic.is_string() {
        ("51403", "UnexpectedDocumentType")
    } else {
        ("51408", "AgentJobMessageParseError")
    };
    let ack = JobAck {
        job_id: job.job_id,
        acknowledged_message_id: message.id.to_string(),
        created_date: iso_8601(message.created_ms),
        status_code,
        error_message,
    };
    Ok(to_json(&ack).into())
}

fn iso_8601(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default();
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::{MessageId, MessageType, PayloadType};

    #[test]
    fn refusal_names_the_job_and_the_message() {
        let message =
            job(r#"{"Content":"{}","JobId":"aws.ssm.c.i","Topic":"aws.ssm.sendCommand.x"}"#);

        let ack = refusal(&message).unwrap();

        let expected = concat!(
            r#"{"jobId":"aws.ssm.c.i","acknowledgedMessageId":"00000000-0000-4000-8000-000000000000","#,
            r#""createdDate":"2023-11-14T22:13:20.125Z","statusCode":"51403","#,
            r#""errorMessage":"UnexpectedDocumentType"}"#,
        );
        assert_eq!(std::str::from_utf8(&ack).unwrap(), expected);
    }

    #[test]
    fn job_that_can_only_be_named_is_a_parse_error() {
        let ack = refusal(&job(r#"{"JobId":"aws.ssm.c.i","Topic":7}"#)).unwrap();

        assert!(std::str::from_utf8(&ack).unwrap().contains("51408"));
    }

    #[test]
    fn job_without_a_name_cannot_be_answered() {
        assert!(refusal(&job("{}")).is_err());
        assert!(refusal(&job("garbage")).is_err());
    }

    #[test]
    fn date_beyond_all_calendars_does_not_panic() {
        let message = Message {
            created_ms: u64::MAX,
            ..job(r#"{"JobId":"j","Topic":"t"}"#)
        };

        let ack = refusal(&message).unwrap();

        assert!(
            std::str::from_utf8(&ack)
                .unwrap()
                .contains("1970-01-01T00:00:00.000Z")
        );
    }

    fn job(payload: &'static str) -> Message {
        Message {
            message_type: MessageType::AgentJob,
            created_ms: 1_700_000_000_125,
            sequence_number: 0,
            flags: 0,
            id: MessageId::from_random([0; 16]),
            payload_type: PayloadType::None,
            payload: payload.into(),
        }
    }
}
