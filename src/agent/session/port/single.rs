//! Forwarding of one connection at a time: raw streams (SSH), and local connections in turn for
//! clients that are too old for many at once.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::select;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::super::connection::{Connection, News};
use super::super::end::End;
use super::super::input::Input;
use super::super::task::Session;
use super::super::trail::BROKE_OFF;
use super::account::Account;
use super::destination::{Destination, DialError};
use super::ledger::Ledger;
use crate::protocol::wire::Payload;
use crate::protocol::wire::payload::Flag;
use crate::runtime::cause::in_one_line;
use crate::transport::Outgoing;
use crate::transport::forward::{READ, Socket, Traffic};

/// What the end of a connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The session is one connection, dialled at once, and ends with it.
    Raw,
    /// What the client sends next is for a new connection.
    InTurn,
}

type Dial = Pin<Box<dyn Future<Output = Result<Socket, DialError>> + Send>>;

/// The connection.
enum Link {
    /// There is none until the client sends something.
    None,
    Dialing(Dial),
    Open(Socket),
}

/// What wakes the task.
enum Event {
    Cancelled,
    News(News),
    /// The session is over on the wire, and there is no room to read on to the reason.
    Over,
    /// The data channel takes payloads again.
    Room,
    Dialled(Result<Socket, DialError>),
    Moved(Moved),
    /// The audit log is to be told of connections.
    Due,
}

/// What the connection did in either direction, if anything.
struct Moved {
    written: Option<io::Result<usize>>,
    read: Option<io::Result<usize>>,
}

/// A session that forwards one connection at a time.
pub(super) struct Single<'a> {
    session: &'a Session,
    connection: &'a mut Connection,
    destination: Arc<Destination>,
    manner: Manner,
    link: Link,
    input: Input,
    /// What the connection is read into.
    buffer: BytesMut,
    /// Whether the client said that it writes no more.
    client_finished: bool,
    /// What the audit log will be told of the connection.
    account: Option<Account>,
    ledger: Ledger,
    /// Bytes of the connection.
    traffic: Traffic,
    connections: u64,
    /// Bytes of the connections that ended.
    total: Traffic,
}

impl<'a> Single<'a> {
    /// A session that is about to dial.
    pub(super) fn new(
        session: &'a Session,
        connection: &'a mut Connection,
        destination: Destination,
        manner: Manner,
    ) -> Self {
        let mut single = Self {
            session,
            connection,
            destination: Arc::new(destination),
            manner,
            link: Link::None,
            input: Input::default(),
            buffer: BytesMut::new(),
            client_finished: false,
            account: None,
            ledger: Ledger::new(session),
            traffic: Traffic::default(),
            connections: 0,
            total: Traffic::default(),
        };
        single.dial();
        single
    }

