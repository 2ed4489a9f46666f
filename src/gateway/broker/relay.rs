//! The relay of one session: two links and the two lanes between them.
//!
//! Messages pass unchanged and in order. Of each only the header is looked at; the agent's session
//! state is taken out, and so is `channel_closed`, by which an end asks for the session to end. Each
//! direction goes on whatever the other does.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::lane::{Kind, Lane, REMEMBERED};
use super::link::{Cut, Lapse, Link, Sent};
use super::traffic::Traffic;
use crate::protocol::wire::control::{AgentSessionState, ChannelClosed, SessionState};
use crate::protocol::wire::message::Header;
use crate::protocol::wire::{DecodeError, MessageType};

/// The two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The agent on the node.
    Agent,
    /// The person's client.
    Client,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Agent => Self::Client,
            Self::Client => Self::Agent,
        }
    }
}

/// What the session has to know of its relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// An end's connection ended; it is no longer in the relay.
    Lost(Role, Cut),
    /// The agent said how its session stands.
    State(SessionState),
    /// An end wants the session to end.
    Closed(Role, ChannelClosed),
    /// The client takes nothing any more, the agent should pause.
    ClientStalled,
    /// The client moves again.
    ClientMoves,
    /// The client has everything, as asked for with [`Relay::notify_drained`].
    ClientDrained,
}

/// One end and what is on its way to it.
struct End {
    link: Option<Link>,
    lane: Lane,
}

/// See the module.
pub(super) struct Relay {
    agent: End,
    client: End,
    traffic: Traffic,
    is_client_stalled: bool,
    is_drain_awaited: bool,
    notices: VecDeque<Notice>,
    broken: Vec<(Link, &'static str)>,
}

impl Relay {
    pub(super) fn new() -> Self {
        Self {
            agent: End {
                link: None,
                // The official client acknowledges each message only once.
                lane: Lane::new(REMEMBERED),
            },
            client: End {
                link: None,
                lane: Lane::new(0),
            },
            traffic: Traffic::default(),
            is_client_stalled: false,
            is_drain_awaited: false,
            notices: VecDeque::new(),
            broken: Vec::new(),
        }
    }

    /// Puts a connection into the place of `role`; the one that was there is returned.
    pub(super) fn attach(&mut self, role: Role, link: Link) -> Option<Link> {
        if role == Role::Client {
            self.is_client_stalled = false;
        }
        let end = self.end(role);
        end.lane.flow();
        end.lane.repeat_acknowledgements();
        end.link.replace(link)
    }

    /// Takes the connection of `role` out.
    pub(super) fn detach(&mut self, role: Role) -> Option<Link> {
        let end = self.end(role);
        end.lane.absorb();
        end.link.take()
    }

    /// Connections that have to be closed because of what their peer sent.
    pub(super) fn take_broken(&mut self) -> Vec<(Link, &'static str)> {
        std::mem::take(&mut self.broken)
    }

    /// Whether `role` is connected.
    pub(super) fn is_attached(&self, role: Role) -> bool {
        match role {
            Role::Agent => self.agent.link.is_some(),
            Role::Client => self.client.link.is_some(),
        }
    }

    /// What data passed.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends a message of ours after all others.
    pub(super) fn send_last(&mut self, role: Role, message: Bytes) {
        if self.end(role).lane.push(Kind::Other, message).is_err() {
            self.lose(role, Cut::Broken("too much is waiting to be sent"));
        }
    }

    /// Sends a message of ours before all others.
    pub(super) fn send_first(&mut self, role: Role, message: Bytes) {
        self.end(role).lane.push_front(message);
    }

    /// Asks for [`Notice::ClientDrained`] as soon as the client has everything.
    pub(super) fn notify_drained(&mut self) {
        self.is_drain_awaited = true;
    }

    /// Moves what can be moved in both directions, until there is something to tell.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Notice> {
        for from in [Role::Agent, Role::Client] {
            if !self.notices.is_empty() {
                break;
            }
            self.pass(from, cx, now);
        }
        self.notices.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// When [`Relay::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let links = self.agent.link.iter().chain(&self.client.link);
        links.map(Link::poll_timeout).min()
    }

