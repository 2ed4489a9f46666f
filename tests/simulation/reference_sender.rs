//! How the reference agent and the official plugin send, modelled after data-channel.md §5.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_agent::protocol::wire::{Acknowledgement, Message, MessageId, MessageType, PayloadType};

const TICK: Duration = Duration::from_millis(100);

struct Outgoing {
    raw: Bytes,
    sequence_number: i64,
    sent_at: Instant,
}

/// A list of unacknowledged messages of which only the oldest is ever sent again.
pub struct ReferenceSender {
    message_type: MessageType,
    /// The agent notes when it sent a message again; the plugin forgets, and then sends it at every
    /// tick and mistakes the whole time for the round trip.
    notes_resends: bool,
    /// The agent stops sending again while paused.
    pub is_paused: bool,
    capacity: usize,
    next: i64,
    ids: u64,
    outgoing: VecDeque<Outgoing>,
    outbox: VecDeque<Bytes>,
    round_trip_ms: f64,
    variation_ms: f64,
    timeout: Duration,
    next_tick: Instant,
}

impl ReferenceSender {
    pub fn plugin(now: Instant) -> Self {
        Self::new(MessageType::InputStreamData, false, 10_000, now)
    }

    pub fn agent(now: Instant) -> Self {
        Self::new(MessageType::OutputStreamData, true, 100_000, now)
    }

    fn new(message_type: MessageType, notes_resends: bool, capacity: usize, now: Instant) -> Self {
        Self {
            message_type,
            notes_resends,
            is_paused: false,
            capacity,
            next: 0,
            ids: 0,
            outgoing: VecDeque::new(),
            outbox: VecDeque::new(),
            round_trip_ms: 100.0,
            variation_ms: 0.0,
            timeout: Duration::from_millis(200),
            next_tick: now + TICK,
        }
    }

    pub fn has_unacknowledged(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A new message, kept until it is acknowledged; the oldest is forgotten when there are too many.
    pub fn send(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) {
        let message_type = self.message_type.clone();
        let raw = self.message(message_type, payload_type, self.next, payload);
        if !self.is_paused {
            self.outbox.push_back(raw.clone());
        }
        if self.outgoing.len() == self.capacity {
            self.outgoing.pop_front();
        }
        self.outgoing.push_back(Outgoing {
            raw,
            sequence_number: self.next,
            sent_at: now,
        });
        self.next += 1;
    }

    pub fn acknowledge(&mut self, message: &Message) {
        let payload = Acknowledgement {
            message_type: message.message_type.clone(),
            message_id: message.id,
            sequence_number: message.sequence_number,
        }
        .encode();
        let raw = self.message(MessageType::Acknowledge, PayloadType::None, 0, payload);
        self.outbox.push_back(raw);
    }

    pub fn acknowledged(&mut self, message: &Message, now: Instant) {
        let sequence_number =
            Acknowledgement::decode_sequence_number(&message.payload).expect("an acknowledgement");
        let Some(index) = self
            .outgoing
            .iter()
            .position(|outgoing| outgoing.sequence_number == sequence_number)
        else {
            return;
        };
        let outgoing = self.outgoing.remove(index).expect("it was found");
        let sample = (now - outgoing.sent_at).as_secs_f64() * 1000.0;
        self.variation_ms = 0.75 * self.variation_ms + 0.25 * (self.round_trip_ms - sample).abs();
        self.round_trip_ms = 0.875 * self.round_trip_ms + 0.125 * sample;
        let timeout = self.round_trip_ms + (4.0 * self.variation_ms).max(10.0);
        self.timeout = Duration::from_secs_f64(timeout.min(1000.0) / 1000.0);
    }

    /// The scheduler's tick.
    pub fn tick(&mut self, now: Instant) {
        while self.next_tick <= now {
            self.next_tick += TICK;
            if let Some(oldest) = self.outgoing.front_mut()
                && !self.is_paused
                && now - oldest.sent_at > self.timeout
            {
                self.outbox.push_back(oldest.raw.clone());
                if self.notes_resends {
                    oldest.sent_at = now;
                }
            }
        }
    }

    pub fn next_tick(&self) -> Option<Instant> {
        (self.has_unacknowledged() && !self.is_paused).then_some(self.next_tick)
    }

    pub fn transmit(&mut self) -> Option<Bytes> {
        self.outbox.pop_front()
    }

    /// What the socket did not take is lost.
    pub fn disconnected(&mut self) {
        self.outbox.clear();
    }

    fn message(
        &mut self,
        message_type: MessageType,
        payload_type: PayloadType,
        sequence_number: i64,
        payload: Bytes,
    ) -> Bytes {
        self.ids += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.ids.to_be_bytes());
        Message {
            message_type,
            created_ms: 1,
            sequence_number,
            flags: 0,
            id: MessageId::from_wire(id),
            payload_type,
            payload,
        }
        .encode()
    }
}
