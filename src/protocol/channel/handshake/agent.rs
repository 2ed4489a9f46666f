//! The agent's side of the handshake: it asks.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Step;
use crate::protocol::channel::cipher::{self, Cipher, DataKey};
use crate::protocol::channel::event::{Event, KeyRequest};
use crate::protocol::channel::settings::{EncryptionRequest, Role};
use crate::protocol::wire::handshake::{
    ACTION_KMS_ENCRYPTION, ACTION_SESSION_TYPE, EncryptionChallenge, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, KmsEncryptionRequest, KmsEncryptionResult,
    RequestedAction, STATUS_SUCCESS, encryption_context,
};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::protocol::wire::{DecodeError, PayloadType, SessionId};

/// How long the agent waits for each answer; the reference waits as long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// What the reference agent says when nobody answers.
pub(super) const TIMED_OUT: &str = "Handshake timed out. Please ensure that you have the latest version of the session manager plugin.";
const KEY_TIMED_OUT: &str = "Fetching data key failed: KMS has not answered within 15 s.";
/// What the reference agent says when nobody answers the challenge.
const CHALLENGE_TIMED_OUT: &str = "Timed out waiting for encryption challenge.";
/// What the person is told at the end of an encrypted session's handshake.
const ENCRYPTED: &str = "This session is encrypted using AWS KMS.";

/// The agent's side: it asks.
#[derive(Debug)]
pub(in super::super) enum Agent {
    NotStarted(Question),
    Waiting {
        question: Question,
        started: Instant,
    },
    Decrypting {
        answer: Answer,
        encryption: EncryptionRequest,
        since: Instant,
    },
    Challenging {
        answer: Answer,
        challenge: [u8; cipher::CHALLENGE],
        since: Instant,
    },
    Open,
    Failed,
}

/// What the client is asked.
#[derive(Debug)]
pub(in super::super) struct Question {
    session_id: SessionId,
    session_type: String,
    properties: Value,
    encryption: Option<EncryptionRequest>,
}

/// What is known once the client has answered.
#[derive(Debug)]
pub(in super::super) struct Answer {
    session_type: String,
    client_version: String,
    started: Instant,
}

impl Agent {
    pub(super) fn new(
        session_id: SessionId,
        session_type: String,
        properties: Value,
        encryption: Option<EncryptionRequest>,
    ) -> Self {
        Self::NotStarted(Question {
            session_id,
            session_type,
            properties,
            encryption,
        })
    }

    pub(super) fn awaits_key(&self) -> bool {
        match self {
            Self::NotStarted(question) | Self::Waiting { question, .. } => {
                question.encryption.is_some()
            }
            Self::Decrypting { .. } => true,
            Self::Challenging { .. } | Self::Open | Self::Failed => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Waiting { started: since, .. }
            | Self::Decrypting { since, .. }
            | Self::Challenging { since, .. } => Some(*since + TIMEOUT),
            Self::NotStarted(_) | Self::Open | Self::Failed => None,
        }
    }

