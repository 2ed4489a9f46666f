//! Puts payloads into messages of our own: types, flags, ids and dates.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::acknowledgements::Due;
use super::settings::{Clock, Role};
use crate::protocol::wire::message::{FLAG_SYN, FLAGS_SERVICE, PAYLOAD_OFFSET};
use crate::protocol::wire::{Acknowledgement, Message, MessageId, MessageType, PayloadType};

impl Role {
    /// Type of the stream messages that this end sends.
    pub(super) fn sent_type(self) -> MessageType {
        match self {
            Self::Agent => MessageType::OutputStreamData,
            Self::Client => MessageType::InputStreamData,
        }
    }

    /// Type of the stream messages that this end receives.
    pub(super) fn received_type(self) -> MessageType {
        match self {
            Self::Agent => MessageType::InputStreamData,
            Self::Client => MessageType::OutputStreamData,
        }
    }

    /// Flags of this end's message 0; all others have none.
    pub(super) fn first_flags(self) -> u64 {
        match self {
            Self::Agent => FLAG_SYN,
            Self::Client => 0,
        }
    }
}

/// Makes the messages of one end.
pub(super) struct Envelope {
    role: Role,
    stamp: Stamp,
}

impl Envelope {
    pub(super) fn new(role: Role, clock: Clock, seed: u64) -> Self {
        let stamp = Stamp::new(clock, seed);
        Self { role, stamp }
    }

    /// A stream message whose number and flags are not written yet.
    pub(super) fn stream(
        &mut self,
        payload_type: PayloadType,
        payload: Bytes,
        now: Instant,
    ) -> BytesMut {
        let mut encoded = BytesMut::with_capacity(PAYLOAD_OFFSET + payload.len());
        self.message(self.role.sent_type(), payload_type, payload, 0, now)
            .encode_into(&mut encoded);
        encoded
    }

    /// Acknowledges a stream message.
    pub(super) fn acknowledgement(&mut self, due: Due, now: Instant) -> Bytes {
        let payload = Acknowledgement {
            message_type: self.role.received_type(),
            message_id: due.message_id,
            sequence_number: due.sequence_number,
        }
        .encode();
        self.service(MessageType::Acknowledge, payload, now)
    }

    /// A message outside the stream.
    pub(super) fn service(
        &mut self,
        message_type: MessageType,
        payload: Bytes,
        now: Instant,
    ) -> Bytes {
        self.message(message_type, PayloadType::None, payload, FLAGS_SERVICE, now)
            .encode()
    }

    fn message(
        &mut self,
        message_type: MessageType,
        payload_type: PayloadType,
        payload: Bytes,
        flags: u64,
        now: Instant,
    ) -> Message {
        Message {
            message_type,
            created_ms: self.stamp.created_ms(now),
            sequence_number: 0,
            flags,
            id: self.stamp.message_id(),
            payload_type,
            payload,
        }
    }
}

/// Makes message ids and creation dates.
struct Stamp {
    clock: Clock,
    state: u64,
}

impl Stamp {
    fn new(clock: Clock, seed: u64) -> Self {
        Self { clock, state: seed }
    }

    /// A fresh id. Peers only echo ids, so they need to be distinct, not unpredictable.
    fn message_id(&mut self) -> MessageId {
        let high = self.next().to_be_bytes();
        let low = self.next().to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        MessageId::from_random(bytes)
    }

    /// The creation date at `now`; never zero, which peers refuse.
    fn created_ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.clock.instant);
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.clock.unix_ms.saturating_add(elapsed).max(1)
    }

    /// SplitMix64, which walks through all 2⁶⁴ values from any seed.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_do_not_repeat_and_depend_on_the_seed() {
        let clock = clock(1_700_000_000_000);
        let mut one = Stamp::new(clock, 1);
        let mut two = Stamp::new(clock, 2);

        let ids: HashSet<_> = (0..1000)
            .flat_map(|_| [one.message_id(), two.message_id()])
            .collect();

        assert_eq!(ids.len(), 2000);
    }

    #[test]
    fn dates_follow_the_monotonic_clock_and_are_never_zero() {
        let clock = clock(1_700_000_000_000);
        let stamp = Stamp::new(clock, 1);
        let unset = Stamp::new(
            Clock {
                unix_ms: 0,
                ..clock
            },
            1,
        );

        let later = clock.instant + Duration::from_millis(1500);

        assert_eq!(stamp.created_ms(later), 1_700_000_001_500);
        assert_eq!(unset.created_ms(clock.instant), 1);
    }

    fn clock(unix_ms: u64) -> Clock {
        Clock {
            instant: Instant::now(),
            unix_ms,
        }
    }
}
