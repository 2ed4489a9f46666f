//! Deleting recordings that are too old or too many.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::recordings::Recordings;
use crate::gateway::store::recordings::Recording;

/// A recording of a session that is over, to which nothing was added for this long, counts as finished: an
/// agent that comes back after a day starts with what it has kept for longer anyway.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

impl Recordings {
    /// Deletes finished recordings that are too old, then the oldest until the rest and `more` bytes
    /// fit the quota. What cannot be deleted is logged and left.
    pub(super) async fn sweep(&self, more: u64) {
        self.sweep_at(SystemTime::now(), more).await;
    }

    pub(super) async fn sweep_at(&self, now: SystemTime, more: u64) {
        let settings = &self.shared.settings;
        let abandoned = now.checked_sub(ABANDONED_AFTER);
        let abandoned = abandoned.unwrap_or(SystemTime::UNIX_EPOCH);
        let finished = match self.shared.store.finished_recordings(abandoned).await {
            Ok(finished) => finished,
            Err(error) => {
                warn!(%error, "recordings cannot be cleaned up");
                return;
            }
        };
        for recording in finished {
            // One in the future is a clock that was set back.
            let age = now.duration_since(recording.updated).unwrap_or_default();
            let is_too_much = self.used().saturating_add(more) > settings.quota;
            if age > settings.retention || (is_too_much && recording.progress.bytes > 0) {
                self.delete(recording).await;
            }
        }
    }

    async fn delete(&self, recording: Recording) {
        let session = recording.session_id;
        let (shared, name) = (Arc::clone(&self.shared), session.clone());
        let removed = tokio::task::spawn_blocking(move || shared.folder.remove(&name)).await;
        let forgotten = match removed {
            Ok(Ok(())) => self.shared.store.forget_recording(&session).await,
            Ok(Err(error)) => {
                warn!(%session, %error, "old recording cannot be deleted");
                return;
            }
            Err(error) => Err(error.into()),
        };
        match forgotten {
            Ok(()) => {
                let bytes = recording.progress.bytes;
                self.shared.used.fetch_sub(bytes, Ordering::Relaxed);
                info!(%session, bytes, "old recording is deleted");
            }
            Err(error) => warn!(%session, %error, "old recording cannot be forgotten"),
        }
    }
}
