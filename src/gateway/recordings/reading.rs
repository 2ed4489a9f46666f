//! Reading a recording, from an offset to its end or for as long as it grows.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;
use tracing::{Instrument, Span, debug};

use super::folder::read_at;
use super::recordings::{Live, READERS, Recordings};
use crate::gateway::store::recordings::Recording;
use crate::gateway::store::{Store, StoreError};
use crate::protocol::wire::SessionId;

/// Bytes read from the file at a time.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the reader.
const QUEUE: usize = 2;
/// How long a reader may take for one chunk; with 64 KiB that is less than any line carries.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a follower looks whether the session is over without a last part.
const LOOK: Duration = Duration::from_secs(15);
/// A recording of a session that is over grows no more if it did not for this long. If it does all
/// the same, because its agent was away, it can be followed again from where it was.
const QUIET: Duration = Duration::from_secs(60);

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing of it is stored.
    #[error("there is no recording of session {0}")]
    NotFound(SessionId),
    /// It is shorter.
    #[error("the recording has {0} bytes")]
    Beyond(u64),
    /// Others read.
    #[error("{READERS} people read recordings already")]
    Busy,
    /// The file cannot be opened.
    #[error("cannot read the recording")]
    Io(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime is shutting down.
    #[error("the recording was not opened")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A recording as it is read.
pub struct Reading {
    /// How it stood at the beginning.
    pub recording: Recording,
    chunks: mpsc::Receiver<Chunk>,
}

enum Chunk {
    Bytes(Bytes),
    /// Nothing follows. Without this one the reading was broken off.
    End,
}

impl Reading {
    /// The bytes. It ends with an error if it was broken off.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        unfold(Some(self.chunks), async |chunks| {
            let mut chunks = chunks?;
            match chunks.recv().await {
                Some(Chunk::Bytes(bytes)) => Some((Ok(bytes), Some(chunks))),
                Some(Chunk::End) => None,
                None => Some((Err(io::ErrorKind::ConnectionAborted.into()), None)),
            }
        })
    }
}

impl Recordings {
    /// Reads the recording of `session` from `offset` on: to where it ends now, or with `follow` on and on
    /// until it is complete.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(
        &self,
        session: &SessionId,
        offset: u64,
        follow: bool,
    ) -> Result<Reading, ReadError> {
        let readers = Arc::clone(&self.shared.readers);
        let place = readers.try_acquire_owned().map_err(|_| ReadError::Busy)?;
        // Before the look into the store, so that no part falls between the two.
        let live = self.live(session);
        let appended = live.appended.subscribe();
        let recording = self.shared.store.recording(session).await?;
        let recording = recording
            .filter(|recording| recording.progress.bytes > 0)
            .ok_or_else(|| ReadError::NotFound(session.clone()))?;
        if offset > recording.progress.bytes {
            return Err(ReadError::Beyond(recording.progress.bytes));
        }
        let path = self.shared.folder.file_of(session);
        let file = tokio::task::spawn_blocking(move || File::open(path)).await?;
        let (sender, chunks) = mpsc::channel(QUEUE);
        let reader = Reader {
            recordings: self.clone(),
            appended,
            _live: live,
            file: Arc::new(file.map_err(ReadError::Io)?),
            at: offset,
            chunks: sender,
            _place: place,
        };
        let task = reader.run(recording.clone(), follow);
        self.shared.tasks.spawn(task.instrument(Span::current()));
        Ok(Reading { recording, chunks })
    }
}

/// The task that reads for one person.
struct Reader {
    recordings: Recordings,
    appended: watch::Receiver<()>,
    /// Keeps the sender of `appended` alive.
    _live: Arc<Live>,
    file: Arc<File>,
    at: u64,
    chunks: mpsc::Sender<Chunk>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn run(mut self, recording: Recording, follow: bool) {
        let cancel = self.recordings.shared.cancel.clone();
        let chunks = self.chunks.clone();
        tokio::select! {
            read = self.read(recording, follow) => match read {
                Ok(()) => {
                    // Nobody to tell if the reader has left.
                    let _ = timeout(PATIENCE, chunks.send(Chunk::End)).await;
                }
                Err(broken) => debug!(%broken, "reading a recording broke off"),
            },
            () = cancel.cancelled() => {}
            () = chunks.closed() => {}
        }
    }

    async fn read(&mut self, mut recording: Recording, follow: bool) -> Result<(), Broken> {
        let session = recording.session_id.clone();
        let store = self.recordings.shared.store.clone();
        loop {
            self.send_until(recording.progress.bytes).await?;
            if !follow || recording.progress.complete {
                return Ok(());
            }
            let look = timeout(LOOK, self.appended.changed()).await;
            recording = store.recording(&session).await?.ok_or(Broken::Deleted)?;
            let is_quiet = look.is_err() && recording.progress.bytes == self.at;
            if is_quiet && is_over(&store, &recording).await? {
                return Ok(());
            }
        }
    }

    async fn send_until(&mut self, end: u64) -> Result<(), Broken> {
        while self.at < end {
            let most = usize::try_from(end - self.at).map_or(CHUNK, |left| left.min(CHUNK));
            let (file, at) = (Arc::clone(&self.file), self.at);
            let read = tokio::task::spawn_blocking(move || read_at(&file, at, most)).await;
            let bytes = read.map_err(io::Error::other)??;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.at += bytes.len() as u64;
            let sent = timeout(PATIENCE, self.chunks.send(Chunk::Bytes(bytes.into()))).await;
            sent.map_err(|_| Broken::Slow)?.map_err(|_| Broken::Left)?;
        }
        Ok(())
    }
}

/// Whether nothing will be added to a recording any more though its last part is missing: its session
/// is over, and it did not grow for a while.
///
/// # Errors
/// [`StoreError`].
pub async fn is_over(store: &Store, recording: &Recording) -> Result<bool, StoreError> {
    let age = SystemTime::now().duration_since(recording.updated);
    if age.unwrap_or_default() < QUIET {
        return Ok(false);
    }
    let session = store.session(&recording.session_id).await?;
    Ok(session.is_none_or(|session| session.end.is_some()))
}

/// Why reading was broken off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the reader is too slow")]
    Slow,
    #[error("the reader has left")]
    Left,
    #[error("the recording was deleted")]
    Deleted,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}
