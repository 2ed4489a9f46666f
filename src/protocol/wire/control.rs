//! Control-channel messages that start and end sessions, and the data channel's service messages.
//!
//! | message type | from | type here |
//! |---|---|---|
//! | `interactive_shell` | gateway | [`StartEnvelope`], whose `Content` is the JSON text of [`StartSession`] |
//! | `channel_closed` | gateway | [`ChannelClosed`] |
//! | `agent_session_state` | agent | [`AgentSessionState`] |
//!
//! Peers spell members in Pascal or camel case; both are read, Pascal case is written.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::codec::{DecodeError, Limit, from_json, to_json};
use super::id::SessionId;
use super::session_document::SessionDocument;

/// Payload of `interactive_shell`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartEnvelope {
    /// JSON text of a [`StartSession`].
    #[serde(alias = "content")]
    pub content: String,
    /// The session id; agents read the one in the content.
    #[serde(default, alias = "taskId")]
    pub task_id: String,
    /// Anything.
    #[serde(default, alias = "topic")]
    pub topic: String,
    /// 1.
    #[serde(default, alias = "schemaVersion")]
    pub schema_version: u32,
}

/// What to start: a session document with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartSession {
    /// Name of the document.
    #[serde(default, alias = "documentName")]
    pub document_name: String,
    /// The document.
    #[serde(alias = "documentContent")]
    pub document_content: SessionDocument,
    /// Id of the session: also of its data channel and its recording.
    #[serde(alias = "sessionId")]
    pub session_id: SessionId,
    /// Parameter values, already of the JSON type that the document wants.
    #[serde(default, alias = "parameters", deserialize_with = "null_map")]
    pub parameters: Map<String, Value>,
    /// User named by the caller's identity; overrides the document's default user.
    #[serde(default, alias = "runAsUser", deserialize_with = "null_string")]
    pub run_as_user: String,
    /// Who asked for the session.
    #[serde(default, alias = "sessionOwner", deserialize_with = "null_string")]
    pub session_owner: String,
    /// The reason the caller gave; ours, the reference agent ignores it.
    #[serde(
        default,
        alias = "reason",
        deserialize_with = "null_string",
        skip_serializing_if = "String::is_empty"
    )]
    pub reason: String,
}

/// A start message that could not be understood. It names the session where even that could be
/// read, so that the failure can be reported instead of dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("start message is refused: {cause}")]
pub struct StartRefused {
    /// The session, if the message named one.
    pub session_id: Option<SessionId>,
    /// What is wrong.
    #[source]
    pub cause: DecodeError,
}

impl StartSession {
    /// Wraps the message into the payload of `interactive_shell`.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&StartEnvelope {
            content: String::from_utf8(to_json(self)).expect("JSON is UTF-8"),
            task_id: self.session_id.to_string(),
            topic: "interactive_shell".into(),
            schema_version: 1,
        })
    }

    /// Reads the payload of `interactive_shell`.
    ///
    /// # Errors
    /// [`StartRefused`], with the session id if it could be found.
    pub fn decode(bytes: &[u8]) -> Result<Self, StartRefused> {
        let envelope: StartEnvelope =
            from_json("start envelope", bytes, Limit::PAYLOAD).map_err(|cause| StartRefused {
                session_id: None,
                cause,
            })?;
        let content = envelope.content.as_bytes();
        from_json("start message", content, Limit::PAYLOAD).map_err(|cause| StartRefused {
            session_id: find_session_id(content)
                .or_else(|| SessionId::new(envelope.task_id.clone()).ok()),
            cause,
        })
    }
}

fn find_session_id(content: &[u8]) -> Option<SessionId> {
    #[derive(Deserialize)]
    struct OnlyId {
        #[serde(rename = "SessionId", alias = "sessionId")]
        session_id: SessionId,
    }
    serde_json::from_slice::<OnlyId>(content)
        .ok()
        .map(|only| only.session_id)
}

/// The session is over, or shall be: gateway to either end, on either channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChannelClosed {
    /// `channel_closed`.
    #[serde(default)]
    pub message_type: String,
    /// A UUID.
    #[serde(default)]
    pub message_id: String,
    /// The node.
    #[serde(default)]
    pub destination_id: String,
    /// The session.
    #[serde(default, alias = "sessionId")]
    pub session_id: String,
    /// 1.
    #[serde(default)]
    pub schema_version: i64,
    /// A time; must be a string, the official plugin fails on a number.
    #[serde(default)]
    pub created_date: String,
    /// Text for the person at the client; empty for a normal end. Agents do not know the member.
    #[serde(default)]
    pub output: String,
    /// The remote exit status, where the agent reported one; ours, official clients ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl ChannelClosed {
    /// The JSON form.
    pub fn encode(&self) -> bytes::Bytes {
        to_json(self).into()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("channel_closed", bytes, Limit::JSON_PAYLOAD)
    }
}

/// How a session stands, said by the agent on the data channel to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// The agent's end is connected. Sent once, not after a reconnect.
    Connected,
    /// The shell or command ended by itself; what follows is clean-up.
    Terminating,
}

/// Payload of `agent_session_state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentSessionState {
    /// 1.
    pub schema_version: u32,
    /// The state.
    pub session_state: SessionState,
    /// The session.
    pub session_id: String,
}

impl AgentSessionState {
    /// The JSON form.
    pub fn encode(&self) -> bytes::Bytes {
        to_json(self).into()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large or no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        from_json("agent_session_state", bytes, Limit::JSON_PAYLOAD)
    }
}

fn null_map<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Map<String, Value>, D::Error> {
    Option::<Map<String, Value>>::deserialize(d).map(Option::unwrap_or_default)
}

fn null_string<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(d).map(Option::unwrap_or_default)
}
