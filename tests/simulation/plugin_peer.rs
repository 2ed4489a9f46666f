//! A client that behaves as the official plugin does: data-channel.md §5, §7 and §10, and its
//! `datachannel/streaming.go`.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use ssm_agent::protocol::wire::SessionId;
use ssm_agent::protocol::wire::handshake::{
    ACTION_KMS_ENCRYPTION, EncryptionChallenge, HandshakeRequest, KmsEncryptionRequest,
    KmsEncryptionResult, encryption_context,
};
use ssm_agent::protocol::wire::payload::Flag;
use ssm_agent::protocol::wire::{Message, MessageType, PayloadType};

use crate::kms::{self, PluginCipher};
use crate::random::Random;
use crate::reference_sender::ReferenceSender;
use crate::world::Peer;

const CAPACITY: usize = 10_000;
/// The simulated session.
pub const SESSION: &str = "simulated-1";
/// Its node.
pub const TARGET: &str = "mi-1";

/// What the plugin is used for.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A shell, inferred from the first output.
    Shell,
    /// A shell after a handshake, encrypted.
    EncryptedShell,
    /// A port session after a handshake: until somebody connects locally, output is dropped unseen.
    Port {
        /// From its start to the first local connection.
        connects_after: Duration,
        /// When, from its start, there is no local connection again: it says so with a flag, and
        /// output in order is refused.
        refuses: Range<Duration>,
    },
}

/// The model.
pub struct PluginPeer {
    kind: Kind,
    start: Instant,
    sender: ReferenceSender,
    is_connected: bool,
    expected: i64,
    early: HashMap<i64, Message>,
    has_first_message_handler: bool,
    is_type_known: bool,
    /// When the session that takes the messages is there.
    session_at: Option<Instant>,
    cipher: Option<PluginCipher>,
    has_sent_size: bool,
    has_said_disconnected: bool,
    /// On its second local connection, somebody has something to say.
    has_said_hello: bool,
    session_delay: Duration,
    random: Random,
    total: usize,
    type_pause: Duration,
    type_at: Instant,
    typed: Vec<u8>,
    shown: Vec<u8>,
    /// Output messages that came again after they were taken.
    pub repeats_ignored: u64,
}

impl PluginPeer {
    /// A plugin that sends `total` bytes.
    pub fn new(kind: Kind, total: usize, random: &mut Random, now: Instant) -> Self {
        Self {
            kind,
            start: now,
            sender: ReferenceSender::plugin(now),
            is_connected: false,
            expected: 0,
            early: HashMap::new(),
            has_first_message_handler: true,
            is_type_known: false,
            session_at: None,
            cipher: None,
            has_sent_size: false,
            has_said_disconnected: false,
            has_said_hello: false,
            session_delay: random.millis(1..4000),
            random: random.fork(),
            total,
            type_pause: random.millis(1..40),
            type_at: now,
            typed: Vec::new(),
            shown: Vec::new(),
            repeats_ignored: 0,
        }
    }

    /// Its session needs `delay` from the moment its type is known until it takes output.
    pub fn with_session_delay(self, delay: Duration) -> Self {
        Self {
            session_delay: delay,
            ..self
        }
    }

    pub fn has_sent_all(&self) -> bool {
        self.typed.len() == self.total && !self.sender.has_unacknowledged()
    }

    /// Whether its session takes output.
    pub fn is_in_session(&self, now: Instant) -> bool {
        self.is_session_there(now)
    }

