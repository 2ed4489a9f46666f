//! Bytes of one stream in one direction until they are taken.
//!
//! Large pieces are kept as they came, which copies nothing. Small pieces are gathered, so that many
//! of them cost little, and so that a few bytes do not keep a large buffer alive.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are gathered. Copying so much costs less than handing it on alone.
const SMALL: usize = 2048;
/// A piece is kept as it came if it makes up at least one in so many bytes of its buffer.
const SHARE: usize = 4;
/// Gathered bytes grow no further than this.
const GATHERED: usize = 32 << 10;

/// Bytes that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Bytes>,
    /// Small pieces, behind all chunks.
    gathered: BytesMut,
    length: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a piece of a buffer of `whole` bytes.
    pub(super) fn push(&mut self, piece: Bytes, whole: usize) {
        self.length += piece.len();
        let is_small = piece.len() < SMALL || piece.len() < whole / SHARE;
        if !is_small {
            self.close_gathered();
            self.chunks.push_back(piece);
            return;
        }
        if self.gathered.len() + piece.len() > GATHERED {
            self.close_gathered();
        }
        self.gathered.extend_from_slice(&piece);
    }

    /// Takes up to `max` bytes off the front; fewer if they do not lie together. None if there are none.
    pub(super) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.close_gathered();
        }
        let front = self.chunks.front_mut()?;
        let piece = if front.len() > max {
            front.split_to(max)
        } else {
            self.chunks.pop_front()?
        };
        self.length -= piece.len();
        if self.chunks.is_empty() {
            // An idle stream holds no memory for bytes.
            self.chunks = VecDeque::new();
        }
        Some(piece)
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            // A new buffer, because a used one remembers its size and takes as much at once again.
            self.chunks
                .push_back(std::mem::take(&mut self.gathered).freeze());
        }
    }
}

#[cfg(test)]
impl Queue {
    /// Elements and bytes for which memory is set aside.
    pub(super) fn allocated(&self) -> usize {
        self.chunks.capacity() + self.gathered.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_piece_is_kept_as_it_came() {
        let buffer = Bytes::from(vec![1; 10_000]);
        let mut queue = Queue::default();

        queue.push(buffer.slice(8..), buffer.len());

        let piece = queue.pop(usize::MAX).unwrap();
        assert_eq!(piece.as_ptr(), buffer[8..].as_ptr());
    }

    #[test]
    fn small_pieces_are_gathered_in_their_place() {
        let mut queue = Queue::default();

        queue.push(Bytes::from_static(b"a"), 1);
        queue.push(Bytes::from(vec![b'b'; SMALL]), SMALL);
        queue.push(Bytes::from_static(b"c"), 1);
        queue.push(Bytes::from_static(b"d"), 1);

        assert_eq!(queue.len(), SMALL + 3);
        assert_eq!(queue.pop(10), Some(Bytes::from_static(b"a")));
        assert_eq!(queue.pop(SMALL - 1).unwrap().len(), SMALL - 1);
        assert_eq!(queue.pop(10), Some(Bytes::from_static(b"b")));
        assert_eq!(queue.pop(10), Some(Bytes::from_static(b"cd")));
        assert_eq!(queue.pop(10), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn small_part_of_a_large_buffer_does_not_keep_it_alive() {
        let buffer = Bytes::from(vec![1; 1 << 20]);
        let mut queue = Queue::default();

        queue.push(buffer.slice(..10_000), buffer.len());

        assert!(buffer.is_unique());
    }

    #[test]
    fn gathered_bytes_come_in_bounded_pieces() {
        let mut queue = Queue::default();
        for _ in 0..100 {
            queue.push(Bytes::from_static(&[1; 1000]), 1000);
        }

        let pieces: Vec<usize> = std::iter::from_fn(|| queue.pop(usize::MAX))
            .map(|piece| piece.len())
            .collect();

        assert_eq!(pieces, [32_000, 32_000, 32_000, 4000]);
    }
}
