//! The payload of an `acknowledge` message: which sequenced message was taken.
//!
//! Written without a serializer, because one goes out for every stream message. Matching uses only
//! the sequence number.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;

use super::codec::{DecodeError, Limit, from_json};
use super::id::MessageId;
use super::message::MessageType;

/// Acknowledges one sequenced message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Type of the acknowledged message.
    pub message_type: MessageType,
    /// Id of the acknowledged message.
    pub message_id: MessageId,
    /// Sequence number of the acknowledged message.
    pub sequence_number: i64,
}

impl Acknowledgement {
    /// The JSON form.
    pub fn encode(&self) -> Bytes {
        let mut text = String::with_capacity(192);
        write!(
            text,
            "{{\"AcknowledgedMessageType\":\"{}\",\"AcknowledgedMessageId\":\"{}\",\
             \"AcknowledgedMessageSequenceNumber\":{},\"IsSequentialMessage\":true}}",
            self.message_type, self.message_id, self.sequence_number
        )
        .expect("writing to a string cannot fail");
        text.into()
    }

    /// Reads the sequence number of an acknowledgement's payload; nothing else in it is used.
    ///
    /// # Errors
    /// [`DecodeError`] if it is no such JSON.
    pub fn decode_sequence_number(bytes: &[u8]) -> Result<i64, DecodeError> {
        #[derive(Deserialize)]
        struct Acknowledged {
            #[serde(
                rename = "AcknowledgedMessageSequenceNumber",
                alias = "acknowledgedMessageSequenceNumber"
            )]
            sequence_number: i64,
        }
        let parsed: Acknowledged = from_json("acknowledgement", bytes, Limit::OPEN_MESSAGE)?;
        Ok(parsed.sequence_number)
    }
}
