//! What the payload of a stream message holds.
//!
//! | type | name | direction | content |
//! |---|---|---|---|
//! | 1 | output | both | raw bytes |
//! | 3 | size | client to agent | `{"cols":80,"rows":24}` |
//! | 5, 6, 7 | handshake | see [`super::handshake`] | JSON |
//! | 8, 9 | encryption challenge | agent to client and back | JSON |
//! | 10 | flag | both | 4-byte big-endian number |
//! | 11 | error output | agent to client | raw bytes |
//! | 12 | exit code | agent to client | `EXIT_CODE: n` |

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Limit, Reader, from_json, to_json};

/// The number that says what a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadType {
    /// 0: not part of a stream.
    None,
    /// 1: raw bytes, of the terminal, a TCP connection or a mux session.
    Output,
    /// 2: never sent by anybody known.
    Error,
    /// 3: terminal size.
    Size,
    /// 4: never sent by anybody known.
    Parameter,
    /// 5.
    HandshakeRequest,
    /// 6.
    HandshakeResponse,
    /// 7.
    HandshakeComplete,
    /// 8.
    EncryptionChallengeRequest,
    /// 9.
    EncryptionChallengeResponse,
    /// 10: a [`Flag`].
    Flag,
    /// 11: error output of a command.
    StdErr,
    /// 12: exit code of a command.
    ExitCode,
    /// A number this version does not know.
    Unknown(u32),
}

impl PayloadType {
    /// From the number in the message.
    pub fn from_wire(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Output,
            2 => Self::Error,
            3 => Self::Size,
            4 => Self::Parameter,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            8 => Self::EncryptionChallengeRequest,
            9 => Self::EncryptionChallengeResponse,
            10 => Self::Flag,
            11 => Self::StdErr,
            12 => Self::ExitCode,
            other => Self::Unknown(other),
        }
    }

    /// The number in the message.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Output => 1,
            Self::Error => 2,
            Self::Size => 3,
            Self::Parameter => 4,
            Self::HandshakeRequest => 5,
            Self::HandshakeResponse => 6,
            Self::HandshakeComplete => 7,
            Self::EncryptionChallengeRequest => 8,
            Self::EncryptionChallengeResponse => 9,
            Self::Flag => 10,
            Self::StdErr => 11,
            Self::ExitCode => 12,
            Self::Unknown(other) => other,
        }
    }
}

/// The size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl TerminalSize {
    /// Reads `{"cols":80,"rows":24}`. Larger numbers than a terminal can have are cut to 16 bits,
    /// as the reference does.
    ///
    /// # Errors
    /// [`DecodeError`] if it is no such JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Wide {
            #[serde(alias = "Cols")]
            cols: u32,
            #[serde(alias = "Rows")]
            rows: u32,
        }
        let wide: Wide = from_json("terminal size", bytes, Limit::OPEN_MESSAGE)?;
        let narrow = |n: u32| u16::try_from(n & 0xffff).unwrap_or(u16::MAX);
        Ok(Self {
            cols: narrow(wide.cols),
            rows: narrow(wide.rows),
        })
    }

    /// The JSON form.
    pub fn encode(self) -> Bytes {
        to_json(&self).into()
    }
}

/// A control word within a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// 1, client to agent: the local connection of a basic port session ended.
    DisconnectToPort,
    /// 2, client to agent: end the session.
    TerminateSession,
    /// 3, agent to client: the destination of a stream could not be reached.
    ConnectToPortError,
    /// A number this version does not know.
    Unknown(u32),
}

impl Flag {
    /// Reads four big-endian bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match Reader::new(bytes).u32("flag")? {
            1 => Self::DisconnectToPort,
            2 => Self::TerminateSession,
            3 => Self::ConnectToPortError,
            other => Self::Unknown(other),
        })
    }

    /// The four bytes.
    pub fn encode(self) -> Bytes {
        let number: u32 = match self {
            Self::DisconnectToPort => 1,
            Self::TerminateSession => 2,
            Self::ConnectToPortError => 3,
            Self::Unknown(other) => other,
        };
        Bytes::copy_from_slice(&number.to_be_bytes())
    }
}

const EXIT_CODE_PREFIX: &str = "EXIT_CODE: ";

/// The text form of an exit code payload.
pub fn encode_exit_code(code: i32) -> Bytes {
    format!("{EXIT_CODE_PREFIX}{code}").into()
}

/// Reads `EXIT_CODE: n`.
///
/// # Errors
/// [`DecodeError::Invalid`] if it has another form.
pub fn decode_exit_code(bytes: &[u8]) -> Result<i32, DecodeError> {
    let invalid = || DecodeError::Invalid {
        what: "exit code",
        detail: format!(
            "{:?} is not of the form `EXIT_CODE: n`",
            String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
        ),
    };
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.trim().strip_prefix(EXIT_CODE_PREFIX))
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(invalid)
}

/// A stream payload that is of interest above the channel. Handshake and encryption payloads are
/// the channel's own business and never get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Raw bytes.
    Output(Bytes),
    /// Raw bytes of error output.
    StdErr(Bytes),
    /// The client's terminal has this size now.
    Size(TerminalSize),
    /// A control word.
    Flag(Flag),
    /// The command's exit code.
    ExitCode(i32),
}

impl Payload {
    /// The payload's type on the wire.
    pub fn payload_type(&self) -> PayloadType {
        match self {
            Self::Output(_) => PayloadType::Output,
            Self::StdErr(_) => PayloadType::StdErr,
            Self::Size(_) => PayloadType::Size,
            Self::Flag(_) => PayloadType::Flag,
            Self::ExitCode(_) => PayloadType::ExitCode,
        }
    }

    /// The payload's bytes on the wire, before encryption.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Output(bytes) | Self::StdErr(bytes) => bytes,
            Self::Size(size) => size.encode(),
            Self::Flag(flag) => flag.encode(),
            Self::ExitCode(code) => encode_exit_code(code),
        }
    }

    /// Reads a payload of `payload_type`. `Ok(None)` for types that carry nothing of interest here.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not of the form the type demands.
    pub fn decode(payload_type: PayloadType, bytes: Bytes) -> Result<Option<Self>, DecodeError> {
        Ok(match payload_type {
            PayloadType::Output => Some(Self::Output(bytes)),
            PayloadType::StdErr => Some(Self::StdErr(bytes)),
            PayloadType::Size => Some(Self::Size(TerminalSize::decode(&bytes)?)),
            PayloadType::Flag => Some(Self::Flag(Flag::decode(&bytes)?)),
            PayloadType::ExitCode => Some(Self::ExitCode(decode_exit_code(&bytes)?)),
            PayloadType::None
            | PayloadType::Error
            | PayloadType::Parameter
            | PayloadType::HandshakeRequest
            | PayloadType::HandshakeResponse
            | PayloadType::HandshakeComplete
            | PayloadType::EncryptionChallengeRequest
            | PayloadType::EncryptionChallengeResponse
            | PayloadType::Unknown(_) => None,
        })
    }
}
