//! The channel machine: ties handshake, windows and timers together.
//!
//! ```text
//! Active --close--> Draining --all acknowledged, deadline--> Over
//!    \--------- channel_closed ---------/--> ClosedByPeer --close--> Over
//! ```

mod incoming;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::acknowledgements::Acknowledgements;
use super::cipher::{Cipher, DataKey, is_encrypted};
use super::envelope::Envelope;
use super::event::{Event, KeyRequest, SendError};
use super::handshake::{Agent, Handshake, Step};
use super::receive_window::ReceiveWindow;
use super::send_window::{Kind, SendWindow};
use super::settings::{Role, Settings, Window};
use crate::protocol::wire::control::{AgentSessionState, SessionState};
use crate::protocol::wire::{MessageType, Payload, PayloadType, PeerFeatures, SessionId};

/// Where a channel is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Active,
    Draining {
        deadline: Instant,
    },
    /// `channel_closed` came; whether everything had been acknowledged by then.
    ClosedByPeer {
        drained: bool,
    },
    Over,
}

/// What a channel holds in memory, without the fixed cost per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Taken for sending and not acknowledged.
    pub sending: Window,
    /// Received too early.
    pub early: Window,
    /// Received in order and not taken.
    pub ready: Window,
    /// Acknowledgements that wait for the socket.
    pub acknowledgements: usize,
}

/// One end of a data channel.
pub struct Channel {
    role: Role,
    session_id: SessionId,
    /// What may be used toward the peer.
    peer: PeerFeatures,
    /// Agent: what the attached client announced; `None` until there was a client.
    announced: Option<PeerFeatures>,
    presume_delivery: bool,
    drain: Duration,
    life: Life,
    is_connected: bool,
    is_paused: bool,
    handshake: Handshake,
    /// There from the moment the session is encrypted.
    cipher: Option<Box<Cipher>>,
    key_request: Option<KeyRequest>,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    acknowledgements: Acknowledgements,
    service: VecDeque<Bytes>,
    events: VecDeque<Event>,
    envelope: Envelope,
}

