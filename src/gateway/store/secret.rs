//! Text that opens a door: never shown by accident, compared in constant time, made of randomness.

use std::fmt;

use aws_lc_rs::{constant_time, digest, rand};

/// A secret. `Debug` masks it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Makes a secret of `length` characters out of `alphabet`, whose length must be a power of two
    /// so that every character is equally likely.
    pub(in crate::gateway) fn random(alphabet: &[u8], length: usize) -> Self {
        Self(random_text(alphabet, length))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored in place of a secret that only has to be recognised. The secrets are random
    /// and long, so a plain hash is enough.
    pub(in crate::gateway) fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// SHA-256 of `text`.
pub(in crate::gateway) fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

/// Whether `text` hashes to `expected`, in time that does not depend on the answer.
pub(in crate::gateway) fn matches(text: &str, expected: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(&hash(text), expected).is_ok()
}

/// `length` random characters out of `alphabet`, whose length must be a power of two.
pub(in crate::gateway) fn random_text(alphabet: &[u8], length: usize) -> String {
    debug_assert!(alphabet.len().is_power_of_two() && alphabet.len() <= 256);
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).expect("the system's random generator answers");
    bytes
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) & (alphabet.len() - 1)]))
        .collect()
}

/// Letters and digits of key ids: as in AWS, no `0`, `1`, `8` and `9`.
pub(in crate::gateway) const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Characters of secrets and tokens.
pub(in crate::gateway) const BASE64: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Lower-case hexadecimal digits.
pub(in crate::gateway) const HEX: &[u8] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_masked_when_printed_for_debugging() {
        let secret = Secret::new("wJalrXUtnFEMI");

        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(secret.expose(), "wJalrXUtnFEMI");
    }

    #[test]
    fn only_the_same_text_matches_a_hash() {
        let secret = Secret::random(BASE64, 20);

        assert!(matches(secret.expose(), &secret.hash()));
        assert!(!matches("another text", &secret.hash()));
        assert!(!matches(secret.expose(), &[]));
    }

    #[test]
    fn random_texts_have_the_length_and_alphabet_asked_for_and_differ() {
        let first = random_text(HEX, 17);

        assert_eq!(first.len(), 17);
        assert!(first.bytes().all(|byte| HEX.contains(&byte)));
        assert_ne!(first, random_text(HEX, 17));
    }
}
