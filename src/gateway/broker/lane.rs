//! A lane: what is on its way through the relay in one direction.
//!
//! While the far end takes messages, a lane is a small buffer: full means that the relay stops
//! reading the near end, and back-pressure does the rest. When the far end is away or does not move,
//! the lane absorbs instead, so that the near end's pings and acknowledgements are still read:
//! it keeps each stream message once, up to a limit, and drops the others, which their sender
//! repeats. Acknowledgements are never dropped, because the official client gives each only once.

use std::collections::VecDeque;

use bytes::Bytes;

/// A flowing lane with this many bytes is full: a few large messages for one batch of writes.
const FLOWING_LIMIT: usize = 256 << 10;
/// Stream messages an absorbing lane keeps, in bytes. Above what two sockets' buffers and our agent's
/// send window hold, so that the reference agent, which repeats ten messages a second, repeats none.
const ABSORBING_LIMIT: usize = 16 << 20;
/// A lane never holds more; only a peer that floods acknowledgements gets here.
const CEILING: usize = 32 << 20;
/// Acknowledgements of a client remembered after they were sent, about 300 bytes each: what can be
/// lost with one connection of the agent.
pub(super) const REMEMBERED: usize = 256;

/// What the lane has to know of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stream message with its sequence number.
    Stream(i64),
    /// An acknowledgement.
    Acknowledge,
    /// A message of the gateway's own, or of a type that is not known here.
    Other,
}

/// The lane cannot take another message and may not drop it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

enum Mode {
    Flowing,
    Absorbing { newest: Option<i64> },
}

/// See the module.
pub(super) struct Lane {
    queue: VecDeque<(Kind, Bytes)>,
    bytes: usize,
    mode: Mode,
    /// How many acknowledgements to remember after they were sent.
    remembered: usize,
    sent_acknowledgements: VecDeque<Bytes>,
}

impl Lane {
    /// An empty lane whose far end is not there yet; it remembers that many acknowledgements.
    pub(super) fn new(remembered: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            mode: Mode::Absorbing { newest: None },
            remembered,
            sent_acknowledgements: VecDeque::new(),
        }
    }

    /// Whether the near end may be read.
    pub(super) fn has_room(&self) -> bool {
        match self.mode {
            Mode::Flowing => self.bytes < FLOWING_LIMIT,
            Mode::Absorbing { .. } => true,
        }
    }

    /// How many messages are waiting.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The far end does not take messages.
    pub(super) fn absorb(&mut self) {
        if let Mode::Flowing = self.mode {
            let newest = self.queue.iter().filter_map(|(kind, _)| match kind {
                Kind::Stream(number) => Some(*number),
                Kind::Acknowledge | Kind::Other => None,
            });
            self.mode = Mode::Absorbing {
                newest: newest.max(),
            };
        }
    }

    /// The far end takes messages.
    pub(super) fn flow(&mut self) {
        self.mode = Mode::Flowing;
    }

    /// Adds a message at the back, or drops it as the module says.
    pub(super) fn push(&mut self, kind: Kind, message: Bytes) -> Result<(), Overflow> {
        if let (Mode::Absorbing { newest }, Kind::Stream(number)) = (&mut self.mode, kind) {
            let is_repeat = newest.is_some_and(|newest| number <= newest);
            if is_repeat || self.bytes + message.len() > ABSORBING_LIMIT {
                return Ok(());
            }
            *newest = Some(number);
        }
        if self.bytes + message.len() > CEILING {
            return Err(Overflow);
        }
        self.bytes += message.len();
        self.queue.push_back((kind, message));
        Ok(())
    }

    /// Adds a message of the gateway's own before all others.
    pub(super) fn push_front(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.queue.push_front((Kind::Other, message));
    }

    /// The next message for the far end.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let (kind, message) = self.queue.pop_front()?;
        self.bytes -= message.len();
        if kind == Kind::Acknowledge && self.remembered > 0 {
            if self.sent_acknowledgements.len() == self.remembered {
                self.sent_acknowledgements.pop_front();
            }
            // A copy: a slice would keep the whole read buffer that it came in.
            self.sent_acknowledgements
                .push_back(Bytes::copy_from_slice(&message));
        }
        Some(message)
    }

    /// Puts the remembered acknowledgements before all others: the far end has a new connection, and
    /// what the old one swallowed nobody sends again.
    pub(super) fn repeat_acknowledgements(&mut self) {
        for message in std::mem::take(&mut self.sent_acknowledgements)
            .into_iter()
            .rev()
        {
            self.bytes += message.len();
            self.queue.push_front((Kind::Acknowledge, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flowing_lane_asks_for_back_pressure_and_drops_nothing() {
        let mut lane = flowing();
        for number in 0..8 {
            assert!(lane.has_room());
            lane.push(Kind::Stream(number), message(32 << 10)).unwrap();
        }

        assert!(!lane.has_room());
        assert_eq!(std::iter::from_fn(|| lane.pop()).count(), 8);
        assert!(lane.has_room());
    }

    #[test]
    fn absorbing_lane_keeps_each_stream_message_once() {
        let mut lane = Lane::new(REMEMBERED);
        for number in [0, 1, 0, 0, 2, 1] {
            lane.push(Kind::Stream(number), message(1)).unwrap();
        }

        assert_eq!(std::iter::from_fn(|| lane.pop()).count(), 3);
    }

    #[test]
    fn absorbing_knows_what_was_queued_before() {
        let mut lane = flowing();
        lane.push(Kind::Stream(7), message(1)).unwrap();
        lane.absorb();
        lane.push(Kind::Stream(7), message(1)).unwrap();
        lane.push(Kind::Stream(8), message(1)).unwrap();

        assert_eq!(std::iter::from_fn(|| lane.pop()).count(), 2);
    }

    #[test]
    fn absorbing_lane_drops_stream_messages_above_its_limit_but_no_acknowledgement() {
        let mut lane = Lane::new(REMEMBERED);
        for number in 0..100 {
            lane.push(Kind::Stream(number), message(1 << 20)).unwrap();
            lane.push(Kind::Acknowledge, message(300)).unwrap();
        }

        assert!(lane.bytes <= ABSORBING_LIMIT + 100 * 300);
        let kept = std::iter::from_fn(|| lane.pop());
        assert_eq!(kept.filter(|message| message.len() == 300).count(), 100);
    }

    #[test]
    fn flood_of_acknowledgements_ends_at_the_ceiling() {
        let mut lane = Lane::new(REMEMBERED);
        let flood = std::iter::repeat_with(|| lane.push(Kind::Acknowledge, message(1 << 20)));

        assert_eq!(flood.take(33).filter(Result::is_err).count(), 1);
    }

    #[test]
    fn sent_acknowledgements_go_out_again_first_and_in_order() {
        let mut lane = flowing();
        for text in ["a", "b"] {
            lane.push(Kind::Acknowledge, text.into()).unwrap();
            lane.pop();
        }
        lane.push(Kind::Acknowledge, "c".into()).unwrap();
        lane.repeat_acknowledgements();

        let order: Vec<Bytes> = std::iter::from_fn(|| lane.pop()).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn remembered_acknowledgements_are_limited() {
        let mut lane = flowing();
        for _ in 0..2 * REMEMBERED {
            lane.push(Kind::Acknowledge, message(1)).unwrap();
            lane.pop();
        }
        lane.repeat_acknowledgements();

        assert_eq!(lane.queue.len(), REMEMBERED);
    }

    fn flowing() -> Lane {
        let mut lane = Lane::new(REMEMBERED);
        lane.flow();
        lane
    }

    fn message(length: usize) -> Bytes {
        vec![0; length].into()
    }
}
