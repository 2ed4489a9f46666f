//! Opening a channel: the REST call that yields a token, and the first WebSocket message, which is
//! text and hands the token over.
//!
//! ```text
//! agent   -- POST /v1/control-channel/<node> or /v1/data-channel/<session>, JSON -->  gateway
//!         <-- 201, XML with TokenValue --
//!         -- WebSocket upgrade of the same path --
//!         -- text: OpenControlChannel or OpenDataChannel --
//! ```

use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Limit, check_size, from_json, to_json};

/// Schema version of the open messages.
pub const OPEN_SCHEMA_VERSION: &str = "1.0";

/// Body of CreateControlChannel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateControlChannel {
    /// `1.0`.
    pub message_schema_version: String,
    /// A fresh UUID.
    pub request_id: String,
}

/// Body of CreateDataChannel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateDataChannel {
    /// `1.0`.
    pub message_schema_version: String,
    /// A fresh UUID.
    pub request_id: String,
    /// Always empty from agents.
    #[serde(default)]
    pub client_id: String,
}

/// First message of a control channel. `Cookie` is always there and always null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenControlChannel {
    /// Null.
    #[serde(default)]
    pub cookie: Option<String>,
    /// `1.0`.
    pub message_schema_version: String,
    /// A fresh UUID.
    #[serde(default)]
    pub request_id: String,
    /// The token of CreateControlChannel; good for one connection.
    pub token_value: String,
    /// The agent's wire version.
    #[serde(default)]
    pub agent_version: String,
    /// `linux`, lower case here.
    #[serde(default)]
    pub platform_type: String,
}

/// First message of a data channel, from either end. `ClientInstanceId` is there if and only if the
/// sender is an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenDataChannel {
    /// `1.0`.
    pub message_schema_version: String,
    /// A fresh UUID.
    #[serde(default)]
    pub request_id: String,
    /// The token of CreateDataChannel (agent), StartSession or ResumeSession (client).
    pub token_value: String,
    /// The agent's node id; absent for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_instance_id: Option<String>,
    /// A UUID that stays the same for the life of a client process; empty for agents.
    #[serde(default)]
    pub client_id: String,
    /// The client's wire version; absent for agents and old plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    /// Our own clients' features, see [`super::features`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

macro_rules! json_text {
    ($($type:ty: $what:literal),* $(,)?) => {$(
        impl $type {
            /// The JSON form.
            pub fn encode(&self) -> String {
                String::from_utf8(to_json(self)).expect("JSON is UTF-8")
            }

            /// Reads the JSON form.
            ///
            /// # Errors
            /// [`DecodeError`] if it is too large or no such JSON.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                from_json($what, bytes, Limit::OPEN_MESSAGE)
            }
        }
    )*};
}

json_text! {
    CreateControlChannel: "CreateControlChannel request",
    CreateDataChannel: "CreateDataChannel request",
    OpenControlChannel: "OpenControlChannel message",
    OpenDataChannel: "OpenDataChannel message",
}

/// Writes the answer to CreateControlChannel (`CreateControlChannelResult`) or CreateDataChannel
/// (`CreateDataChannelResult`): XML, although the request was JSON.
pub fn encode_token_response(root: &str, token: &str) -> String {
    let token = quick_xml::escape::escape(token);
    format!(
        "<{root}><MessageSchemaVersion>{OPEN_SCHEMA_VERSION}</MessageSchemaVersion>\
         <TokenValue>{token}</TokenValue></{root}>"
    )
}

/// Reads the token of such an answer; root element and namespaces are ignored.
///
/// # Errors
/// [`DecodeError`] if it is too large, no XML, or has no non-empty `TokenValue`.
pub fn decode_token_response(bytes: &[u8]) -> Result<String, DecodeError> {
    use quick_xml::events::Event;

    const WHAT: &str = "channel token response";
    check_size(WHAT, bytes.len(), Limit::OPEN_MESSAGE)?;
    let syntax = |detail: String| DecodeError::Syntax {
        what: WHAT,
        format: "XML",
        detail,
    };
    let mut reader = quick_xml::Reader::from_reader(bytes);
    let mut in_token = false;
    let mut token = String::new();
    loop {
        match reader.read_event().map_err(|e| syntax(e.to_string()))? {
            Event::Start(start) => in_token = start.local_name().as_ref() == b"TokenValue",
            Event::End(_) if in_token => break,
            Event::Text(text) if in_token => {
                token.push_str(&text.decode().map_err(|e| syntax(e.to_string()))?);
            }
            Event::GeneralRef(reference) if in_token => {
                let name = reference.decode().map_err(|e| syntax(e.to_string()))?;
                let text = quick_xml::escape::unescape(&format!("&{name};"))
                    .map_err(|e| syntax(e.to_string()))?
                    .into_owned();
                token.push_str(&text);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let token = token.trim();
    if token.is_empty() {
        return Err(syntax("there is no TokenValue".into()));
    }
    Ok(token.to_owned())
}
