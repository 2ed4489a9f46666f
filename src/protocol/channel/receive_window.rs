//! Received payloads until they are in order and taken.
//!
//! Two bounded stores: what is in order and waits to be taken is not acknowledged before it is
//! taken; what came too early is acknowledged when it is stored, so that the peer never has to send
//! it again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::acknowledgements::Due;
use super::cipher::is_encrypted;
use super::settings::Window;
use crate::protocol::wire::{MessageId, Payload, PayloadType};

/// What a stream message carries, decoded as far as it can be without knowing the channel's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Data(Payload),
    Handshake(PayloadType, Bytes),
    /// Nothing for anybody here: an unknown type or a payload that does not decode.
    Nothing,
}

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(payload) => payload_bytes(payload),
            Self::Handshake(_, payload) => payload.len(),
            Self::Nothing => 0,
        }
    }
}

/// What became of a message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one and there is room: process it, then acknowledge or `hold` it.
    Next(Content),
    /// It is stored or was taken before: acknowledge it.
    Held,
    /// It waits to be taken, or there was no room: do not acknowledge it now.
    Refused,
}

#[derive(Debug)]
struct Ready {
    sequence_number: i64,
    /// Absent if it was acknowledged when it came too early.
    unacknowledged: Option<MessageId>,
    payload: Payload,
}

/// The receiving half of a channel.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    limit: Window,
    expected: i64,
    early: BTreeMap<i64, Content>,
    early_bytes: usize,
    ready: VecDeque<Ready>,
    ready_bytes: usize,
}

impl ReceiveWindow {
    pub(super) fn new(limit: Window) -> Self {
        Self {
            limit,
            expected: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
        }
    }

    /// Sorts a message in.
    pub(super) fn arrive(&mut self, sequence_number: i64, content: Content) -> Arrival {
        if sequence_number < self.expected {
            return if self.awaits_taking(sequence_number) {
                Arrival::Refused
            } else {
                Arrival::Held
            };
        }
        if sequence_number == self.expected {
            if !self.limit.has_room(self.ready(), content.bytes()) {
                return Arrival::Refused;
            }
            self.expected += 1;
            return Arrival::Next(content);
        }
        if self.early.contains_key(&sequence_number) {
            return Arrival::Held;
        }
        if !self.limit.has_room(self.early(), content.bytes()) {
            return Arrival::Refused;
        }
        self.early_bytes += content.bytes();
        self.early.insert(sequence_number, content);
        Arrival::Held
    }

    /// Forgets data that came early in clear: from here on it has to be encrypted.
    pub(super) fn distrust_early(&mut self) {
        for content in self.early.values_mut() {
            if matches!(content, Content::Data(payload) if is_encrypted(payload.payload_type())) {
                self.early_bytes -= content.bytes();
                *content = Content::Nothing;
            }
        }
    }

    /// The next message among those that came early, if its turn has come and there is room.
    pub(super) fn take_early(&mut self) -> Option<(i64, Content)> {
        let first = self.early.first_entry()?;
        let bytes = first.get().bytes();
        let is_next = *first.key() == self.expected;
        if !is_next || !self.limit.has_room(self.ready(), bytes) {
            return None;
        }
        let (_, content) = self.early.pop_first()?;
        self.early_bytes -= bytes;
        self.expected += 1;
        Some((self.expected - 1, content))
    }

    /// Puts a payload that is in order behind those that wait to be taken.
    pub(super) fn hold(
        &mut self,
        sequence_number: i64,
        unacknowledged: Option<MessageId>,
        payload: Payload,
    ) {
        self.ready_bytes += payload_bytes(&payload);
        self.ready.push_back(Ready {
            sequence_number,
            unacknowledged,
            payload,
        });
    }

    /// The next payload in order, and the acknowledgement that falls due by taking it.
    pub(super) fn take(&mut self) -> Option<(Payload, Option<Due>)> {
        let ready = self.ready.pop_front()?;
        self.ready_bytes -= payload_bytes(&ready.payload);
        super::release(&mut self.ready);
        let due = ready.unacknowledged.map(|message_id| Due {
            sequence_number: ready.sequence_number,
            message_id,
        });
        Some((ready.payload, due))
    }

    /// What waits to be taken.
    pub(super) fn ready(&self) -> Window {
        Window {
            bytes: self.ready_bytes,
            messages: self.ready.len(),
        }
    }

    /// What came too early.
    pub(super) fn early(&self) -> Window {
        Window {
            bytes: self.early_bytes,
            messages: self.early.len(),
        }
    }

