//! A control channel: sends what the registry hands over, takes results and acknowledges them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracing::{debug, info, warn};

use super::commands::{self, Event as CommandEvent};
use super::frames;
use super::hub::Hub;
use super::lane::{Kind, Lane};
use super::link::{Cut, Lapse, Link};
use super::opening::{self, OpenError};
use super::registry::ControlEnd;
use super::session::Farewell;
use super::tokens::Scope;
use super::worker::{CLOSED_BY_AGENT, Command};
use crate::gateway::store::recordings::{Agreement, NodeFile};
use crate::gateway::store::sessions::{SessionResult, SessionStatus};
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::open_channel::OpenControlChannel;
use crate::protocol::wire::task::{Recording, TaskComplete, TaskStatus};
use crate::protocol::wire::{DecodeError, Message, MessageType, SessionId};
use crate::transport::Socket;

/// How long after its end an agent is still told of a session's end that it missed. Longer cuts
/// leave nothing of a session.
const TELL_WITHIN: Duration = Duration::from_secs(3600);

/// Why the control channel of a node that was deregistered is closed.
pub(super) const DEREGISTERED: &str = "the node was deregistered";

/// Serves a control channel of `node_id` until it ends.
pub(super) async fn serve(hub: Arc<Hub>, node_id: String, mut socket: Socket) {
    let opened = hub
        .cancel
        .run_until_cancelled(open(&hub, &node_id, &mut socket));
    let Some(opened) = opened.await else { return };
    if let Err(error) = opened {
        warn!(%error, "control channel is refused");
        super::link::close(socket, CloseCode::Policy, error.reason()).await;
        return;
    }
    let mut end = hub.registry.connect(&node_id);
    if is_deregistered(&hub, &node_id).await {
        hub.registry.close(&node_id, DEREGISTERED);
        info!("control channel is refused, the node was deregistered");
        super::link::close(socket, CloseCode::Policy, DEREGISTERED).await;
        return;
    }
    info!("control channel is open");
    let mut channel = Channel {
        link: Link::new(socket, Instant::now()),
        lane: Lane::new(0),
    };
    channel.lane.flow();
    tell_missed_ends(&hub, &node_id, &mut channel).await;
    let connected = CommandEvent::Connected(node_id.clone());
    hub.commands.tell(connected).await;
    let ended = channel.run(&hub, &node_id, &mut end).await;
    hub.registry.disconnect(&node_id, &end);
    let disconnected = CommandEvent::Disconnected(node_id.clone());
    hub.commands.tell(disconnected).await;
    match ended {
        End::Lost(cut) => {
            info!(?cut, "control channel is lost");
            if let Cut::Broken(reason) = cut {
                channel.link.close(CloseCode::Policy, reason).await;
            }
        }
        End::Close(code, reason) => {
            info!(reason, "control channel is closed");
            channel.link.close(code, reason).await;
        }
    }
}

async fn open(hub: &Hub, node_id: &str, socket: &mut Socket) -> Result<(), OpenError> {
    let message = opening::first_message(socket).await?;
    let open = OpenControlChannel::decode(&message)?;
    let scope = Scope::Control(node_id.to_owned());
    if !hub.tokens.redeem(&scope, &open.token_value, Instant::now()) {
        return Err(OpenError::Token);
    }
    debug!(agent_version = open.agent_version, "control channel opens");
    Ok(())
}

/// Whether the node was deregistered since its token was made. Asked with the channel in the
/// registry already, so that either this or the deregistration finds the other.
async fn is_deregistered(hub: &Hub, node_id: &str) -> bool {
    match hub.store.node(node_id).await {
        Ok(node) => node.is_none(),
        Err(error) => {
            warn!(%error, "whether the node is registered is not known");
            false
        }
    }
}

/// An agent that was away does not know that its sessions are over.
async fn tell_missed_ends(hub: &Hub, node_id: &str, channel: &mut Channel) {
    let since = SystemTime::now() - TELL_WITHIN;
    match hub.store.unconfirmed_sessions(node_id, since).await {
        Ok(sessions) => {
            for session in sessions {
                let message = frames::channel_closed(&session, node_id, "", None);
                channel.send(message);
            }
        }
        Err(error) => warn!(%error, "sessions that ended meanwhile are not known"),
    }
}

enum End {
    Lost(Cut),
    Close(CloseCode, &'static str),
}

enum Event {
    Close(CloseCode, &'static str),
    Send(Bytes),
    Timeout,
    Message(Result<Bytes, Cut>),
}

struct Channel {
    link: Link,
    lane: Lane,
}

impl Channel {
    async fn run(&mut self, hub: &Hub, node_id: &str, end: &mut ControlEnd) -> End {
        loop {
            match self.next_event(hub, end).await {
                Event::Close(code, reason) => return End::Close(code, reason),
                Event::Send(message) => self.send(message),
                Event::Timeout => {
                    let lapse = self.link.handle_timeout(Instant::now());
                    if let Some(Lapse::Silent | Lapse::Stalled) = lapse {
                        return End::Lost(Cut::Silent);
                    }
                }
                Event::Message(Ok(message)) => self.handle(hub, node_id, &message).await,
                Event::Message(Err(cut)) => return End::Lost(cut),
            }
        }
    }

