//! Many local connections at once, each a stream of one mux session.
//!
//! One task drives all of it, as the agent does at its end: sockets are read while the session takes
//! their bytes, the session is sent from while the data channel takes payloads, and payloads are
//! taken from the data channel while the session has room for them.

use std::convert::Infallible;

use tokio::select;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tracing::{debug, warn};

use super::listener::Listener;
use super::raw::{ended, reason};
use super::voice::Voice;
use super::{PortEnd, PortError};
use crate::client::io::Io;
use crate::protocol::mux::{self, KeepAlive, Role};
use crate::protocol::wire::features::LARGE_PAYLOAD;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::version::AgentGates;
use crate::protocol::wire::{Payload, SessionId};
use crate::transport::forward::{Change, Socket, Streams};
use crate::transport::{ChannelHandle, Incoming, Outgoing};

/// Payloads taken from the data channel before streams get their turn; more than wait in its queue.
const BATCH: usize = 32;
/// Bytes taken off the session for one payload. The channel cuts them to what the agent takes.
const PAYLOAD: usize = LARGE_PAYLOAD;

/// What wakes the task.
enum Wake {
    Incoming(Option<Incoming>),
    Accepted(Result<Socket, PortError>),
    /// The session is over on the wire, and there is no room to read on to the reason.
    Over,
    /// The data channel takes payloads again.
    Room,
    /// A stream has something to do.
    Woken,
    /// The person was told something.
    Told,
}

/// A session that carries many connections.
pub(super) struct Multiplexed<'a> {
    handle: &'a mut ChannelHandle,
    io: &'a mut Io,
    session_id: &'a SessionId,
    listener: Listener,
    streams: Streams<Infallible>,
    /// Whether the data channel takes nothing for now.
    is_blocked: bool,
    /// Whether the person was told that there are connections.
    has_told: bool,
    /// Connections that the destination did not take, of which the person is not told yet.
    refused: usize,
    /// What the person is told on standard output, and of troubles.
    voice: Voice,
    complaint: Voice,
}

/// Settings of the mux with an agent of these gates.
pub(super) fn settings(gates: AgentGates, half_close: bool) -> mux::Settings {
    mux::Settings {
        half_close,
        keep_alive: if gates.mux_keep_alive_off {
            KeepAlive::Off
        } else {
            KeepAlive::XTACI
        },
        ..mux::Settings::new(Role::Client)
    }
}

impl<'a> Multiplexed<'a> {
    /// A session without connections.
    pub(super) fn new(
        handle: &'a mut ChannelHandle,
        io: &'a mut Io,
        session_id: &'a SessionId,
        listener: Listener,
        settings: mux::Settings,
    ) -> Self {
        Self {
            handle,
            io,
            session_id,
            listener,
            streams: Streams::new(settings),
            is_blocked: false,
            has_told: false,
            refused: 0,
            voice: Voice::default(),
            complaint: Voice::default(),
        }
    }

    /// Forwards until the session is over.
    ///
    /// # Errors
    /// [`PortError`].
    pub(super) async fn run(&mut self) -> Result<PortEnd, PortError> {
        loop {
            let wake = self.next_wake().await;
            if let Some(end) = self.handle_wake(wake).await? {
                return Ok(end);
            }
            self.settle();
            self.tell();
        }
    }

