//! What the values of secure strings are encrypted with: a key in a file beside the database, so that a
//! copy of the database alone tells none of them.

use std::io::{self, ErrorKind};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use crate::runtime::atomic_file;

/// Length of a key of AES-256, in bytes.
const KEY: usize = 32;
/// Only the gateway reads it.
const MODE: u32 = 0o600;

/// A value cannot be revealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was encrypted with another key than that in parameters.key, or for another parameter")]
pub struct WrongKey;

/// Encrypts and decrypts values.
pub(super) struct Seal {
    key: RandomizedNonceKey,
}

impl Seal {
    /// With the key in the file at `path`, which is made if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match atomic_file::write_new(path, &random_key(), MODE) {
                    // Another process of ours was faster.
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                    Ok(()) | Err(_) => std::fs::read(path)?,
                }
            }
            read => read?,
        };
        Self::new(&bytes).ok_or_else(|| {
            let text = format!(
                "{} has {} bytes, a key has {KEY}",
                path.display(),
                bytes.len()
            );
            io::Error::new(ErrorKind::InvalidData, text)
        })
    }

    /// With a key that is gone with the process.
    pub(super) fn of_this_process() -> Option<Self> {
        Self::new(&random_key())
    }

    fn new(key: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { key })
    }

    /// Encrypts `value` for the parameter `name`: Base64 of nonce, text and tag.
    pub(super) fn seal(&self, name: &str, value: &str) -> Option<String> {
        let mut sealed = value.as_bytes().to_vec();
        let aad = Aad::from(name.as_bytes());
        let nonce = self.key.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        let whole = [nonce.as_ref().as_slice(), &sealed].concat();
        Some(STANDARD.encode(whole))
    }

    /// Decrypts what was encrypted for the parameter `name`.
    pub(super) fn reveal(&self, name: &str, sealed: &str) -> Result<Secret, WrongKey> {
        let whole = STANDARD.decode(sealed).map_err(|_| WrongKey)?;
        let (nonce, text) = whole.split_at_checked(NONCE_LEN).ok_or(WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| WrongKey)?;
        let mut text = text.to_vec();
        let aad = Aad::from(name.as_bytes());
        let value = self.key.open_in_place(nonce, aad, &mut text);
        let value = value.map_err(|_| WrongKey)?.to_vec();
        String::from_utf8(value)
            .map(Secret::new)
            .map_err(|_| WrongKey)
    }
}

fn random_key() -> [u8; KEY] {
    let mut key = [0; KEY];
    rand::fill(&mut key).expect("the system's random generator answers");
    key
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn values_are_revealed_by_whoever_has_the_file_and_for_their_own_parameter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parameters.key");
        let first = Seal::open(&path).unwrap();
        let sealed = first.seal("/a", "pass wörd").unwrap();

        let again = Seal::open(&path).unwrap();

        assert!(!sealed.contains("pass"));
        assert_ne!(first.seal("/a", "pass wörd").unwrap(), sealed);
        assert_eq!(again.reveal("/a", &sealed).unwrap().expose(), "pass wörd");
        assert!(again.reveal("/b", &sealed).is_err());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let stranger = Seal::of_this_process().unwrap();
        assert_eq!(stranger.reveal("/a", &sealed).unwrap_err(), WrongKey);
    }

    #[test]
    fn what_was_changed_is_not_revealed() {
        let seal = Seal::of_this_process().unwrap();
        let sealed = STANDARD.decode(seal.seal("a", "value").unwrap()).unwrap();

        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(seal.reveal("a", &STANDARD.encode(changed)).is_err());
        }
        for text in ["", "AAAA", "no Base64!"] {
            assert!(seal.reveal("a", text).is_err(), "{text}");
        }
    }

    #[test]
    fn file_that_is_no_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parameters.key");
        std::fs::write(&path, "short").unwrap();

        let refused = Seal::open(&path).err().unwrap().to_string();

        assert!(refused.ends_with("has 5 bytes, a key has 32"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }
}
