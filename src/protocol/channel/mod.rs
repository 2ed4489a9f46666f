//! The data channel as a sans-IO machine, both roles.
//!
//! Ordered, exactly-once delivery over messages that may be lost, repeated or reordered: sequence
//! numbers, acknowledgements, retransmission, windows, publication pause, handshake, reconnect.

mod machine;

pub use machine::{
    Channel, ChannelError, Clock, Event, HandshakeRole, Role, SendError, Settings, Window,
};
