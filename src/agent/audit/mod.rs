//! The audit log of this host: who had which session, what ran, where connections led, how it ended.
//!
//! ```text
//! sessions, daemon --Event--> AuditLog (bounded queue of lines) --> writer task --> audit.log
//!                                                                                     audit.log.1 …
//! ```
//!
//! One JSON object per line:
//!
//! ```json
//! {"time":"2026-01-31T12:00:00.000000Z","seq":7,"event":"session-ended","session":"alice-0123",…}
//! ```
//!
//! `time` is the wall clock in UTC, which may be set back; `seq` counts the lines since the agent
//! started, so it tells their order and shows where some are missing. Durations are measured by a
//! clock that never goes back. Texts from outside are JSON strings without control characters and
//! have a greatest length ([`Text`]), so they can neither begin a line nor fill the log.
//!
//! The log is fail-open like recordings: nothing here ever waits for the disk or fails a session.
//! What cannot be written is kept in a bounded queue and tried again; what finds no room there is
//! counted, and the count stands in the log when it can be written again.

mod event;
mod file;
mod log;

pub use event::{Event, Recording, RemoteCopy, Text};
pub use file::Settings;
pub use log::AuditLog;