    /// The request to send now that the first connection is up; `None` if there is nothing to ask
    /// or it was asked before.
    pub(in super::super) fn start(&mut self, now: Instant) -> Option<Bytes> {
        match std::mem::replace(self, Self::Failed) {
            Self::NotStarted(question) => {
                let payload = question.encode();
                *self = Self::Waiting {
                    question,
                    started: now,
                };
                Some(payload)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the client's response; `None` if none is awaited.
    pub(in super::super) fn handle_response(
        &mut self,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Step>, DecodeError> {
        let Self::Waiting { question, started } = self else {
            return Ok(None);
        };
        let response = HandshakeResponse::decode(payload)?;
        let answer = Answer {
            session_type: std::mem::take(&mut question.session_type),
            client_version: response.client_version.clone(),
            started: *started,
        };
        let step = match (refusal(&response), question.encryption.take()) {
            (Some(text), _) => self.fail(text),
            (None, None) => self.complete(answer, String::new(), now),
            (None, Some(encryption)) => {
                let request = key_request(&response, &encryption, &question.session_id);
                match request {
                    Ok(request) => {
                        *self = Self::Decrypting {
                            answer,
                            encryption,
                            since: now,
                        };
                        Step::GetKey(request)
                    }
                    Err(text) => self.fail(text),
                }
            }
        };
        Ok(Some(step))
    }

    /// Takes the data key and challenges the client with it; `None` if none is awaited.
    pub(in super::super) fn handle_key(
        &mut self,
        key: Result<DataKey, String>,
        now: Instant,
    ) -> Option<Step> {
        let (answer, encryption) = match std::mem::replace(self, Self::Failed) {
            Self::Decrypting {
                answer, encryption, ..
            } => (answer, encryption),
            other => {
                *self = other;
                return None;
            }
        };
        let key = match key {
            Ok(key) => key,
            Err(reason) => {
                return Some(self.fail(format!("Fetching data key failed: {reason}")));
            }
        };
        let randomness = &encryption.randomness;
        let mut cipher = Cipher::new(Role::Agent, &key, randomness.nonce);
        let sealed = cipher.seal(&randomness.challenge);
        *self = Self::Challenging {
            answer,
            challenge: randomness.challenge,
            since: now,
        };
        Some(Step::Encrypt(
            Box::new(cipher),
            PayloadType::EncryptionChallengeRequest,
            EncryptionChallenge::new(&sealed).encode(),
        ))
    }

    /// Takes the client's answer to the challenge; `None` if none is awaited.
    pub(in super::super) fn handle_challenge_answer(
        &mut self,
        payload: &[u8],
        cipher: &Cipher,
        now: Instant,
    ) -> Result<Option<Step>, DecodeError> {
        let Self::Challenging { challenge, .. } = self else {
            return Ok(None);
        };
        let sealed = EncryptionChallenge::decode(payload)?.encrypted()?;
        let is_right = cipher
            .open(&sealed)
            .is_ok_and(|answer| cipher::is_same(&answer, challenge));
        let answer = match std::mem::replace(self, Self::Failed) {
            Self::Challenging { answer, .. } if is_right => answer,
            _ => {
                let text = "Encryption challenge does not match: the client has another data key.";
                return Ok(Some(self.fail(text.to_owned())));
            }
        };
        Ok(Some(self.complete(answer, ENCRYPTED.to_owned(), now)))
    }

    /// Gives up if the deadline passed; returns the text to end the session with.
    pub(in super::super) fn handle_timeout(&mut self, now: Instant) -> Option<String> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let text = match self {
            Self::Waiting { .. } => TIMED_OUT,
            Self::Decrypting { .. } => KEY_TIMED_OUT,
            Self::Challenging { .. } => CHALLENGE_TIMED_OUT,
            Self::NotStarted(_) | Self::Open | Self::Failed => return None,
        };
        *self = Self::Failed;
        Some(text.to_owned())
    }

    fn fail(&mut self, text: String) -> Step {
        *self = Self::Failed;
        Step::Fail(text)
    }

    fn complete(&mut self, answer: Answer, customer_message: String, now: Instant) -> Step {
        *self = Self::Open;
        let took = now.saturating_duration_since(answer.started).as_nanos();
        let payload = HandshakeComplete {
            handshake_time_to_complete: u64::try_from(took).unwrap_or(u64::MAX),
            customer_message,
        }
        .encode();
        let opened = Event::Open {
            session_type: answer.session_type,
            properties: Value::Null,
            peer_version: answer.client_version,
            customer_message: String::new(),
        };
        Step::Complete(payload, opened)
    }
}

impl Question {
    fn encode(&self) -> Bytes {
        let mut actions = vec![RequestedAction {
            action_type: ACTION_SESSION_TYPE.into(),
            action_parameters: json!({
                "SessionType": self.session_type,
                "Properties": self.properties,
            }),
        }];
        actions.extend(self.encryption.as_ref().map(|encryption| RequestedAction {
            action_type: ACTION_KMS_ENCRYPTION.into(),
            action_parameters: json!(KmsEncryptionRequest {
                kms_key_id: encryption.kms_key_id.clone(),
                challenge: key_challenge(encryption),
            }),
        }));
        HandshakeRequest {
            agent_version: AGENT_WIRE_VERSION.into(),
            requested_client_actions: actions,
        }
        .encode()
    }
}

fn key_challenge(encryption: &EncryptionRequest) -> String {
    BASE64.encode(encryption.randomness.key_challenge)
}

/// The reference's words for what the client could not do.
fn refusal(response: &HandshakeResponse) -> Option<String> {
    let refused = response
        .processed_client_actions
        .iter()
        .find(|action| action.action_status != STATUS_SUCCESS)?;
    Some(format!(
        "{} failed on client with status {} error: {}",
        refused.action_type, refused.action_status, refused.error
    ))
}

/// What KMS is to decrypt, or why the client's response cannot lead to a key.
fn key_request(
    response: &HandshakeResponse,
    encryption: &EncryptionRequest,
    session_id: &SessionId,
) -> Result<KeyRequest, String> {
    let action = response
        .processed_client_actions
        .iter()
        .find(|action| action.action_type == ACTION_KMS_ENCRYPTION)
        .ok_or("the client has not answered the request for KMS encryption")?;
    let unusable =
        |error: &dyn std::fmt::Display| format!("the client sent no usable data key: {error}");
    let result: KmsEncryptionResult =
        serde_json::from_value(action.action_result.clone()).map_err(|error| unusable(&error))?;
    let ciphertext = result.ciphertext().map_err(|error| unusable(&error))?;
    if encryption.requires_challenge && !result.challenge_acknowledgement {
        return Err(
            "client does not support required encryption context random challenge".to_owned(),
        );
    }
    let challenge = key_challenge(encryption);
    let challenge = result.challenge_acknowledgement.then_some(&*challenge);
    Ok(KeyRequest::Decrypt {
        kms_key_id: encryption.kms_key_id.clone(),
        ciphertext: ciphertext.into(),
        context: encryption_context(session_id, &encryption.target_id, challenge),
    })
}
