//! The ledger: writes what happens to sessions into the store, in order, beside the relay, so that a
//! slow disk delays no session's bytes.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::session::Verdict;
use crate::gateway::store::sessions::{SessionResult, SessionStatus};
use crate::gateway::store::{Store, StoreError};
use crate::protocol::wire::SessionId;

/// Entries waiting to be written; above this, those who make them wait.
const QUEUE: usize = 1024;

enum Entry {
    Status(SessionId, SessionStatus),
    Terminating(SessionId, String),
    End(SessionId, Verdict),
    Result(SessionResult, oneshot::Sender<bool>),
}

/// The side that makes entries.
pub(super) struct Ledger {
    entries: mpsc::Sender<Entry>,
}

/// The side that writes them.
pub(super) struct Writer {
    store: Store,
    entries: mpsc::Receiver<Entry>,
}

/// A ledger that writes to `store`.
pub(super) fn ledger(store: Store) -> (Ledger, Writer) {
    let (sender, entries) = mpsc::channel(QUEUE);
    (Ledger { entries: sender }, Writer { store, entries })
}

impl Ledger {
    /// Notes how a session stands.
    pub(super) async fn status(&self, session: &SessionId, status: SessionStatus) {
        self.enter(Entry::Status(session.clone(), status)).await;
    }

    /// Notes that a session was told to end, and why.
    pub(super) async fn terminating(&self, session: &SessionId, details: String) {
        self.enter(Entry::Terminating(session.clone(), details))
            .await;
    }

    /// Notes how a session ended.
    pub(super) async fn end(&self, session: &SessionId, verdict: Verdict) {
        self.enter(Entry::End(session.clone(), verdict)).await;
    }

    /// Notes an agent's result. Returns whether it is stored.
    pub(super) async fn result(&self, result: SessionResult) -> bool {
        let (done, stored) = oneshot::channel();
        self.enter(Entry::Result(result, done)).await;
        stored.await.unwrap_or(false)
    }

    async fn enter(&self, entry: Entry) {
        // The writer is gone only after everybody who has something to say.
        if self.entries.send(entry).await.is_err() {
            error!("an entry came after the ledger was closed");
        }
    }
}

impl Writer {
    /// Writes until `stop`, then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let entry = tokio::select! {
                biased;
                entry = self.entries.recv() => entry,
                () = stop.cancelled() => break,
            };
            let Some(entry) = entry else { return };
            self.write(entry).await;
        }
        self.entries.close();
        while let Some(entry) = self.entries.recv().await {
            self.write(entry).await;
        }
    }

    async fn write(&self, entry: Entry) {
        let outcome: Result<(), StoreError> = match entry {
            Entry::Status(session, status) => self.store.set_session_status(session, status).await,
            Entry::Terminating(session, details) => {
                self.store.terminate_session(session, details).await
            }
            Entry::End(session, verdict) => {
                let Verdict { status, details } = verdict;
                self.store.end_session(session, status, details).await
            }
            Entry::Result(result, done) => {
                let outcome = self.store.complete_session(result).await;
                // Who asked may be gone by now.
                let _ = done.send(outcome.is_ok());
                outcome.map(drop)
            }
        };
        if let Err(error) = outcome {
            let error: &dyn std::error::Error = &error;
            error!(error, "a session's record could not be written");
        }
    }
}
