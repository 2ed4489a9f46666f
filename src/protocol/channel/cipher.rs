//! AES-256-GCM around the payloads of an encrypted session.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 12 | nonce | never the same twice under one key |
//! | 12 | n | ciphertext | of n bytes of payload |
//! | 12 + n | 16 | tag | authenticates nonce and ciphertext; there is no additional data |
//!
//! The data key of KMS has one half for each direction: bytes 0 to 31 from agent to client, bytes 32
//! to 63 from client to agent. Receivers use the nonce that came and do not compare it with earlier
//! ones, so that a peer may count (as we and the reference agent do) or throw dice (as the official
//! plugin does).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time;
use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::settings::Role;
use crate::protocol::wire::PayloadType;

/// Bytes of a data key.
pub const DATA_KEY: usize = 64;
/// Bytes of the half of a data key that serves one direction.
const HALF: usize = DATA_KEY / 2;
/// Bytes of the authentication tag.
const TAG: usize = 16;
/// Bytes that encryption adds to a payload.
const OVERHEAD: usize = NONCE_LEN + TAG;
/// Bytes of the agent's challenge.
pub(super) const CHALLENGE: usize = 64;
/// Bytes of the random part of a data key's encryption context.
pub(super) const KEY_CHALLENGE: usize = 16;

/// A data key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a data key has {DATA_KEY} bytes, and this one {0}")]
pub struct DataKeyError(usize);

/// What can be wrong with an encrypted payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// It is too short to hold nonce and tag.
    #[error("{0} bytes are too few for an encrypted payload")]
    Truncated(usize),
    /// It was encrypted with another key, or changed on its way.
    #[error("the payload was encrypted with another key, or changed on its way")]
    Forged,
}

/// A data key of KMS, in clear and encrypted. Its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey {
    plaintext: Zeroizing<[u8; DATA_KEY]>,
    ciphertext: Bytes,
}

impl DataKey {
    /// The key `plaintext`, which KMS encrypts to `ciphertext`.
    ///
    /// # Errors
    /// [`DataKeyError`] if it has not 64 bytes.
    pub fn new(plaintext: &[u8], ciphertext: Bytes) -> Result<Self, DataKeyError> {
        let mut key = Zeroizing::new([0; DATA_KEY]);
        if plaintext.len() != key.len() {
            return Err(DataKeyError(plaintext.len()));
        }
        key.copy_from_slice(plaintext);
        Ok(Self {
            plaintext: key,
            ciphertext,
        })
    }

    /// What KMS made of it, for the other end to have it decrypted.
    pub(super) fn ciphertext(&self) -> &Bytes {
        &self.ciphertext
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Random bytes for one encrypted session at one end, from a source fit for keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Randomness {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) key_challenge: [u8; KEY_CHALLENGE],
    pub(super) challenge: [u8; CHALLENGE],
}

impl Randomness {
    /// How many bytes it takes.
    pub const SIZE: usize = NONCE_LEN + KEY_CHALLENGE + CHALLENGE;

    /// Divides random bytes among their purposes.
    pub fn new(bytes: &[u8; Self::SIZE]) -> Self {
        let mut randomness = Self {
            nonce: [0; NONCE_LEN],
            key_challenge: [0; KEY_CHALLENGE],
            challenge: [0; CHALLENGE],
        };
        let (nonce, rest) = bytes.split_at(NONCE_LEN);
        let (key_challenge, challenge) = rest.split_at(KEY_CHALLENGE);
        randomness.nonce.copy_from_slice(nonce);
        randomness.key_challenge.copy_from_slice(key_challenge);
        randomness.challenge.copy_from_slice(challenge);
        randomness
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness(…)")
    }
}

/// Whether payloads of this type are encrypted in an encrypted session. Handshake, size and flags
/// stay clear, so that relays and peers can read them at any time.
pub(super) fn is_encrypted(payload_type: PayloadType) -> bool {
    match payload_type {
        PayloadType::Output | PayloadType::StdErr | PayloadType::ExitCode => true,
        PayloadType::None
        | PayloadType::Error
        | PayloadType::Size
        | PayloadType::Parameter
        | PayloadType::HandshakeRequest
        | PayloadType::HandshakeResponse
        | PayloadType::HandshakeComplete
        | PayloadType::EncryptionChallengeRequest
        | PayloadType::EncryptionChallengeResponse
        | PayloadType::Flag
        | PayloadType::Unknown(_) => false,
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Encrypts what this end sends and decrypts what it receives.
#[derive(Debug)]
pub(super) struct Cipher {
    outgoing: LessSafeKey,
    incoming: LessSafeKey,
    nonces: Nonces,
}

impl Cipher {
    /// The cipher of the end `role`, whose first nonce is `nonce`.
    pub(super) fn new(role: Role, key: &DataKey, nonce: [u8; NONCE_LEN]) -> Self {
        let (to_client, to_agent) = key.plaintext.split_at(HALF);
        let (outgoing, incoming) = match role {
            Role::Agent => (to_client, to_agent),
            Role::Client => (to_agent, to_client),
        };
        Self {
            outgoing: half_key(outgoing),
            incoming: half_key(incoming),
            nonces: Nonces::from(nonce),
        }
    }

    /// Encrypts a payload.
    pub(super) fn seal(&mut self, plaintext: &[u8]) -> Bytes {
        let nonce = self.nonces.next();
        let mut sealed = BytesMut::with_capacity(plaintext.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .outgoing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed[NONCE_LEN..],
            )
            .expect("a payload is far below the 64 GiB that AES-GCM takes");
        sealed.extend_from_slice(tag.as_ref());
        sealed.freeze()
    }

    /// Decrypts a payload.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Bytes, CipherError> {
        let truncated = CipherError::Truncated(sealed.len());
        if sealed.len() < OVERHEAD {
            return Err(truncated);
        }
        let (nonce, sealed) = sealed.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| truncated)?;
        let mut buffer = BytesMut::from(sealed);
        let length = self
            .incoming
            .open_in_place(nonce, Aad::empty(), &mut buffer)
            .map_err(|_| CipherError::Forged)?
            .len();
        buffer.truncate(length);
        Ok(buffer.freeze())
    }
}

fn half_key(bytes: &[u8]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes).expect("half a data key is an AES-256 key");
    LessSafeKey::new(key)
}

/// Nonces that count up from a random start, as three little-endian words with carry: the
/// reference's way, which no number of messages makes repeat.
#[derive(Debug)]
struct Nonces {
    words: [u32; 3],
}

impl From<[u8; NONCE_LEN]> for Nonces {
    fn from(bytes: [u8; NONCE_LEN]) -> Self {
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, &byte| (word << 8) | u32::from(byte));
        }
        Self { words }
    }
}

impl Nonces {
    fn next(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        for (bytes, word) in nonce.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        for word in &mut self.words {
            *word = word.wrapping_add(1);
            if *word != 0 {
                break;
            }
        }
        nonce
    }
}

#[cfg(test)]
mod tests;
