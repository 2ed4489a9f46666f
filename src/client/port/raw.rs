//! One stream between standard input and output and the destination: what carries SSH.
//!
//! Nothing but the stream's bytes goes to standard output. Once standard input has ended, our own
//! agent is told that this direction is over, and the rest of the answer still comes; another agent
//! can only be told to end the session. A destination that goes on all the same is for whoever reads
//! standard output: once nobody does, the session ends.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::PortEnd;
use crate::client::io::{Io, Sink, Source};
use crate::client::stdio::Hangup;
use crate::protocol::channel::Event;
use crate::protocol::wire::Payload;
use crate::protocol::wire::payload::Flag;
use crate::transport::forward::READ;
use crate::transport::{ChannelHandle, Incoming, Outgoing};

/// Size of the buffer that is read into; what was read is cut off it without a copy.
const BUFFER: usize = 256 << 10;

/// Runs the stream until the session is over.
pub(super) async fn run(handle: &mut ChannelHandle, io: &mut Io, half_close: bool) -> PortEnd {
    let end = if half_close {
        Flag::DisconnectToPort
    } else {
        Flag::TerminateSession
    };
    tokio::select! {
        end = send(&mut io.input, &handle.outgoing, end, &io.hangup) => end,
        end = receive(&mut io.output, &mut handle.incoming) => end,
    }
}

/// Input to the destination; then waits until nobody reads the output. The session's own end is what
/// the other direction learns of.
async fn send(
    input: &mut Source,
    outgoing: &mpsc::Sender<Outgoing>,
    end: Flag,
    hangup: &Hangup,
) -> PortEnd {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        buffer.reserve(READ);
        let read = input.read_buf(&mut buffer).await;
        let payload = match read {
            Ok(count) if count > 0 => Payload::Output(buffer.split().freeze()),
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, "standard input failed");
                break;
            }
        };
        if outgoing.send(Outgoing::Payload(payload)).await.is_err() {
            return std::future::pending().await;
        }
    }
    let told = async {
        // A pump that is gone says so in `incoming`.
        let _ = outgoing.send(Outgoing::Payload(Payload::Flag(end))).await;
        std::future::pending().await
    };
    tokio::select! {
        never = told => never,
        () = hangup.happened() => PortEnd::Output(io::ErrorKind::BrokenPipe.into()),
    }
}

/// The destination's bytes to output.
async fn receive(output: &mut Sink, incoming: &mut mpsc::Receiver<Incoming>) -> PortEnd {
    loop {
        // Output that no more follows for now must not wait in a buffer.
        let next = match incoming.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                if let Err(error) = output.flush().await {
                    return PortEnd::Output(error);
                }
                incoming.recv().await
            }
        };
        match next {
            None => return PortEnd::PumpEnded,
            Some(Incoming::Payload(Payload::Output(bytes))) => {
                if let Err(error) = output.write_all(&bytes).await {
                    return PortEnd::Output(error);
                }
            }
            Some(Incoming::Event(event)) => {
                if let Some(end) = ended(event) {
                    return flushed(output, end).await;
                }
            }
            Some(Incoming::Payload(_) | Incoming::Connected | Incoming::Disconnected { .. }) => {}
        }
    }
}

async fn flushed(output: &mut Sink, end: PortEnd) -> PortEnd {
    let flushed: io::Result<()> = output.flush().await;
    flushed.map_or_else(PortEnd::Output, |()| end)
}

/// Why a session is over that is known to be, past what lies before the reason and nobody will take.
pub(super) async fn reason(incoming: &mut mpsc::Receiver<Incoming>) -> PortEnd {
    while let Some(next) = incoming.recv().await {
        if let Incoming::Event(event) = next
            && let Some(end) = ended(event)
        {
            return end;
        }
    }
    PortEnd::PumpEnded
}

/// The end that an event stands for, if it does.
pub(super) fn ended(event: Event) -> Option<PortEnd> {
    match event {
        Event::Closed(closed) => Some(PortEnd::Closed(closed)),
        Event::HandshakeFailed(text) => Some(PortEnd::HandshakeFailed(text)),
        _ => None,
    }
}
