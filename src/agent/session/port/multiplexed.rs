//! Forwarding of many connections at once: each stream of the client is a connection of its own.
//!
//! One task drives all streams, the mux session and the data channel's ends. Nothing is polled that
//! was not woken, and nothing is taken that has no place to go: sockets are read while the session
//! takes their bytes, the session is sent from while the data channel takes payloads, and payloads
//! are taken from the data channel while the session has room for them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::select;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::super::connection::{Connection, News};
use super::super::end::End;
use super::super::task::Session;
use super::destination::{Destination, DialError};
use crate::protocol::mux::{self, KeepAlive, MuxError, Role, StreamId};
use crate::protocol::wire::Payload;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::version::ClientGates;
use crate::runtime::cause::in_one_line;
use crate::transport::Outgoing;
use crate::transport::forward::{Ready, Served, Stream, Traffic};

/// Payloads taken from the data channel before streams get their turn; more than wait in its queue.
const BATCH: usize = 32;

/// What wakes the task.
enum Event {
    Cancelled,
    News(News),
    /// The session is over on the wire, and there is no room to read on to the reason.
    Over,
    /// The data channel takes payloads again.
    Room,
    /// A stream has something to do.
    Woken,
    /// A deadline of the mux session passed.
    Timeout,
}

/// Streams of a session that ended.
#[derive(Debug, Default)]
struct Totals {
    streams: u64,
    unreachable: u64,
    traffic: Traffic,
}

/// A session whose streams are forwarded.
pub(super) struct Multiplexed<'a> {
    session: &'a Session,
    connection: &'a mut Connection,
    destination: Arc<Destination>,
    half_close: bool,
    mux: mux::Session,
    streams: HashMap<StreamId, Stream<DialError>>,
    ready: Arc<Ready>,
    /// What sockets are read into.
    buffer: BytesMut,
    /// Streams whose destination could not be reached, of which the client is not told yet.
    errors_due: usize,
    /// Whether the data channel takes nothing for now.
    is_blocked: bool,
    totals: Totals,
}

impl<'a> Multiplexed<'a> {
    /// A session without streams, for a client with these gates.
    pub(super) fn new(
        session: &'a Session,
        connection: &'a mut Connection,
        destination: Destination,
        gates: ClientGates,
    ) -> Self {
        let half_close = connection.inbox.client_half_closes();
        let settings = mux::Settings {
            half_close,
            keep_alive: if gates.mux_keep_alive_off {
                KeepAlive::Off
            } else {
                KeepAlive::XTACI
            },
            ..mux::Settings::new(Role::Server)
        };
        Self {
            session,
            connection,
            destination: Arc::new(destination),
            half_close,
            mux: mux::Session::new(settings, Instant::now().into_std()),
            streams: HashMap::new(),
            ready: Arc::default(),
            buffer: BytesMut::new(),
            errors_due: 0,
            is_blocked: false,
            totals: Totals::default(),
        }
    }

    /// Forwards until the session is over.
    pub(super) async fn run(mut self) -> End {
        let end = loop {
            let event = self.next_event().await;
            if let Err(end) = self.handle(event).await {
                break end;
            }
            self.settle();
        };
        let streams = std::mem::take(&mut self.streams);
        for (id, stream) in streams {
            self.count(id, &stream);
        }
        let Totals {
            streams,
            unreachable,
            traffic,
        } = self.totals;
        info!(
            streams,
            unreachable,
            up = traffic.up,
            down = traffic.down,
            "forwarding ended"
        );
        end
    }

