//! One stream of a multiplexed port session: a connection to the destination and what passes
//! between it and the client.
//!
//! ```text
//! Dialing --connected--> Open --the destination is gone--> Gone
//!    \--- refused            \--- both directions ended
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tracing::debug;

use super::destination::{Destination, DialError};
use super::socket::Socket;
use super::traffic::Traffic;
use crate::protocol::mux::{Session, StreamId};

/// How long a client may go on sending to a destination that is gone. It has been told by then, or
/// it reads as little as it listens.
const DEAF_CLIENT: Duration = Duration::from_secs(5);

type Dial = Pin<Box<dyn Future<Output = Result<Socket, DialError>> + Send>>;

/// One stream.
pub(super) struct Stream {
    id: StreamId,
    waker: Waker,
    /// Whether FIN ends one direction only.
    half_close: bool,
    state: State,
    /// Whether the client writes no more, and all it wrote was read.
    client_finished: bool,
    traffic: Traffic,
}

enum State {
    Dialing(Dial),
    Open(Open),
    /// There is no connection any more; what the client still sends is dropped.
    Gone {
        since: Instant,
    },
}

struct Open {
    socket: Socket,
    /// Read from the client's side and not taken by the destination yet.
    pending: Bytes,
    /// Whether the destination takes bytes.
    takes: bool,
    gives: Gives,
}

/// What the destination sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// There may be more.
    More,
    /// It has ended its direction.
    Ended,
    /// The connection broke.
    Broken,
}

/// What became of a stream that was served.
pub(super) enum Served {
    /// It goes on.
    Alive,
    /// It is over, as both ends know.
    Over,
    /// The destination cannot be reached.
    Unreachable(DialError),
}

/// How an open stream goes on.
enum Fate {
    Alive,
    Over,
    Gone,
}

impl Stream {
    /// Begins to dial.
    pub(super) fn new(
        id: StreamId,
        waker: Waker,
        half_close: bool,
        destination: &Arc<Destination>,
    ) -> Self {
        let destination = Arc::clone(destination);
        Self {
            id,
            waker,
            half_close,
            state: State::Dialing(Box::pin(async move { destination.dial().await })),
            client_finished: false,
            traffic: Traffic::default(),
        }
    }

    /// Bytes that passed so far.
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The client writes no more.
    pub(super) fn finish_client(&mut self) {
        self.client_finished = true;
    }

    /// Moves what can be moved. What cannot wakes the stream again, or is told by the session.
    pub(super) fn serve(
        &mut self,
        mux: &mut Session,
        buffer: &mut BytesMut,
        now: Instant,
    ) -> Served {
        if let State::Dialing(dial) = &mut self.state {
            if self.client_finished && !self.half_close {
                mux.finish(self.id);
                return Served::Over;
            }
            match dial.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return Served::Alive,
                Poll::Ready(Err(error)) => return Served::Unreachable(error),
                Poll::Ready(Ok(socket)) => self.state = State::Open(Open::new(socket)),
            }
        }
        if let State::Open(open) = &mut self.state {
            let mut turn = Turn {
                id: self.id,
                cx: Context::from_waker(&self.waker),
                mux,
                buffer,
                traffic: &mut self.traffic,
                now,
            };
            open.write(&mut turn);
            open.read(&mut turn);
            match open.fate(self.client_finished, self.half_close, &mut turn.cx) {
                Fate::Alive => return Served::Alive,
                Fate::Over => {
                    mux.finish(self.id);
                    return Served::Over;
                }
                Fate::Gone => {
                    mux.finish(self.id);
                    self.state = State::Gone { since: now };
                }
            }
        }
        self.drop_input(mux, now)
    }

    /// Drops what the client sends to a destination that is gone.
    fn drop_input(&mut self, mux: &mut Session, now: Instant) -> Served {
        let State::Gone { since } = self.state else {
            return Served::Alive;
        };
        let mut came = false;
        while mux.read(self.id, now).is_some() {
            came = true;
        }
        if self.client_finished {
            return Served::Over;
        }
        if came && now.duration_since(since) > DEAF_CLIENT {
            mux.reset(self.id, now);
            return Served::Over;
        }
        Served::Alive
    }
}

/// What a stream needs to be served.
struct Turn<'a> {
    id: StreamId,
    cx: Context<'a>,
    mux: &'a mut Session,
    buffer: &'a mut BytesMut,
    traffic: &'a mut Traffic,
    now: Instant,
}

impl Open {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            pending: Bytes::new(),
            takes: true,
            gives: Gives::More,
        }
    }

    /// Client to destination.
    fn write(&mut self, turn: &mut Turn<'_>) {
        loop {
            if self.pending.is_empty() {
                match turn.mux.read(turn.id, turn.now) {
                    None => return,
                    Some(piece) => self.pending = piece,
                }
            }
            if !self.takes {
                // Nobody wants it, and it must not lie in the way of other streams.
                self.pending.clear();
                continue;
            }
            match self.socket.poll_write(&mut turn.cx, &self.pending) {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) => {
                    self.pending.advance(count);
                    turn.traffic.add_up(count);
                }
                Poll::Ready(Err(error)) => {
                    debug!(stream = %turn.id, %error, "the destination takes no more");
                    // What it sent before that may still be there to be read.
                    self.takes = false;
                }
            }
        }
    }

    /// Destination to client.
    fn read(&mut self, turn: &mut Turn<'_>) {
        while self.gives == Gives::More {
            // When there is room again, the session tells of it.
            let room = turn.mux.send_capacity(turn.id);
            if room == 0 {
                return;
            }
            match self.socket.poll_read(&mut turn.cx, turn.buffer, room) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => {
                    self.gives = Gives::Ended;
                    turn.mux.finish(turn.id);
                }
                Poll::Ready(Ok(count)) => {
                    turn.mux.write(turn.id, &mut turn.buffer.split().freeze());
                    turn.traffic.add_down(count);
                }
                Poll::Ready(Err(error)) => {
                    debug!(stream = %turn.id, %error, "the destination broke the connection");
                    self.gives = Gives::Broken;
                }
            }
        }
    }

    /// How it goes on, after both directions were moved.
    fn fate(&mut self, client_finished: bool, half_close: bool, cx: &mut Context<'_>) -> Fate {
        let is_client_done = client_finished && self.pending.is_empty();
        if is_client_done {
            // To the reference's client a FIN of its own ends both directions.
            if !half_close || self.gives != Gives::More {
                return Fate::Over;
            }
            if std::mem::take(&mut self.takes) {
                self.socket.finish(cx);
            }
        }
        match self.gives {
            Gives::Broken => Fate::Gone,
            Gives::Ended if !half_close || !self.takes => Fate::Gone,
            Gives::Ended | Gives::More => Fate::Alive,
        }
    }
}
