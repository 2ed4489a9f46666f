//! The task of one session: waits for whatever happens first and carries it between the session's
//! machine, its relay, its record and the control channel of its node.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracing::{Span, debug, info, warn};

use super::frames;
use super::hub::Hub;
use super::link::{self, Cut, Link};
use super::registry::NodeWatch;
use super::relay::{Notice, Relay, Role};
use super::session::{Action, Farewell, Session};
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::{PeerFeatures, SessionId};
use crate::transport::Socket;

/// What the client is told when the agent closed the session without a word of its own.
pub(super) const CLOSED_BY_AGENT: &str = "The agent ended the session.";

/// What a session can be told.
pub(super) enum Command {
    /// An end connected; its token was good.
    Attach {
        role: Role,
        socket: Box<Socket>,
        /// What a client announced.
        features: PeerFeatures,
    },
    /// Whether an agent may connect.
    MayConnect { reply: oneshot::Sender<bool> },
    /// A client asks whether it may come back.
    Resume { reply: oneshot::Sender<bool> },
    /// The agent reported the result.
    Result(Farewell),
    /// The session shall end.
    Terminate { reason: &'static str },
}

enum Event {
    Shutdown,
    Command(Command),
    Node,
    Timeout,
    Relay(Notice),
}

/// See the module.
pub(super) struct Worker {
    hub: Arc<Hub>,
    id: SessionId,
    node_id: String,
    session: Session,
    relay: Relay,
    node: NodeWatch,
    commands: mpsc::Receiver<Command>,
    client_features: PeerFeatures,
}

impl Worker {
    pub(super) fn new(
        hub: Arc<Hub>,
        id: SessionId,
        node_id: &str,
        session: Session,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            node: hub.registry.watch(node_id),
            hub,
            id,
            node_id: node_id.to_owned(),
            session,
            relay: Relay::new(),
            commands,
            client_features: PeerFeatures::default(),
        }
    }

