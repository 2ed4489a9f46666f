//! One local connection after the other, for agents that are too old for many at once.
//!
//! Both directions go on by themselves: a program that writes much before it reads is read from while
//! it takes nothing, and one that does not take what comes does not hide the end of the session.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::listener::Listener;
use super::raw::{ended, reason};
use super::voice::Voice;
use super::{PortEnd, PortError};
use crate::client::io::Io;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::{Payload, SessionId};
use crate::transport::forward::{READ, Socket};
use crate::transport::{ChannelHandle, Incoming, Outgoing};

/// How long a local program may take for what came before the end of the session.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A session that carries one connection at a time.
pub(super) struct InTurn<'a> {
    handle: &'a mut ChannelHandle,
    io: &'a mut Io,
    session_id: &'a SessionId,
    listener: Listener,
    buffer: BytesMut,
    /// To the agent: what the local program said last, and that it is gone. Nothing more is read, and
    /// no other program let in, before this is sent.
    unsent: VecDeque<Payload>,
    voice: Voice,
}

/// What wakes the task while there is a connection.
enum Wake {
    Incoming(Option<Incoming>),
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    /// The agent, or the person, was told something.
    Told,
    /// The session is over, and the local program does not take what came before.
    GivenUp,
}

impl<'a> InTurn<'a> {
    /// A session without connection.
    pub(super) fn new(
        handle: &'a mut ChannelHandle,
        io: &'a mut Io,
        session_id: &'a SessionId,
        listener: Listener,
    ) -> Self {
        Self {
            handle,
            io,
            session_id,
            listener,
            buffer: BytesMut::new(),
            unsent: VecDeque::new(),
            voice: Voice::default(),
        }
    }

    /// Forwards until the session is over.
    ///
    /// # Errors
    /// [`PortError`].
    pub(super) async fn run(mut self) -> Result<PortEnd, PortError> {
        loop {
            let socket = match self.wait_for_connection().await? {
                Ok(socket) => socket,
                Err(end) => return Ok(end),
            };
            let text = format!("Connection accepted for session {}.", self.session_id);
            self.voice.say(&text);
            if let Some(end) = self.forward(socket).await {
                return Ok(end);
            }
            // The agent shall not keep its connection for nobody.
            self.unsent.push_back(Payload::Flag(Flag::DisconnectToPort));
        }
    }

    /// Waits for a local program. What the destination says to nobody is dropped.
    async fn wait_for_connection(&mut self) -> Result<Result<Socket, PortEnd>, PortError> {
        loop {
            let next = select! {
                socket = self.listener.accept(), if self.unsent.is_empty() => {
                    return Ok(Ok(socket?));
                }
                next = self.handle.incoming.recv() => next,
                () = send_first(&self.handle.outgoing, &mut self.unsent) => continue,
                () = self.voice.speak(&mut self.io.output) => continue,
            };
            match next {
                None => return Ok(Err(PortEnd::PumpEnded)),
                Some(Incoming::Event(event)) => {
                    if let Some(end) = ended(event) {
                        return Ok(Err(end));
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Moves bytes until the local program or the session ends; gives the end of the session.
    async fn forward(&mut self, mut socket: Socket) -> Option<PortEnd> {
        let mut unwritten = Bytes::new();
        let over = self.handle.over.clone();
        let mut given_up = pin!(async move {
            over.cancelled().await;
            sleep(LAST_WORDS).await;
        });
        loop {
            let reads = self.unsent.is_empty().then_some(&mut self.buffer);
            let ChannelHandle {
                outgoing, incoming, ..
            } = &mut *self.handle;
            let wake = select! {
                next = incoming.recv(), if unwritten.is_empty() => Wake::Incoming(next),
                wake = serve(&mut socket, reads, &unwritten) => wake,
                () = send_first(outgoing, &mut self.unsent) => Wake::Told,
                () = self.voice.speak(&mut self.io.output) => Wake::Told,
                () = &mut given_up => Wake::GivenUp,
            };
            match wake {
                Wake::Read(Ok(count)) if count > 0 => {
                    let payload = Payload::Output(self.buffer.split().freeze());
                    self.unsent.push_back(payload);
                }
                Wake::Written(Ok(count)) if count > 0 => unwritten.advance(count),
                Wake::Read(_) | Wake::Written(_) => return None,
                Wake::Incoming(None) => return Some(PortEnd::PumpEnded),
                Wake::Incoming(Some(Incoming::Payload(Payload::Output(bytes)))) => {
                    unwritten = bytes;
                }
                Wake::Incoming(Some(Incoming::Event(event))) => {
                    if let Some(end) = ended(event) {
                        return Some(end);
                    }
                }
                Wake::GivenUp => return Some(reason(&mut self.handle.incoming).await),
                Wake::Incoming(Some(_)) | Wake::Told => {}
            }
        }
    }
}

/// Writes `unwritten` if there is any, and reads into the buffer if one is given. Cancel-safe.
async fn serve(socket: &mut Socket, mut buffer: Option<&mut BytesMut>, unwritten: &[u8]) -> Wake {
    let mut poll = |cx: &mut Context<'_>| {
        if !unwritten.is_empty()
            && let Poll::Ready(written) = socket.poll_write(cx, unwritten)
        {
            return Poll::Ready(Wake::Written(written));
        }
        match &mut buffer {
            Some(buffer) => socket.poll_read(cx, buffer, READ).map(Wake::Read),
            None => Poll::Pending,
        }
    };
    poll_fn(|cx| poll(cx)).await
}

/// Hands the first payload to the data channel once it takes one. Cancel-safe.
async fn send_first(outgoing: &mpsc::Sender<Outgoing>, unsent: &mut VecDeque<Payload>) {
    if !unsent.is_empty()
        && let Ok(permit) = outgoing.reserve().await
        && let Some(payload) = unsent.pop_front()
    {
        permit.send(Outgoing::Payload(payload));
        return;
    }
    // There is nothing to do, or the pump is gone and says so in `incoming`.
    pending::<()>().await;
}
