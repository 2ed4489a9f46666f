//! The message delivery service (`ec2messages`): the older way by which commands reach a node, by
//! polling. Each operation is one signed AWS JSON 1.1 call.
//!
//! | operation | request | answer |
//! |---|---|---|
//! | `GetMessages` | [`GetMessages`] | [`Messages`], once there are some, or after a while none |
//! | `AcknowledgeMessage`, `DeleteMessage` | [`MessageName`] | nothing |
//! | `SendReply` | [`SendReply`] | [`ReplyTaken`] |
//! | `FailMessage` | [`FailMessage`] | nothing |
//! | `GetEndpoint` | [`GetEndpoint`] | [`Endpoint`] |
//!
//! A [`Mail`] is to this service what an `agent_job` is on the control channel: its `MessageId` is the
//! job's id, its `Payload` the job's content. Agents read members that they need and ignore the rest,
//! so every member may be absent.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::codec::{DecodeError, Limit, from_json, to_json};

/// What `X-Amz-Target` begins with.
pub const TARGET: &str = "EC2WindowsMessageDeliveryService";
/// For how many seconds a message is not offered again once it was given to a poll.
pub const VISIBILITY_SECONDS: u64 = 10;
/// What `FailMessage` says of a message that could not be handled.
pub const HANDLER_FAILED: &str = "InternalHandlerException";

/// Request of `GetMessages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetMessages {
    /// The node.
    pub destination: Option<String>,
    /// A UUID.
    pub messages_request_id: Option<String>,
    /// [`VISIBILITY_SECONDS`].
    pub visibility_timeout_in_seconds: Option<u64>,
}

/// Answer to `GetMessages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Messages {
    /// The node.
    #[serde(deserialize_with = "null_as_default")]
    pub destination: String,
    /// The request's.
    #[serde(deserialize_with = "null_as_default")]
    pub messages_request_id: String,
    /// The messages.
    #[serde(deserialize_with = "null_as_default")]
    pub messages: Vec<Mail>,
}

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mail {
    /// When it was made, ISO 8601.
    #[serde(deserialize_with = "null_as_default")]
    pub created_date: String,
    /// The node.
    #[serde(deserialize_with = "null_as_default")]
    pub destination: String,
    /// `aws.ssm.<command id>.<node id>`.
    #[serde(deserialize_with = "null_as_default")]
    pub message_id: String,
    /// JSON text of what is asked for; which one the topic tells.
    #[serde(deserialize_with = "null_as_default")]
    pub payload: String,
    /// [`super::job::SEND_TOPIC`] or [`super::job::CANCEL_TOPIC`], and more after a dot.
    #[serde(deserialize_with = "null_as_default")]
    pub topic: String,
}

impl Mail {
    /// Whether it has everything that the reference wants of a message; it ignores others.
    pub fn is_complete(&self) -> bool {
        let needed = [
            &self.created_date,
            &self.destination,
            &self.message_id,
            &self.topic,
        ];
        needed.iter().all(|member| !member.is_empty())
    }

    /// When it was made, in milliseconds since 1970, if it says so.
    pub fn created_ms(&self) -> Option<u64> {
        let created: Timestamp = self.created_date.parse().ok()?;
        u64::try_from(created.as_millisecond()).ok()
    }
}

/// Request of `AcknowledgeMessage` and `DeleteMessage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MessageName {
    /// The message.
    #[serde(deserialize_with = "null_as_default")]
    pub message_id: String,
}

/// Request of `FailMessage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FailMessage {
    /// The message.
    #[serde(deserialize_with = "null_as_default")]
    pub message_id: String,
    /// [`HANDLER_FAILED`] or `NoHandlerExists`.
    #[serde(deserialize_with = "null_as_default")]
    pub failure_type: String,
}

