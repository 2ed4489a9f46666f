//! What has to be agreed before data may flow, for both roles.
//!
//! ```text
//! agent: NotStarted --connected--> Waiting --response--> Open
//!                                          \--refused, 15 s--> Failed
//! client: Silent --request--> Answered --complete--> Open
//!               \------------ first output --------/
//! ```
//!
//! The machine carries the payloads; what is said in them is decided here.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::event::Event;
use super::settings::{HandshakeRole, Role};
use crate::protocol::wire::DecodeError;
use crate::protocol::wire::handshake::{
    ACTION_KMS_ENCRYPTION, ACTION_SESSION_TYPE, HandshakeComplete, HandshakeRequest,
    HandshakeResponse, ProcessedAction, RequestedAction, STATUS_FAILED, STATUS_SUCCESS,
    STATUS_UNSUPPORTED, SessionTypeRequest,
};
use crate::protocol::wire::version::{AGENT_WIRE_VERSION, CLIENT_WIRE_VERSION};

/// How long the agent waits for the client's response; the reference waits as long.
const TIMEOUT: Duration = Duration::from_secs(15);
/// What the reference agent says when nobody answers.
const TIMED_OUT: &str = "Handshake timed out. Please ensure that you have the latest version of the session manager plugin.";

const STANDARD_STREAM: &str = "Standard_Stream";
const SESSION_TYPES: [&str; 4] = [
    STANDARD_STREAM,
    "InteractiveCommands",
    "NonInteractiveCommands",
    "Port",
];

/// The handshake of one end.
#[derive(Debug)]
pub(super) enum Handshake {
    Agent(Agent),
    Client(Client),
}

impl Handshake {
    pub(super) fn new(role: Role, handshake: HandshakeRole) -> Self {
        match (role, handshake) {
            (Role::Client, _) => Self::Client(Client::Silent),
            (
                Role::Agent,
                HandshakeRole::Request {
                    session_type,
                    properties,
                },
            ) => Self::Agent(Agent::NotStarted(SessionTypeRequest {
                session_type,
                properties,
            })),
            (Role::Agent, HandshakeRole::None | HandshakeRole::Answer) => Self::Agent(Agent::Open),
        }
    }

    /// Whether data may flow.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Agent(Agent::Open) | Self::Client(Client::Open))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Agent(Agent::Waiting { started, .. }) => Some(*started + TIMEOUT),
            Self::Agent(Agent::NotStarted(_) | Agent::Open | Agent::Failed) | Self::Client(_) => {
                None
            }
        }
    }
}

/// The agent's side: it asks.
#[derive(Debug)]
pub(super) enum Agent {
    NotStarted(SessionTypeRequest),
    Waiting {
        session_type: String,
        started: Instant,
    },
    Open,
    Failed,
}

/// How an agent's handshake went on.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Send this payload of type 7, then data.
    Complete { payload: Bytes, opened: Event },
    /// The session has to end with this text.
    Failed(String),
}

impl Agent {
    /// The request to send now that the first connection is up; `None` if there is nothing to ask
    /// or it was asked before.
    pub(super) fn start(&mut self, now: Instant) -> Option<Bytes> {
        let Self::NotStarted(request) = self else {
            return None;
        };
        let payload = HandshakeRequest {
            agent_version: AGENT_WIRE_VERSION.into(),
            requested_client_actions: vec![RequestedAction {
                action_type: ACTION_SESSION_TYPE.into(),
                action_parameters: json!({
                    "SessionType": request.session_type,
                    "Properties": request.properties,
                }),
            }],
        }
        .encode();
        *self = Self::Waiting {
            session_type: std::mem::take(&mut request.session_type),
            started: now,
        };
        Some(payload)
    }

