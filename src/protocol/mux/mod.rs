//! xtaci smux version 1 as a sans-IO machine, both roles: many TCP connections over one data channel.
//!
//! Version 1 has neither windows nor half-close, so two things are decided here:
//!
//! - **Back-pressure.** What was received and not read yet counts against one budget for the whole
//!   session. While there is room every stream goes on, however much another has lying; without
//!   room the owner stops taking bytes from the channel. If that lasts because streams do not drain,
//!   the fullest of those is reset, see the module `stall`.
//! - **Half-close.** Between our own ends a FIN says "I write no more" and a second FIN "nor do I
//!   read". To xtaci a FIN is the end of the stream in both directions and a second one is a frame
//!   of an unknown stream, which it ignores.
//!
//! | file | holds |
//! |---|---|
//! | `session` | [`Session`], which ties the rest together |
//! | `settings`, `event` | what goes in at the start; what comes out besides bytes |
//! | `frame`, `decoder` | the header; the incoming byte stream cut into pieces of frames |
//! | `stream` | one stream: what is owed to it and by it |
//! | `queue` | bytes that wait to be read or sent |
//! | `outbox` | the outgoing byte stream: whose turn it is, where a frame was cut |
//! | `keep_alive` | when to send a NOP |
//! | `stall` | which stream stops the others |

mod decoder;
mod event;
pub mod frame;
mod keep_alive;
mod outbox;
mod queue;
mod session;
mod settings;
mod stall;
mod stream;

pub use event::{Event, MuxError, OpenError, ResetReason};
pub use session::{Held, Session};
pub use settings::{KeepAlive, Role, Settings};
pub use stream::StreamId;