    fn awaits_taking(&self, sequence_number: i64) -> bool {
        self.ready
            .binary_search_by_key(&sequence_number, |ready| ready.sequence_number)
            .is_ok_and(|index| self.ready[index].unacknowledged.is_some())
    }
}

fn payload_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Output(bytes) | Payload::StdErr(bytes) => bytes.len(),
        Payload::Size(_) | Payload::Flag(_) | Payload::ExitCode(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::payload::Flag;

    #[test]
    fn message_in_order_is_acknowledged_when_it_is_taken() {
        let mut window = window(100, 10);

        assert_eq!(window.arrive(0, data(b"a")), Arrival::Next(data(b"a")));
        window.hold(0, Some(id()), output(b"a"));

        assert_eq!(window.arrive(0, data(b"a")), Arrival::Refused);
        let (payload, due) = window.take().unwrap();
        assert_eq!(payload, output(b"a"));
        assert_eq!(due.unwrap().sequence_number, 0);
        assert_eq!(window.arrive(0, data(b"a")), Arrival::Held);
        assert_eq!(window.take(), None);
    }

    #[test]
    fn early_message_is_acknowledged_at_once_and_delivered_in_its_turn() {
        let mut window = window(100, 10);

        assert_eq!(window.arrive(2, data(b"c")), Arrival::Held);
        assert_eq!(window.arrive(1, data(b"b")), Arrival::Held);
        assert_eq!(window.arrive(2, data(b"c")), Arrival::Held);
        assert_eq!(window.take_early(), None);
        assert_eq!(window.arrive(0, data(b"a")), Arrival::Next(data(b"a")));

        assert_eq!(window.take_early(), Some((1, data(b"b"))));
        assert_eq!(window.take_early(), Some((2, data(b"c"))));
        assert_eq!(window.take_early(), None);
        assert_eq!(
            window.early(),
            Window {
                bytes: 0,
                messages: 0
            }
        );
    }

    #[test]
    fn early_message_that_waits_to_be_taken_is_acknowledged_again() {
        let mut window = window(100, 10);
        window.arrive(1, data(b"b"));
        window.arrive(0, data(b"a"));
        window.hold(0, Some(id()), output(b"a"));
        let (sequence_number, _) = window.take_early().unwrap();
        window.hold(sequence_number, None, output(b"b"));

        assert_eq!(window.arrive(0, data(b"a")), Arrival::Refused);
        assert_eq!(window.arrive(1, data(b"b")), Arrival::Held);

        assert!(window.take().unwrap().1.is_some());
        assert!(window.take().unwrap().1.is_none());
    }

    #[test]
    fn early_data_in_clear_is_forgotten_once_it_is_distrusted() {
        let mut window = window(100, 10);
        let size = Content::Data(Payload::Flag(Flag::TerminateSession));
        window.arrive(1, data(b"b"));
        window.arrive(2, size.clone());

        window.distrust_early();

        assert_eq!(window.early().bytes, 0);
        assert_eq!(window.arrive(0, data(b"a")), Arrival::Next(data(b"a")));
        assert_eq!(window.take_early(), Some((1, Content::Nothing)));
        assert_eq!(window.take_early(), Some((2, size)));
    }

    #[test]
    fn full_stores_refuse_without_acknowledging() {
        for mut window in [window(2, 10), window(100, 2)] {
            window.arrive(0, data(b"a"));
            window.hold(0, Some(id()), output(b"a"));
            window.arrive(1, data(b"b"));
            window.hold(1, Some(id()), output(b"b"));

            assert_eq!(window.arrive(2, data(b"c")), Arrival::Refused);
            assert_eq!(window.arrive(3, data(b"d")), Arrival::Held);
            assert_eq!(window.arrive(4, data(b"e")), Arrival::Held);
            assert_eq!(window.arrive(5, data(b"f")), Arrival::Refused);

            window.take();
            assert_eq!(window.arrive(2, data(b"c")), Arrival::Next(data(b"c")));
        }
    }

    fn window(bytes: usize, messages: usize) -> ReceiveWindow {
        ReceiveWindow::new(Window { bytes, messages })
    }

    fn output(bytes: &'static [u8]) -> Payload {
        Payload::Output(Bytes::from_static(bytes))
    }

    fn data(bytes: &'static [u8]) -> Content {
        Content::Data(output(bytes))
    }

    fn id() -> MessageId {
        MessageId::from_wire([7; 16])
    }
}
