//! The data channel as a sans-IO machine, both roles.
//!
//! Ordered, exactly-once delivery over messages that may be lost, repeated or reordered: sequence
//! numbers, acknowledgements, retransmission, windows, publication pause, handshake, reconnect.
//!
//! | file | holds |
//! |---|---|
//! | `machine` | [`Channel`], which ties the rest together |
//! | `settings`, `event` | what goes in at the start; what comes out besides messages |
//! | `handshake` | what has to be agreed before data may flow |
//! | `cipher` | encryption of payloads, once both ends have a data key |
//! | `send_window` | payloads until they are acknowledged, and when to send them again |
//! | `receive_window` | payloads until they are in order and taken |
//! | `acknowledgements` | what is still to be acknowledged to the peer |
//! | `round_trip` | the retransmission timeout |
//! | `envelope` | our own messages around payloads: types, flags, ids, dates |

mod acknowledgements;
mod cipher;
mod envelope;
mod event;
mod handshake;
mod machine;
mod receive_window;
mod round_trip;
mod send_window;
mod settings;

pub use cipher::{CipherError, DATA_KEY, DataKey, DataKeyError, Randomness};
pub use event::{ChannelError, Event, KeyRequest, SendError};
pub use machine::{Channel, Held};
pub use settings::{
    Clock, EncryptionAnswer, EncryptionRequest, HandshakeRole, Role, Settings, Window,
};

/// Gives the memory of an emptied queue back once it has grown beyond what an idle session needs.
fn release<T>(queue: &mut std::collections::VecDeque<T>) {
    const KEEP: usize = 32;
    if queue.is_empty() && queue.capacity() > KEEP {
        *queue = std::collections::VecDeque::new();
    }
}
