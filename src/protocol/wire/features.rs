//! What our own ends tell one another beyond the reference's wire, so that each is only used with a
//! peer that said it understands.
//!
//! - The gateway answers every WebSocket upgrade with the header [`FEATURES_HEADER`]; its value is
//!   the same text that `Display` writes here.
//! - A client puts the same text into the member `Features` of its open message.
//! - The gateway passes what the attached client said to the agent as the payload of
//!   `start_publication`, which the reference agent ignores.
//! - An agent puts it into the handshake request of a port session, as the member
//!   [`FEATURES_PROPERTY`] of the properties; the official plugin ignores it there.
//!
//! The text is a comma-separated list: `max-payload=32768, exit-code, reacknowledge`. Unknown items
//! are ignored.

use std::fmt;

use super::codec::DecodeError;

/// Response header of a WebSocket upgrade that carries the gateway's features.
pub const FEATURES_HEADER: &str = "x-ssm-features";

/// Member of a port session's properties in the handshake request that carries the agent's features.
pub const FEATURES_PROPERTY: &str = "ssmFeatures";

/// Payload size that every known peer accepts, in bytes (the reference reads 1024 at a time).
pub const BASE_PAYLOAD: usize = 1024;
/// Largest payload we send to a peer that announced it takes larger ones, in bytes.
pub const LARGE_PAYLOAD: usize = 32 << 10;

/// What a peer announced. The default is what an unknown peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerFeatures {
    /// Largest payload to send to it, in bytes.
    pub max_payload: usize,
    /// It understands an exit code payload at the end of any session and prints nothing for it.
    pub exit_code: bool,
    /// It acknowledges duplicates again, as the reference agent does and the official plugin does not.
    pub reacknowledge: bool,
    /// It takes an empty output message as the sign that a shell is coming.
    pub empty_output: bool,
    /// To it a FIN in a multiplexed port session ends one direction of a stream, and a second one the
    /// other. To the reference's ends the first one ends both.
    pub half_close: bool,
    /// It takes the digests of recordings in the result of a session.
    pub recordings: bool,
    /// It stores recordings that are uploaded to it ([`super::recording`]).
    pub recording_upload: bool,
}

impl Default for PeerFeatures {
    fn default() -> Self {
        Self {
            max_payload: BASE_PAYLOAD,
            exit_code: false,
            reacknowledge: false,
            empty_output: false,
            half_close: false,
            recordings: false,
            recording_upload: false,
        }
    }
}

impl PeerFeatures {
    /// What our own agent, gateway and client announce.
    pub const fn ours() -> Self {
        Self {
            max_payload: LARGE_PAYLOAD,
            exit_code: true,
            reacknowledge: true,
            empty_output: true,
            half_close: true,
            recordings: true,
            recording_upload: true,
        }
    }

    /// Reads the text form. Absent or unknown items keep their default; a payload size outside
    /// 1024 bytes to 32 KiB is brought into that range.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the payload size is no number.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let mut features = Self::default();
        for item in text.split(',').map(str::trim) {
            match item.split_once('=').unwrap_or((item, "")) {
                ("max-payload", number) => {
                    let size: usize = number.trim().parse().map_err(|_| DecodeError::Invalid {
                        what: "max-payload",
                        detail: format!("{number:?} is not a number of bytes"),
                    })?;
                    features.max_payload = size.clamp(BASE_PAYLOAD, LARGE_PAYLOAD);
                }
                ("exit-code", _) => features.exit_code = true,
                ("reacknowledge", _) => features.reacknowledge = true,
                ("empty-output", _) => features.empty_output = true,
                ("half-close", _) => features.half_close = true,
                ("recordings", _) => features.recordings = true,
                ("recording-upload", _) => features.recording_upload = true,
                _ => {}
            }
        }
        Ok(features)
    }
}

impl fmt::Display for PeerFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-payload={}", self.max_payload)?;
        for (announced, name) in [
            (self.exit_code, "exit-code"),
            (self.reacknowledge, "reacknowledge"),
            (self.empty_output, "empty-output"),
            (self.half_close, "half-close"),
            (self.recordings, "recordings"),
            (self.recording_upload, "recording-upload"),
        ] {
            if announced {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
