//! The recordings that agents upload while their sessions run: stored, kept within bounds, read and
//! followed.
//!
//! ```text
//!  agent --parts--> append --> <folder>/<session id>.cast     people, live or later
//!                     |            |                              ^
//!                     +--> store   +------- reading: one task each+
//! ```
//!
//! A part counts once it is on the disk and in the store, in this order: after a crash the file may
//! be longer than the store says, and is cut back with the next part. Readers only read what the
//! store knows. They read the file for themselves, so that none of them, however slow, holds an upload
//! back.

mod append;
mod folder;
mod reading;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod recordings;
mod settings;
mod sweep;

pub use append::AppendError;
pub use folder::{Folder, read_at};
pub use reading::{PATIENCE, ReadError, Reading, is_over};
pub use recordings::Recordings;
pub use settings::{DEFAULT_LIMIT, DEFAULT_QUOTA, DEFAULT_RETENTION, Settings};

#[cfg(test)]
mod tests;
