//! What goes over the wire: one file per format, shared by every end.
//!
//! Formats follow the reference agent and plugin byte for byte. Decoders check lengths before they
//! read and limits before they allocate; what a peer may send that we do not know is a typed error
//! or an explicit `Unknown` variant.

pub mod acknowledgement;
pub mod codec;
pub mod command;
pub mod control;
pub mod features;
pub mod handshake;
pub mod id;
pub mod job;
pub mod local;
pub mod manifest;
pub mod mds;
pub mod message;
pub mod open_channel;
pub mod payload;
pub mod recording;
pub mod session_document;
pub mod task;
pub mod version;

pub use acknowledgement::Acknowledgement;
pub use codec::DecodeError;
pub use features::PeerFeatures;
pub use id::{MessageId, SessionId};
pub use message::{Message, MessageType};
pub use payload::{Payload, PayloadType, TerminalSize};
