//! Encrypted sessions: where their data keys come from, and what the client is asked.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use serde_json::Value;

use super::kind::Kind;
use super::task::Session;
use crate::protocol::channel::{EncryptionRequest, HandshakeRole, Randomness};
use crate::protocol::wire::session_document::Preferences;
use crate::transport::KeySource;

/// Where data keys come from.
#[derive(Clone)]
pub struct Keys {
    /// Decrypts them.
    pub source: Arc<dyn KeySource>,
    /// Refuse clients that do not tie a session's data key to its handshake.
    pub requires_challenge: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("requires_challenge", &self.requires_challenge)
            .finish_non_exhaustive()
    }
}

/// The KMS key that the preferences want a session to be encrypted with. Port sessions never are,
/// whatever the preferences say: the reference's ends do not encrypt them either.
pub(super) fn kms_key_id(preferences: &Preferences, kind: &Kind) -> Option<String> {
    let id = &preferences.kms_key_id;
    (!id.is_empty() && !matches!(kind, Kind::Port(_))).then(|| id.clone())
}

impl Session {
    /// The handshake of a kind, with encryption if the preferences ask for it. Every data channel is
    /// opened with it, so that no kind can forget.
    pub(super) fn protect(&self, handshake: HandshakeRole) -> HandshakeRole {
        let Some(encryption) = self.encryption() else {
            return handshake;
        };
        let (session_type, properties) = match handshake {
            HandshakeRole::Request {
                session_type,
                properties,
                ..
            } => (session_type, properties),
            HandshakeRole::None | HandshakeRole::Answer { .. } => {
                let document = &self.start.document_content;
                (document.session_type.clone(), Value::Null)
            }
        };
        HandshakeRole::Request {
            session_type,
            properties,
            encryption: Some(encryption),
        }
    }

    /// How the session is to be encrypted, if it is.
    fn encryption(&self) -> Option<EncryptionRequest> {
        let kms_key_id = self.kms_key_id.clone()?;
        let settings = &self.context.settings;
        let mut bytes = [0; Randomness::SIZE];
        rand::fill(&mut bytes).expect("the system's random source works");
        Some(EncryptionRequest {
            kms_key_id,
            target_id: settings.node_id.clone(),
            requires_challenge: settings
                .keys
                .as_ref()
                .is_some_and(|keys| keys.requires_challenge),
            randomness: Randomness::new(&bytes),
        })
    }
}
