//! What was taken for sending, until it is acknowledged.
//!
//! ```text
//! queued --numbered, sent--> in flight --acknowledged--> gone
//!                              |    ^
//!                              v    | sent again
//!                            passed -> due
//! ```
//!
//! A message waits unnumbered until it is first sent. From then on it is kept, encoded once, until
//! the peer acknowledges it; [`retransmission`] says when it goes out again, [`presumption`] how a
//! peer is dealt with that does not acknowledge repeats.

mod presumption;
mod retransmission;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use self::presumption::Listener;
use self::retransmission::Pace;
use super::round_trip::RoundTrip;
use super::settings::Window;
use crate::protocol::wire::Message;
use crate::protocol::wire::message::PAYLOAD_OFFSET;

/// How far the newest message under way may be ahead of the oldest. The official plugin holds 10,000
/// messages that came too early and forgets what exceeds them; probes may exceed the span by a few.
const SPAN: i64 = 8192;

/// What a message is to this window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Output or error output.
    Output,
    /// A request of the handshake: nothing may follow before it is answered.
    HandshakeRequest,
    /// Another part of the handshake.
    Handshake,
    /// Any other payload.
    Other,
    /// An empty output of our own making, see [`presumption`].
    Probe,
}

#[derive(Debug)]
struct Queued {
    encoded: BytesMut,
    kind: Kind,
}

/// Where a message under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    /// Waits for the socket to go out again.
    Due,
    /// Sent, and nothing sent later was acknowledged.
    Sent,
    /// Something that was first sent later on this connection was acknowledged; goes out again then.
    Passed { resend: Instant },
    /// Passed often enough; waits for the fate of the oldest message.
    Parked,
}

#[derive(Debug)]
struct Outstanding {
    encoded: Bytes,
    kind: Kind,
    flight: Flight,
    /// Position of the last transmission among all transmissions.
    transmission: u64,
    sent_at: Instant,
    /// Transmissions on this connection.
    sends: u32,
    /// Whether there were several, on whatever connection.
    ambiguous: bool,
    /// How often it was passed on this connection while the peer should have acknowledged it.
    rounds: u8,
}

/// The sending half of a channel.
#[derive(Debug)]
pub(super) struct SendWindow {
    limit: Window,
    /// Flags of message 0.
    first_flags: u64,
    held: Window,
    queued: VecDeque<Queued>,
    /// Sequence number of the front of `outstanding`, which is never a gap.
    base: i64,
    /// By sequence number; acknowledged ones are gaps.
    outstanding: VecDeque<Option<Outstanding>>,
    transmissions: u64,
    /// By transmission; the front is always in flight, others may be outdated.
    flights: VecDeque<(u64, i64)>,
    passed: BTreeSet<(Instant, i64)>,
    due: BTreeSet<i64>,
    round_trip: RoundTrip,
    pace: Pace,
    listener: Listener,
}

impl SendWindow {
    pub(super) fn new(limit: Window, first_flags: u64, now: Instant) -> Self {
        Self {
            limit,
            first_flags,
            held: Window {
                bytes: 0,
                messages: 0,
            },
            queued: VecDeque::new(),
            base: 0,
            outstanding: VecDeque::new(),
            transmissions: 0,
            flights: VecDeque::new(),
            passed: BTreeSet::new(),
            due: BTreeSet::new(),
            round_trip: RoundTrip::new(),
            pace: Pace::new(now),
            listener: Listener::default(),
        }
    }

    /// Takes an encoded message whose number is not written yet.
    pub(super) fn push(&mut self, encoded: BytesMut, kind: Kind) {
        self.held.bytes += payload_bytes(&encoded);
        self.held.messages += 1;
        self.queued.push_back(Queued { encoded, kind });
    }

    /// Bytes of payload for which there is room.
    pub(super) fn capacity(&self) -> usize {
        if self.held.messages >= self.limit.messages {
            return 0;
        }
        self.limit.bytes.saturating_sub(self.held.bytes)
    }

    /// What is not acknowledged, sent or not; probes, which carry nothing, do not count.
    pub(super) fn held(&self) -> Window {
        self.held
    }

