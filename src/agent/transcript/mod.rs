//! The record of a session: what was sent to the person, when, and how it ended.
//!
//! ```text
//!  session task                          writer future, one per session
//!  Recorder --Entry--> Spool (bounded) --batches--> Sink (a file in one format)
//!           |-Entry--> Spool (bounded) --batches--> Sink (a file in another)
//!           \-Entry--> Spool (bounded) --batches--> journal (on disk, bounded)
//!                                                     |-- Follower --> Uploader (a service)
//!                                                     \-- Follower --> Uploader (another)
//! ```
//!
//! A service gets the record over the network (`uploader.rs`), from a journal that outlives the
//! session and the agent; see `journal` and `uploads.rs`.
//!
//! Recording is fail-open: a disk that is full, read-only or slow never stops a session. A sink that
//! is slow holds the session back for at most [`STALL_LIMIT`] in one stall, one that fails does not
//! hold it back at all; what then finds no room in the spool is dropped and counted. The count is in
//! the [`Report`], and in the cast as a marker at the place where the bytes are missing.
//!
//! A change to a recording shows afterwards: the [`Report`] has the digest of each file, and the cast
//! carries seals of its own (`seal.rs`).

mod cast;
mod cloudwatch_uploader;
mod digest;
mod entry;
mod file_sink;
mod gateway_uploader;
mod growing;
mod journal;
mod recorder;
mod remote;
mod s3_uploader;
mod script;
mod seal;
mod shelf;
mod sink;
mod spool;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod transcript;
mod uploader;
mod uploads;
mod verify;
mod writer;

pub use cloudwatch_uploader::CloudWatchUploader;
pub use digest::{Digest, NoDigest};
pub use entry::{About, End, Entry, Event, Format, RecordedFile, Report, Settings};
pub use gateway_uploader::GatewayUploader;
pub use growing::Piece;
pub use journal::Settings as JournalSettings;
pub use recorder::{FINISH_LIMIT, Recorder, STALL_LIMIT, UPLOAD_LIMIT};
pub use remote::{Destination, Policy, Progress, RemoteCopy, Services, Standing, Target};
pub use s3_uploader::{S3Place, S3Uploader};
pub use sink::{Sink, SinkError};
pub use transcript::{DEFAULT_SPOOL, Transcript};
pub use uploader::{Check, CheckError, Confirmed, Upload, UploadError, Uploader, Wants};
pub use uploads::Uploads;
pub use verify::{Examined, Verdict, VerifyError, verify};

#[cfg(test)]
mod tests;
