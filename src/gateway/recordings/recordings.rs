//! What uploads and readers share, and the owner of their tasks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::folder::Folder;
use super::settings::Settings;
use crate::gateway::store::{Store, StoreError};
use crate::protocol::wire::SessionId;

/// People who read recordings at a time, live or not. Each has some 256 KiB under way.
pub(super) const READERS: usize = 64;
/// How often recordings are looked for that are too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// How long uploads under way may take once the gateway stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The recordings. Clones share them.
#[derive(Clone)]
pub struct Recordings {
    pub(super) shared: Arc<Shared>,
}

/// See the module.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) folder: Folder,
    pub(super) settings: Settings,
    /// Bytes of all recordings.
    pub(super) used: AtomicU64,
    pub(super) readers: Arc<Semaphore>,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
    live: Mutex<HashMap<SessionId, Weak<Live>>>,
}

/// A recording that somebody adds to or reads just now.
#[derive(Default)]
pub(super) struct Live {
    /// Held while a part is appended.
    pub(super) appending: tokio::sync::Mutex<()>,
    /// Changes with each part.
    pub(super) appended: watch::Sender<()>,
}

impl Recordings {
    /// The recordings in `settings.directory`, which `store` knows about. The future sweeps until
    /// `cancel`, then waits for uploads under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn new(
        store: Store,
        settings: Settings,
        cancel: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let used = store.recorded_bytes().await?;
        let shared = Arc::new(Shared {
            store,
            folder: Folder::new(&settings.directory),
            settings,
            used: AtomicU64::new(used),
            readers: Arc::new(Semaphore::new(READERS)),
            cancel,
            tasks: TaskTracker::new(),
            live: Mutex::default(),
        });
        let recordings = Self { shared };
        let running = recordings.clone();
        Ok((recordings, async move { running.run().await }))
    }

    async fn run(&self) {
        let shared = &self.shared;
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shared.cancel.cancelled() => break,
                _ = ticks.tick() => self.sweep(0).await,
            }
        }
        shared.tasks.close();
        if timeout(SHUTDOWN_LIMIT, shared.tasks.wait()).await.is_err() {
            warn!(
                tasks = shared.tasks.len(),
                "uploads of recordings did not end in time"
            );
        }
    }

    /// What those who add to a recording and those who follow it share. It lives as long as one of
    /// them has it.
    pub(super) fn live(&self, session: &SessionId) -> Arc<Live> {
        let live = self.shared.live.lock();
        let mut live = live.unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = live.get(session).and_then(Weak::upgrade) {
            return found;
        }
        live.retain(|_, other| other.strong_count() > 0);
        let new = Arc::<Live>::default();
        live.insert(session.clone(), Arc::downgrade(&new));
        new
    }

    /// Bytes of all recordings.
    pub(super) fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }
}