impl Channel {
    /// Makes a channel that is not connected yet.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let role = settings.role;
        let handshake = Handshake::new(role, &settings.session_id, settings.handshake);
        let mut channel = Self {
            role,
            session_id: settings.session_id,
            peer: settings.peer,
            announced: None,
            presume_delivery: settings.presume_delivery,
            drain: settings.drain,
            life: Life::Active,
            is_connected: false,
            is_paused: false,
            handshake,
            cipher: None,
            key_request: None,
            send_window: SendWindow::new(settings.send_window, role.first_flags(), now),
            receive_window: ReceiveWindow::new(settings.receive_window),
            acknowledgements: Acknowledgements::default(),
            service: VecDeque::new(),
            events: VecDeque::new(),
            envelope: Envelope::new(role, settings.clock, settings.seed),
        };
        channel.apply_peer();
        if let Handshake::Agent(Agent::Open) = channel.handshake {
            channel.events.push_back(Event::Open {
                session_type: String::new(),
                properties: serde_json::Value::Null,
                peer_version: String::new(),
                customer_message: String::new(),
            });
        }
        channel
    }

    /// A connection is up and its open message was sent: everything unacknowledged goes out again.
    pub fn handle_connected(&mut self, now: Instant) {
        self.is_connected = true;
        self.resume();
        self.send_window.start_over(now);
        if let Handshake::Agent(agent) = &mut self.handshake
            && let Some(request) = agent.start(now)
        {
            self.push_handshake(PayloadType::HandshakeRequest, request, now);
        }
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, _now: Instant) {
        self.is_connected = false;
    }

    /// Does what `poll_timeout` asked for.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Handshake::Agent(agent) = &mut self.handshake
            && let Some(text) = agent.handle_timeout(now)
        {
            self.events.push_back(Event::HandshakeFailed(text));
        }
        if let Life::Draining { deadline } = self.life
            && deadline <= now
        {
            self.end_draining(false, now);
        }
        if self.is_publishing() {
            self.send_window.handle_timeout(now);
        }
    }

    /// When to call `handle_timeout`, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let drain = match self.life {
            Life::Draining { deadline } => Some(deadline),
            Life::Active | Life::ClosedByPeer { .. } | Life::Over => None,
        };
        let resend = if self.is_publishing() {
            self.send_window.poll_timeout()
        } else {
            None
        };
        [self.handshake.deadline(), drain, resend]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next message to write, if connected: acknowledgements, session states, messages to repeat,
    /// new messages. Call it only when the socket takes more.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if !self.is_connected {
            return None;
        }
        if let Some(due) = self.acknowledgements.pop() {
            return Some(self.envelope.acknowledgement(due, now));
        }
        if let Some(message) = self.service.pop_front() {
            return Some(message);
        }
        if !self.is_publishing() {
            return None;
        }
        let (envelope, cipher) = (&mut self.envelope, &mut self.cipher);
        self.send_window.transmit(now, || {
            let empty = match cipher {
                // The official plugin breaks on output that is too short to be encrypted.
                Some(cipher) => cipher.seal(b""),
                None => Bytes::new(),
            };
            envelope.stream(PayloadType::Output, empty, now)
        })
    }

    /// The next payload in order; taking it acknowledges it. Do not call it without room for the result.
    pub fn poll_delivery(&mut self, now: Instant) -> Option<Payload> {
        let (payload, due) = self.receive_window.take()?;
        if let Some(due) = due {
            self.acknowledgements.push(due);
        }
        self.accept_early(now);
        Some(payload)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The data key to get of KMS, once; [`provide_key`](Self::provide_key) takes it.
    pub fn poll_key_request(&mut self) -> Option<KeyRequest> {
        self.key_request.take()
    }

    /// Takes the data key that was asked for, or the reason why there is none. Without an open
    /// request it changes nothing.
    pub fn provide_key(&mut self, key: Result<DataKey, String>, now: Instant) {
        let step = match &mut self.handshake {
            Handshake::Agent(agent) => agent.handle_key(key, now),
            Handshake::Client(client) => client.handle_key(key),
        };
        if let Some(step) = step {
            self.follow(step, now);
        }
    }

    /// Bytes of payload that `send` would take within the window now; 0 while full, paused, not open
    /// or closed.
    pub fn send_capacity(&self) -> usize {
        if self.life != Life::Active || self.is_paused || !self.handshake.is_open() {
            return 0;
        }
        self.send_window.capacity()
    }

    /// Takes a payload for sending; output is cut into messages of the peer's payload size.
    ///
    /// A payload is taken whole as long as the window is not full, so it may exceed the window by
    /// less than itself. It is taken during a pause too, and sent afterwards.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn send(&mut self, payload: Payload, now: Instant) -> Result<(), SendError> {
        if self.life != Life::Active {
            return Err(SendError::Closed);
        }
        if !self.handshake.is_open() {
            return Err(SendError::NotOpen);
        }
        if self.send_window.capacity() == 0 {
            return Err(SendError::WindowFull);
        }
        let payload_type = payload.payload_type();
        match payload {
            Payload::Output(mut bytes) | Payload::StdErr(mut bytes) => {
                while bytes.len() > self.peer.max_payload {
                    let head = bytes.split_to(self.peer.max_payload);
                    self.push_data(payload_type, head, Kind::Output, now);
                }
                self.push_data(payload_type, bytes, Kind::Output, now);
            }
            Payload::Size(_) | Payload::Flag(_) | Payload::ExitCode(_) => {
                self.push_data(payload_type, payload.into_bytes(), Kind::Other, now);
            }
        }
        Ok(())
    }

    /// Agent: tells the gateway the session's state.
    pub fn send_state(&mut self, state: SessionState, now: Instant) {
        let payload = AgentSessionState {
            schema_version: 1,
            session_state: state,
            session_id: self.session_id.to_string(),
        }
        .encode();
        let message = self
            .envelope
            .service(MessageType::AgentSessionState, payload, now);
        self.service.push_back(message);
    }

    /// Agent: turns [`Settings::presume_delivery`] off, for a kind that is chosen by what the client
    /// answers in the handshake.
    pub fn presume_nothing(&mut self) {
        self.presume_delivery = false;
        self.apply_peer();
    }

    /// What the other side of the connection announced, learned when connecting.
    ///
    /// For an agent that is the gateway, which speaks for itself: how large payloads may be and
    /// whether an empty output is welcome. The client's habits come with `start_publication`.
    pub fn set_peer(&mut self, features: PeerFeatures) {
        self.peer = match self.role {
            Role::Agent => PeerFeatures {
                max_payload: features.max_payload,
                empty_output: features.empty_output,
                ..self.peer
            },
            Role::Client => features,
        };
        self.apply_peer();
    }

    /// What may be used toward the peer: what was announced, by gateway and client together.
    pub fn peer(&self) -> PeerFeatures {
        self.peer
    }

    /// No more sends; [`Event::Drained`] follows when all is acknowledged or the deadline passed.
    pub fn close(&mut self, now: Instant) {
        match self.life {
            Life::Active => {
                self.life = Life::Draining {
                    deadline: now + self.drain,
                };
                self.check_drained(now);
            }
            Life::ClosedByPeer { drained } => self.end_draining(drained, now),
            Life::Draining { .. } | Life::Over => {}
        }
    }

    /// What is held in memory.
    pub fn held(&self) -> Held {
        Held {
            sending: self.send_window.held(),
            early: self.receive_window.early(),
            ready: self.receive_window.ready(),
            acknowledgements: self.acknowledgements.len(),
        }
    }

    /// Does what the handshake asks for.
    fn follow(&mut self, step: Step, now: Instant) {
        match step {
            Step::Send(payload_type, payload) => {
                self.push_handshake(payload_type, payload, now);
            }
            Step::GetKey(request) => {
                self.receive_window.distrust_early();
                self.key_request = Some(request);
            }
            Step::Encrypt(cipher, payload_type, payload) => {
                self.cipher = Some(cipher);
                self.push_handshake(payload_type, payload, now);
            }
            Step::Complete(payload, opened) => {
                self.push_handshake(PayloadType::HandshakeComplete, payload, now);
                self.events.push_back(opened);
            }
            Step::Fail(text) => self.events.push_back(Event::HandshakeFailed(text)),
        }
    }

    fn push_handshake(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) {
        let kind = match payload_type {
            PayloadType::HandshakeRequest | PayloadType::EncryptionChallengeRequest => {
                Kind::HandshakeRequest
            }
            _ => Kind::Handshake,
        };
        self.push(payload_type, payload, kind, now);
    }

    /// Takes data, which is encrypted if the session is.
    fn push_data(&mut self, payload_type: PayloadType, payload: Bytes, kind: Kind, now: Instant) {
        let payload = match &mut self.cipher {
            Some(cipher) if is_encrypted(payload_type) => cipher.seal(&payload),
            Some(_) | None => payload,
        };
        self.push(payload_type, payload, kind, now);
    }

    fn push(&mut self, payload_type: PayloadType, payload: Bytes, kind: Kind, now: Instant) {
        let encoded = self.envelope.stream(payload_type, payload, now);
        self.send_window.push(encoded, kind);
    }

    /// Whether stream messages may go out.
    fn is_publishing(&self) -> bool {
        let is_alive = match self.life {
            Life::Active | Life::Draining { .. } => true,
            Life::ClosedByPeer { .. } | Life::Over => false,
        };
        self.is_connected && !self.is_paused && is_alive
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.is_paused) {
            self.events.push_back(Event::Resumed);
        }
    }

    fn apply_peer(&mut self) {
        let is_mute = match self.role {
            Role::Agent => !self.peer.reacknowledge,
            // Every agent known acknowledges repeats.
            Role::Client => false,
        };
        self.send_window
            .set_listener(is_mute, self.presume_delivery);
    }

    fn check_drained(&mut self, now: Instant) {
        if let Life::Draining { .. } = self.life
            && self.send_window.is_drained()
        {
            self.end_draining(true, now);
        }
    }

    fn end_draining(&mut self, drained: bool, now: Instant) {
        self.life = Life::Over;
        self.send_window.clear(now);
        self.events.push_back(Event::Drained(drained));
    }
}

#[cfg(test)]
mod tests;
