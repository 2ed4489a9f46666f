//! The broker as the API sees it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::commands::{self, Courier, DeliveryError, Event, limit_of, mailbox};
use super::hub::Hub;
use super::ledger::ledger;
use super::session::Session;
use super::settings::Settings;
use super::tokens::Scope;
use super::worker::Command;
use super::{SESSION_OVER, Signer, control, frames, opening};
use crate::gateway::store::commands::{CommandNode, CommandRecord};
use crate::gateway::store::sessions::{SessionLimits, SessionRecord, SessionStatus};
use crate::gateway::store::{Store, StoreError};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::StartSession;
use crate::protocol::wire::job::{CommandId, Job, JobAnswer};
use crate::protocol::wire::session_document::SessionDocument;
use crate::transport::Socket;

/// Longest part of a session id that comes from its owner's name.
const PRINCIPAL_LENGTH: usize = 64;

/// What to start, for whom and where.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The node.
    pub node_id: String,
    /// Name of the document.
    pub document_name: String,
    /// The document.
    pub document: SessionDocument,
    /// Its parameters, of the JSON types that the document wants.
    pub parameters: Map<String, Value>,
    /// Who asks, an ARN whose last part is the person's name.
    pub owner: String,
    /// User on the node that the owner's identity names; may be empty.
    pub run_as_user: String,
    /// Reason the owner gave; may be empty.
    pub reason: String,
    /// After what time the session is ended.
    pub limits: SessionLimits,
}

/// What a client needs to attach to a session.
#[derive(Clone)]
pub struct Ticket {
    /// The session.
    pub session_id: SessionId,
    /// A token for one connection.
    pub token: String,
    /// Where to connect to.
    pub stream_url: String,
}

/// A command to send.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    /// The command.
    pub command: CommandRecord,
    /// Where it goes.
    pub nodes: Vec<CommandNode>,
}

/// Why the broker cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The node's agent has no control channel, or takes nothing from it.
    #[error("node {0} is not connected")]
    NotConnected(String),
    /// There never was such a session.
    #[error("session {0} does not exist")]
    NotFound(SessionId),
    /// The gateway stops.
    #[error("the gateway is shutting down")]
    Stopping,
    /// The store failed.
    #[error("the record cannot be read or written")]
    Store(#[from] StoreError),
}

/// Why an agent gets no data channel.
#[derive(Debug, thiserror::Error)]
pub enum DataChannelError {
    /// The session is over. The reference agent looks for these words and stops trying.
    #[error("{SESSION_OVER}")]
    Over,
    /// The session is on another node.
    #[error("the session is not on this node")]
    WrongNode,
}

/// Live agents and sessions. Clones share them.
#[derive(Clone)]
pub struct Broker {
    hub: Arc<Hub>,
}

