//! One local connection after the other, for agents that are too old for many at once.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::select;

use super::listener::Listener;
use super::raw::ended;
use super::{PortEnd, PortError, say};
use crate::client::io::Io;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::{Payload, SessionId};
use crate::transport::forward::{READ, Socket};
use crate::transport::{ChannelHandle, Incoming, Outgoing};

/// A session that carries one connection at a time.
pub(super) struct InTurn<'a> {
    handle: &'a mut ChannelHandle,
    io: &'a mut Io,
    session_id: &'a SessionId,
    listener: Listener,
    buffer: BytesMut,
}

/// What wakes the task while there is a connection.
enum Wake {
    Incoming(Option<Incoming>),
    Read(io::Result<usize>),
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
            say(self.io, &text).await;
            if let Some(end) = self.forward(socket).await {
                return Ok(end);
            }
            // The agent shall not keep its connection for nobody.
            let flag = Payload::Flag(Flag::DisconnectToPort);
            if self.send(flag).await.is_err() {
                return Ok(PortEnd::PumpEnded);
            }
        }
    }

    /// Waits for a local program. What the destination says to nobody is dropped.
    async fn wait_for_connection(&mut self) -> Result<Result<Socket, PortEnd>, PortError> {
        loop {
            let next = select! {
                socket = self.listener.accept() => return Ok(Ok(socket?)),
                next = self.handle.incoming.recv() => next,
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
        loop {
            let (buffer, incoming) = (&mut self.buffer, &mut self.handle.incoming);
            let wake = select! {
                next = incoming.recv() => Wake::Incoming(next),
                read = poll_fn(|cx| socket.poll_read(cx, buffer, READ)) => Wake::Read(read),
            };
            match wake {
                Wake::Read(Ok(count)) if count > 0 => {
                    let payload = Payload::Output(self.buffer.split().freeze());
                    if self.send(payload).await.is_err() {
                        return Some(PortEnd::PumpEnded);
                    }
                }
                Wake::Read(_) => return None,
                Wake::Incoming(None) => return Some(PortEnd::PumpEnded),
                Wake::Incoming(Some(Incoming::Payload(Payload::Output(bytes)))) => {
                    if write_all(&mut socket, bytes).await.is_err() {
                        return None;
                    }
                }
                Wake::Incoming(Some(Incoming::Event(event))) => {
                    if let Some(end) = ended(event) {
                        return Some(end);
                    }
                }
                Wake::Incoming(Some(_)) => {}
            }
        }
    }

    async fn send(&mut self, payload: Payload) -> Result<(), ()> {
        let sent = self.handle.outgoing.send(Outgoing::Payload(payload)).await;
        sent.map_err(|_pump_is_gone| ())
    }
}

async fn write_all(socket: &mut Socket, bytes: Bytes) -> io::Result<()> {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match poll_fn(|cx| match socket.poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        })
        .await
        {
            Ok(count) => rest = &rest[count..],
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
