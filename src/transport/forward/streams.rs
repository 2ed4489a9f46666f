//! All streams of a mux session, with the connections that they carry.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::select;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::ready::Ready;
use super::socket::Socket;
use super::stream::{Served, Stream};
use super::traffic::Traffic;
use crate::protocol::mux::{Event, MuxError, OpenError, ResetReason, Session, Settings, StreamId};

/// The streams of one session; `E` is why a stream may have no connection.
///
/// Its user feeds it with what the data channel brings ([`Self::handle_bytes`]), lets it
/// [serve](Self::serve_woken) what [`Self::woken`] told of, and then asks for
/// [changes](Self::poll_change) and for bytes [to send](Self::poll_transmit) until there are none.
pub struct Streams<E> {
    mux: Session,
    half_close: bool,
    streams: HashMap<StreamId, Stream<E>>,
    ready: Arc<Ready>,
    /// What sockets are read into.
    buffer: BytesMut,
    /// What is to be told. No more than one for each stream.
    changes: Vec<Change<E>>,
}

/// What happened to a stream.
pub enum Change<E> {
    /// The peer opened it; it waits for [`Streams::dial`] or [`Streams::refuse`].
    Opened(StreamId),
    /// It is over, after so many bytes.
    Closed(StreamId, Traffic, Closing),
    /// It is over because there was no connection to be had.
    Unreachable(StreamId, E),
}

/// How a stream came to its end; its text is short.
#[derive(Debug)]
pub enum Closing {
    /// Both ends were done.
    Done,
    /// The connection at this end broke.
    Broken(io::Error),
    /// The stream was reset.
    Reset(ResetReason),
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("closed"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Reset(reason) => reason.fmt(f),
        }
    }
}

impl<E> Streams<E> {
    /// A session without streams.
    pub fn new(settings: Settings) -> Self {
        Self {
            half_close: settings.half_close,
            mux: Session::new(settings, now()),
            streams: HashMap::new(),
            ready: Arc::default(),
            buffer: BytesMut::new(),
            changes: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether the session takes more of what the data channel brings.
    pub fn has_room(&self) -> bool {
        self.mux.has_room()
    }

    /// Takes what the data channel brought.
    ///
    /// # Errors
    /// Those of [`Session::handle_bytes`]; the session is over.
    pub fn handle_bytes(&mut self, bytes: Bytes) -> Result<(), MuxError> {
        self.mux.handle_bytes(bytes, now())
    }

    /// Waits until there is something to [serve](Self::serve_woken).
    pub async fn woken(&mut self) {
        let timeout = async {
            match self.mux.poll_timeout() {
                Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = poll_fn(|cx| self.ready.poll_woken(cx)) => {}
            () = timeout => {}
        }
    }

    /// Gives the streams that were woken their turn, and looks at the clock.
    pub fn serve_woken(&mut self) {
        let is_due = self.mux.poll_timeout().is_some_and(|due| due <= now());
        if is_due {
            self.mux.handle_timeout(now());
        }
        for id in self.ready.take() {
            self.serve(id);
        }
    }

    /// Opens a stream for a connection that is there.
    ///
    /// # Errors
    /// Those of [`Session::open`]; the connection is dropped.
    pub fn open(&mut self, socket: Socket) -> Result<StreamId, OpenError> {
        let id = self.mux.open(now())?;
        let stream = Stream::open(id, self.ready.waker(id), self.half_close, socket);
        self.streams.insert(id, stream);
        self.serve(id);
        Ok(id)
    }

    /// Makes the connection of a stream that the peer opened.
    pub fn dial(
        &mut self,
        id: StreamId,
        dial: impl Future<Output = Result<Socket, E>> + Send + 'static,
    ) {
        let stream = Stream::dialing(id, self.ready.waker(id), self.half_close, dial);
        self.streams.insert(id, stream);
        self.serve(id);
    }

    /// Wants no stream that the peer opened.
    pub fn refuse(&mut self, id: StreamId) {
        self.mux.reset(id);
    }

    /// What happened since the last call; what can be done without asking is done.
    pub fn poll_change(&mut self) -> Option<Change<E>> {
        loop {
            if let Some(change) = self.changes.pop() {
                return Some(change);
            }
            match self.mux.poll_event()? {
                Event::Opened(id) => return Some(Change::Opened(id)),
                Event::Readable(id) | Event::Writable(id) => self.serve(id),
                Event::PeerFinished { id, .. } => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.finish_peer();
                    }
                    self.serve(id);
                }
                Event::Reset { id, reason } => {
                    match reason {
                        ResetReason::Peer => debug!(stream = %id, %reason, "stream reset"),
                        ResetReason::Stalled { .. } => {
                            warn!(stream = %id, %reason, "stream reset");
                        }
                    }
                    if let Some(stream) = self.streams.remove(&id) {
                        let closing = Closing::Reset(reason);
                        return Some(Change::Closed(id, stream.traffic(), closing));
                    }
                }
            }
        }
    }

    /// The next bytes for the data channel, up to `limit` of them.
    pub fn poll_transmit(&mut self, limit: usize) -> Option<Bytes> {
        self.mux.poll_transmit(limit)
    }

    /// Ends all streams, with the session. Returns what passed through them.
    pub fn close_all(&mut self) -> impl Iterator<Item = (StreamId, Traffic)> {
        self.streams
            .drain()
            .map(|(id, stream)| (id, stream.traffic()))
    }

    /// Gives a stream its turn.
    fn serve(&mut self, id: StreamId) {
        let now = now();
        let Some(stream) = self.streams.get_mut(&id) else {
            // What still comes on a stream that is over.
            while self.mux.read(id, now).is_some() {}
            return;
        };
        match stream.serve(&mut self.mux, &mut self.buffer, now) {
            Served::Alive => {}
            Served::Over => self.close(id),
            Served::Unreachable(error) => {
                self.mux.reset(id);
                self.streams.remove(&id);
                self.changes.push(Change::Unreachable(id, error));
            }
        }
    }

    fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            let traffic = stream.traffic();
            let closing = stream.into_failure().map_or(Closing::Done, Closing::Broken);
            self.changes.push(Change::Closed(id, traffic, closing));
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