impl Broker {
    /// Makes a broker and takes up the sessions in `store` that have not ended. The future runs as
    /// long as the broker and ends after `cancel`, when all its tasks have ended.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn new(
        store: Store,
        settings: Settings,
        cancel: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send), BrokerError> {
        let (ledger, writer) = ledger(store.clone());
        let (commands, events) = mailbox();
        let hub = Arc::new(Hub::new(store, settings, ledger, commands, cancel));
        let courier = Courier::open(Arc::clone(&hub), events).await?;
        hub.spawn(info_span!("commands"), courier.run());
        let broker = Self {
            hub: Arc::clone(&hub),
        };
        broker.restore().await?;
        Ok((broker, async move { hub.run(writer).await }))
    }

    async fn restore(&self) -> Result<(), BrokerError> {
        for record in self.hub.store.open_sessions().await? {
            let id = record.session_id;
            if record.status == SessionStatus::Terminating {
                let details = match record.details {
                    details if details.is_empty() => {
                        "it was ending when the gateway stopped".into()
                    }
                    details => details,
                };
                let ended = SessionStatus::Terminated;
                self.hub.store.end_session(id, ended, details).await?;
                continue;
            }
            info!(session = %id, node = record.node_id, "session waits for its ends to come back");
            let settings = self.hub.settings.clone();
            // A start in the future is a clock that was set back.
            let age = record.start.elapsed().unwrap_or_default();
            let (status, limits) = (record.status, record.limits);
            let session = Session::restored(settings, status, limits, age, Instant::now());
            self.hub.spawn_session(&id, &record.node_id, session);
        }
        Ok(())
    }

    /// Tells the node's agent to start a session.
    ///
    /// # Errors
    /// [`BrokerError::NotConnected`], [`BrokerError::Store`].
    pub async fn start_session(&self, request: StartRequest) -> Result<Ticket, BrokerError> {
        let node_id = request.node_id.clone();
        let Some(agent) = self.hub.registry.handle(&node_id) else {
            return Err(BrokerError::NotConnected(node_id));
        };
        let id = new_session_id(&request.owner);
        let record = SessionRecord {
            document_name: request.document_name.clone(),
            reason: request.reason.clone(),
            limits: request.limits,
            ..SessionRecord::new(id.clone(), &node_id, &request.owner)
        };
        self.hub.store.insert_session(record).await?;
        let session = Session::starting(self.hub.settings.clone(), request.limits, Instant::now());
        let handle = self.hub.spawn_session(&id, &node_id, session);

        let message = frames::start(&StartSession {
            document_name: request.document_name,
            document_content: request.document,
            session_id: id.clone(),
            parameters: request.parameters,
            run_as_user: request.run_as_user,
            session_owner: request.owner,
            reason: request.reason,
        });
        if !agent.send(message).await {
            warn!(session = %id, node = node_id, "the agent does not take the start message");
            let reason = "the agent did not take the start message";
            // If it has ended meanwhile, so much the better.
            let _ = handle.send(Command::Terminate { reason }).await;
            return Err(BrokerError::NotConnected(node_id));
        }
        info!(session = %id, node = node_id, "session started");
        Ok(self.ticket(id))
    }

    /// Keeps a command and brings it to its nodes, now or when they connect.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn send_command(&self, request: SendRequest) -> Result<(), BrokerError> {
        let SendRequest { command, nodes } = request;
        let max_concurrency = limit_of(&command.max_concurrency, nodes.len()).max(1);
        let max_errors = limit_of(&command.max_errors, nodes.len());
        let ids = nodes.iter().map(|node| node.node_id.clone()).collect();
        let id = command.command_id.clone();
        info!(command = %id, document = command.document_name, nodes = nodes.len(), owner = command.owner, "command is sent");
        self.hub
            .store
            .insert_command(command.clone(), nodes)
            .await?;
        let event = Event::Sent {
            command: Box::new(command),
            nodes: ids,
            max_concurrency,
            max_errors,
        };
        // Without a courier the gateway stops; the next one takes the command up from the store.
        self.hub.commands.tell(event).await;
        Ok(())
    }

    /// Cancels a command on these nodes, or on all. What is over stays so. Once this returns, a restart
    /// of the gateway does not undo it.
    ///
    /// # Errors
    /// [`BrokerError::Store`], [`BrokerError::Stopping`].
    pub async fn cancel_command(
        &self,
        command: &CommandId,
        nodes: Option<Vec<String>>,
    ) -> Result<(), BrokerError> {
        let is_whole = nodes.is_none();
        if is_whole {
            self.hub.store.note_cancelled(command).await?;
        }
        let (noted, outcome) = oneshot::channel();
        let event = Event::Cancel {
            command: command.clone(),
            nodes,
            noted,
        };
        self.hub.commands.tell(event).await;
        match outcome.await {
            Ok(outcome) => Ok(outcome?),
            // The courier is gone. The next one knows of all that is cancelled as a whole.
            Err(_) if is_whole => Ok(()),
            Err(_) => Err(BrokerError::Stopping),
        }
    }

    /// Waits up to `hold` for jobs for a node that has no control channel. They are not given out again
    /// for `visibility`.
    pub(in crate::gateway) async fn poll_jobs(
        &self,
        node_id: &str,
        visibility: Duration,
        hold: Duration,
    ) -> Vec<Job> {
        commands::poll_jobs(&self.hub, node_id, visibility, hold).await
    }

    /// A node has taken a message that its poll brought.
    ///
    /// # Errors
    /// [`DeliveryError::NotYours`].
    pub(in crate::gateway) async fn acknowledge_message(
        &self,
        node_id: &str,
        message_id: &str,
    ) -> Result<(), DeliveryError> {
        commands::answer(&self.hub, node_id, message_id, JobAnswer::Successful).await
    }

    /// A node cannot handle a message that its poll brought.
    ///
    /// # Errors
    /// [`DeliveryError::NotYours`].
    pub(in crate::gateway) async fn fail_message(
        &self,
        node_id: &str,
        message_id: &str,
    ) -> Result<(), DeliveryError> {
        commands::answer(&self.hub, node_id, message_id, JobAnswer::UnexpectedError).await
    }

    /// A node replies to a message that its poll brought.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub(in crate::gateway) async fn take_reply(
        &self,
        node_id: &str,
        message_id: &str,
        content: &str,
    ) -> Result<(), DeliveryError> {
        commands::take_reply(&self.hub, node_id, message_id, content).await
    }

    /// Where agents call.
    pub(in crate::gateway) fn endpoint(&self) -> String {
        self.hub.settings.endpoint()
    }

    /// Gives a client that lost its connection a new token; `None` if the session is over.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::Store`].
    pub async fn resume_session(&self, id: &SessionId) -> Result<Option<Ticket>, BrokerError> {
        if let Some(session) = self.hub.session(id) {
            let (reply, granted) = oneshot::channel();
            if session.send(Command::Resume { reply }).await.is_ok() && granted.await == Ok(true) {
                return Ok(Some(self.ticket(id.clone())));
            }
        }
        self.must_exist(id).await?;
        Ok(None)
    }

    /// Ends a session. Ending one that is over is no error.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::Store`].
    pub async fn terminate_session(&self, id: &SessionId) -> Result<(), BrokerError> {
        if let Some(session) = self.hub.session(id) {
            let reason = "Your session was terminated.";
            // If it has ended meanwhile, so much the better.
            let _ = session.send(Command::Terminate { reason }).await;
            return Ok(());
        }
        self.must_exist(id).await
    }

    /// Whether the agent of `node_id` has a control channel.
    pub fn is_connected(&self, node_id: &str) -> bool {
        self.hub.registry.handle(node_id).is_some()
    }

    /// Closes everything of a node that was deregistered: afterwards it takes no session, and a
    /// control channel that opens just then finds that the store knows it no more.
    pub async fn disconnect_node(&self, node_id: &str) {
        let reason = "The node was deregistered.";
        for session in self.hub.sessions_of(node_id) {
            // One that has ended meanwhile needs no word.
            let _ = session.send(Command::Terminate { reason }).await;
        }
        self.hub.registry.close(node_id, control::DEREGISTERED);
    }

    /// Makes the token for a control channel of `node_id`.
    pub(in crate::gateway) fn create_control_channel(&self, node_id: &str) -> String {
        let scope = Scope::Control(node_id.to_owned());
        self.hub.tokens.issue(scope, Instant::now())
    }

    /// Makes the token for the agent's end of session `id`.
    ///
    /// # Errors
    /// [`DataChannelError`].
    pub(in crate::gateway) async fn create_data_channel(
        &self,
        node_id: &str,
        id: &SessionId,
    ) -> Result<String, DataChannelError> {
        let session = self.hub.session(id).ok_or(DataChannelError::Over)?;
        if *session.node_id != *node_id {
            return Err(DataChannelError::WrongNode);
        }
        let (reply, granted) = oneshot::channel();
        let asked = session.send(Command::MayConnect { reply }).await;
        if asked.is_err() || granted.await != Ok(true) {
            return Err(DataChannelError::Over);
        }
        let scope = Scope::Agent(id.clone());
        Ok(self.hub.tokens.issue(scope, Instant::now()))
    }

    /// Serves the control channel of `node_id` that `accept` brings.
    pub(in crate::gateway) fn serve_control_channel(
        &self,
        node_id: String,
        accept: impl Future<Output = Option<Socket>> + Send + 'static,
    ) {
        let hub = Arc::clone(&self.hub);
        let span = info_span!("control channel", node = node_id);
        self.hub.spawn(span, async move {
            let socket = hub.cancel.run_until_cancelled(accept).await.flatten();
            if let Some(socket) = socket {
                control::serve(hub, node_id, socket).await;
            }
        });
    }

    /// Serves the connection to the data channel of `id` that `accept` brings.
    pub(in crate::gateway) fn serve_data_channel(
        &self,
        id: SessionId,
        signer: Signer,
        accept: impl Future<Output = Option<Socket>> + Send + 'static,
    ) {
        let hub = Arc::clone(&self.hub);
        let span = info_span!("data channel", session = %id);
        self.hub.spawn(span, async move {
            let cancel = hub.cancel.clone();
            let serve = async {
                if let Some(socket) = accept.await {
                    opening::serve(hub, id, signer, socket).await;
                }
            };
            cancel.run_until_cancelled(serve).await;
        });
    }

    /// Whether session `id` is live.
    pub(in crate::gateway) fn is_live(&self, id: &SessionId) -> bool {
        self.hub.session(id).is_some()
    }

    async fn must_exist(&self, id: &SessionId) -> Result<(), BrokerError> {
        let record = self.hub.store.session(id).await?;
        record
            .map(drop)
            .ok_or_else(|| BrokerError::NotFound(id.clone()))
    }

    fn ticket(&self, session_id: SessionId) -> Ticket {
        let scope = Scope::Client(session_id.clone());
        Ticket {
            token: self.hub.tokens.issue(scope, Instant::now()),
            stream_url: self.hub.settings.stream_url(session_id.as_str()),
            session_id,
        }
    }
}

/// `<name of the owner>-<17 hexadecimal digits>`, as AWS has it.
fn new_session_id(owner: &str) -> SessionId {
    let name = owner.rsplit(['/', ':']).next().unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "._-@=+,".contains(*c);
    let name: String = name
        .chars()
        .filter(allowed)
        .take(PRINCIPAL_LENGTH)
        .collect();
    let name = match name.trim_start_matches('.') {
        "" => "session",
        name => name,
    };
    let mut random = [0; 16];
    rand::fill(&mut random).expect("the system's random source works");
    let digits = format!("{:032x}", u128::from_be_bytes(random));
    SessionId::new(format!("{name}-{}", &digits[..17])).expect("made of allowed characters only")
}
