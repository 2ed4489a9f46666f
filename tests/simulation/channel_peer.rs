//! An end that is a real channel, with an owner that sends and takes at its own pace.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_agent::protocol::channel::{Channel, ChannelError, Event, Role, Settings, Window};
use ssm_agent::protocol::wire::message::PAYLOAD_OFFSET;
use ssm_agent::protocol::wire::{Payload, PeerFeatures, TerminalSize};

use crate::kms::Desk;
use crate::random::Random;
use crate::world::Peer;

/// How the owner of a channel behaves.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Bytes to send in all.
    pub total: usize,
    /// Sizes of the pieces handed to the channel.
    pub piece: Range<usize>,
    /// Longest pause after a piece; zero sends as much as the window takes.
    pub send_pause: Duration,
    /// Longest pause after taking some deliveries; zero takes all at once.
    pub take_pause: Duration,
}

impl Habits {
    /// Sends all at once and takes all at once.
    pub fn bulk(total: usize) -> Self {
        Self {
            total,
            piece: 32 << 10..(32 << 10) + 1,
            send_pause: Duration::ZERO,
            take_pause: Duration::ZERO,
        }
    }

    /// Anything, of `total` bytes at most, and not too many pieces.
    pub fn random(random: &mut Random, total: Range<usize>) -> Self {
        let piece = 1..random.range(2..5000);
        Self {
            total: random.range(total).min(piece.end * 60),
            piece,
            send_pause: pause(random),
            take_pause: pause(random),
        }
    }
}

fn pause(random: &mut Random) -> Duration {
    if random.chance(50) {
        Duration::ZERO
    } else {
        random.millis(0..80)
    }
}

/// A channel and its owner.
pub struct ChannelPeer {
    pub channel: Channel,
    pub drained: Option<(bool, Instant)>,
    pub failed: Option<String>,
    role: Role,
    is_open: bool,
    send_window: Window,
    receive_window: Window,
    /// Largest payload that came; one such fits any window that is empty.
    largest: usize,
    habits: Habits,
    features: PeerFeatures,
    keys: Desk,
    random: Random,
    sent: Vec<u8>,
    received: Vec<u8>,
    send_at: Instant,
    take_at: Instant,
}

impl ChannelPeer {
    pub fn new(settings: Settings, habits: Habits, random: &mut Random, now: Instant) -> Self {
        Self {
            role: settings.role,
            send_window: settings.send_window,
            receive_window: settings.receive_window,
            channel: Channel::new(settings, now),
            drained: None,
            failed: None,
            is_open: false,
            largest: 0,
            habits,
            features: PeerFeatures::ours(),
            keys: Desk::new(random),
            random: random.fork(),
            sent: Vec::new(),
            received: Vec::new(),
            send_at: now,
            take_at: now,
        }
    }

    /// Sends `more` bytes on top of what is planned.
    pub fn send_more(&mut self, more: usize) {
        self.habits.total += more;
    }

    /// The owner takes nothing for a while.
    pub fn stop_taking_for(&mut self, duration: Duration, now: Instant) {
        self.take_at = now + duration;
    }

    /// Whether the owner has handed over all it has.
    pub fn has_sent_all(&self) -> bool {
        self.sent.len() == self.habits.total
    }

    fn send(&mut self, now: Instant) {
        while self.is_open && !self.has_sent_all() && self.channel.send_capacity() > 0 {
            if self.send_at > now {
                return;
            }
            let left = self.habits.total - self.sent.len();
            let length = self.random.range(self.habits.piece.clone()).min(left);
            let bytes = self.random.bytes(length);
            self.send_marker(now);
            if self
                .channel
                .send(Payload::Output(bytes.clone().into()), now)
                .is_err()
            {
                // The marker took the last room.
                return;
            }
            self.sent.extend_from_slice(&bytes);
            if !self.habits.send_pause.is_zero() {
                self.send_at = now + self.habits.send_pause.mul_f64(self.unit());
            }
        }
    }

