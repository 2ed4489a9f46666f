//! The client's side of the handshake: it answers, or infers a shell from the first output.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{STANDARD_STREAM, Step};
use crate::protocol::channel::cipher::{self, Cipher, DataKey};
use crate::protocol::channel::event::{Event, KeyRequest};
use crate::protocol::channel::settings::{EncryptionAnswer, Role};
use crate::protocol::wire::handshake::{
    ACTION_KMS_ENCRYPTION, ACTION_SESSION_TYPE, EncryptionChallenge, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, KmsEncryptionRequest, KmsEncryptionResult,
    ProcessedAction, RequestedAction, STATUS_FAILED, STATUS_SUCCESS, STATUS_UNSUPPORTED,
    SessionTypeRequest, encryption_context,
};
use crate::protocol::wire::version::CLIENT_WIRE_VERSION;
use crate::protocol::wire::{DecodeError, PayloadType, SessionId};

pub(super) const SESSION_TYPES: [&str; 4] = [
    STANDARD_STREAM,
    "InteractiveCommands",
    "NonInteractiveCommands",
    "Port",
];

/// The client's side: it answers, or infers a shell from the first output.
#[derive(Debug)]
pub(in super::super) enum Client {
    Silent {
        session_id: SessionId,
        /// How it would encrypt, or why it cannot.
        encryption: Result<EncryptionAnswer, String>,
    },
    /// The response waits for a data key.
    Keying {
        agreed: Agreed,
        response: Draft,
        encryption: EncryptionAnswer,
    },
    Answered {
        agreed: Agreed,
        /// Whether the agent may still ask for a proof of the key.
        may_be_challenged: bool,
    },
    Open,
}

/// What the agent said it starts.
#[derive(Debug, Default)]
pub(in super::super) struct Agreed {
    session_type: String,
    properties: Value,
    agent_version: String,
}

/// A response whose encryption is still open.
#[derive(Debug)]
pub(in super::super) struct Draft {
    actions: Vec<ProcessedAction>,
    /// Index of the action that asked for encryption.
    encryption: usize,
    acknowledges_challenge: bool,
}

impl Client {
    pub(super) fn new(session_id: SessionId, encryption: Result<EncryptionAnswer, String>) -> Self {
        Self::Silent {
            session_id,
            encryption,
        }
    }

    /// Takes the agent's request; `None` after the first.
    pub(in super::super) fn handle_request(
        &mut self,
        payload: &[u8],
    ) -> Result<Option<Step>, DecodeError> {
        let Self::Silent {
            session_id,
            encryption,
        } = self
        else {
            return Ok(None);
        };
        let request = HandshakeRequest::decode(payload)?;
        let mut agreed = Agreed {
            agent_version: request.agent_version,
            ..Agreed::default()
        };
        let mut key = None;
        let mut actions = Vec::new();
        for action in request.requested_client_actions {
            let done = match action.action_type.as_str() {
                ACTION_SESSION_TYPE => agreed.accept(action),
                ACTION_KMS_ENCRYPTION => {
                    match accept_encryption(&action, encryption.as_ref(), session_id) {
                        Ok(request) if key.is_none() => {
                            key = Some((actions.len(), request));
                            outcome(action.action_type, STATUS_SUCCESS, String::new())
                        }
                        Ok(_) => failed(action.action_type, "it was asked twice"),
                        Err(reason) => failed(action.action_type, &reason),
                    }
                }
                _ => {
                    let error = format!("Unsupported action {}", action.action_type);
                    outcome(action.action_type, STATUS_UNSUPPORTED, error)
                }
            };
            actions.push(done);
        }
        let step = match (key, encryption) {
            (Some((index, accepted)), Ok(encryption)) => {
                let response = Draft {
                    actions,
                    encryption: index,
                    acknowledges_challenge: accepted.acknowledges_challenge,
                };
                let encryption = encryption.clone();
                *self = Self::Keying {
                    agreed,
                    response,
                    encryption,
                };
                Step::GetKey(accepted.request)
            }
            _ => {
                *self = Self::Answered {
                    agreed,
                    may_be_challenged: false,
                };
                respond(actions)
            }
        };
        Ok(Some(step))
    }

    /// Takes the data key, or why there is none, and responds; `None` if none is awaited.
    pub(in super::super) fn handle_key(&mut self, key: Result<DataKey, String>) -> Option<Step> {
        let (agreed, response, encryption) = match std::mem::replace(self, Self::Open) {
            Self::Keying {
                agreed,
                response,
                encryption,
            } => (agreed, response, encryption),
            other => {
                *self = other;
                return None;
            }
        };
        *self = Self::Answered {
            agreed,
            may_be_challenged: key.is_ok(),
        };
        let mut actions = response.actions;
        let action = actions.get_mut(response.encryption)?;
        match key {
            Ok(key) => {
                action.action_result = json!(KmsEncryptionResult::new(
                    key.ciphertext(),
                    response.acknowledges_challenge
                ));
                let cipher = Cipher::new(Role::Client, &key, encryption.randomness.nonce);
                Some(Step::Encrypt(
                    Box::new(cipher),
                    PayloadType::HandshakeResponse,
                    encode_response(actions),
                ))
            }
            Err(reason) => {
                *action = failed(std::mem::take(&mut action.action_type), &reason);
                Some(respond(actions))
            }
        }
    }

