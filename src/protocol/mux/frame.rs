//! One smux frame.
//!
//! Length and stream id are little-endian, unlike everything else on this wire.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 1 | version | 1 |
//! | 1 | 1 | command | 0 SYN, 1 FIN, 2 PSH, 3 NOP |
//! | 2 | 2 | length | bytes of payload; 0 for all but PSH |
//! | 4 | 4 | stream id | odd, from 3 on, for streams that the client opens; 0 for NOP |
//! | 8 | n | payload | |

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::wire::DecodeError;
use crate::protocol::wire::codec::{Reader, check_size};

/// Bytes of a frame before its payload.
pub const HEADER_LENGTH: usize = 8;
/// Largest payload of a frame: xtaci/smux's default maximum frame size.
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

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it does.
    pub command: Command,
    /// The stream it belongs to.
    pub stream_id: u32,
    /// Bytes of the stream; empty but for [`Command::Psh`].
    pub payload: Bytes,
}

impl Frame {
    /// A frame without payload.
    pub fn bare(command: Command, stream_id: u32) -> Self {
        Self {
            command,
            stream_id,
            payload: Bytes::new(),
        }
    }

    /// Appends the encoded frame to `out`.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if the payload is above [`MAX_PAYLOAD`]; nothing was written.
    pub fn encode_into(&self, out: &mut BytesMut) -> Result<(), DecodeError> {
        check_size("smux frame", self.payload.len(), MAX_PAYLOAD)?;
        let length = u16::try_from(self.payload.len()).expect("checked against 32768 above");
        out.reserve(HEADER_LENGTH + self.payload.len());
        out.put_u8(VERSION);
        out.put_u8(match self.command {
            Command::Syn => 0,
            Command::Fin => 1,
            Command::Psh => 2,
            Command::Nop => 3,
        });
        out.put_u16_le(length);
        out.put_u32_le(self.stream_id);
        out.put_slice(&self.payload);
        Ok(())
    }

    /// Takes one frame off the front of `buffer`, which holds a byte stream cut at any place.
    /// `Ok(None)` means that more bytes are needed; nothing was taken.
    ///
    /// # Errors
    /// [`DecodeError`] for another version, an unknown command or a payload above [`MAX_PAYLOAD`].
    /// The byte stream cannot be followed any further.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, DecodeError> {
        if buffer.len() < HEADER_LENGTH {
            return Ok(None);
        }
        let mut reader = Reader::new(buffer);
        let [version, command] = reader.take("smux version and command")?;
        let length = usize::from(u16::from_le_bytes(reader.take("smux length")?));
        let stream_id = u32::from_le_bytes(reader.take("smux stream id")?);
        if version != VERSION {
            return Err(DecodeError::Invalid {
                what: "smux version",
                detail: format!("{version} is not {VERSION}"),
            });
        }
        let command = match command {
            0 => Command::Syn,
            1 => Command::Fin,
            2 => Command::Psh,
            3 => Command::Nop,
            other => {
                return Err(DecodeError::Invalid {
                    what: "smux command",
                    detail: format!("{other} is unknown"),
                });
            }
        };
        check_size("smux frame", length, MAX_PAYLOAD)?;
        if buffer.len() < HEADER_LENGTH + length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(HEADER_LENGTH + length);
        let payload = frame.split_off(HEADER_LENGTH).freeze();
        Ok(Some(Self {
            command,
            stream_id,
            payload,
        }))
    }
}
