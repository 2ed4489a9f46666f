//! The header of a smux frame.
//!
//! Length and stream id are little-endian, unlike everything else on this wire.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | 1 |
//! | 1 | 1 | command | 0 SYN, 1 FIN, 2 PSH, 3 NOP |
//! | 2 | 2 | length | bytes of payload that follow; 0 for all but PSH |
//! | 4 | 4 | stream id | odd, from 3 on, for streams that the client opens; 0 for NOP |

use crate::protocol::wire::DecodeError;
use crate::protocol::wire::codec::Reader;

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 8;
/// Largest payload of a frame that is sent: xtaci/smux's default maximum frame size. It is no limit
/// for a receiver: xtaci takes whatever the length field can say, and some of its ports send that.
pub const MAX_PAYLOAD: usize = 32_768;

const VERSION: u8 = 1;

/// What a frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Opens a stream.
    Syn,
    /// Ends a stream: the sender writes no more.
    Fin,
    /// Carries bytes of a stream.
    Psh,
    /// Keeps the session alive.
    Nop,
}

/// What stands before the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame does.
    pub command: Command,
    /// Bytes of payload that follow; 0 for all but [`Command::Psh`].
    pub length: u16,
    /// The stream it belongs to.
    pub stream_id: u32,
}

impl Header {
    /// The header of a frame without payload.
    pub fn bare(command: Command, stream_id: u32) -> Self {
        Self {
            command,
            length: 0,
            stream_id,
        }
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let command = match self.command {
            Command::Syn => 0,
            Command::Fin => 1,
            Command::Psh => 2,
            Command::Nop => 3,
        };
        let [length_low, length_high] = self.length.to_le_bytes();
        let [a, b, c, d] = self.stream_id.to_le_bytes();
        [VERSION, command, length_low, length_high, a, b, c, d]
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`DecodeError`] for another version, an unknown command, and a payload where there is none. The
    /// byte stream cannot be followed any further.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        let [version, command] = reader.take("smux version and command")?;
        let length = u16::from_le_bytes(reader.take("smux length")?);
        let stream_id = u32::from_le_bytes(reader.take("smux stream id")?);
        if version != VERSION {
            return Err(invalid("smux version", version));
        }
        let command = match command {
            0 => Command::Syn,
            1 => Command::Fin,
            2 => Command::Psh,
            3 => Command::Nop,
            other => return Err(invalid("smux command", other)),
        };
        // xtaci does not look at the length of these: it would read the next header right behind.
        if command != Command::Psh && length != 0 {
            return Err(invalid("smux length of a frame without payload", length));
        }
        Ok(Self {
            command,
            length,
            stream_id,
        })
    }
}

fn invalid(what: &'static str, got: impl Into<u32>) -> DecodeError {
    DecodeError::Invalid {
        what,
        detail: format!("got {}", got.into()),
    }
}
