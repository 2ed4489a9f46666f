//! Bytes as the inside of a JSON string.

/// A byte stream as text: characters may be cut anywhere between two pushes.
#[derive(Debug, Clone, Default)]
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

/// Escapes bytes known to be UTF-8.
fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (plain, special) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else {
            return;
        };
        escape_byte(byte, out);
        rest = after;
    }
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Length of the start of `bytes` that JSON takes as it is: everything but `"`, `\` and bytes below
/// 0x20. Looks at eight bytes at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let in_tail = tail.iter().position(|&byte| is_special(byte));
    words.len() * 8 + in_tail.unwrap_or(tail.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Sets the highest bit of bytes that need an escape. The lowest bit that is set is right; a borrow
/// may set bits above it wrongly.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero_bytes(word ^ (ONES * b'"' as u64));
    let backslash = zero_bytes(word ^ (ONES * b'\\' as u64));
    (control | quote | backslash) & HIGHS
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
        fn plain_prefix_ends_at_the_first_special_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let expected = bytes.iter().position(|&byte| is_special(byte)).unwrap_or(bytes.len());

            prop_assert_eq!(plain_prefix(&bytes), expected);
        }
    }
}
