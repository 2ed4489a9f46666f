//! The binary message that both channels carry (the reference calls it agent message).
//!
//! All integers are big-endian.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | header length | offset of the payload length: always 116 on write, followed on read |
//! | 4 | 32 | message type | ASCII, padded with spaces on the right |
//! | 36 | 4 | schema version | 1 |
//! | 40 | 8 | created date | Unix epoch, milliseconds |
//! | 48 | 8 | sequence number | signed; 0 for messages that are not part of a stream |
//! | 56 | 8 | flags | bit 0 SYN, bit 1 FIN; no receiver looks at them |
//! | 64 | 16 | message id | UUID with its halves swapped |
//! | 80 | 32 | payload digest | SHA-256 of the payload as transmitted |
//! | 112 | 4 | payload type | 0 for messages that are not part of a stream |
//! | 116 | 4 | payload length | written, but on read the payload is all that follows |
//! | 120 | n | payload | |

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};
use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{DecodeError, Limit, Reader, check_size};
use super::id::MessageId;
use super::payload::PayloadType;

/// Header length that every known writer puts into the first field.
pub const HEADER_LENGTH: usize = 116;
/// Offset of the payload in messages we write.
pub const PAYLOAD_OFFSET: usize = HEADER_LENGTH + 4;
/// Bit 0 of the flags: first message of the agent's stream.
pub const FLAG_SYN: u64 = 1;
/// Flags of `acknowledge` and `agent_session_state`: SYN and FIN.
pub const FLAGS_SERVICE: u64 = 3;

/// [`HEADER_LENGTH`] as the field holds it.
const HEADER_LENGTH_FIELD: u32 = 116;
const SCHEMA_VERSION: u32 = 1;
const TYPE_LENGTH: usize = 32;
const SEQUENCE_OFFSET: usize = 48;
const FLAGS_OFFSET: usize = 56;

macro_rules! message_types {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What a message is for.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum MessageType {
            $($(#[$doc])* $variant,)*
            /// A type this version does not know; at most 32 bytes of text.
            Unknown(Box<str>),
        }

        impl MessageType {
            /// The text in the message.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }

            fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Unknown(other.into()),
                }
            }
        }
    };
}

message_types! {
    /// Client to agent, sequenced.
    InputStreamData = "input_stream_data",
    /// Agent to client, sequenced.
    OutputStreamData = "output_stream_data",
    /// Acknowledges one sequenced message.
    Acknowledge = "acknowledge",
    /// Agent to gateway: the session is connected or terminating.
    AgentSessionState = "agent_session_state",
    /// Gateway to either end: the session is over.
    ChannelClosed = "channel_closed",
    /// Gateway to agent: a client is there.
    StartPublication = "start_publication",
    /// Gateway to agent: the client is gone for now.
    PausePublication = "pause_publication",
    /// Control channel, gateway to agent: start a session of any kind (the name is historical).
    InteractiveShell = "interactive_shell",
    /// Control channel, agent to gateway: a session's result.
    AgentTaskComplete = "agent_task_complete",
    /// Control channel, gateway to agent: the result was taken.
    AgentTaskAcknowledge = "agent_task_acknowledge",
    /// Control channel, gateway to agent: run or cancel a command.
    AgentJob = "agent_job",
    /// Control channel, agent to gateway: a job was accepted or refused.
    AgentJobAck = "agent_job_ack",
    /// Control channel, agent to gateway: a job's status.
    AgentJobReply = "agent_job_reply",
    /// Control channel, gateway to agent: the status was taken.
    AgentJobReplyAck = "agent_job_reply_ack",
    /// Control channel, agent to gateway: health counters.
    AgentTelemetry = "agent_telemetry",
    /// Control channel, agent to gateway: an update's result.
    AgentUpdateResult = "agent_update_result",
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One binary message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub message_type: MessageType,
    /// When it was made, in milliseconds since the Unix epoch. Zero is invalid.
    pub created_ms: u64,
    /// Position in its stream; 0 outside streams.
    pub sequence_number: i64,
    /// SYN and FIN bits.
    pub flags: u64,
    /// Its id.
    pub id: MessageId,
    /// What the payload is; 0 outside streams.
    pub payload_type: PayloadType,
    /// The payload, as transmitted.
    pub payload: Bytes,
}

impl Message {
    /// A message of a control channel: without a sequence number, flags and payload type.
    pub fn of_control_channel(
        message_type: MessageType,
        id: MessageId,
        created_ms: u64,
        payload: Bytes,
    ) -> Self {
        Self {
            message_type,
            created_ms,
            sequence_number: 0,
            flags: 0,
            id,
            payload_type: PayloadType::None,
            payload,
        }
    }

