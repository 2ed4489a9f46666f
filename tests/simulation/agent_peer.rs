//! An agent that behaves as the reference agent does: data-channel.md §5.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_agent::protocol::wire::{Message, MessageType, PayloadType, TerminalSize};

use crate::random::Random;
use crate::reference_sender::ReferenceSender;
use crate::world::Peer;

const CAPACITY: usize = 100_000;

/// The model, as a shell without handshake.
pub struct AgentPeer {
    sender: ReferenceSender,
    is_connected: bool,
    expected: i64,
    early: HashMap<i64, Message>,
    /// Before the terminal is there, input in order is refused.
    ready_at: Instant,
    random: Random,
    total: usize,
    read_pause: Duration,
    read_at: Instant,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl AgentPeer {
    /// An agent that sends `total` bytes.
    pub fn new(total: usize, random: &mut Random, now: Instant) -> Self {
        Self {
            sender: ReferenceSender::agent(now),
            is_connected: false,
            expected: 0,
            early: HashMap::new(),
            ready_at: now + random.millis(0..1500),
            random: random.fork(),
            total,
            read_pause: random.millis(1..20),
            read_at: now,
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    pub fn has_sent_all(&self) -> bool {
        self.sent.len() == self.total && !self.sender.has_unacknowledged()
    }

    fn handle_input(&mut self, message: Message, now: Instant) {
        self.sender.is_paused = false;
        if message.sequence_number < self.expected {
            self.sender.acknowledge(&message);
        } else if message.sequence_number > self.expected {
            if self.early.len() < CAPACITY {
                self.sender.acknowledge(&message);
                self.early.insert(message.sequence_number, message);
            }
        } else if self.ready_at <= now {
            self.process(&message);
            self.sender.acknowledge(&message);
            self.expected += 1;
            while let Some(message) = self.early.remove(&self.expected) {
                self.process(&message);
                self.expected += 1;
            }
        }
    }

    fn process(&mut self, message: &Message) {
        match message.payload_type {
            PayloadType::Output => self.received.extend_from_slice(&message.payload),
            PayloadType::Size => {
                let size = TerminalSize::decode(&message.payload).expect("a size");
                assert_eq!(usize::from(size.cols), self.received.len() & 0xffff);
            }
            _ => {}
        }
    }

    fn wants_read(&self) -> bool {
        self.sent.len() < self.total && !self.sender.is_paused
    }
}

impl Peer for AgentPeer {
    fn connected(&mut self, _now: Instant) {
        self.is_connected = true;
        self.sender.is_paused = false;
    }

    fn disconnected(&mut self, _now: Instant) {
        self.is_connected = false;
        self.sender.disconnected();
    }

    fn receive(&mut self, raw: Bytes, now: Instant) {
        let message = Message::decode(&raw).expect("our own message");
        match message.message_type {
            MessageType::InputStreamData => self.handle_input(message, now),
            MessageType::Acknowledge => {
                self.sender.is_paused = false;
                self.sender.acknowledged(&message, now);
            }
            MessageType::PausePublication => self.sender.is_paused = true,
            MessageType::StartPublication => self.sender.is_paused = false,
            _ => {}
        }
    }

    fn work(&mut self, now: Instant) {
        self.sender.tick(now);
        while self.wants_read() && self.read_at <= now {
            let length = self.random.range(1..1025).min(self.total - self.sent.len());
            let bytes = self.random.bytes(length);
            self.sent.extend_from_slice(&bytes);
            self.sender.send(PayloadType::Output, bytes.into(), now);
            self.read_at = now + self.read_pause;
        }
        if !self.is_connected {
            self.sender.disconnected();
        }
    }

    fn next_work(&self, now: Instant) -> Option<Instant> {
        [
            self.sender.next_tick().map(|at| at.max(now)),
            self.wants_read().then_some(self.read_at.max(now)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn transmit(&mut self, _now: Instant) -> Option<Bytes> {
        self.sender.transmit()
    }

    fn sent(&self) -> &[u8] {
        &self.sent
    }

    fn received(&self) -> &[u8] {
        &self.received
    }

    fn check_memory(&self) {}

    fn features(&self) -> String {
        String::new()
    }
}
