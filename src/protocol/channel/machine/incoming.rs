//! What the peer and the gateway say to a channel.

use std::time::Instant;

use bytes::Bytes;

use super::{Channel, Life};
use crate::protocol::channel::acknowledgements::Due;
use crate::protocol::channel::cipher::is_encrypted;
use crate::protocol::channel::event::{ChannelError, Event};
use crate::protocol::channel::handshake::Handshake;
use crate::protocol::channel::receive_window::{Arrival, Content};
use crate::protocol::channel::settings::Role;
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::{
    Acknowledgement, DecodeError, Message, MessageId, MessageType, Payload, PayloadType,
    PeerFeatures,
};

impl Channel {
    /// Takes one whole WebSocket message.
    ///
    /// # Errors
    /// [`ChannelError`]: the message is ignored, the channel goes on.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "payloads stay slices of the message, which is the channel's from here on"
    )]
    pub fn handle_message(&mut self, message: Bytes, now: Instant) -> Result<(), ChannelError> {
        // The reference agent does not look at digests, the plugin does.
        let message = match self.role {
            Role::Agent => Message::decode(&message)?,
            Role::Client => Message::decode_verified(&message)?,
        };
        match (&message.message_type, self.role) {
            (MessageType::InputStreamData, Role::Agent) => {
                self.resume();
                self.receive(message, now)
            }
            (MessageType::OutputStreamData, Role::Client) => self.receive(message, now),
            (MessageType::Acknowledge, _) => {
                self.resume();
                let sequence_number = Acknowledgement::decode_sequence_number(&message.payload)?;
                self.send_window.acknowledge(sequence_number, now);
                self.check_drained(now);
                Ok(())
            }
            (MessageType::ChannelClosed, _) => self.handle_closed(&message.payload, now),
            (MessageType::StartPublication, Role::Agent) => {
                self.handle_start_publication(&message.payload, now);
                Ok(())
            }
            (MessageType::PausePublication, Role::Agent) => {
                if !std::mem::replace(&mut self.is_paused, true) {
                    self.events.push_back(Event::Paused);
                }
                Ok(())
            }
            (MessageType::StartPublication | MessageType::PausePublication, Role::Client) => Ok(()),
            (unexpected, _) => Err(ChannelError::Unexpected(unexpected.to_string())),
        }
    }

    fn handle_closed(&mut self, payload: &[u8], now: Instant) -> Result<(), ChannelError> {
        let closed = match (ChannelClosed::decode(payload), self.role) {
            (Ok(closed), _) => closed,
            (Err(error), Role::Agent) => return Err(error.into()),
            // The official plugin ends even so, with empty text.
            (Err(_), Role::Client) => ChannelClosed {
                message_type: MessageType::ChannelClosed.to_string(),
                message_id: String::new(),
                destination_id: String::new(),
                session_id: self.session_id.to_string(),
                schema_version: 1,
                created_date: String::new(),
                output: String::new(),
                exit_code: None,
            },
        };
        let drained = self.send_window.is_drained();
        match self.life {
            Life::Active => {
                self.events.push_back(Event::Closed(closed));
                self.send_window.clear(now);
                self.life = Life::ClosedByPeer { drained };
            }
            Life::Draining { .. } => {
                self.events.push_back(Event::Closed(closed));
                self.end_draining(drained, now);
            }
            Life::ClosedByPeer { .. } | Life::Over => {}
        }
        Ok(())
    }

    /// A client was attached: what was sent while there was none is lost.
    fn handle_start_publication(&mut self, payload: &[u8], now: Instant) {
        let features = std::str::from_utf8(payload)
            .ok()
            .and_then(|text| PeerFeatures::parse(text).ok())
            .unwrap_or_default();
        self.peer = PeerFeatures {
            max_payload: self.peer.max_payload.max(features.max_payload),
            exit_code: features.exit_code,
            reacknowledge: features.reacknowledge,
            empty_output: self.peer.empty_output,
            half_close: features.half_close,
            recordings: features.recordings,
            recording_upload: features.recording_upload,
        };
        self.apply_peer();
        if self.announced.replace(features) != Some(features) {
            self.events.push_back(Event::PeerFeatures(features));
        }
        self.resume();
        self.send_window.start_over(now);
    }

    fn receive(&mut self, message: Message, now: Instant) -> Result<(), ChannelError> {
        // It could not be acknowledged, so it counts as lost; the peer sends it again.
        if self.acknowledgements.is_full() {
            return Ok(());
        }
        let sequence_number = message.sequence_number;
        let payload = self.decrypt(message.payload_type, message.payload)?;
        let (content, problem) = decode_content(message.payload_type, payload);
        let mut outcome = problem.map_or(Ok(()), |error| Err(error.into()));
        match self.receive_window.arrive(sequence_number, content) {
            Arrival::Next(content) => {
                let accepted = self.accept(sequence_number, Some(message.id), content, now);
                outcome = outcome.and(accepted.map_err(Into::into));
                self.accept_early(now);
            }
            Arrival::Held => self.acknowledgements.push(Due {
                sequence_number,
                message_id: message.id,
            }),
            Arrival::Refused => {}
        }
        outcome
    }

    /// The payload in clear. What does not decrypt is neither taken nor acknowledged, so that a
    /// forged message does not take the place of the true one.
    fn decrypt(&self, payload_type: PayloadType, payload: Bytes) -> Result<Bytes, ChannelError> {
        if !is_encrypted(payload_type) {
            return Ok(payload);
        }
        match &self.cipher {
            Some(cipher) => Ok(cipher.open(&payload)?),
            None if self.handshake.awaits_key() => Err(ChannelError::Unencrypted),
            None => Ok(payload),
        }
    }

    /// Goes on with messages that came early, as far as there is room.
    pub(super) fn accept_early(&mut self, now: Instant) {
        while let Some((sequence_number, content)) = self.receive_window.take_early() {
            // Handshake payloads that do not decode are skipped; the peer's timeout tells of them.
            let _ = self.accept(sequence_number, None, content, now);
        }
    }

    /// Processes the next message in order, or holds it until it is taken.
    fn accept(
        &mut self,
        sequence_number: i64,
        unacknowledged: Option<MessageId>,
        content: Content,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let outcome = match self.role {
            Role::Agent => self.interpret_input(content, now),
            Role::Client => self.interpret_output(content, now),
        };
        if let Ok(Some(payload)) = outcome {
            self.receive_window
                .hold(sequence_number, unacknowledged, payload);
            return Ok(());
        }
        if let Some(message_id) = unacknowledged {
            self.acknowledgements.push(Due {
                sequence_number,
                message_id,
            });
        }
        outcome.map(|_| ())
    }

    /// Agent: what a message in order means; the payload if it is for the owner.
    fn interpret_input(
        &mut self,
        content: Content,
        now: Instant,
    ) -> Result<Option<Payload>, DecodeError> {
        match content {
            // Until the handshake is over, the reference acknowledges data and throws it away.
            Content::Data(_) if !self.handshake.is_open() => Ok(None),
            Content::Data(payload) => {
                self.send_window.note_ready();
                Ok(is_for_owner(&payload).then_some(payload))
            }
            Content::Handshake(payload_type, payload) => {
                self.handle_answer(payload_type, &payload, now)?;
                Ok(None)
            }
            Content::Nothing => Ok(None),
        }
    }

    /// Client: what a message in order means; the payload if it is for the owner.
    fn interpret_output(
        &mut self,
        content: Content,
        now: Instant,
    ) -> Result<Option<Payload>, DecodeError> {
        let Handshake::Client(client) = &mut self.handshake else {
            return Ok(None);
        };
        match content {
            Content::Data(payload) => {
                if let Payload::Output(_) = payload {
                    self.events.extend(client.handle_output());
                }
                Ok(is_for_owner(&payload).then_some(payload))
            }
            Content::Handshake(payload_type, payload) => {
                let step = match (payload_type, &mut self.cipher) {
                    (PayloadType::HandshakeRequest, _) => client.handle_request(&payload)?,
                    (PayloadType::EncryptionChallengeRequest, Some(cipher)) => {
                        client.handle_challenge(&payload, cipher)?
                    }
                    (PayloadType::HandshakeComplete, _) => {
                        self.events.extend(client.handle_complete(&payload)?);
                        None
                    }
                    _ => None,
                };
                if let Some(step) = step {
                    self.follow(step, now);
                }
                Ok(None)
            }
            Content::Nothing => Ok(None),
        }
    }

    /// Agent: the client answers a part of the handshake.
    fn handle_answer(
        &mut self,
        payload_type: PayloadType,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), DecodeError> {
        let Handshake::Agent(agent) = &mut self.handshake else {
            return Ok(());
        };
        let step = match (payload_type, &self.cipher) {
            (PayloadType::HandshakeResponse, _) => agent.handle_response(payload, now)?,
            (PayloadType::EncryptionChallengeResponse, Some(cipher)) => {
                agent.handle_challenge_answer(payload, cipher, now)?
            }
            _ => None,
        };
        if let Some(step) = step {
            // Who answers has taken what it answers, even if the acknowledgement was lost.
            self.send_window.note_solo_taken();
            self.follow(step, now);
        }
        Ok(())
    }
}

/// Empty output is a sign of life, not data.
fn is_for_owner(payload: &Payload) -> bool {
    !matches!(payload, Payload::Output(bytes) | Payload::StdErr(bytes) if bytes.is_empty())
}

fn decode_content(payload_type: PayloadType, payload: Bytes) -> (Content, Option<DecodeError>) {
    match payload_type {
        PayloadType::HandshakeRequest
        | PayloadType::HandshakeResponse
        | PayloadType::HandshakeComplete
        | PayloadType::EncryptionChallengeRequest
        | PayloadType::EncryptionChallengeResponse => {
            (Content::Handshake(payload_type, payload), None)
        }
        PayloadType::None
        | PayloadType::Output
        | PayloadType::Error
        | PayloadType::Size
        | PayloadType::Parameter
        | PayloadType::Flag
        | PayloadType::StdErr
        | PayloadType::ExitCode
        | PayloadType::Unknown(_) => match Payload::decode(payload_type, payload) {
            Ok(Some(payload)) => (Content::Data(payload), None),
            Ok(None) => (Content::Nothing, None),
            Err(error) => (Content::Nothing, Some(error)),
        },
    }
}