    async fn next_event(&mut self) -> Event {
        let Connection {
            outgoing,
            inbox,
            over,
            ..
        } = &mut *self.connection;
        let has_room = self.mux.has_room();
        let deadline = self.mux.poll_timeout().map(Instant::from_std);
        let timeout = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let wants_output = inbox.wants_output();
        let room = async {
            // A pump that is gone says why in `news`.
            if outgoing.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        select! {
            () = self.session.cancel.cancelled() => Event::Cancelled,
            news = inbox.news(), if has_room => Event::News(news),
            () = over.cancelled(), if !has_room => Event::Over,
            () = room, if self.is_blocked && wants_output => Event::Room,
            () = poll_fn(|cx| self.ready.poll_woken(cx)) => Event::Woken,
            () = timeout => Event::Timeout,
        }
    }

    /// Does what an event asks for.
    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Cancelled => Err(End::of_cancelled(self.session)),
            Event::News(news) => self.take_news(news),
            Event::Over => Err(self.connection.inbox.end().await),
            Event::Timeout => {
                let now = Instant::now().into_std();
                self.mux.handle_timeout(now).map_err(|error| broken(&error))
            }
            Event::Room | Event::Woken => Ok(()),
        }
    }

    /// Takes what the data channel brought, and what it has brought besides.
    fn take_news(&mut self, first: News) -> Result<(), End> {
        let mut taken = 0;
        let mut next = Some(first);
        while let Some(news) = next {
            self.take(news)?;
            taken += 1;
            next = if taken < BATCH && self.mux.has_room() {
                self.connection.inbox.try_news()
            } else {
                None
            };
        }
        Ok(())
    }

    fn take(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Input(bytes) => {
                let now = Instant::now().into_std();
                self.mux
                    .handle_bytes(bytes, now)
                    .map_err(|error| broken(&error))
            }
            News::Leave => Err(End::Left),
            News::Closed => Err(End::Closed),
            News::Lost(reason) => Err(End::Lost(reason)),
            News::Connected | News::Open { .. } | News::Size(_) | News::Flag(_) | News::Nothing => {
                Ok(())
            }
        }
    }

    /// Moves everything that can be moved.
    fn settle(&mut self) {
        for id in self.ready.take() {
            self.serve(id);
        }
        loop {
            while let Some(event) = self.mux.poll_event() {
                self.follow(event);
            }
            // What was sent may have made room for more.
            if !self.transmit() {
                return;
            }
        }
    }

    fn follow(&mut self, event: mux::Event) {
        match event {
            mux::Event::Opened(id) => {
                debug!(stream = %id, "stream opened");
                let waker = self.ready.waker(id);
                let destination = Arc::clone(&self.destination);
                let dial = async move { destination.dial().await };
                let stream = Stream::dialing(id, waker, self.half_close, dial);
                self.streams.insert(id, stream);
                self.totals.streams += 1;
                self.serve(id);
            }
            mux::Event::Readable(id) | mux::Event::Writable(id) => self.serve(id),
            mux::Event::PeerFinished { id, .. } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.finish_peer();
                }
                self.serve(id);
            }
            mux::Event::Reset { id, reason } => {
                match reason {
                    mux::ResetReason::Peer => debug!(stream = %id, %reason, "stream reset"),
                    mux::ResetReason::Stalled { .. } => {
                        warn!(stream = %id, %reason, "stream reset");
                    }
                }
                self.forget(id);
            }
        }
    }

    /// Gives a stream its turn.
    fn serve(&mut self, id: StreamId) {
        let now = Instant::now().into_std();
        let Some(stream) = self.streams.get_mut(&id) else {
            // What still comes on a stream that is over.
            while self.mux.read(id, now).is_some() {}
            return;
        };
        match stream.serve(&mut self.mux, &mut self.buffer, now) {
            Served::Alive => {}
            Served::Over => self.forget(id),
            Served::Unreachable(error) => {
                debug!(stream = %id, error = in_one_line(&error), "no connection");
                self.mux.reset(id, now);
                self.errors_due += 1;
                self.totals.unreachable += 1;
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.count(id, &stream);
        }
    }

    fn count(&mut self, id: StreamId, stream: &Stream<DialError>) {
        let traffic = stream.traffic();
        debug!(stream = %id, up = traffic.up, down = traffic.down, "stream closed");
        self.totals.traffic.add(traffic);
    }

    /// Hands the data channel what it takes. Returns whether that was anything.
    fn transmit(&mut self) -> bool {
        self.is_blocked = false;
        if !self.connection.inbox.wants_output() {
            return false;
        }
        let size = self.connection.inbox.payload_size();
        let mut has_sent = false;
        loop {
            let permit = match self.connection.outgoing.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => {
                    self.is_blocked = true;
                    return has_sent;
                }
                Err(TrySendError::Closed(())) => return has_sent,
            };
            let payload = if self.errors_due > 0 {
                self.errors_due -= 1;
                Payload::Flag(Flag::ConnectToPortError)
            } else if let Some(bytes) = self.mux.poll_transmit(size) {
                Payload::Output(bytes)
            } else {
                return has_sent;
            };
            permit.send(Outgoing::Payload(payload));
            has_sent = true;
        }
    }
}

fn broken(error: &MuxError) -> End {
    End::Broken(in_one_line(error))
}