    /// Forwards until the session is over.
    pub(super) async fn run(mut self) -> End {
        if self.manner == Manner::InTurn {
            // Between two connections the client takes nothing, which is no sign of anything.
            self.connection.send(Outgoing::PresumeNothing).await;
        }
        let end = loop {
            let event = self.next_event().await;
            if let Err(end) = self.handle(event).await {
                break end;
            }
        };
        self.close_account(&end.for_record().reason);
        info!(
            connections = self.connections,
            up = self.total.up,
            down = self.total.down,
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
        let has_room = self.input.has_room();
        let wants_output = inbox.wants_output();
        // Room first: what is read must have a place to go. Nobody else takes it meanwhile.
        let is_full = outgoing.capacity() == 0;
        let room = async {
            // A pump that is gone says why in `news`.
            if outgoing.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (link, input, buffer) = (&mut self.link, &self.input, &mut self.buffer);
        let reads = wants_output && !is_full;
        select! {
            () = self.session.cancel.cancelled() => Event::Cancelled,
            news = inbox.news(), if has_room => Event::News(news),
            () = over.cancelled(), if !has_room => Event::Over,
            () = room, if wants_output && is_full => Event::Room,
            event = poll_fn(|cx| link.poll(cx, input.front(), buffer, reads)) => event,
            () = self.ledger.due() => Event::Due,
        }
    }

    /// Does what an event asks for.
    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Cancelled => Err(End::of_cancelled(self.session)),
            Event::News(news) => self.handle_news(news).await,
            Event::Over => Err(self.connection.inbox.end().await),
            Event::Room => Ok(()),
            Event::Due => {
                self.ledger.tell();
                Ok(())
            }
            Event::Dialled(Ok(socket)) => {
                self.link = Link::Open(socket);
                self.pass_end_on().await;
                Ok(())
            }
            Event::Dialled(Err(error)) => {
                // The words of the reference agent.
                let reason = in_one_line(&error);
                let text = format!("Unable to connect to specified port: {reason}");
                Err(End::NotStarted(text))
            }
            Event::Moved(moved) => {
                if let Some(written) = moved.written {
                    self.handle_written(written).await;
                }
                match moved.read {
                    Some(read) => self.handle_read(read).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn handle_news(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Input(bytes) => {
                self.input.push(bytes);
                if matches!(self.link, Link::None) && !self.input.is_empty() {
                    self.dial();
                }
            }
            News::Flag(Flag::DisconnectToPort) => return self.handle_disconnect().await,
            News::Leave => {
                self.flush().await;
                return Err(End::Left);
            }
            News::Closed => return Err(End::Closed),
            News::Lost(reason) => return Err(End::Lost(reason)),
            News::Connected | News::Open { .. } | News::Size(_) | News::Flag(_) | News::Nothing => {
            }
        }
        Ok(())
    }

    /// The client's side of the connection ended.
    async fn handle_disconnect(&mut self) -> Result<(), End> {
        match self.manner {
            Manner::InTurn => {
                self.flush().await;
                self.hang_up("the client ended it");
                Ok(())
            }
            // A client of ours still waits for the answer.
            Manner::Raw if self.connection.inbox.client_half_closes() => {
                self.client_finished = true;
                self.pass_end_on().await;
                Ok(())
            }
            Manner::Raw => {
                self.flush().await;
                Err(End::Left)
            }
        }
    }

    async fn handle_written(&mut self, written: io::Result<usize>) {
        match written {
            Ok(count) => {
                self.input.take(count);
                self.traffic.add_up(count);
            }
            Err(error) => {
                debug!(%error, "the destination takes no more");
                // What it sent before that may still be there to be read.
                self.input.clear();
            }
        }
        self.pass_end_on().await;
    }

    async fn handle_read(&mut self, read: io::Result<usize>) -> Result<(), End> {
        match (read, self.manner) {
            (Ok(0), Manner::Raw) => Err(End::Finished),
            (Ok(0), Manner::InTurn) => {
                self.hang_up("the destination ended it");
                Ok(())
            }
            (Ok(count), _) => {
                self.traffic.add_down(count);
                let payload = Payload::Output(self.buffer.split().freeze());
                self.connection.send(Outgoing::Payload(payload)).await;
                Ok(())
            }
            // The words of the reference agent.
            (Err(error), Manner::Raw) => {
                Err(End::Broken(format!("Failed to read from port: {error}")))
            }
            (Err(error), Manner::InTurn) => {
                debug!(%error, "the destination broke the connection");
                self.hang_up(&format!("the connection broke: {error}"));
                Ok(())
            }
        }
    }

    fn dial(&mut self) {
        debug!("connection opens");
        self.connections += 1;
        let account = Account::open(&self.destination);
        self.link = Link::Dialing(Box::pin(account.dial()));
        self.account = Some(account);
    }

    /// Forgets the connection and what was meant for it.
    fn hang_up(&mut self, reason: &str) {
        let Traffic { up, down } = self.traffic;
        debug!(reason, up, down, "connection closed");
        self.close_account(reason);
        self.link = Link::None;
        self.input.clear();
    }

    fn close_account(&mut self, reason: &str) {
        let traffic = std::mem::take(&mut self.traffic);
        self.total.add(traffic);
        if let Some(account) = self.account.take() {
            self.ledger.close(&account, traffic, reason);
        }
    }

    /// Writes what the client sent before it ended its side, as long as that may take.
    async fn flush(&mut self) {
        let Link::Open(socket) = &mut self.link else {
            return;
        };
        let deadline = Instant::now() + self.session.context.settings.drain;
        while !self.input.is_empty() {
            let write = poll_fn(|cx| socket.poll_write(cx, self.input.front()));
            match timeout_at(deadline, write).await {
                Ok(Ok(count)) => {
                    self.input.take(count);
                    self.traffic.add_up(count);
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Once all is written, tells the destination that the client writes no more.
    async fn pass_end_on(&mut self) {
        if let Link::Open(socket) = &mut self.link
            && self.input.is_empty()
            && std::mem::take(&mut self.client_finished)
        {
            poll_fn(|cx| {
                socket.finish(cx);
                Poll::Ready(())
            })
            .await;
        }
    }
}

/// What is open when the session is cut off is told too.
impl Drop for Single<'_> {
    fn drop(&mut self) {
        self.close_account(BROKE_OFF);
    }
}

impl Link {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        buffer: &mut BytesMut,
        reads: bool,
    ) -> Poll<Event> {
        let socket = match self {
            Self::None => return Poll::Pending,
            Self::Dialing(dial) => return dial.as_mut().poll(cx).map(Event::Dialled),
            Self::Open(socket) => socket,
        };
        let mut moved = Moved {
            written: None,
            read: None,
        };
        if !input.is_empty()
            && let Poll::Ready(written) = socket.poll_write(cx, input)
        {
            moved.written = Some(written);
        }
        if reads && let Poll::Ready(read) = socket.poll_read(cx, buffer, READ) {
            moved.read = Some(read);
        }
        match moved {
            Moved {
                written: None,
                read: None,
            } => Poll::Pending,
            moved => Poll::Ready(Event::Moved(moved)),
        }
    }
}