    /// Takes the client's response; `None` if none is awaited.
    pub(super) fn handle_response(
        &mut self,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Verdict>, DecodeError> {
        let Self::Waiting {
            session_type,
            started,
        } = self
        else {
            return Ok(None);
        };
        let response = HandshakeResponse::decode(payload)?;
        if let Some(refused) = response
            .processed_client_actions
            .iter()
            .find(|action| action.action_status != STATUS_SUCCESS)
        {
            let text = format!(
                "{} failed on client with status {} error: {}",
                refused.action_type, refused.action_status, refused.error
            );
            *self = Self::Failed;
            return Ok(Some(Verdict::Failed(text)));
        }

        let took = now.saturating_duration_since(*started).as_nanos();
        let payload = HandshakeComplete {
            handshake_time_to_complete: u64::try_from(took).unwrap_or(u64::MAX),
            customer_message: String::new(),
        }
        .encode();
        let opened = Event::Open {
            session_type: std::mem::take(session_type),
            properties: Value::Null,
            peer_version: response.client_version,
            customer_message: String::new(),
        };
        *self = Self::Open;
        Ok(Some(Verdict::Complete { payload, opened }))
    }

    /// Gives up if the deadline passed; returns the text to end the session with.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<String> {
        match self {
            Self::Waiting { started, .. } if *started + TIMEOUT <= now => {
                *self = Self::Failed;
                Some(TIMED_OUT.into())
            }
            Self::NotStarted(_) | Self::Waiting { .. } | Self::Open | Self::Failed => None,
        }
    }
}

/// The client's side: it answers, or infers a shell from the first output.
#[derive(Debug)]
pub(super) enum Client {
    Silent,
    Answered {
        session_type: String,
        properties: Value,
        agent_version: String,
    },
    Open,
}

impl Client {
    /// Takes the agent's request and returns the response to send; `None` after the first request.
    pub(super) fn handle_request(&mut self, payload: &[u8]) -> Result<Option<Bytes>, DecodeError> {
        let Self::Silent = self else {
            return Ok(None);
        };
        let request = HandshakeRequest::decode(payload)?;
        let mut session_type = String::new();
        let mut properties = Value::Null;
        let actions: Vec<_> = request
            .requested_client_actions
            .into_iter()
            .map(|action| match action.action_type.as_str() {
                ACTION_SESSION_TYPE => match accept_session_type(action.action_parameters) {
                    Ok(accepted) => {
                        session_type = accepted.session_type;
                        properties = accepted.properties;
                        outcome(action.action_type, STATUS_SUCCESS, String::new())
                    }
                    Err(reason) => failed(action.action_type, &reason),
                },
                ACTION_KMS_ENCRYPTION => failed(
                    action.action_type,
                    "this client does not support encryption with KMS",
                ),
                _ => {
                    let error = format!("Unsupported action {}", action.action_type);
                    outcome(action.action_type, STATUS_UNSUPPORTED, error)
                }
            })
            .collect();
        *self = Self::Answered {
            session_type,
            properties,
            agent_version: request.agent_version,
        };
        Ok(Some(encode_response(actions)))
    }

    /// Takes the end of the handshake; `None` if there was no handshake or it is over.
    pub(super) fn handle_complete(&mut self, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
        let Self::Answered { .. } = self else {
            return Ok(None);
        };
        let complete = HandshakeComplete::decode(payload)?;
        Ok(self.open(complete.customer_message))
    }

    /// Output arrived: without a handshake that is how a shell shows itself. After a request, output
    /// only comes when the agent takes the handshake for done.
    pub(super) fn handle_output(&mut self) -> Option<Event> {
        self.open(String::new())
    }

    fn open(&mut self, customer_message: String) -> Option<Event> {
        match std::mem::replace(self, Self::Open) {
            Self::Silent => Some(Event::Open {
                session_type: STANDARD_STREAM.into(),
                properties: Value::Null,
                peer_version: String::new(),
                customer_message,
            }),
            Self::Answered {
                session_type,
                properties,
                agent_version,
            } => Some(Event::Open {
                session_type,
                properties,
                peer_version: agent_version,
                customer_message,
            }),
            Self::Open => None,
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

#[cfg(test)]
mod tests;