    async fn next_wake(&mut self) -> Wake {
        let has_room = self.streams.has_room();
        let takes_more = self.streams.len() < mux::Settings::MAX_STREAMS;
        let ChannelHandle {
            outgoing,
            incoming,
            over,
        } = &mut *self.handle;
        let room = async {
            // A pump that is gone says so in `incoming`.
            if outgoing.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        select! {
            next = incoming.recv(), if has_room => Wake::Incoming(next),
            () = over.cancelled(), if !has_room => Wake::Over,
            () = room, if self.is_blocked => Wake::Room,
            () = self.streams.woken() => Wake::Woken,
            () = self.voice.speak(&mut self.io.output) => Wake::Told,
            () = self.complaint.speak(&mut self.io.error) => Wake::Told,
            accepted = self.listener.accept(), if takes_more => Wake::Accepted(accepted),
        }
    }

    /// Does what woke the task; gives the end if it is one.
    async fn handle_wake(&mut self, wake: Wake) -> Result<Option<PortEnd>, PortError> {
        match wake {
            Wake::Incoming(first) => self.take_incoming(first),
            Wake::Accepted(socket) => {
                self.open(socket?);
                Ok(None)
            }
            Wake::Over => Ok(Some(reason(&mut self.handle.incoming).await)),
            Wake::Room | Wake::Woken | Wake::Told => Ok(None),
        }
    }

    /// Takes what the data channel brought, and what it has brought besides.
    fn take_incoming(&mut self, first: Option<Incoming>) -> Result<Option<PortEnd>, PortError> {
        let mut taken = 0;
        let mut next = first.ok_or(TryRecvError::Disconnected);
        loop {
            match next {
                Ok(incoming) => {
                    if let Some(end) = self.take(incoming)? {
                        return Ok(Some(end));
                    }
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Ok(Some(PortEnd::PumpEnded)),
            }
            taken += 1;
            if taken == BATCH || !self.streams.has_room() {
                return Ok(None);
            }
            next = self.handle.incoming.try_recv();
        }
    }

    fn take(&mut self, incoming: Incoming) -> Result<Option<PortEnd>, PortError> {
        match incoming {
            Incoming::Payload(Payload::Output(bytes)) => {
                self.streams.handle_bytes(bytes)?;
            }
            Incoming::Payload(Payload::Flag(Flag::ConnectToPortError)) => self.refused += 1,
            Incoming::Event(event) => return Ok(ended(event)),
            Incoming::Payload(_) | Incoming::Connected | Incoming::Disconnected { .. } => {}
        }
        Ok(None)
    }

    /// Makes a stream of a connection.
    fn open(&mut self, socket: Socket) {
        match self.streams.open(socket) {
            Ok(id) => debug!(stream = %id, "connection accepted"),
            Err(error) => warn!(%error, "a connection was refused"),
        }
    }

    /// Moves everything that can be moved.
    fn settle(&mut self) {
        self.streams.serve_woken();
        loop {
            while let Some(change) = self.streams.poll_change() {
                self.follow(&change);
            }
            // What was sent may have made room for more.
            if !self.transmit() {
                return;
            }
        }
    }

    fn follow(&mut self, change: &Change<Infallible>) {
        match change {
            // Only the client opens streams; the session refuses others.
            Change::Opened(id) => self.streams.refuse(*id),
            Change::Closed(id, _, closing) => debug!(stream = %id, %closing, "connection closed"),
            Change::Unreachable(_, never) => match *never {},
        }
    }

    /// Hands the data channel what it takes. Returns whether that was anything.
    fn transmit(&mut self) -> bool {
        self.is_blocked = false;
        let mut has_sent = false;
        loop {
            let permit = match self.handle.outgoing.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => {
                    self.is_blocked = true;
                    return has_sent;
                }
                Err(TrySendError::Closed(())) => return has_sent,
            };
            let Some(bytes) = self.streams.poll_transmit(PAYLOAD) else {
                return has_sent;
            };
            permit.send(Outgoing::Payload(Payload::Output(bytes)));
            has_sent = true;
        }
    }

    /// Begins to tell the person what is new, in the words that scripts know. Connections that were
    /// refused while an earlier complaint is still unread share the next one.
    fn tell(&mut self) {
        if !self.has_told && !self.streams.is_empty() {
            self.has_told = true;
            let text = format!("\nConnection accepted for session [{}]", self.session_id);
            self.voice.say(&text);
        }
        if self.refused > 0 && self.complaint.is_silent() {
            let text = "Connection to destination port failed, check SSM Agent logs.";
            match std::mem::take(&mut self.refused) {
                1 => self.complaint.say(text),
                more => self.complaint.say(&format!("{text} ({more} connections)")),
            }
        }
    }
}