    /// Proves to the agent that this end has the data key; `None` if there is nothing to prove.
    ///
    /// Only once, before data flows, and only for what has a challenge's length: otherwise a relay
    /// could present output of the agent and would get it back as valid input.
    pub(in super::super) fn handle_challenge(
        &mut self,
        payload: &[u8],
        cipher: &mut Cipher,
    ) -> Result<Option<Step>, DecodeError> {
        let Self::Answered {
            may_be_challenged: may_be_challenged @ true,
            ..
        } = self
        else {
            return Ok(None);
        };
        let sealed = EncryptionChallenge::decode(payload)?.encrypted()?;
        *may_be_challenged = false;
        let step = match cipher.open(&sealed) {
            Ok(challenge) if challenge.len() == cipher::CHALLENGE => {
                let answer = EncryptionChallenge::new(&cipher.seal(&challenge));
                Step::Send(PayloadType::EncryptionChallengeResponse, answer.encode())
            }
            Ok(challenge) => Step::Fail(format!(
                "The agent's encryption challenge has {} bytes instead of {}.",
                challenge.len(),
                cipher::CHALLENGE
            )),
            Err(error) => Step::Fail(format!(
                "The agent's encryption challenge cannot be decrypted: {error}."
            )),
        };
        Ok(Some(step))
    }

    /// Takes the end of the handshake; `None` if there was no handshake or it is over.
    pub(in super::super) fn handle_complete(
        &mut self,
        payload: &[u8],
    ) -> Result<Option<Event>, DecodeError> {
        let Self::Answered { .. } = self else {
            return Ok(None);
        };
        let complete = HandshakeComplete::decode(payload)?;
        Ok(self.open(complete.customer_message))
    }

    /// Output arrived: without a handshake that is how a shell shows itself. After a response, output
    /// only comes when the agent takes the handshake for done.
    pub(in super::super) fn handle_output(&mut self) -> Option<Event> {
        self.open(String::new())
    }

    fn open(&mut self, customer_message: String) -> Option<Event> {
        let agreed = match std::mem::replace(self, Self::Open) {
            Self::Silent { .. } => Agreed {
                session_type: STANDARD_STREAM.into(),
                ..Agreed::default()
            },
            Self::Answered { agreed, .. } => agreed,
            keying @ Self::Keying { .. } => {
                *self = keying;
                return None;
            }
            Self::Open => return None,
        };
        Some(Event::Open {
            session_type: agreed.session_type,
            properties: agreed.properties,
            peer_version: agreed.agent_version,
            customer_message,
        })
    }
}

impl Agreed {
    fn accept(&mut self, action: RequestedAction) -> ProcessedAction {
        match accept_session_type(action.action_parameters) {
            Ok(accepted) => {
                self.session_type = accepted.session_type;
                self.properties = accepted.properties;
                outcome(action.action_type, STATUS_SUCCESS, String::new())
            }
            Err(reason) => failed(action.action_type, &reason),
        }
    }
}

fn accept_session_type(parameters: Value) -> Result<SessionTypeRequest, String> {
    let request: SessionTypeRequest =
        serde_json::from_value(parameters).map_err(|error| error.to_string())?;
    if SESSION_TYPES.contains(&request.session_type.as_str()) {
        Ok(request)
    } else {
        Err(format!("Unknown session type {}", request.session_type))
    }
}

/// An encryption that can be agreed on once KMS has made its key.
struct Accepted {
    request: KeyRequest,
    acknowledges_challenge: bool,
}

fn accept_encryption(
    action: &RequestedAction,
    encryption: Result<&EncryptionAnswer, &String>,
    session_id: &SessionId,
) -> Result<Accepted, String> {
    let encryption = encryption.map_err(Clone::clone)?;
    let request: KmsEncryptionRequest = serde_json::from_value(action.action_parameters.clone())
        .map_err(|error| error.to_string())?;
    // An agent that sends a challenge understands that it was used; it ties the key to this handshake.
    let challenge = Some(request.challenge.as_str()).filter(|challenge| !challenge.is_empty());
    Ok(Accepted {
        request: KeyRequest::Generate {
            kms_key_id: request.kms_key_id.clone(),
            context: encryption_context(session_id, &encryption.target_id, challenge),
        },
        acknowledges_challenge: challenge.is_some(),
    })
}

fn failed(action_type: String, reason: &str) -> ProcessedAction {
    let error = format!("Failed to process action {action_type}: {reason}");
    outcome(action_type, STATUS_FAILED, error)
}

fn outcome(action_type: String, action_status: i64, error: String) -> ProcessedAction {
    ProcessedAction {
        action_type,
        action_status,
        action_result: Value::Null,
        error,
    }
}

fn respond(actions: Vec<ProcessedAction>) -> Step {
    Step::Send(PayloadType::HandshakeResponse, encode_response(actions))
}

fn encode_response(actions: Vec<ProcessedAction>) -> Bytes {
    let errors: Vec<String> = actions
        .iter()
        .filter(|action| !action.error.is_empty())
        .map(|action| action.error.clone())
        .collect();
    HandshakeResponse {
        client_version: CLIENT_WIRE_VERSION.into(),
        processed_client_actions: actions,
        errors: (!errors.is_empty()).then_some(errors),
    }
    .encode()
}