/// Request of `SendReply`. This is also how the reference keeps a reply that was not taken, with
/// `DeliveryOptions` null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SendReply {
    /// The message that this replies to.
    #[serde(deserialize_with = "null_as_default")]
    pub message_id: String,
    /// JSON text of a [`super::command::Report`].
    #[serde(deserialize_with = "null_as_default")]
    pub payload: String,
    /// A UUID, the same when a reply is repeated.
    #[serde(deserialize_with = "null_as_default")]
    pub reply_id: String,
}

impl SendReply {
    /// The form in which the reference keeps it.
    pub fn encode_kept(&self) -> Vec<u8> {
        to_json(&serde_json::json!({
            "DeliveryOptions": Value::Null,
            "MessageId": self.message_id,
            "Payload": self.payload,
            "ReplyId": self.reply_id,
        }))
    }

    /// Reads that form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode_kept(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("kept reply", bytes, Limit::PAYLOAD)
    }
}

/// Answer to `SendReply`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplyTaken {
    /// For people.
    #[serde(deserialize_with = "null_as_default")]
    pub description: String,
    /// The message.
    #[serde(deserialize_with = "null_as_default")]
    pub message_id: String,
    /// The reply.
    #[serde(deserialize_with = "null_as_default")]
    pub reply_id: String,
    /// `Created`, `Queued`, `Acknowledged` or `NoActionTaken`.
    #[serde(deserialize_with = "null_as_default")]
    pub reply_status: String,
}

/// Request of `GetEndpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetEndpoint {
    /// The node.
    pub destination: Option<String>,
}

/// Answer to `GetEndpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// Where the node is to call.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoint: String,
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
    fn poll_is_written_and_its_answer_read_as_on_the_wire() {
        let poll = GetMessages {
            destination: Some("mi-1".into()),
            messages_request_id: Some("r".into()),
            visibility_timeout_in_seconds: Some(VISIBILITY_SECONDS),
        };
        let answer = r#"{"Destination":"mi-1","MessagesRequestId":"r","Messages":[{"CreatedDate":"2024-10-15T21:22:05.123Z",
            "Destination":"mi-1","MessageId":"aws.ssm.c.mi-1","Payload":"{}","PayloadDigest":"d","Topic":"aws.ssm.sendCommand",
            "NextToken":null}]}"#;

        let read: Messages = serde_json::from_str(answer).unwrap();

        assert_eq!(
            serde_json::to_string(&poll).unwrap(),
            r#"{"Destination":"mi-1","MessagesRequestId":"r","VisibilityTimeoutInSeconds":10}"#
        );
        let mail = &read.messages[0];
        assert!(mail.is_complete());
        assert_eq!(mail.created_ms(), Some(1_729_027_325_123));
        assert_eq!(
            (mail.message_id.as_str(), mail.payload.as_str()),
            ("aws.ssm.c.mi-1", "{}")
        );
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Messages>(&again).unwrap(), read);
    }

    #[test]
    fn absent_and_null_members_are_empty_and_make_a_message_incomplete() {
        for text in [
            "{}",
            r#"{"Messages":null}"#,
            r#"{"Messages":[{"MessageId":null}]}"#,
        ] {
            let read: Messages = serde_json::from_str(text).unwrap();
            assert!(read.messages.iter().all(|mail| !mail.is_complete()));
        }
        let undated = Mail {
            created_date: "yesterday".into(),
            ..Mail::default()
        };
        assert_eq!(undated.created_ms(), None);
    }

    #[test]
    fn kept_reply_is_the_references() {
        let reply = SendReply {
            message_id: "aws.ssm.c.mi-1".into(),
            payload: "{\"a\":1}".into(),
            reply_id: "u".into(),
        };

        let kept = reply.encode_kept();

        assert_eq!(
            std::str::from_utf8(&kept).unwrap(),
            r#"{"DeliveryOptions":null,"MessageId":"aws.ssm.c.mi-1","Payload":"{\"a\":1}","ReplyId":"u"}"#
        );
        assert_eq!(SendReply::decode_kept(&kept), Ok(reply));
        assert!(SendReply::decode_kept(b"7").is_err());
        assert!(SendReply::decode_kept(&vec![b' '; Limit::PAYLOAD + 1]).is_err());
    }
}