    fn handle_output(&mut self, message: Message, now: Instant) {
        if message.sequence_number < self.expected {
            self.repeats_ignored += 1;
            return;
        }
        if message.sequence_number > self.expected {
            if self.early.len() < CAPACITY {
                self.sender.acknowledge(&message);
                self.early.insert(message.sequence_number, message);
            }
            return;
        }
        match message.payload_type {
            PayloadType::HandshakeRequest => {
                self.sender.acknowledge(&message);
                self.is_type_known = true;
                let response = self.respond(&message.payload);
                self.sender
                    .send(PayloadType::HandshakeResponse, response, now);
            }
            PayloadType::EncryptionChallengeRequest => {
                self.sender.acknowledge(&message);
                let answer = self.answer_challenge(&message.payload);
                self.sender
                    .send(PayloadType::EncryptionChallengeResponse, answer, now);
            }
            PayloadType::HandshakeComplete => {
                self.sender.acknowledge(&message);
                self.session_at = Some(now + self.session_delay);
            }
            _ => {
                if !self.process(&message, now) {
                    return;
                }
                self.sender.acknowledge(&message);
            }
        }
        self.expected += 1;
        while let Some(message) = self.early.remove(&self.expected) {
            // Whether anybody takes it is not asked here; that is the plugin's way to lose data.
            self.process(&message, now);
            self.expected += 1;
        }
    }

    fn respond(&mut self, request: &[u8]) -> Bytes {
        let request = HandshakeRequest::decode(request).expect("our own request");
        let mut actions = Vec::new();
        for action in request.requested_client_actions {
            let mut result = json!(null);
            if action.action_type == ACTION_KMS_ENCRYPTION {
                let asked: KmsEncryptionRequest =
                    serde_json::from_value(action.action_parameters).expect("our own request");
                let key = self.random.bytes(64);
                let session = SessionId::new(SESSION).expect("a valid id");
                // The plugin knows nothing of the challenge.
                let context = encryption_context(&session, TARGET, None);
                let encrypted = kms::encrypt(&asked.kms_key_id, &context, &key);
                result = json!(KmsEncryptionResult::new(&encrypted, false));
                self.cipher = Some(PluginCipher::new(&key));
            }
            actions.push(json!({"ActionType": action.action_type, "ActionStatus": 1,
                "ActionResult": result, "Error": ""}));
        }
        json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": actions, "Errors": null})
            .to_string()
            .into()
    }

    fn answer_challenge(&mut self, request: &[u8]) -> Bytes {
        let cipher = self.cipher.as_ref().expect("there is a key");
        let challenge = EncryptionChallenge::decode(request)
            .and_then(|request| request.encrypted())
            .expect("our own challenge");
        let challenge = cipher.decrypt(&challenge).expect("the same key");
        EncryptionChallenge::new(&cipher.encrypt(&challenge, &mut self.random)).encode()
    }

    /// Whether a handler took the message.
    fn process(&mut self, message: &Message, now: Instant) -> bool {
        let mut message = message.clone();
        if let (PayloadType::Output, Some(cipher)) = (message.payload_type, &self.cipher) {
            let clear = cipher.decrypt(&message.payload);
            message.payload = clear.expect("encrypted with our key").into();
        }
        let is_session_there = self.is_session_there(now);
        if self.is_type_known && !is_session_there {
            return false;
        }
        let is_first = std::mem::take(&mut self.has_first_message_handler);
        if is_first && !self.is_type_known && message.payload_type == PayloadType::Output {
            self.is_type_known = true;
            self.session_at = Some(now + self.session_delay);
            self.show(&message);
        }
        if is_session_there {
            if self.refuses(now) {
                return false;
            }
            self.show(&message);
        }
        is_first || is_session_there
    }

    fn show(&mut self, message: &Message) {
        if message.payload_type == PayloadType::Output {
            self.shown.extend_from_slice(&message.payload);
        }
    }

    fn is_session_there(&self, now: Instant) -> bool {
        self.session_at.is_some_and(|at| at <= now)
    }

    /// A port session whose local connection is closed fails to write.
    fn refuses(&self, now: Instant) -> bool {
        match &self.kind {
            Kind::Shell | Kind::EncryptedShell => false,
            Kind::Port { refuses, .. } => refuses.contains(&(now - self.start)),
        }
    }

