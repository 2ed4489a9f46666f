//! One stream of a multiplexed port session: a connection at this end and what passes between it and
//! the peer. The agent's connection is one to the destination, which is dialled when the stream
//! opens; the client's was accepted before.
//!
//! ```text
//! Dialing --connected--> Open --the connection is gone--> Gone
//!    \--- refused            \--- both directions ended
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tracing::debug;

use super::socket::Socket;
use super::traffic::Traffic;
use crate::protocol::mux::{Session, StreamId};

/// How long a peer may go on sending to a connection that is gone. It has been told by then, or it
/// reads as little as it listens.
const DEAF_PEER: Duration = Duration::from_secs(5);

type Dial<E> = Pin<Box<dyn Future<Output = Result<Socket, E>> + Send>>;

/// One stream; `E` is why there may be no connection.
pub struct Stream<E> {
    id: StreamId,
    waker: Waker,
    /// Whether FIN ends one direction only.
    half_close: bool,
    state: State<E>,
    /// Whether the peer writes no more, and all it wrote was read.
    peer_finished: bool,
    traffic: Traffic,
    /// What broke the connection first.
    failure: Option<io::Error>,
}

enum State<E> {
    Dialing(Dial<E>),
    Open(Open),
    /// There is no connection any more; what the peer still sends is dropped.
    Gone {
        since: Instant,
    },
}

struct Open {
    socket: Socket,
    /// Read from the session and not taken by the connection yet.
    pending: Bytes,
    /// Whether the connection takes bytes.
    takes: bool,
    gives: Gives,
}

/// What comes from the connection.
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
pub enum Served<E> {
    /// It goes on.
    Alive,
    /// It is over, as both ends know.
    Over,
    /// There is no connection to be had.
    Unreachable(E),
}

/// How an open stream goes on.
enum Fate {
    Alive,
    Over,
    Gone,
}

impl<E> Stream<E> {
    /// A stream whose connection `dial` makes. With `half_close`, FIN ends one direction only.
    pub fn dialing(
        id: StreamId,
        waker: Waker,
        half_close: bool,
        dial: impl Future<Output = Result<Socket, E>> + Send + 'static,
    ) -> Self {
        Self::new(id, waker, half_close, State::Dialing(Box::pin(dial)))
    }

    /// A stream whose connection is there.
    pub fn open(id: StreamId, waker: Waker, half_close: bool, socket: Socket) -> Self {
        Self::new(id, waker, half_close, State::Open(Open::new(socket)))
    }

    fn new(id: StreamId, waker: Waker, half_close: bool, state: State<E>) -> Self {
        Self {
            id,
            waker,
            half_close,
            state,
            peer_finished: false,
            traffic: Traffic::default(),
            failure: None,
        }
    }

    /// What broke the connection, if something did.
    pub fn into_failure(self) -> Option<io::Error> {
        self.failure
    }

    /// Bytes that passed so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The peer writes no more.
    pub fn finish_peer(&mut self) {
        self.peer_finished = true;
    }

    /// Moves what can be moved. What cannot wakes the stream again, or is told by the session.
    pub fn serve(&mut self, mux: &mut Session, buffer: &mut BytesMut, now: Instant) -> Served<E> {
        if let State::Dialing(dial) = &mut self.state {
            if self.peer_finished && !self.half_close {
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
                failure: &mut self.failure,
                now,
            };
            open.write(&mut turn);
            open.read(&mut turn);
            match open.fate(self.peer_finished, self.half_close, &mut turn.cx) {
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

    /// Drops what the peer sends to a connection that is gone.
    fn drop_input(&mut self, mux: &mut Session, now: Instant) -> Served<E> {
        let State::Gone { since } = self.state else {
            return Served::Alive;
        };
        let mut came = false;
        while mux.read(self.id, now).is_some() {
            came = true;
        }
        if self.peer_finished {
            return Served::Over;
        }
        if came && now.duration_since(since) > DEAF_PEER {
            mux.reset(self.id);
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
    failure: &'a mut Option<io::Error>,
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

    /// Session to connection.
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
                    debug!(stream = %turn.id, %error, "the connection takes no more");
                    // What it sent before that may still be there to be read.
                    self.takes = false;
                    turn.failure.get_or_insert(error);
                }
            }
        }
    }

    /// Connection to session.
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
                    debug!(stream = %turn.id, %error, "the connection broke");
                    self.gives = Gives::Broken;
                    turn.failure.get_or_insert(error);
                }
            }
        }
    }

    /// How it goes on, after both directions were moved.
    fn fate(&mut self, peer_finished: bool, half_close: bool, cx: &mut Context<'_>) -> Fate {
        let is_peer_done = peer_finished && self.pending.is_empty();
        if is_peer_done {
            // To the reference's ends a FIN ends both directions.
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
