//! Bytes as the inside of a JSON string.

use serde::{Deserialize, Serialize};

/// A byte stream as text: characters may be cut anywhere between two pushes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Utf8Text {
    /// The start of a character, at most three bytes.
    cut: Vec<u8>,
}

/// What stands for a sequence of bytes that is no UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

impl Utf8Text {
    /// Appends `bytes` to `out`, escaped; keeps back a character that is not complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = self.complete(bytes, out);
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            escape_bytes(valid, out);
            let Some(length) = error.error_len() else {
                self.cut.extend_from_slice(invalid);
                return;
            };
            out.extend_from_slice(REPLACEMENT.as_bytes());
            rest = &invalid[length..];
        }
        escape_bytes(rest, out);
    }

    /// Appends what is left of a character that was never completed.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.cut).is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }

    /// Takes bytes until the character that was cut is complete or broken; returns the others.
    fn complete<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = bytes;
        while !self.cut.is_empty()
            && let Some((&next, after)) = rest.split_first()
        {
            self.cut.push(next);
            match std::str::from_utf8(&self.cut) {
                Ok(character) => {
                    escape(character, out);
                    self.cut.clear();
                    rest = after;
                }
                Err(error) if error.error_len().is_none() => rest = after,
                Err(_) => {
                    // The byte just pushed broke it, so it starts something of its own.
                    out.extend_from_slice(REPLACEMENT.as_bytes());
                    self.cut.clear();
                }
            }
        }
        rest
    }
}

/// Appends `text` to `out` as JSON wants it between quotes.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    escape_bytes(text.as_bytes(), out);
}

/// Bytes escaped at a time: their escaped form stays in the core's first cache.
const PIECE: usize = 512;
/// Longest escaped form of one byte.
const LONGEST: usize = r"\u001b".len();

/// Escapes bytes known to be UTF-8.
fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut escaped = [0; PIECE * LONGEST];
    for piece in bytes.chunks(PIECE) {
        let mut length = 0;
        let (words, tail) = piece.as_chunks::<8>();
        for word in words {
            if has_special(u64::from_le_bytes(*word)) {
                for &byte in word {
                    length += escape_byte(byte, &mut escaped[length..]);
                }
            } else {
                escaped[length..length + word.len()].copy_from_slice(word);
                length += word.len();
            }
        }
        for &byte in tail {
            length += escape_byte(byte, &mut escaped[length..]);
        }
        out.extend_from_slice(&escaped[..length]);
    }
}

/// What follows the backslash of a byte's escape; 0 where JSON takes the byte as it is.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[b'\n' as usize] = b'n';
    escapes[b'\r' as usize] = b'r';
    escapes[b'\t' as usize] = b't';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// Writes the escaped form to the start of `out`, which has room for the longest, and returns its
/// length.
fn escape_byte(byte: u8, out: &mut [u8]) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match ESCAPES[usize::from(byte)] {
        0 => {
            out[0] = byte;
            1
        }
        b'u' => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out[..LONGEST].copy_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            LONGEST
        }
        short => {
            out[..2].copy_from_slice(&[b'\\', short]);
            2
        }
    }
}

/// Whether one of eight bytes needs an escape: `"`, `\` or below 0x20.
fn has_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Subtracting sets the highest bit of bytes below the subtrahend and of large ones, which the
    // complement takes out again; a borrow only comes from a byte that has been found.
    let has_below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let control = has_below(word, 0x20);
    let quote = has_below(word ^ (ONES * b'"' as u64), 1);
    let backslash = has_below(word ^ (ONES * b'\\' as u64), 1);
    (control | quote | backslash) & HIGHS != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(pieces: &[&[u8]]) -> String {
        let mut text = Utf8Text::default();
        let mut out = b"\"".to_vec();
        for piece in pieces {
            text.push(piece, &mut out);
        }
        text.finish(&mut out);
        out.push(b'"');
        serde_json::from_slice(&out).expect("valid JSON")
    }

    #[test]
    fn every_control_byte_survives_json() {
        let all: Vec<u8> = (0..0x80).collect();

        assert_eq!(text_of(&[&all]).as_bytes(), all);
    }

    #[test]
    fn characters_cut_between_pushes_are_put_together() {
        let bytes = "aä€𝄞z".as_bytes();

        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(text_of(&pieces).as_bytes(), bytes);
            }
        }
    }

    #[test]
    fn escape_sequences_have_the_shortest_form() {
        let mut out = Vec::new();

        escape("\"\\\r\n\t\u{1b}[0m\u{7f}", &mut out);

        assert_eq!(out, b"\\\"\\\\\\r\\n\\t\\u001b[0m\x7f");
    }

    proptest! {
        #[test]
        fn text_is_the_lossy_form_wherever_it_is_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();

            prop_assert_eq!(text_of(&pieces), String::from_utf8_lossy(&bytes).into_owned());
        }

        #[test]
        fn special_bytes_are_found_eight_at_a_time(bytes in any::<[u8; 8]>()) {
            let expected = bytes.iter().any(|&byte| ESCAPES[usize::from(byte)] != 0);

            prop_assert_eq!(has_special(u64::from_le_bytes(bytes)), expected);
        }
    }
}