    /// A client now and then sends a size that tells how many bytes came before it.
    fn send_marker(&mut self, now: Instant) {
        if self.role == Role::Client && self.random.chance(20) {
            let size = marker(self.sent.len());
            self.channel
                .send(Payload::Size(size), now)
                .expect("there is capacity");
        }
    }

    fn take(&mut self, now: Instant) {
        while self.take_at <= now {
            let Some(payload) = self.channel.poll_delivery(now) else {
                return;
            };
            match payload {
                Payload::Output(bytes) => self.received.extend_from_slice(&bytes),
                Payload::Size(size) => assert_eq!(size, marker(self.received.len())),
                Payload::StdErr(_) | Payload::Flag(_) | Payload::ExitCode(_) => {}
            }
            if !self.habits.take_pause.is_zero() && self.random.chance(30) {
                self.take_at = now + self.habits.take_pause.mul_f64(self.unit());
            }
        }
    }

    fn note_events(&mut self, now: Instant) {
        while let Some(event) = self.channel.poll_event() {
            match event {
                Event::Open { .. } => self.is_open = true,
                Event::Drained(drained) => {
                    assert_eq!(self.drained, None, "drained twice");
                    self.drained = Some((drained, now));
                }
                Event::HandshakeFailed(text) => self.failed = Some(text),
                Event::Closed(_) | Event::Paused | Event::Resumed | Event::PeerFeatures(_) => {}
            }
        }
    }

    fn unit(&mut self) -> f64 {
        self.random.range(0..1000) as f64 / 1000.0
    }
}

impl Peer for ChannelPeer {
    fn connected(&mut self, now: Instant) {
        self.channel.handle_connected(now);
    }

    fn disconnected(&mut self, now: Instant) {
        self.channel.handle_disconnected(now);
    }

    fn receive(&mut self, raw: Bytes, now: Instant) {
        self.largest = self.largest.max(raw.len() - PAYLOAD_OFFSET);
        match self.channel.handle_message(raw, now) {
            Ok(()) | Err(ChannelError::Unexpected(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn work(&mut self, now: Instant) {
        if self.channel.poll_timeout().is_some_and(|at| at <= now) {
            self.channel.handle_timeout(now);
            let still_due = self.channel.poll_timeout().is_some_and(|at| at <= now);
            assert!(
                !still_due,
                "a timeout that was handled is due at once again"
            );
        }
        self.keys.work(&mut self.channel, now);
        self.take(now);
        self.note_events(now);
        self.send(now);
    }

    fn next_work(&self, now: Instant) -> Option<Instant> {
        let wants_take = self.channel.held().ready.messages > 0;
        let wants_send = self.is_open && !self.has_sent_all() && self.channel.send_capacity() > 0;
        [
            self.channel.poll_timeout().map(|at| at.max(now)),
            wants_take.then_some(self.take_at.max(now)),
            wants_send.then_some(self.send_at.max(now)),
            self.keys.next_work().map(|at| at.max(now)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn transmit(&mut self, now: Instant) -> Option<Bytes> {
        self.channel.poll_transmit(now)
    }

    fn sent(&self) -> &[u8] {
        &self.sent
    }

    fn received(&self) -> &[u8] {
        &self.received
    }

    fn check_memory(&self) {
        let held = self.channel.held();
        // The last payload is taken whole; a handshake message may stand beside it.
        let pieces = self.habits.piece.end / 1024 + 3;
        assert!(
            held.sending.bytes < self.send_window.bytes + self.habits.piece.end + 1024,
            "{held:?}"
        );
        assert!(
            held.sending.messages <= self.send_window.messages + pieces,
            "{held:?}"
        );
        for store in [held.early, held.ready] {
            assert!(
                store.bytes <= self.receive_window.bytes.max(self.largest),
                "{held:?}"
            );
            assert!(store.messages <= self.receive_window.messages, "{held:?}");
        }
        assert!(held.acknowledgements <= 8192, "{held:?}");
    }

    fn features(&self) -> String {
        self.features.to_string()
    }
}

fn marker(bytes: usize) -> TerminalSize {
    let low = u16::try_from(bytes & 0xffff).expect("16 bits");
    TerminalSize {
        cols: low,
        rows: 24,
    }
}
