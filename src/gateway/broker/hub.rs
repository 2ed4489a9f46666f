//! What the broker's tasks share, and the owner of those tasks.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error, info_span, warn};

use super::commands::{Letterboxes, Mailbox};
use super::ledger::{Ledger, Writer};
use super::registry::Registry;
use super::session::{Session, Verdict};
use super::settings::Settings;
use super::timers;
use super::tokens::Tokens;
use super::worker::{Command, Worker};
use crate::gateway::store::Store;
use crate::gateway::store::sessions::SessionStatus;
use crate::protocol::wire::SessionId;

/// Commands waiting for one session; each is taken at once.
const MAILBOX: usize = 16;
/// How long the tasks may take to end after they were told to.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A live session, as others see it.
#[derive(Clone)]
pub(super) struct SessionHandle {
    /// The node it is on.
    pub(super) node_id: Arc<str>,
    mailbox: mpsc::Sender<Command>,
}

impl SessionHandle {
    /// Gives the session something to do. Returns it if the session has ended meanwhile.
    pub(super) async fn send(&self, command: Command) -> Result<(), Command> {
        let sent = self.mailbox.send(command).await;
        sent.map_err(|unsent| unsent.0)
    }
}

/// See the module.
pub(super) struct Hub {
    pub(super) store: Store,
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) tokens: Tokens,
    pub(super) ledger: Ledger,
    /// Who delivers commands.
    pub(super) commands: Mailbox,
    /// Jobs of nodes that poll for them.
    pub(super) letterboxes: Letterboxes,
    pub(super) cancel: CancellationToken,
    sessions: Mutex<HashMap<SessionId, SessionHandle>>,
    tasks: TaskTracker,
}

impl Hub {
    pub(super) fn new(
        store: Store,
        settings: Settings,
        ledger: Ledger,
        commands: Mailbox,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            store,
            registry: Registry::default(),
            tokens: Tokens::new(settings.token_lifetime),
            settings,
            ledger,
            commands,
            letterboxes: Letterboxes::default(),
            cancel,
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs what runs as long as the broker, and at the end waits for all tasks.
    pub(super) async fn run(&self, writer: Writer) {
        let last = CancellationToken::new();
        let tasks = async {
            timers::run(self).await;
            self.tasks.close();
            if timeout(SHUTDOWN_LIMIT, self.tasks.wait()).await.is_err() {
                warn!(tasks = self.tasks.len(), "tasks did not end in time");
            }
            last.cancel();
        };
        tokio::join!(tasks, writer.run(last.clone()));
    }

    /// Spawns a task of the broker's. A panic ends only that task.
    pub(super) fn spawn(&self, span: Span, task: impl Future<Output = ()> + Send + 'static) {
        let task = async {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                error!("task panicked");
            }
        };
        self.tasks.spawn(task.instrument(span));
    }

    /// The live session `id`.
    pub(super) fn session(&self, id: &SessionId) -> Option<SessionHandle> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned()
    }

    /// The live sessions on `node_id`.
    pub(super) fn sessions_of(&self, node_id: &str) -> Vec<SessionHandle> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = sessions.values().filter(|s| &*s.node_id == node_id);
        of_node.cloned().collect()
    }

    /// Enters a session and spawns its task.
    pub(super) fn spawn_session(
        self: &Arc<Self>,
        id: &SessionId,
        node_id: &str,
        session: Session,
    ) -> SessionHandle {
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        let handle = SessionHandle {
            node_id: node_id.into(),
            mailbox,
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(id.clone(), handle.clone());
        drop(sessions);

        let worker = Worker::new(Arc::clone(self), id.clone(), node_id, session, commands);
        let (hub, id) = (Arc::clone(self), id.clone());
        let span = info_span!("session", session = %id, node = node_id);
        self.spawn(span, async move {
            let run = AssertUnwindSafe(worker.run()).catch_unwind().await;
            hub.remove_session(&id);
            if run.is_err() {
                error!("session panicked");
                let verdict = Verdict {
                    status: SessionStatus::Failed,
                    details: "an internal error of the gateway".into(),
                };
                hub.ledger.end(&id, verdict).await;
            }
        });
        handle
    }

    fn remove_session(&self, id: &SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id);
        drop(sessions);
        self.tokens.revoke(id);
    }
}
