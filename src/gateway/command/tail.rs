//! The cast of one session as it is stored, read beside the gateway that may still add to it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use crate::gateway::config::RECORDINGS;
use crate::gateway::recordings::{Folder, is_over, read_at};
use crate::gateway::store::Store;
use crate::protocol::wire::SessionId;
use crate::runtime::exit::Hint;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// How often it is looked whether there is more. Agents upload once a second.
const LOOK: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Tail {
    store: Store,
    session: SessionId,
    file: File,
    follow: bool,
    at: u64,
    /// How much is stored, at the last look.
    end: u64,
    complete: bool,
}

impl Tail {
    /// The recording of `session` in the state folder `state`.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(super) async fn open(
        store: Store,
        state: &Path,
        session: &str,
        follow: bool,
    ) -> anyhow::Result<Self> {
        let session = SessionId::new(session)?;
        let recording = store.recording(&session).await?;
        let stored = recording.filter(|recording| recording.progress.bytes > 0);
        if stored.is_none() {
            let error = io::Error::from(io::ErrorKind::NotFound);
            let hint = "`ssm-gateway sessions list` shows what is stored";
            return Err(Hint::with(error, hint))
                .with_context(|| format!("there is no recording of session {session}"));
        }
        let path = Folder::new(state.join(RECORDINGS)).file_of(&session);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            store,
            session,
            file,
            follow,
            at: 0,
            end: 0,
            complete: false,
        })
    }

    /// The next bytes, `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// If it cannot be read, or was deleted meanwhile.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        while self.at == self.end {
            if self.complete {
                return Ok(None);
            }
            let recording = self.store.recording(&self.session).await?;
            let recording = recording.context("the recording was deleted")?;
            let (before, stands) = (self.end, recording.progress);
            (self.end, self.complete) = (stands.bytes, stands.complete);
            if !self.follow || is_over(&self.store, &recording).await? {
                self.complete = true;
            } else if self.end == before && !self.complete {
                sleep(LOOK).await;
            }
        }
        let most = usize::try_from(self.end - self.at).map_or(CHUNK, |left| left.min(CHUNK));
        let bytes = read_at(&self.file, self.at, most).context("cannot read the recording")?;
        if bytes.is_empty() {
            bail!("the recording was changed behind the gateway's back");
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}