    /// Before the first local connection a port session does not even look at output.
    fn is_deaf(&self, now: Instant) -> bool {
        match &self.kind {
            Kind::Shell | Kind::EncryptedShell => false,
            Kind::Port { connects_after, .. } => {
                self.is_session_there(now) && now - self.start < *connects_after
            }
        }
    }

    fn may_type(&self, now: Instant) -> bool {
        self.is_connected && self.is_session_there(now) && !self.is_deaf(now)
    }

    fn send_input(&mut self, now: Instant) {
        if !self.has_said_disconnected && self.refuses(now) {
            self.has_said_disconnected = true;
            let flag = Flag::DisconnectToPort.encode();
            self.sender.send(PayloadType::Flag, flag, now);
        }
        if self.has_said_disconnected && !self.has_said_hello && !self.refuses(now) {
            self.has_said_hello = true;
            self.total += 10;
        }
        if !self.has_sent_size && matches!(self.kind, Kind::Shell | Kind::EncryptedShell) {
            self.has_sent_size = true;
            let size = Bytes::from_static(br#"{"cols":0,"rows":24}"#);
            self.sender.send(PayloadType::Size, size, now);
        }
        while self.typed.len() < self.total && self.type_at <= now && !self.refuses(now) {
            let length = self.random.range(1..200).min(self.total - self.typed.len());
            let mut bytes = match self.random.range(0..4) {
                0 => b"\n".to_vec(),
                _ => self.random.bytes(length),
            };
            // The plugin turns a lone line feed into a carriage return, whatever it belongs to.
            if bytes == b"\n" {
                bytes = b"\r".to_vec();
            }
            self.typed.extend_from_slice(&bytes);
            if let Some(cipher) = &self.cipher {
                bytes = cipher.encrypt(&bytes, &mut self.random);
            }
            self.sender.send(PayloadType::Output, bytes.into(), now);
            self.type_at = now + self.type_pause;
        }
    }
}

impl Peer for PluginPeer {
    fn connected(&mut self, _now: Instant) {
        self.is_connected = true;
    }

    fn disconnected(&mut self, _now: Instant) {
        self.is_connected = false;
        self.sender.disconnected();
    }

    fn receive(&mut self, raw: Bytes, now: Instant) {
        let Ok(message) = Message::decode_verified(&raw) else {
            return;
        };
        match message.message_type {
            MessageType::OutputStreamData if self.is_deaf(now) => {}
            MessageType::OutputStreamData => self.handle_output(message, now),
            MessageType::Acknowledge => self.sender.acknowledged(&message, now),
            _ => {}
        }
    }

    fn work(&mut self, now: Instant) {
        self.sender.tick(now);
        if !self.is_connected {
            self.sender.disconnected();
        }
        if self.may_type(now) {
            self.send_input(now);
        }
    }

    fn next_work(&self, now: Instant) -> Option<Instant> {
        let session = self.session_at.filter(|at| *at > now);
        let changes = match &self.kind {
            Kind::Port {
                connects_after,
                refuses,
            } => [*connects_after, refuses.start, refuses.end].map(|after| self.start + after),
            Kind::Shell | Kind::EncryptedShell => [now; 3],
        };
        let wants_type = self.may_type(now) && self.typed.len() < self.total && !self.refuses(now);
        [
            self.sender.next_tick().map(|at| at.max(now)),
            session,
            wants_type.then_some(self.type_at.max(now)),
        ]
        .into_iter()
        .flatten()
        .chain(changes.into_iter().filter(|at| *at > now))
        .min()
    }

    fn transmit(&mut self, _now: Instant) -> Option<Bytes> {
        self.sender.transmit()
    }

    fn sent(&self) -> &[u8] {
        &self.typed
    }

    fn received(&self) -> &[u8] {
        &self.shown
    }

    fn check_memory(&self) {
        assert!(
            self.early.len() < CAPACITY,
            "the plugin forgets messages from here on"
        );
    }

    fn features(&self) -> String {
        String::new()
    }
}
