//! The handshake payloads: what the agent asks of the client, what the client did, the end of it.
//!
//! | payload type | direction | type here |
//! |---|---|---|
//! | 5 | agent to client | [`HandshakeRequest`] |
//! | 6 | client to agent | [`HandshakeResponse`] |
//! | 7 | agent to client | [`HandshakeComplete`] |
//! | 8, 9 | agent to client and back | [`EncryptionChallenge`] |

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::{DecodeError, Limit, from_json, to_json};
use super::id::SessionId;

/// Action that names the session type and hands over its properties; always asked first.
pub const ACTION_SESSION_TYPE: &str = "SessionType";
/// Action that agrees on a KMS data key.
pub const ACTION_KMS_ENCRYPTION: &str = "KMSEncryption";

/// Agent to client: who I am and what you shall do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequest {
    /// The agent's wire version, four parts.
    pub agent_version: String,
    /// What the client shall do, in order.
    pub requested_client_actions: Vec<RequestedAction>,
}

/// One action asked of the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedAction {
    /// [`ACTION_SESSION_TYPE`], [`ACTION_KMS_ENCRYPTION`] or unknown.
    pub action_type: String,
    /// The action's parameters, by type.
    pub action_parameters: Value,
}

/// Parameters of [`ACTION_SESSION_TYPE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionTypeRequest {
    /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
    pub session_type: String,
    /// The substituted document properties for `Port`, else null.
    #[serde(default)]
    pub properties: Value,
}

/// Parameters of [`ACTION_KMS_ENCRYPTION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsEncryptionRequest {
    /// The KMS key that is to make the data key.
    #[serde(rename = "KMSKeyId")]
    pub kms_key_id: String,
    /// Base64 of random bytes; agents before the challenge was invented send none.
    #[serde(rename = "Challenge", default)]
    pub challenge: String,
}

/// Result of [`ACTION_KMS_ENCRYPTION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsEncryptionResult {
    /// The data key as KMS encrypted it, in base64.
    #[serde(rename = "KMSCipherTextKey")]
    pub cipher_text_key: String,
    /// Never set by anybody known.
    #[serde(rename = "KMSCipherTextHash", default)]
    pub cipher_text_hash: Option<String>,
    /// The key was made with the request's challenge in its encryption context.
    #[serde(rename = "ChallengeAcknowledgement", default)]
    pub challenge_acknowledgement: bool,
}

impl KmsEncryptionResult {
    /// The result for a data key that KMS encrypted to `ciphertext`.
    pub fn new(ciphertext: &[u8], challenge_acknowledgement: bool) -> Self {
        Self {
            cipher_text_key: BASE64.encode(ciphertext),
            cipher_text_hash: None,
            challenge_acknowledgement,
        }
    }

    /// The encrypted data key.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is no base64.
    pub fn ciphertext(&self) -> Result<Vec<u8>, DecodeError> {
        from_base64("encrypted data key", &self.cipher_text_key)
    }
}

/// What a data key is bound to: KMS decrypts it only for the same.
pub type EncryptionContext = BTreeMap<&'static str, String>;

/// The encryption context of a session's data key. `challenge` is the request's, if the client
/// acknowledges it.
pub fn encryption_context(
    session_id: &SessionId,
    target_id: &str,
    challenge: Option<&str>,
) -> EncryptionContext {
    let mut context = BTreeMap::from([
        ("aws:ssm:SessionId", session_id.to_string()),
        ("aws:ssm:TargetId", target_id.to_owned()),
    ]);
    if let Some(challenge) = challenge {
        context.insert("aws:ssm:RandomChallenge", challenge.to_owned());
    }
    context
}

/// Client to agent: what I did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    /// The client's wire version.
    #[serde(default)]
    pub client_version: String,
    /// One entry per requested action.
    #[serde(default, deserialize_with = "null_as_default")]
    pub processed_client_actions: Vec<ProcessedAction>,
    /// Errors outside any action; null when there are none.
    #[serde(default)]
    pub errors: Option<Vec<String>>,
}

/// The outcome of one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedAction {
    /// The action's type, as requested.
    pub action_type: String,
    /// 1 success, 2 failed, 3 unsupported; anything but 1 fails the session.
    pub action_status: i64,
    /// The action's result, by type; null if it has none.
    #[serde(default)]
    pub action_result: Value,
    /// Why it failed.
    #[serde(default)]
    pub error: String,
}

/// The action was done.
pub const STATUS_SUCCESS: i64 = 1;
/// The action was tried and failed.
pub const STATUS_FAILED: i64 = 2;
/// The client does not know the action.
pub const STATUS_UNSUPPORTED: i64 = 3;

/// Agent to client: the handshake is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeComplete {
    /// How long it took, in nanoseconds.
    pub handshake_time_to_complete: u64,
    /// Text for the person at the client; may be empty.
    #[serde(default)]
    pub customer_message: String,
}

/// Payload types 8 and 9.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EncryptionChallenge {
    /// Base64 of the encrypted challenge.
    pub challenge: String,
}

impl EncryptionChallenge {
    /// The payload for an encrypted challenge.
    pub fn new(encrypted: &[u8]) -> Self {
        Self {
            challenge: BASE64.encode(encrypted),
        }
    }

    /// The encrypted challenge.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is no base64.
    pub fn encrypted(&self) -> Result<Vec<u8>, DecodeError> {
        from_base64("encryption challenge", &self.challenge)
    }
}

fn from_base64(what: &'static str, text: &str) -> Result<Vec<u8>, DecodeError> {
    BASE64.decode(text).map_err(|error| DecodeError::Invalid {
        what,
        detail: error.to_string(),
    })
}

macro_rules! json_payload {
    ($($type:ty: $what:literal),* $(,)?) => {$(
        impl $type {
            /// The JSON form.
            pub fn encode(&self) -> bytes::Bytes {
                to_json(self).into()
            }

            /// Reads the JSON form.
            ///
            /// # Errors
            /// [`DecodeError`] if it is too large or no such JSON.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                from_json($what, bytes, Limit::JSON_PAYLOAD)
            }
        }
    )*};
}

json_payload! {
    HandshakeRequest: "handshake request",
    HandshakeResponse: "handshake response",
    HandshakeComplete: "handshake complete",
    EncryptionChallenge: "encryption challenge",
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