    /// Looks at the clock.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for role in [Role::Agent, Role::Client] {
            let lapse = self
                .end(role)
                .link
                .as_mut()
                .and_then(|link| link.handle_timeout(now));
            match lapse {
                Some(Lapse::Silent) => self.lose(role, Cut::Silent),
                Some(Lapse::Stalled) => self.stall(role),
                None => {}
            }
        }
    }

    fn end(&mut self, role: Role) -> &mut End {
        match role {
            Role::Agent => &mut self.agent,
            Role::Client => &mut self.client,
        }
    }

    /// Moves messages away from `from` until it has no more or the other end takes no more.
    fn pass(&mut self, from: Role, cx: &mut Context<'_>, now: Instant) {
        loop {
            let has_more = self.receive(from, cx, now);
            let sent = self.send(from.other(), cx, now);
            if !has_more || sent != Some(Sent::All) || !self.notices.is_empty() {
                return;
            }
        }
    }

    /// Reads from `from` until its lane is full (true) or it has no more for now (false).
    fn receive(&mut self, from: Role, cx: &mut Context<'_>, now: Instant) -> bool {
        let (near, far) = match from {
            Role::Agent => (&mut self.agent, &mut self.client),
            Role::Client => (&mut self.client, &mut self.agent),
        };
        let Some(link) = &mut near.link else {
            return false;
        };
        while far.lane.has_room() {
            let message = match link.poll_receive(cx, now) {
                Poll::Ready(Ok(message)) => message,
                Poll::Ready(Err(cut)) => {
                    self.lose(from, cut);
                    return false;
                }
                Poll::Pending => return false,
            };
            match sort(from, &message, &mut self.traffic, now) {
                Ok(Passage::Relay(kind)) => {
                    if far.lane.push(kind, message).is_err() {
                        self.lose(from, Cut::Broken("too many acknowledgements"));
                        return false;
                    }
                }
                Ok(Passage::Take(notice)) => {
                    self.notices.push_back(notice);
                    return true;
                }
                Ok(Passage::Keep(message_type)) => {
                    debug!(?from, %message_type, "message is not for the other end");
                }
                Err(error) => debug!(?from, %error, "malformed message is ignored"),
            }
        }
        link.pause_reading();
        true
    }

    /// Sends to `to` what is waiting for it; `None` if it is not there any more.
    fn send(&mut self, to: Role, cx: &mut Context<'_>, now: Instant) -> Option<Sent> {
        let end = self.end(to);
        let link = end.link.as_mut()?;
        let waiting = end.lane.len();
        let sent = match link.poll_send(cx, &mut end.lane, now) {
            Ok(sent) => sent,
            Err(cut) => {
                self.lose(to, cut);
                return None;
            }
        };
        if sent == Sent::All || end.lane.len() < waiting {
            // It moves, so back-pressure reaches the near end again.
            end.lane.flow();
        }
        if sent == Sent::All && to == Role::Client {
            self.client_has_all();
        }
        Some(sent)
    }

    fn client_has_all(&mut self) {
        if std::mem::take(&mut self.is_client_stalled) {
            self.notices.push_back(Notice::ClientMoves);
        }
        if std::mem::take(&mut self.is_drain_awaited) {
            self.notices.push_back(Notice::ClientDrained);
        }
    }

    fn stall(&mut self, role: Role) {
        self.end(role).lane.absorb();
        if role == Role::Client {
            self.is_client_stalled = true;
            self.notices.push_back(Notice::ClientStalled);
        }
    }

    fn lose(&mut self, role: Role, cut: Cut) {
        if role == Role::Client {
            self.is_client_stalled = false;
        }
        if let (Some(link), Cut::Broken(reason)) = (self.detach(role), &cut) {
            self.broken.push((link, reason));
        }
        self.notices.push_back(Notice::Lost(role, cut));
    }
}

/// What to do with a message.
enum Passage {
    Relay(Kind),
    Take(Notice),
    Keep(MessageType),
}

fn sort(
    from: Role,
    message: &Bytes,
    traffic: &mut Traffic,
    now: Instant,
) -> Result<Passage, DecodeError> {
    let header = Header::decode(message)?;
    Ok(match header.message_type {
        MessageType::OutputStreamData if from == Role::Agent => {
            traffic.note_output(&header, message, now);
            Passage::Relay(Kind::Stream(header.sequence_number))
        }
        MessageType::InputStreamData if from == Role::Client => {
            traffic.note_input(&header, message, now);
            Passage::Relay(Kind::Stream(header.sequence_number))
        }
        MessageType::Acknowledge => Passage::Relay(Kind::Acknowledge),
        MessageType::AgentSessionState if from == Role::Agent => {
            let state = AgentSessionState::decode(&message[header.payload_offset..])?;
            Passage::Take(Notice::State(state.session_state))
        }
        MessageType::ChannelClosed => {
            let closed = ChannelClosed::decode(&message[header.payload_offset..])?;
            Passage::Take(Notice::Closed(from, closed))
        }
        // From the wrong end, or only for the gateway to say.
        MessageType::OutputStreamData
        | MessageType::InputStreamData
        | MessageType::AgentSessionState
        | MessageType::StartPublication
        | MessageType::PausePublication
        | MessageType::InteractiveShell
        | MessageType::AgentTaskComplete
        | MessageType::AgentTaskAcknowledge
        | MessageType::AgentJob
        | MessageType::AgentJobAck
        | MessageType::AgentJobReply
        | MessageType::AgentJobReplyAck
        | MessageType::AgentTelemetry
        | MessageType::AgentUpdateResult => Passage::Keep(header.message_type),
        // A newer pair of ends may have more to say to each other.
        MessageType::Unknown(_) => Passage::Relay(Kind::Other),
    })
}