    /// Encodes the message, digest included.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(PAYLOAD_OFFSET + self.payload.len());
        self.encode_into(&mut out);
        out.freeze()
    }

    /// Appends the encoded message to `out`.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let mut type_field = [b' '; TYPE_LENGTH];
        let text = self.message_type.as_str().as_bytes();
        let length = text.len().min(TYPE_LENGTH);
        type_field[..length].copy_from_slice(&text[..length]);
        let payload_length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);

        out.reserve(PAYLOAD_OFFSET + self.payload.len());
        out.put_u32(HEADER_LENGTH_FIELD);
        out.put_slice(&type_field);
        out.put_u32(SCHEMA_VERSION);
        out.put_u64(self.created_ms);
        out.put_i64(self.sequence_number);
        out.put_u64(self.flags);
        out.put_slice(&self.id.to_wire());
        out.put_slice(digest::digest(&SHA256, &self.payload).as_ref());
        out.put_u32(self.payload_type.to_wire());
        out.put_u32(payload_length);
        out.put_slice(&self.payload);
    }

    /// Writes sequence number and flags into a message that was encoded before its number was known;
    /// the digest covers neither.
    ///
    /// # Panics
    /// If `encoded` is shorter than the header of an encoded message.
    pub fn set_sequence(encoded: &mut [u8], sequence_number: i64, flags: u64) {
        encoded[SEQUENCE_OFFSET..FLAGS_OFFSET].copy_from_slice(&sequence_number.to_be_bytes());
        encoded[FLAGS_OFFSET..FLAGS_OFFSET + 8].copy_from_slice(&flags.to_be_bytes());
    }

    /// Decodes one whole WebSocket message without copying the payload. The digest is not looked
    /// at, as in the reference agent; see [`Message::decode_verified`].
    ///
    /// # Errors
    /// [`DecodeError`] if the message is cut off, too large, or has no type or creation date.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        Self::decode_parts(bytes).map(|(message, _)| message)
    }

    /// Like [`Message::decode`], and checks the payload's digest unless the payload is empty, as the
    /// reference plugin does.
    ///
    /// # Errors
    /// [`DecodeError`] as for [`Message::decode`], or if the digest does not match.
    pub fn decode_verified(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (message, expected) = Self::decode_parts(bytes)?;
        let actual = digest::digest(&SHA256, &message.payload);
        if !message.payload.is_empty() && actual.as_ref() != expected {
            return Err(DecodeError::Invalid {
                what: "payload digest",
                detail: format!(
                    "does not match the {} bytes of payload",
                    message.payload.len()
                ),
            });
        }
        Ok(message)
    }

    fn decode_parts(bytes: &Bytes) -> Result<(Self, [u8; 32]), DecodeError> {
        let header = Header::decode(bytes)?;
        let message = Self {
            message_type: header.message_type,
            created_ms: header.created_ms,
            sequence_number: header.sequence_number,
            flags: header.flags,
            id: header.id,
            payload_type: header.payload_type,
            payload: bytes.slice(header.payload_offset..),
        };
        Ok((message, header.digest))
    }
}

/// The fixed part of a message, for those who relay the rest unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the message is for.
    pub message_type: MessageType,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Position in its stream.
    pub sequence_number: i64,
    /// SYN and FIN bits.
    pub flags: u64,
    /// The message's id.
    pub id: MessageId,
    /// SHA-256 that the payload should have.
    pub digest: [u8; 32],
    /// What the payload is.
    pub payload_type: PayloadType,
    /// Where the payload starts in the whole message.
    pub payload_offset: usize,
}

impl Header {
    /// Decodes the header of a whole WebSocket message.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is cut off, too large, or has no type or creation date.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header_length = usize::try_from(reader.u32("header length")?).unwrap_or(usize::MAX);
        if header_length < HEADER_LENGTH {
            return Err(DecodeError::Invalid {
                what: "header length",
                detail: format!("{header_length} is below {HEADER_LENGTH}"),
            });
        }
        check_size("header", header_length, Limit::HEADER)?;

        let message_type = decode_type(&reader.take::<TYPE_LENGTH>("message type")?)?;
        let _schema_version = reader.u32("schema version")?;
        let created_ms = reader.u64("created date")?;
        let sequence_number = reader.i64("sequence number")?;
        let flags = reader.u64("flags")?;
        let id = MessageId::from_wire(reader.take("message id")?);
        let digest = reader.take("payload digest")?;
        let payload_type = PayloadType::from_wire(reader.u32("payload type")?);
        let is_publication = matches!(
            message_type,
            MessageType::StartPublication | MessageType::PausePublication
        );
        if created_ms == 0 && !is_publication {
            return Err(DecodeError::Invalid {
                what: "created date",
                detail: "is zero".into(),
            });
        }

        let payload_offset = header_length + 4;
        if bytes.len() < payload_offset {
            return Err(DecodeError::Truncated {
                what: "payload length",
                needed: payload_offset,
                got: bytes.len(),
            });
        }
        check_size("payload", bytes.len() - payload_offset, Limit::PAYLOAD)?;
        Ok(Self {
            message_type,
            created_ms,
            sequence_number,
            flags,
            id,
            digest,
            payload_type,
            payload_offset,
        })
    }
}

fn decode_type(field: &[u8; TYPE_LENGTH]) -> Result<MessageType, DecodeError> {
    let text = std::str::from_utf8(field).map_err(|_| DecodeError::Invalid {
        what: "message type",
        detail: "is not text".into(),
    })?;
    // Readers strip NULs at both ends first, white space second.
    let text = text.trim_matches('\0').trim();
    if text.is_empty() {
        return Err(DecodeError::Invalid {
            what: "message type",
            detail: "is empty".into(),
        });
    }
    Ok(MessageType::from_text(text))
}
