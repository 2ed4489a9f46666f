//! The seam between the journal of a session and a service that keeps the record.

use std::error::Error;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use super::entry::Entry;
use super::growing::Piece;

/// A service that takes the record of one session over the network, while the session runs.
///
/// One task owns it and makes one call at a time. A call that is dropped half way counts as failed:
/// the entries are offered again.
pub trait Uploader: Send + 'static {
    /// What to call it in logs and reports: "S3", "CloudWatch Logs", "gateway".
    fn name(&self) -> &'static str;

    /// Where the record can be found: "s3://bucket/key", "group:stream"; for reports and logs.
    fn place(&self) -> String;

    /// How long entries are gathered before the next upload, while the session runs.
    fn interval(&self) -> Duration;

    /// Most bytes of entries that one call wants to see at once.
    fn batch_limit(&self) -> usize;

    /// What it wants to see of the session.
    fn wants(&self) -> Wants {
        Wants::Entries
    }

    /// Looks whether the service would take the record, before the session starts. Not called for a
    /// session that is recovered.
    fn check(&mut self) -> Check<'_> {
        Box::pin(ready(Ok(())))
    }

    /// Brings entries to the service: everything after the last confirmed one, in order, up to
    /// [`Self::batch_limit`] but at least one. The last entry of a session is
    /// [`super::Event::End`]; an upload that has it also completes the record at the service. What
    /// is not confirmed is offered again, with what came after it.
    ///
    /// # Errors
    /// [`UploadError`] if nothing was confirmed.
    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a>;

    /// The cast as it goes on after the last confirmed entry; asked of one that wants
    /// [`Wants::Cast`].
    fn cast(&self) -> Option<Piece> {
        None
    }

    /// Brings a piece of cast to the service, as [`Self::upload`] brings entries. All of it is
    /// confirmed or nothing.
    ///
    /// # Errors
    /// [`UploadError`] if nothing was confirmed.
    fn upload_cast(&mut self, _piece: Piece) -> Upload<'_> {
        let refused = UploadError::Refused("this service takes no cast".into());
        Box::pin(ready(Err(refused)))
    }

    /// What the next run of the agent needs to go on from the last confirmed entry; stored with the
    /// position.
    fn state(&self) -> serde_json::Value;
}

/// What an uploader wants to see of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Every entry.
    Entries,
    /// What the person was shown, and what is missing of it: outputs that follow each other come as
    /// one, so that a batch of single characters holds as much as any other. What was typed, and
    /// sizes of the terminal, are left out.
    Output,
    /// The lines of a cast: entries are encoded as they are read, so that a batch holds as many bytes
    /// of it however small they are.
    Cast,
}

/// A check under way.
pub type Check<'a> = Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send + 'a>>;

/// An upload under way.
pub type Upload<'a> = Pin<Box<dyn Future<Output = Result<Confirmed, UploadError>> + Send + 'a>>;

/// What an upload has achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The first so many of the entries offered are at the service for good. With fewer than all of
    /// them, none included, the rest is offered with the next call.
    pub entries: usize,
}

/// Why an upload confirmed nothing.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A later attempt can help: throttling, the network, a broken service.
    #[error("the upload failed")]
    Transient(#[source] Box<dyn Error + Send + Sync>),
    /// No later attempt can help: access denied, no such bucket.
    #[error("the upload was refused")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

impl UploadError {
    /// Whether no later attempt can help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Transient(_) => false,
            Self::Refused(_) => true,
        }
    }
}

/// Why a service would not take the record of a session.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// What the preferences demand of the service is not so; no session starts then, whatever the
    /// policy. The text is for the person.
    #[error("{0}")]
    Unmet(String),
    /// The upload would fail.
    #[error(transparent)]
    Upload(#[from] UploadError),
}
