//! Appending a part that an agent has sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use tracing::{Instrument, Span, info, warn};

use super::recordings::Recordings;
use crate::gateway::store::StoreError;
use crate::gateway::store::recordings::{Agreement, Recording};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::{Part, Progress};

/// Bytes of the disk that recordings leave free: the gateway's database, and whoever has to log in to
/// make room, need some.
const DISK_RESERVE: u64 = 128 << 20;

/// Why a part was not stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no such session.
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// The session is on another node.
    #[error("the session is not on this node")]
    WrongNode,
    /// The recording does not end where the part begins.
    #[error("the recording has {} bytes{}", .0.bytes, if .0.complete { " and is complete" } else { "" })]
    Elsewhere(Progress),
    /// The part's count of entries goes back.
    #[error("the part has fewer entries than the recording before it")]
    Entries,
    /// The recording would become too large.
    #[error("a recording can have {limit} bytes")]
    TooLarge {
        /// Most bytes of one recording.
        limit: u64,
    },
    /// There is no room for now.
    #[error("no room for recordings: {0}")]
    Full(&'static str),
    /// The file has less in it than was stored.
    #[error("the stored recording was changed or removed")]
    Damaged,
    /// The disk failed.
    #[error("cannot write the recording")]
    Io(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task broke off.
    #[error("the part was not stored to its end")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Recordings {
    /// Appends `bytes` to the recording of `session`, which `node_id` makes. Once this returns, the part is
    /// stored for good.
    ///
    /// It is finished even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was stored then.
    pub async fn append(
        &self,
        node_id: &str,
        session: SessionId,
        part: Part,
        bytes: Bytes,
    ) -> Result<Progress, AppendError> {
        let (recordings, node_id) = (self.clone(), node_id.to_owned());
        let append = async move { recordings.append_now(&node_id, &session, part, bytes).await };
        let task = self.shared.tasks.spawn(append.instrument(Span::current()));
        task.await?
    }

    async fn append_now(
        &self,
        node_id: &str,
        session: &SessionId,
        part: Part,
        bytes: Bytes,
    ) -> Result<Progress, AppendError> {
        let live = self.live(session);
        let _appending = live.appending.lock().await;
        let store = &self.shared.store;
        let recording = store.begin_recording(session, SystemTime::now()).await?;
        let recording = recording.ok_or_else(|| AppendError::NotFound(session.clone()))?;
        let after = self.check(&recording, node_id, part, bytes.len() as u64)?;
        if after == recording.progress {
            return Ok(after);
        }
        self.make_room(bytes.len() as u64).await?;
        let digest = self.write(session, part.offset, bytes, after).await?;
        store
            .advance_recording(session, after, digest, SystemTime::now())
            .await?;
        let added = after.bytes - recording.progress.bytes;
        self.shared.used.fetch_add(added, Ordering::Relaxed);
        live.appended.send_replace(());
        if after.complete {
            info!(%session, bytes = after.bytes, "recording is complete");
            self.warn_of_difference(session).await;
        }
        Ok(after)
    }

    /// Where the recording stands with the part, or why the part cannot be taken.
    fn check(
        &self,
        recording: &Recording,
        node_id: &str,
        part: Part,
        length: u64,
    ) -> Result<Progress, AppendError> {
        let before = recording.progress;
        if recording.node_id != node_id {
            return Err(AppendError::WrongNode);
        }
        let repeats = length == 0 && part.complete && part.entries == before.entries;
        if part.offset != before.bytes || (before.complete && !repeats) {
            return Err(AppendError::Elsewhere(before));
        }
        if part.entries < before.entries {
            return Err(AppendError::Entries);
        }
        let limit = self.shared.settings.limit;
        let bytes = before.bytes.saturating_add(length);
        if bytes > limit {
            return Err(AppendError::TooLarge { limit });
        }
        Ok(Progress {
            bytes,
            entries: part.entries,
            complete: part.complete,
        })
    }

    /// Deletes old recordings if `more` bytes do not fit the quota.
    async fn make_room(&self, more: u64) -> Result<(), AppendError> {
        let quota = self.shared.settings.quota;
        let fits = || self.used().saturating_add(more) <= quota;
        if !fits() {
            self.sweep(more).await;
        }
        if fits() {
            Ok(())
        } else {
            Err(AppendError::Full("the quota is used up by newer ones"))
        }
    }

    /// Writes the part, and takes the digest of the whole if it was the last.
    async fn write(
        &self,
        session: &SessionId,
        offset: u64,
        bytes: Bytes,
        after: Progress,
    ) -> Result<Option<String>, AppendError> {
        let (shared, session) = (Arc::clone(&self.shared), session.clone());
        let work = move || {
            let folder = &shared.folder;
            let needed = DISK_RESERVE + bytes.len() as u64;
            if folder.free().is_some_and(|free| free < needed) {
                return Err(AppendError::Full("the disk is full"));
            }
            match folder.append(&session, offset, &bytes) {
                Ok(true) => {}
                Ok(false) => return Err(AppendError::Damaged),
                Err(error) if error.kind() == io::ErrorKind::NotFound && offset > 0 => {
                    return Err(AppendError::Damaged);
                }
                Err(error) => return Err(refused(error)),
            }
            let digest = after.complete.then(|| folder.digest(&session, after.bytes));
            digest.transpose().map_err(AppendError::Io)
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Logs if the node's own file is not what it has uploaded.
    async fn warn_of_difference(&self, session: &SessionId) {
        match self.shared.store.recording(session).await {
            Ok(Some(recording)) if recording.agreement() == Agreement::Differs => {
                warn!(%session, "the recording is another than the node's own file of it");
            }
            Ok(_) => {}
            Err(error) => warn!(%session, %error, "digests of the recording are not compared"),
        }
    }
}

fn refused(error: io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            AppendError::Full("the disk is full")
        }
        _ => AppendError::Io(error),
    }
}