    /// Whether everything but probes was acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.held.messages == 0
    }

    /// The next message to write: first what goes out again, oldest first, then what is new, then a
    /// probe made by `encode_probe` if one is wanted.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        encode_probe: impl FnOnce() -> BytesMut,
    ) -> Option<Bytes> {
        if let Some(sequence_number) = self.due.pop_first() {
            return Some(self.send_again(sequence_number, now));
        }
        if self.may_number()
            && let Some(queued) = self.queued.pop_front()
        {
            super::release(&mut self.queued);
            return Some(self.send_first(queued.encoded, queued.kind, now));
        }
        if self.listener.wants_probe {
            return Some(self.send_first(encode_probe(), Kind::Probe, now));
        }
        None
    }

    /// Takes an acknowledgement; one for a message that is not outstanding changes nothing.
    pub(super) fn acknowledge(&mut self, sequence_number: i64, now: Instant) {
        let was_oldest = sequence_number == self.base;
        let Some(message) = self.remove(sequence_number) else {
            return;
        };
        self.pace.progress(now);
        self.listener.answered();
        if was_oldest && !is_solo(sequence_number, message.kind) {
            self.note_in_order(message.kind);
        }
        if !message.ambiguous {
            self.round_trip
                .sample(now.saturating_duration_since(message.sent_at));
            self.pace.originals_arrive();
            self.pass_before(message.transmission);
        }
        self.settle();
    }

    /// Everything goes out again, oldest first: a connection is up, or a client was attached to it.
    pub(super) fn start_over(&mut self, now: Instant) {
        self.flights.clear();
        self.passed.clear();
        self.due.clear();
        for (sequence_number, message) in (self.base..).zip(&mut self.outstanding) {
            if let Some(message) = message {
                message.flight = Flight::Due;
                message.sends = 0;
                message.rounds = 0;
                self.due.insert(sequence_number);
            }
        }
        self.pace = Pace::new(now);
        self.listener.answered();
        self.listener.wants_probe = false;
    }

    /// Forgets everything: nobody will take it any more.
    pub(super) fn clear(&mut self, now: Instant) {
        let next = self.next_number();
        *self = Self {
            base: next,
            transmissions: self.transmissions,
            ..Self::new(self.limit, self.first_flags, now)
        };
    }

    fn next_number(&self) -> i64 {
        self.base + i64::try_from(self.outstanding.len()).unwrap_or(i64::MAX)
    }

    fn may_number(&self) -> bool {
        self.next_number() - self.base < SPAN && !self.awaits_solo()
    }

    fn send_first(&mut self, mut encoded: BytesMut, kind: Kind, now: Instant) -> Bytes {
        let sequence_number = self.next_number();
        let flags = if sequence_number == 0 {
            self.first_flags
        } else {
            0
        };
        Message::set_sequence(&mut encoded, sequence_number, flags);
        let encoded = encoded.freeze();

        self.listener.sent_first(kind);
        if is_solo(sequence_number, kind) {
            self.listener.solo = Some(sequence_number);
        }
        let transmission = self.next_transmission(sequence_number);
        self.outstanding.push_back(Some(Outstanding {
            encoded: encoded.clone(),
            kind,
            flight: Flight::Sent,
            transmission,
            sent_at: now,
            sends: 1,
            ambiguous: false,
            rounds: 0,
        }));
        encoded
    }

    fn next_transmission(&mut self, sequence_number: i64) -> u64 {
        self.transmissions += 1;
        self.flights
            .push_back((self.transmissions, sequence_number));
        self.transmissions
    }

    fn index(&self, sequence_number: i64) -> Option<usize> {
        usize::try_from(sequence_number.checked_sub(self.base)?).ok()
    }

    fn get(&self, sequence_number: i64) -> Option<&Outstanding> {
        self.outstanding.get(self.index(sequence_number)?)?.as_ref()
    }

    fn get_mut(&mut self, sequence_number: i64) -> Option<&mut Outstanding> {
        let index = self.index(sequence_number)?;
        self.outstanding.get_mut(index)?.as_mut()
    }

    /// Takes a message out wherever it is. `settle` has to follow.
    fn remove(&mut self, sequence_number: i64) -> Option<Outstanding> {
        let index = self.index(sequence_number)?;
        let message = self.outstanding.get_mut(index)?.take()?;
        if message.kind != Kind::Probe {
            self.held.bytes -= payload_bytes(&message.encoded);
            self.held.messages -= 1;
        }
        match message.flight {
            Flight::Due => {
                self.due.remove(&sequence_number);
            }
            Flight::Passed { resend } => {
                self.passed.remove(&(resend, sequence_number));
            }
            Flight::Sent | Flight::Parked => {}
        }
        if self.listener.solo == Some(sequence_number) {
            self.listener.solo = None;
        }
        Some(message)
    }

    /// Restores what the fields promise after messages were removed.
    fn settle(&mut self) {
        while let Some(None) = self.outstanding.front() {
            self.outstanding.pop_front();
            self.base += 1;
        }
        self.unpark_oldest();
        while let Some(&(transmission, sequence_number)) = self.flights.front() {
            if self.is_sent(transmission, sequence_number) {
                break;
            }
            self.flights.pop_front();
        }
        super::release(&mut self.outstanding);
        super::release(&mut self.flights);
    }

    fn is_sent(&self, transmission: u64, sequence_number: i64) -> bool {
        self.get(sequence_number).is_some_and(|message| {
            message.transmission == transmission && message.flight == Flight::Sent
        })
    }
}

/// Whether a message has to be taken by the official plugin before the next one arrives: what that
/// plugin finds stored behind the first message or behind a message of the handshake it hands to a
/// session that does not exist yet, and loses.
fn is_solo(sequence_number: i64, kind: Kind) -> bool {
    sequence_number == 0 || matches!(kind, Kind::HandshakeRequest | Kind::Handshake)
}

fn payload_bytes(encoded: &[u8]) -> usize {
    encoded.len().saturating_sub(PAYLOAD_OFFSET)
}

#[cfg(test)]
mod tests;