    /// Runs until the session is over or the broker is cancelled.
    pub(super) async fn run(mut self) {
        self.note_node();
        loop {
            while let Some(action) = self.session.poll_action() {
                self.act(action).await;
            }
            if self.session.is_ended() {
                self.close_links(CloseCode::Normal, "the session is over");
                info!("session ended");
                return;
            }
            match self.next_event().await {
                Event::Shutdown => {
                    // Both ends dial again and find the session where it was.
                    self.close_links(CloseCode::Restart, "the gateway is shutting down");
                    return;
                }
                Event::Command(command) => self.obey(command),
                Event::Node => self.note_node(),
                Event::Timeout => {
                    let now = Instant::now();
                    self.relay.handle_timeout(now);
                    self.session.handle_traffic(self.relay.traffic());
                    self.session.handle_timeout(now);
                }
                Event::Relay(notice) => self.note(notice),
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let deadlines = [self.session.poll_timeout(), self.relay.poll_timeout()];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let relay = &mut self.relay;
        tokio::select! {
            biased;
            () = self.hub.cancel.cancelled() => Event::Shutdown,
            command = self.commands.recv() => command.map_or(Event::Shutdown, Event::Command),
            // Never an error: the registry keeps every node that is followed.
            _ = self.node.changed() => Event::Node,
            () = timeout => Event::Timeout,
            notice = poll_fn(|cx| relay.poll(cx, Instant::now())) => Event::Relay(notice),
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Attach {
                role,
                socket,
                features,
            } => self.attach(role, *socket, features, now),
            // Who asked may be gone by now.
            Command::MayConnect { reply } => {
                let _ = reply.send(self.session.accepts(Role::Agent));
            }
            Command::Resume { reply } => {
                let _ = reply.send(self.session.handle_resume(now));
            }
            Command::Result(farewell) => self.session.handle_result(farewell, now),
            Command::Terminate { reason } => self.session.handle_terminate(reason, now),
        }
    }

    fn attach(&mut self, role: Role, socket: Socket, features: PeerFeatures, now: Instant) {
        if !self.session.accepts(role) {
            let closing = link::close(socket, CloseCode::Policy, super::SESSION_OVER);
            self.hub.spawn(Span::current(), closing);
            return;
        }
        debug!(?role, "end connected");
        if role == Role::Client {
            self.client_features = features;
        }
        if let Some(older) = self.relay.attach(role, Link::new(socket, now)) {
            debug!(?role, "a newer connection took over");
            let closing = older.close(CloseCode::Policy, "a newer connection took over");
            self.hub.spawn(Span::current(), closing);
        }
        self.session.handle_attached(role, now);
    }

    fn note(&mut self, notice: Notice) {
        let now = Instant::now();
        match notice {
            Notice::Lost(role, cut) => {
                debug!(?role, ?cut, "end lost its connection");
                if let Cut::Broken(reason) = cut {
                    warn!(?role, reason, "connection is closed");
                }
                self.close_broken();
                self.session.handle_lost(role, cut, now);
            }
            Notice::State(state) => self.session.handle_state(state),
            Notice::Closed(role, closed) => self.note_closed(role, &closed, now),
            Notice::ClientStalled => self.session.handle_client_moves(false),
            Notice::ClientMoves => self.session.handle_client_moves(true),
            Notice::ClientDrained => self.session.handle_drained(),
        }
    }

    fn note_closed(&mut self, role: Role, closed: &ChannelClosed, now: Instant) {
        if closed.session_id != self.id.as_str() {
            debug!(?role, "channel_closed names another session and is ignored");
            return;
        }
        info!(?role, "end closed the session");
        let reason = match role {
            Role::Client => "The client ended the session.",
            Role::Agent if closed.output.is_empty() => CLOSED_BY_AGENT,
            Role::Agent => &closed.output,
        };
        self.session.handle_terminate(reason, now);
    }

    fn note_node(&mut self) {
        let is_up = self.node.borrow_and_update().is_some();
        self.session.handle_node(is_up, Instant::now());
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Start => {
                let features = self.client_features.to_string();
                let message = frames::start_publication(&features);
                // First, because the agent reads everything after it in the light of the features.
                self.relay.send_first(Role::Agent, message);
            }
            Action::Pause => self
                .relay
                .send_last(Role::Agent, frames::pause_publication()),
            Action::CloseAgent => self.close_agent(),
            Action::CloseClient(farewell) => {
                let Farewell { output, exit_code } = farewell;
                let message = frames::channel_closed(&self.id, &self.node_id, &output, exit_code);
                self.relay.send_last(Role::Client, message);
                self.relay.notify_drained();
            }
            Action::Status(status) => self.hub.ledger.status(&self.id, status).await,
            Action::Terminating(details) => self.hub.ledger.terminating(&self.id, details).await,
            Action::End(verdict) => {
                info!(status = verdict.status.as_str(), details = %verdict.details, "session is over");
                self.hub.ledger.end(&self.id, verdict).await;
            }
        }
    }

    /// Tells the agent to end the session: on the data channel if it is there, else on the control
    /// channel.
    fn close_agent(&mut self) {
        let message = frames::channel_closed(&self.id, &self.node_id, "", None);
        if self.relay.is_attached(Role::Agent) {
            self.relay.send_first(Role::Agent, message);
            return;
        }
        let handle = self.node.borrow().clone();
        if !handle.is_some_and(|handle| handle.try_send(message)) {
            debug!("the agent cannot be told now, it will be when it connects");
        }
    }

    fn close_links(&mut self, code: CloseCode, reason: &'static str) {
        for role in [Role::Agent, Role::Client] {
            if let Some(link) = self.relay.detach(role) {
                let closing = link.close(code, reason);
                self.hub.spawn(Span::current(), closing);
            }
        }
    }

    fn close_broken(&mut self) {
        for (link, reason) in self.relay.take_broken() {
            let closing = link.close(CloseCode::Policy, reason);
            self.hub.spawn(Span::current(), closing);
        }
    }
}