    async fn next_event(&mut self, hub: &Hub, end: &mut ControlEnd) -> Event {
        let timeout = sleep_until(self.link.poll_timeout());
        let has_room = self.lane.has_room();
        tokio::select! {
            biased;
            () = hub.cancel.cancelled() => {
                Event::Close(CloseCode::Restart, "the gateway is shutting down")
            }
            reason = end.close.wait_for(Option::is_some) => {
                // The registry drops its handle only after it gave a reason.
                let reason = reason.ok().and_then(|reason| *reason);
                Event::Close(CloseCode::Policy, reason.unwrap_or("a newer connection took over"))
            }
            // The registry's handle is dropped only with a reason, which came first.
            Some(message) = end.outbound.recv(), if has_room => Event::Send(message),
            () = timeout => Event::Timeout,
            message = poll_fn(|cx| self.poll(cx)) => Event::Message(message),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cut>> {
        let now = Instant::now();
        if let Err(cut) = self.link.poll_send(cx, &mut self.lane, now) {
            return Poll::Ready(Err(cut));
        }
        if !self.lane.has_room() {
            self.link.pause_reading();
            return Poll::Pending;
        }
        self.link.poll_receive(cx, now)
    }

    fn send(&mut self, message: Bytes) {
        // The lane asks for back-pressure long before it overflows.
        if self.lane.push(Kind::Other, message).is_err() {
            warn!("a message is dropped, the agent takes none");
        }
    }

    async fn handle(&mut self, hub: &Hub, node_id: &str, bytes: &Bytes) {
        let handled = match Message::decode(bytes) {
            Ok(message) => self.handle_message(hub, node_id, &message).await,
            Err(error) => Err(error),
        };
        if let Err(error) = handled {
            debug!(%error, "malformed message is ignored");
        }
    }

    async fn handle_message(
        &mut self,
        hub: &Hub,
        node_id: &str,
        message: &Message,
    ) -> Result<(), DecodeError> {
        match &message.message_type {
            MessageType::AgentTaskComplete => {
                let complete = TaskComplete::decode(&message.payload)?;
                if take_result(hub, node_id, &complete).await {
                    self.send(frames::task_acknowledge(message.id, &complete.task_id));
                }
            }
            MessageType::ChannelClosed => {
                let closed = ChannelClosed::decode(&message.payload)?;
                terminate(hub, node_id, &closed.session_id).await;
            }
            MessageType::AgentJobAck => commands::handle_ack(hub, node_id, message).await?,
            MessageType::AgentJobReply => {
                if let Some(ack) = commands::handle_reply(hub, node_id, message).await? {
                    self.send(ack);
                }
            }
            other => debug!(message_type = %other, "message is not served"),
        }
        Ok(())
    }
}

/// The agent wants one of its sessions to end.
async fn terminate(hub: &Hub, node_id: &str, session_id: &str) {
    let session = SessionId::new(session_id)
        .ok()
        .and_then(|id| hub.session(&id));
    if let Some(session) = session
        && *session.node_id == *node_id
    {
        info!(session = session_id, "agent closed a session");
        let reason = CLOSED_BY_AGENT;
        // It may have ended by itself meanwhile.
        let _ = session.send(Command::Terminate { reason }).await;
    }
}

/// Passes a result on to its session and notes it. Returns whether it may be acknowledged: it is
/// stored, or nobody here knows the session.
async fn take_result(hub: &Hub, node_id: &str, complete: &TaskComplete) -> bool {
    let Ok(session_id) = SessionId::new(complete.task_id.as_str()) else {
        return true;
    };
    let (status, details) = outcome(complete);
    info!(session = %session_id, status = status.as_str(), "agent reported a session's result");
    for recording in &complete.recordings {
        let Recording {
            file,
            bytes,
            sha256,
        } = recording;
        info!(session = %session_id, ?file, bytes, ?sha256, "session was recorded on its node");
    }
    if let Some(session) = hub.session(&session_id)
        && *session.node_id == *node_id
    {
        let farewell = Farewell {
            output: details.clone(),
            exit_code: complete.exit_code,
        };
        // It may have ended by itself meanwhile.
        let _ = session.send(Command::Result(farewell)).await;
    }
    let recorded = session_id.clone();
    let result = SessionResult {
        session_id,
        node_id: node_id.to_owned(),
        status,
        details,
        exit_code: complete.exit_code,
        s3_output: join("s3://", &complete.s3_bucket, "/", &complete.s3_url_suffix),
        log_output: join("", &complete.cwl_group, ":", &complete.cwl_stream),
        cast: cast(&complete.recordings),
    };
    let is_stored = hub.ledger.result(result).await;
    if let Ok(Some(recording)) = hub.store.recording(&recorded).await
        && recording.agreement() == Agreement::Differs
    {
        warn!(session = %recorded, "the recording is another than the node's own file of it");
    }
    is_stored
}

/// The cast among the files that a node made of a session.
fn cast(recordings: &[Recording]) -> Option<NodeFile> {
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut casts = recordings.iter();
    let cast = casts.find(|made| made.file.ends_with(".cast") && is_digest(&made.sha256))?;
    Some(NodeFile {
        bytes: cast.bytes,
        sha256: cast.sha256.clone(),
    })
}

fn outcome(complete: &TaskComplete) -> (SessionStatus, String) {
    let text = &complete.output;
    match complete.final_task_status {
        TaskStatus::Success | TaskStatus::Cancelled => (SessionStatus::Terminated, text.clone()),
        TaskStatus::Failed | TaskStatus::TimedOut | TaskStatus::Unknown(_) => {
            let text = match text.trim() {
                // Without a text the client would take it for a normal end.
                "" => "the session failed on the node",
                _ => text,
            };
            (SessionStatus::Failed, text.to_owned())
        }
    }
}

fn join(scheme: &str, place: &str, separator: &str, name: &str) -> String {
    if place.is_empty() {
        return String::new();
    }
    format!("{scheme}{place}{separator}{name}")
}
