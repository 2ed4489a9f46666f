//! What has to be agreed before data may flow, for both roles.
//!
//! ```text
//! agent:  NotStarted --connected--> Waiting --response--> Open
//!                                      \--> Decrypting --key--> Challenging --answer--/
//!         any of the waits --refused, 15 s--> Failed
//!
//! client: Silent --request--> Answered --complete--> Open
//!           |  \--> Keying --key--/                   /
//!            \----------- first output --------------/
//! ```
//!
//! The lower ways are those of a session that is encrypted with a data key of KMS. The machine
//! carries the payloads; what is said in them is decided here.

mod agent;
mod client;

use std::time::Instant;

use bytes::Bytes;

use super::cipher::Cipher;
use super::event::{Event, KeyRequest};
use super::settings::{HandshakeRole, Role};
use crate::protocol::wire::{PayloadType, SessionId};

pub(super) use agent::Agent;
pub(super) use client::Client;

/// Session type of a shell.
const STANDARD_STREAM: &str = "Standard_Stream";

/// The handshake of one end.
#[derive(Debug)]
pub(super) enum Handshake {
    Agent(Agent),
    Client(Client),
}

/// How a handshake goes on.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this payload.
    Send(PayloadType, Bytes),
    /// Get this key.
    GetKey(KeyRequest),
    /// Use this cipher from here on, and send this payload.
    Encrypt(Box<Cipher>, PayloadType, Bytes),
    /// Agent: send this payload, the last of the handshake. Data may flow.
    Complete(Bytes, Event),
    /// The session has to end with this text.
    Fail(String),
}

impl Handshake {
    pub(super) fn new(role: Role, session_id: &SessionId, handshake: HandshakeRole) -> Self {
        match (role, handshake) {
            (Role::Client, HandshakeRole::Answer { encryption }) => {
                Self::Client(Client::new(session_id.clone(), encryption))
            }
            (Role::Client, HandshakeRole::None | HandshakeRole::Request { .. }) => {
                let reason = "this client was not made to answer".to_owned();
                Self::Client(Client::new(session_id.clone(), Err(reason)))
            }
            (
                Role::Agent,
                HandshakeRole::Request {
                    session_type,
                    properties,
                    encryption,
                },
            ) => Self::Agent(Agent::new(
                session_id.clone(),
                session_type,
                properties,
                encryption,
            )),
            (Role::Agent, HandshakeRole::None | HandshakeRole::Answer { .. }) => {
                Self::Agent(Agent::Open)
            }
        }
    }

    /// Whether data may flow.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Agent(agent) => matches!(agent, Agent::Open),
            Self::Client(client) => matches!(client, Client::Open),
        }
    }

    /// Whether data is to be encrypted with a key that is not there yet.
    pub(super) fn awaits_key(&self) -> bool {
        match self {
            Self::Agent(agent) => agent.awaits_key(),
            Self::Client(client) => matches!(client, Client::Keying { .. }),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Agent(agent) => agent.deadline(),
            Self::Client(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
