//! The seam between a recording and where it goes.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::entry::{Entry, RecordedFile};

/// Where the entries of one session go: a file today.
///
/// The writer offers each batch until the sink takes it or the session is over, so a sink takes a
/// batch whole or leaves no trace of it. The last entry of the last batch is
/// [`super::Event::End`].
pub trait Sink: Send + 'static {
    /// What to call it in logs and reports.
    fn name(&self) -> &'static str;

    /// Takes a batch; may take its time, but must not block the thread.
    ///
    /// # Errors
    /// [`SinkError`] if nothing of the batch was taken.
    fn write(&mut self, batch: Arc<[Entry]>) -> Write<'_>;

    /// The file it has made and what is in it, if it makes one and has got so far.
    fn file(&self) -> Option<&RecordedFile>;
}

/// A write under way.
pub type Write<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// Why a sink did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file system refused.
    #[error("cannot write {path}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// One recording would take the whole quota.
    #[error("{path} would grow beyond the quota of {quota} bytes")]
    Quota {
        /// The file.
        path: PathBuf,
        /// The quota for all recordings together.
        quota: u64,
    },
    /// The sink broke in a way that no later attempt can mend.
    #[error("the writer of the recording failed")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

impl SinkError {
    /// Whether offering the batch again can help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Quota { .. } => false,
            Self::Broken(_) => true,
        }
    }
}
