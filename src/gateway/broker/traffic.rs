//! When data last passed a session's relay: what its idle timeout counts.
//!
//! Acknowledgements, window sizes and handshakes are no data, repeats of a message neither, nor the
//! keep-alives of a multiplexed port session. One look at the header per message, no clock of its own.

use tokio::time::Instant;

use crate::gateway::store::sessions::Activity;
use crate::protocol::wire::PayloadType;
use crate::protocol::wire::message::Header;

/// See the module.
#[derive(Default)]
pub(super) struct Traffic {
    input: Direction,
    output: Direction,
}

#[derive(Default)]
struct Direction {
    newest: Option<i64>,
    last: Option<Instant>,
}

impl Traffic {
    /// A stream message of the client passed.
    pub(super) fn note_input(&mut self, header: &Header, message: &[u8], now: Instant) {
        self.input.note(header, message, now);
    }

    /// A stream message of the agent passed.
    pub(super) fn note_output(&mut self, header: &Header, message: &[u8], now: Instant) {
        self.output.note(header, message, now);
    }

    /// When there was last what counts as `activity`.
    pub(super) fn last(&self, activity: Activity) -> Option<Instant> {
        match activity {
            Activity::Input => self.input.last,
            Activity::InputOrOutput => self.input.last.max(self.output.last),
        }
    }
}

impl Direction {
    fn note(&mut self, header: &Header, message: &[u8], now: Instant) {
        let is_new = self
            .newest
            .is_none_or(|newest| header.sequence_number > newest);
        if is_new {
            self.newest = Some(header.sequence_number);
        }
        if is_new && is_data(header, message) {
            self.last = Some(now);
        }
    }
}

fn is_data(header: &Header, message: &[u8]) -> bool {
    let has_data = matches!(
        header.payload_type,
        PayloadType::Output | PayloadType::StdErr
    );
    has_data && !is_keep_alive(&message[header.payload_offset..])
}

/// A smux frame of command NOP and nothing else.
fn is_keep_alive(payload: &[u8]) -> bool {
    matches!(payload, [1 | 2, 3, 0, 0, _, _, _, _])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::wire::{Message, MessageId, MessageType};

    #[test]
    fn input_of_a_person_counts_and_output_where_it_shall() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);

        note(&mut traffic, true, 0, PayloadType::Output, b"ls", second(1));
        note(&mut traffic, false, 0, PayloadType::Output, b"a", second(2));
        assert_eq!(traffic.last(Activity::Input), Some(second(1)));
        assert_eq!(traffic.last(Activity::InputOrOutput), Some(second(2)));
        note(&mut traffic, false, 1, PayloadType::StdErr, b"b", second(3));
        assert_eq!(traffic.last(Activity::InputOrOutput), Some(second(3)));
    }

    #[test]
    fn sizes_handshakes_repeats_and_keep_alives_do_not_count() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        note(&mut traffic, true, 5, PayloadType::Output, b"x", start);

        let later = start + Duration::from_secs(1);
        for (number, kind, payload) in [
            (5, PayloadType::Output, &b"x"[..]),
            (4, PayloadType::Output, b"y"),
            (6, PayloadType::Size, b"{}"),
            (7, PayloadType::HandshakeResponse, b"{}"),
            (8, PayloadType::Output, b"\x01\x03\0\0\0\0\0\0"),
        ] {
            note(&mut traffic, true, number, kind, payload, later);
            let last = traffic.last(Activity::InputOrOutput);
            assert_eq!(last, Some(start), "{number}");
        }
        note(
            &mut traffic,
            true,
            9,
            PayloadType::Output,
            b"\x01\x03\0\0",
            later,
        );
        assert_eq!(traffic.last(Activity::Input), Some(later));
    }

    fn note(
        traffic: &mut Traffic,
        is_input: bool,
        sequence_number: i64,
        payload_type: PayloadType,
        payload: &'static [u8],
        now: Instant,
    ) {
        let message = Message {
            message_type: MessageType::InputStreamData,
            created_ms: 1,
            sequence_number,
            flags: 0,
            id: MessageId::from(Uuid::new_v4()),
            payload_type,
            payload: Bytes::from_static(payload),
        }
        .encode();
        let header = Header::decode(&message).unwrap();
        if is_input {
            traffic.note_input(&header, &message, now);
        } else {
            traffic.note_output(&header, &message, now);
        }
    }
}
