//! Owns the sessions of this agent: one task each, never two of one id, never more than allowed.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use super::end::Stop;
use super::outcome::Outcome;
use super::settings::Settings;
use super::task::{self, Context, Session};
use super::trail;
use crate::agent::host::users::SsmUser;
use crate::agent::transcript::Transcript;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::{StartRefused, StartSession};
use crate::runtime::cause::in_one_line;
use crate::transport::Connector;

/// Makes the connector for a session's data channel.
pub trait DataChannelSource: Send + Sync + 'static {
    /// What dials the data channel.
    type Connector: Connector;

    /// The connector for this session.
    fn connector(&self, session: &SessionId) -> Self::Connector;
}

type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Owns the sessions of this agent.
pub struct Supervisor {
    context: Arc<Context>,
    run: Box<dyn Fn(Session) -> Run + Send>,
    outcomes: mpsc::Sender<Outcome>,
    /// Each task ends with the id of its session, if it had been in `active`.
    tasks: JoinSet<Option<SessionId>>,
    active: HashMap<SessionId, CancellationToken>,
}

impl Supervisor {
    /// Makes a supervisor without sessions. Results go to `outcomes`; `cancel` ends every session.
    pub fn new(
        settings: Settings,
        source: impl DataChannelSource,
        transcript: Transcript,
        outcomes: mpsc::Sender<Outcome>,
        cancel: CancellationToken,
    ) -> Self {
        let context = Context {
            ssm_user: SsmUser::new(settings.sudo),
            settings,
            transcript,
            stopping: cancel,
            stop: OnceLock::new(),
        };
        let source = Arc::new(source);
        let run = move |session: Session| -> Run {
            let source = Arc::clone(&source);
            Box::pin(async move {
                let connector = source.connector(&session.start.session_id);
                task::run(session, connector).await
            })
        };
        Self {
            context: Arc::new(context),
            run: Box::new(run),
            outcomes,
            tasks: JoinSet::new(),
            active: HashMap::new(),
        }
    }

    /// Starts a session; never waits. What cannot be started is reported as failed, where the
    /// message names its session. A session that runs already is not started again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(&mut self, start: Result<Box<StartSession>, StartRefused>) {
        self.collect();
        match start {
            Ok(start) if self.active.contains_key(&start.session_id) => {
                debug!(session = %start.session_id, "the session runs already");
            }
            Ok(start) if self.active.len() >= self.context.settings.limit => {
                let limit = self.context.settings.limit;
                warn!(session = %start.session_id, limit, "too many sessions");
                let text = format!("the agent runs {limit} sessions, which is its limit");
                trail::refuse(&self.context, &start, &text);
                self.refuse(start.session_id, text);
            }
            Ok(start) => self.spawn(*start),
            Err(refused) => {
                warn!(error = in_one_line(&refused), "session refused");
                trail::refuse_unread(&self.context, &refused);
                if let Some(id) = refused.session_id.clone() {
                    self.refuse(id, in_one_line(&refused));
                }
            }
        }
    }

    /// Ends a session, if it runs.
    pub fn terminate(&mut self, id: &SessionId) {
        match self.active.get(id) {
            Some(cancel) => cancel.cancel(),
            None => debug!(session = %id, "no such session to terminate"),
        }
    }

    /// How many sessions run.
    pub fn active(&mut self) -> usize {
        self.collect();
        self.active.len()
    }

    /// The sessions that run.
    pub fn sessions(&mut self) -> Vec<SessionId> {
        self.collect();
        self.active.keys().cloned().collect()
    }

    /// Whether this session runs.
    pub fn runs(&mut self, id: &SessionId) -> bool {
        self.collect();
        self.active.contains_key(id)
    }

    /// Ends every session because of `stop`, and waits until they ended, or until `deadline` has passed; what is left
    /// then is killed.
    pub async fn shutdown(mut self, stop: Stop, deadline: Duration) {
        // Whoever comes first tells why.
        let _ = self.context.stop.set(stop);
        self.context.stopping.cancel();
        let tasks = &mut self.tasks;
        let ended = timeout(deadline, async {
            while tasks.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            warn!(left = self.tasks.len(), "sessions did not end in time");
            self.tasks.shutdown().await;
        }
    }

    fn spawn(&mut self, start: StartSession) {
        let id = start.session_id.clone();
        let cancel = self.context.stopping.child_token();
        self.active.insert(id.clone(), cancel.clone());
        let session = Session {
            context: Arc::clone(&self.context),
            start,
            kms_key_id: None,
            targets: Vec::new(),
            pump: self.context.settings.pump.clone(),
            cancel,
        };
        let run = AssertUnwindSafe((self.run)(session)).catch_unwind();
        let outcomes = self.outcomes.clone();
        let span = info_span!("session", session = %id);
        let task = async move {
            let outcome = run.await.unwrap_or_else(|_panic| {
                error!("the session's task panicked");
                Outcome::failed(id.clone(), "an error inside the agent ended the session")
            });
            report(&outcomes, outcome).await;
            Some(id)
        };
        self.tasks.spawn(task.instrument(span));
    }

    /// Reports a session that does not start, without waiting for whoever takes the report.
    fn refuse(&mut self, id: SessionId, text: String) {
        let outcomes = self.outcomes.clone();
        self.tasks.spawn(async move {
            report(&outcomes, Outcome::failed(id, text)).await;
            None
        });
    }

    /// Forgets the sessions that ended.
    fn collect(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(Some(id)) => {
                    self.active.remove(&id);
                }
                Ok(None) => {}
                Err(error) => error!(%error, "a session's report was lost"),
            }
        }
    }
}

async fn report(outcomes: &mpsc::Sender<Outcome>, outcome: Outcome) {
    if outcomes.send(outcome).await.is_err() {
        debug!("nobody takes the results of sessions any more");
    }
}
