//! What is still to be acknowledged to the peer.

use std::collections::VecDeque;

use crate::protocol::wire::MessageId;

/// Most acknowledgements that wait for the socket. A peer whose message finds no room here sends it
/// again. As many as our own senders have under way at most.
const LIMIT: usize = 8192;

/// One acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) sequence_number: i64,
    pub(super) message_id: MessageId,
}

/// Acknowledgements in the order in which they fell due.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    due: VecDeque<Due>,
}

impl Acknowledgements {
    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= LIMIT
    }

    /// Notes one; without room it is forgotten, which the peer's repeat of the message makes good.
    pub(super) fn push(&mut self, due: Due) {
        if !self.is_full() {
            self.due.push_back(due);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Due> {
        let due = self.due.pop_front();
        super::release(&mut self.due);
        due
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_bounded_and_come_out_in_order() {
        let mut acknowledgements = Acknowledgements::default();

        for sequence_number in 0..=8192 {
            acknowledgements.push(Due {
                sequence_number,
                message_id: MessageId::from_wire([0; 16]),
            });
        }

        assert!(acknowledgements.is_full());
        for expected in 0..8192 {
            assert_eq!(acknowledgements.pop().unwrap().sequence_number, expected);
        }
        assert_eq!(acknowledgements.pop(), None);
    }
}
