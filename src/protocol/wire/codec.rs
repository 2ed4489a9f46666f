//! Bounds-checked reading of binary fields and size-limited reading of JSON.

use serde::de::DeserializeOwned;

/// The limits a decoder applies before it reads or allocates, in bytes.
pub struct Limit;

impl Limit {
    /// Largest payload of one message. The official plugin was seen to take payloads of 1 MiB;
    /// nobody is known to send more.
    pub const PAYLOAD: usize = 1 << 20;
    /// Largest header length accepted. The header is always 116 bytes on write; a reader must
    /// follow the field, so some room is left for longer ones.
    pub const HEADER: usize = 1024;
    /// Largest text message that opens a channel. Tokens are a few hundred bytes.
    pub const OPEN_MESSAGE: usize = 16 << 10;
    /// Largest JSON carried in a payload of a sequenced or service message other than stream data.
    pub const JSON_PAYLOAD: usize = 256 << 10;
    /// Longest session id. AWS uses `<principal>-<17 hex>`; the agent uses it as a folder name,
    /// and file systems end at 255 bytes.
    pub const SESSION_ID: usize = 200;
}

/// What can be wrong with bytes from a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("{what} is cut off: needs {needed} bytes, {got} left")]
    Truncated {
        /// The field that was being read.
        what: &'static str,
        /// Bytes the field takes.
        needed: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// A value is larger than this end accepts.
    #[error("{what} of {got} bytes is above the limit of {limit}")]
    TooLarge {
        /// The value.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// Its size in bytes.
        got: usize,
    },
    /// A field holds a value that the format forbids.
    #[error("{what} is invalid: {detail}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// JSON or XML that does not parse or lacks a member.
    #[error("{what} is not valid {format}: {detail}")]
    Syntax {
        /// What was being parsed.
        what: &'static str,
        /// `JSON` or `XML`.
        format: &'static str,
        /// The parser's words.
        detail: String,
    },
}

/// Takes fixed-size fields off the front of a slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated {
                what,
                needed: N,
                got: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Takes a big-endian `u32`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than four bytes are left.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.take::<4>(what).map(u32::from_be_bytes)
    }

    /// Takes a big-endian `u64`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than eight bytes are left.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.take::<8>(what).map(u64::from_be_bytes)
    }

    /// Takes a big-endian `i64`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than eight bytes are left.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.take::<8>(what).map(i64::from_be_bytes)
    }
}

/// Fails if `got` bytes of `what` are above `limit`.
///
/// # Errors
/// [`DecodeError::TooLarge`].
pub fn check_size(what: &'static str, got: usize, limit: usize) -> Result<(), DecodeError> {
    if got > limit {
        return Err(DecodeError::TooLarge { what, limit, got });
    }
    Ok(())
}

/// Parses JSON of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLarge`] before anything is parsed, [`DecodeError::Syntax`] afterwards.
pub fn from_json<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<T, DecodeError> {
    check_size(what, bytes.len(), limit)?;
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Syntax {
        what,
        format: "JSON",
        detail: error.to_string(),
    })
}

/// Serialises one of our own wire types, whose maps have string keys and which therefore cannot fail.
pub fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types have string keys and no fallible serializers")
}
