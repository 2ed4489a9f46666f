//! Identifiers: messages and sessions.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{DecodeError, Limit};

/// The id of one message.
///
/// On the wire its halves are swapped: bytes 8 to 15 first, then bytes 0 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Makes a version 4 id out of random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Reads the 16 bytes of the wire form.
    pub fn from_wire(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_u128(u128::from_be_bytes(bytes).rotate_left(64)))
    }

    /// The 16 bytes of the wire form.
    pub fn to_wire(self) -> [u8; 16] {
        self.0.as_u128().rotate_left(64).to_be_bytes()
    }
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The id of a session: names its data channel, its folder and its recording.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// Checks that `text` can be a session id.
    ///
    /// The reference imposes no form; ours becomes a path component and part of a URL, so it takes
    /// what AWS documents for session ids: letters, digits and `. _ - @ = + ,`, not starting with a dot.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] or [`DecodeError::TooLarge`].
    pub fn new(text: impl Into<String>) -> Result<Self, DecodeError> {
        let text = text.into();
        super::codec::check_size("session id", text.len(), Limit::SESSION_ID)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@=+,".contains(c);
        if text.is_empty() || text.starts_with('.') || !text.chars().all(allowed) {
            return Err(DecodeError::Invalid {
                what: "session id",
                detail: format!(
                    "{text:?} is empty, starts with a dot or has other characters than letters, digits and ._-@=+,"
                ),
            });
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        Self::new(text)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
