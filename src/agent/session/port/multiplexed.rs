//! Forwarding of many connections at once: each stream of the client is a connection of its own.
//!
//! One task drives all streams, the mux session and the data channel's ends. Nothing is polled that
//! was not woken, and nothing is taken that has no place to go: sockets are read while the session
//! takes their bytes, the session is sent from while the data channel takes payloads, and payloads
//! are taken from the data channel while the session has room for them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::select;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{debug, info};

use super::super::connection::{Connection, News};
use super::super::end::End;
use super::super::task::Session;
use super::super::trail::BROKE_OFF;
use super::account::Account;
use super::destination::{Destination, DialError};
use super::ledger::Ledger;
use crate::protocol::mux::{self, KeepAlive, Role, StreamId};
use crate::protocol::wire::Payload;
use crate::protocol::wire::features::LARGE_PAYLOAD;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::version::ClientGates;
use crate::runtime::cause::in_one_line;
use crate::transport::Outgoing;
use crate::transport::forward::{Change, Streams, Traffic};

/// Payloads taken from the data channel before streams get their turn; more than wait in its queue.
const BATCH: usize = 32;
/// Bytes taken off the session for one payload. The channel cuts them to what the client takes.
const PAYLOAD: usize = LARGE_PAYLOAD;

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
    /// The audit log is to be told of connections.
    Due,
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
    streams: Streams<DialError>,
    /// What the audit log will be told of each.
    accounts: HashMap<StreamId, Account>,
    ledger: Ledger,
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
        let settings = mux::Settings {
            half_close: connection.inbox.client_half_closes(),
            keep_alive: if gates.mux_keep_alive_off {
                KeepAlive::Off
            } else {
                KeepAlive::XTACI
            },
            stall_timeout: session.context.settings.stall_timeout,
            ..mux::Settings::new(Role::Server)
        };
        Self {
            session,
            connection,
            destination: Arc::new(destination),
            streams: Streams::new(settings),
            accounts: HashMap::new(),
            ledger: Ledger::new(session),
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
        self.close_all(&end.for_record().reason);
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
        let has_room = self.streams.has_room();
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
            () = self.streams.woken() => Event::Woken,
            () = self.ledger.due() => Event::Due,
        }
    }

    /// Does what an event asks for.
    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Cancelled => Err(End::of_cancelled(self.session)),
            Event::News(news) => self.take_news(news),
            Event::Over => Err(self.connection.inbox.end().await),
            Event::Room | Event::Woken => Ok(()),
            Event::Due => {
                self.ledger.tell();
                Ok(())
            }
        }
    }

    /// Takes what the data channel brought, and what it has brought besides.
    fn take_news(&mut self, first: News) -> Result<(), End> {
        let mut taken = 0;
        let mut next = Some(first);
        while let Some(news) = next {
            self.take(news)?;
            taken += 1;
            next = if taken < BATCH && self.streams.has_room() {
                self.connection.inbox.try_news()
            } else {
                None
            };
        }
        Ok(())
    }

    fn take(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Input(bytes) => self
                .streams
                .handle_bytes(bytes)
                .map_err(|error| End::Broken(in_one_line(&error))),
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
        self.streams.serve_woken();
        loop {
            while let Some(change) = self.streams.poll_change() {
                self.follow(change);
            }
            // What was sent may have made room for more.
            if !self.transmit() {
                return;
            }
        }
    }

    fn follow(&mut self, change: Change<DialError>) {
        match change {
            Change::Opened(id) => {
                debug!(stream = %id, "stream opened");
                self.totals.streams += 1;
                let account = Account::open(&self.destination);
                self.streams.dial(id, account.dial());
                self.accounts.insert(id, account);
            }
            Change::Closed(id, traffic, closing) => self.close(id, traffic, &closing.to_string()),
            Change::Unreachable(id, error) => {
                self.errors_due += 1;
                self.totals.unreachable += 1;
                self.close(id, Traffic::default(), &in_one_line(&error));
            }
        }
    }

    fn close(&mut self, id: StreamId, traffic: Traffic, outcome: &str) {
        let Traffic { up, down } = traffic;
        debug!(stream = %id, up, down, outcome, "stream closed");
        self.totals.traffic.add(traffic);
        if let Some(account) = self.accounts.remove(&id) {
            self.ledger.close(&account, traffic, outcome);
        }
    }

    fn close_all(&mut self, outcome: &str) {
        let open: Vec<_> = self.streams.close_all().collect();
        for (id, traffic) in open {
            self.close(id, traffic, outcome);
        }
    }

    /// Hands the data channel what it takes. Returns whether that was anything.
    fn transmit(&mut self) -> bool {
        self.is_blocked = false;
        if !self.connection.inbox.wants_output() {
            return false;
        }
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
            } else if let Some(bytes) = self.streams.poll_transmit(PAYLOAD) {
                Payload::Output(bytes)
            } else {
                return has_sent;
            };
            permit.send(Outgoing::Payload(payload));
            has_sent = true;
        }
    }
}

/// What is open when the session is cut off is told too.
impl Drop for Multiplexed<'_> {
    fn drop(&mut self) {
        self.close_all(BROKE_OFF);
    }
}
