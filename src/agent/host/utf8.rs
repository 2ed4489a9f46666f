//! Cutting a byte stream into messages without splitting a UTF-8 sequence.
//!
//! Clients decode each message on its own; half a character at its end would show as garbage. Bytes
//! that are no UTF-8 at all pass unchanged.

use bytes::{Bytes, BytesMut};

/// Longest beginning of a UTF-8 sequence that can be incomplete, in bytes.
pub const LONGEST_BEGINNING: usize = 3;

/// Holds back the incomplete sequence at the end of each chunk and puts it before the next.
#[derive(Debug, Default)]
pub struct Utf8Boundary {
    held: Bytes,
}

impl Utf8Boundary {
    /// Takes the next chunk and gives what can be sent now; that may be nothing.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let mut whole = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + chunk.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        let held = whole.split_off(whole.len() - incomplete_tail(&whole));
        // A copy, so that three held bytes do not keep a large chunk in memory.
        self.held = Bytes::copy_from_slice(&held);
        whole
    }

    /// Gives what is held back; nothing will follow that completes it.
    pub fn flush(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

/// Takes at most `longest` bytes off the front of `rest`, without splitting a UTF-8 sequence.
pub fn take_piece(rest: &mut Bytes, longest: usize) -> Bytes {
    if rest.len() <= longest {
        return std::mem::take(rest);
    }
    let whole = longest - incomplete_tail(&rest[..longest]);
    // A character that is longer than a piece has to be split.
    rest.split_to(if whole == 0 { longest } else { whole })
}

/// How many bytes at the end begin a sequence that is not complete yet.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let longest = bytes.len().min(LONGEST_BEGINNING);
    (1..=longest)
        .find(|&length| {
            let tail = &bytes[bytes.len() - length..];
            tail[0] >= 0xc0 && is_incomplete(tail)
        })
        .unwrap_or(0)
}

fn is_incomplete(tail: &[u8]) -> bool {
    // `error_len` is none exactly if more bytes could make the sequence valid.
    std::str::from_utf8(tail)
        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holds_back_every_incomplete_beginning_of_a_sequence() {
        for text in ["ä", "€", "😀"] {
            for cut in 1..text.len() {
                let mut boundary = Utf8Boundary::default();
                let chunk = [b"a", &text.as_bytes()[..cut]].concat();

                assert_eq!(boundary.push(chunk.into()), "a", "{text} cut at {cut}");
                assert_eq!(
                    boundary.push(Bytes::copy_from_slice(&text.as_bytes()[cut..])),
                    text
                );
            }
        }
    }

    #[test]
    fn passes_bytes_that_are_no_utf8_unchanged() {
        let mut boundary = Utf8Boundary::default();
        let chunk = Bytes::from_static(b"\xff\xfe\x80a\xc3(\xed\xa0");

        assert_eq!(boundary.push(chunk.clone()), chunk);
        assert!(boundary.flush().is_empty());
    }

    #[test]
    fn flush_gives_the_held_bytes_once() {
        let mut boundary = Utf8Boundary::default();
        assert!(boundary.push(Bytes::from_static(b"\xe2\x82")).is_empty());

        assert_eq!(boundary.flush(), &b"\xe2\x82"[..]);
        assert!(boundary.flush().is_empty());
    }

    proptest! {
        #[test]
        fn text_cut_anywhere_arrives_whole_in_valid_chunks(
            text in "\\PC{0,200}",
            cuts in proptest::collection::vec(1usize..9, 0..100),
        ) {
            let mut boundary = Utf8Boundary::default();
            let mut arrived = String::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                rest = tail;
                let sent = boundary.push(Bytes::copy_from_slice(chunk));
                arrived.push_str(std::str::from_utf8(&sent).expect("no sequence is split"));
            }
            let sent = boundary.push(Bytes::copy_from_slice(rest));
            arrived.push_str(std::str::from_utf8(&sent).expect("no sequence is split"));

            prop_assert_eq!(arrived, text);
            prop_assert!(boundary.flush().is_empty());
        }

        #[test]
        fn pieces_are_as_long_as_they_may_be_and_valid(text in "\\PC{0,200}", longest in 4usize..40) {
            let mut rest = Bytes::from(text.clone());
            let mut arrived = String::new();
            while !rest.is_empty() {
                let piece = take_piece(&mut rest, longest);
                prop_assert!(piece.len() <= longest);
                prop_assert!(rest.is_empty() || piece.len() + LONGEST_BEGINNING >= longest);
                arrived.push_str(std::str::from_utf8(&piece).expect("no sequence is split"));
            }

            prop_assert_eq!(arrived, text);
        }

        #[test]
        fn any_bytes_arrive_unchanged_and_at_most_three_are_held(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
        ) {
            let mut boundary = Utf8Boundary::default();
            let mut arrived = Vec::new();
            for chunk in &chunks {
                arrived.extend_from_slice(&boundary.push(Bytes::copy_from_slice(chunk)));
                prop_assert!(boundary.held.len() <= LONGEST_BEGINNING);
            }
            arrived.extend_from_slice(&boundary.flush());

            prop_assert_eq!(arrived, chunks.concat());
        }
    }
}
