//! The record of a session: what was sent to the person, when, and how it ended.
//!
//! ```text
//!  session task                          writer future, one per session
//!  Recorder --Entry--> Spool (bounded) --batches--> Sink (a file in one format)
//!           \-Entry--> Spool (bounded) --batches--> Sink (a file in another)
//! ```
//!
//! Recording is fail-open: a disk that is full, read-only or slow never stops a session. A sink that
//! is slow holds the session back for at most [`STALL_LIMIT`] in one stall, one that fails does not
//! hold it back at all; what then finds no room in the spool is dropped and counted. The count is in
//! the [`Report`], and in the cast as a marker at the place where the bytes are missing.

mod cast;
mod entry;
mod file_sink;
mod recorder;
mod shelf;
mod sink;
mod spool;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod transcript;
mod writer;

pub use entry::{About, End, Entry, Event, Format, Report, Settings};
pub use recorder::{FINISH_LIMIT, Recorder, STALL_LIMIT};
pub use sink::{Sink, SinkError};
pub use transcript::{DEFAULT_SPOOL, Transcript};

#[cfg(test)]
mod tests;
