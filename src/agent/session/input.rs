//! Input on its way to the terminal.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Input that may wait, in bytes, before no more is taken from the data channel. What is not taken
/// is not acknowledged, so the client keeps it.
const LIMIT: usize = 64 << 10;

/// A queue of typed bytes. Its size is bounded by [`LIMIT`] and the one payload that exceeds it.
#[derive(Debug, Default)]
pub(super) struct Input {
    queue: VecDeque<Bytes>,
    len: usize,
}

impl Input {
    /// Whether the next payload may be taken from the channel.
    pub(super) fn has_room(&self) -> bool {
        self.len < LIMIT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// The bytes to write next; empty if there are none.
    pub(super) fn front(&self) -> &[u8] {
        self.queue.front().map_or(&[], Bytes::chunk)
    }

    /// Removes the first `written` bytes of the front, which the terminal took.
    pub(super) fn take(&mut self, written: usize) -> Bytes {
        let Some(front) = self.queue.front_mut() else {
            return Bytes::new();
        };
        let taken = front.split_to(written.min(front.len()));
        self.len -= taken.len();
        if front.is_empty() {
            self.queue.pop_front();
            if self.queue.is_empty() {
                // An idle session keeps no memory for input.
                self.queue = VecDeque::new();
            }
        }
        taken
    }

    /// Forgets everything: nobody will read it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut input = Input::default();
        input.push(Bytes::from_static(b"abc"));
        input.push(Bytes::new());
        input.push(Bytes::from_static(b"de"));

        assert_eq!(input.front(), b"abc");
        assert_eq!(input.take(2), &b"ab"[..]);
        assert_eq!(input.front(), b"c");
        assert_eq!(input.take(1), &b"c"[..]);
        assert_eq!(input.take(2), &b"de"[..]);
        assert!(input.is_empty());
        assert_eq!(input.len, 0);
    }

    #[test]
    fn full_queue_takes_no_more_until_some_of_it_is_written() {
        let mut input = Input::default();
        assert!(input.has_room());

        input.push(Bytes::from(vec![0; LIMIT]));
        assert!(!input.has_room());

        input.take(1);
        assert!(input.has_room());
    }
}
