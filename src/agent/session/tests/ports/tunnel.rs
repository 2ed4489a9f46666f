//! The client's side of a multiplexed session.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;
use tokio::select;

use super::targets::forwarding;
use crate::agent::session::tests::client::Client;
use crate::agent::session::tests::harness::{World, soon};
use crate::protocol::mux::{Event, KeepAlive, Role, Session, Settings, StreamId};
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::{Payload, PeerFeatures};
use crate::transport::{Incoming, Outgoing};

/// A client that forwards.
pub(super) struct Tunnel {
    pub(super) client: Client,
    pub(super) mux: Session,
    pub(super) flags: Vec<Flag>,
    received: HashMap<StreamId, Vec<u8>>,
    /// Streams whose agent's direction has ended, in whatever way.
    over: HashSet<StreamId>,
}

impl Tunnel {
    /// Forwards to a port by our own client.
    pub(super) async fn to(world: &mut World, port: u16) -> Self {
        world.start("alice-1", forwarding(port));
        Self::attach(world, PeerFeatures::ours()).await
    }

    /// Forwards by a client with these features.
    pub(super) async fn attach(world: &mut World, features: PeerFeatures) -> Self {
        let client = world.attach(features).await;
        let settings = Settings {
            half_close: features.half_close,
            keep_alive: KeepAlive::Off,
            ..Settings::new(Role::Client)
        };
        Self {
            client,
            mux: Session::new(settings, Instant::now()),
            flags: Vec::new(),
            received: HashMap::new(),
            over: HashSet::new(),
        }
    }

    pub(super) async fn open(&mut self) -> StreamId {
        let id = self.mux.open(Instant::now()).unwrap();
        self.flush().await;
        id
    }

    /// Writes all of it, however long that takes.
    pub(super) async fn write(&mut self, id: StreamId, bytes: &[u8]) {
        let mut bytes = Bytes::copy_from_slice(bytes);
        loop {
            self.mux.write(id, &mut bytes);
            self.flush().await;
            if bytes.is_empty() {
                return;
            }
        }
    }

    pub(super) async fn finish(&mut self, id: StreamId) {
        self.mux.finish(id);
        self.flush().await;
    }

    pub(super) async fn reset(&mut self, id: StreamId) {
        self.mux.reset(id);
        self.flush().await;
    }

    /// Reads until a stream has brought so many bytes; gives and forgets them.
    pub(super) async fn read(&mut self, id: StreamId, count: usize) -> Vec<u8> {
        while self.received.get(&id).map_or(0, Vec::len) < count {
            assert!(!self.is_over(id), "the stream has ended before");
            self.step().await;
        }
        let received = self.received.entry(id).or_default();
        let rest = received.split_off(count);
        std::mem::replace(received, rest)
    }

    /// Reads a stream until the agent has ended its direction.
    pub(super) async fn read_to_end(&mut self, id: StreamId) -> Vec<u8> {
        while !self.is_over(id) {
            self.step().await;
        }
        self.received.remove(&id).unwrap_or_default()
    }

    pub(super) async fn wait_for_flag(&mut self) -> Flag {
        while self.flags.is_empty() {
            self.step().await;
        }
        self.flags.remove(0)
    }

    fn is_over(&self, id: StreamId) -> bool {
        self.over.contains(&id)
    }

    /// Takes one thing from the agent.
    pub(super) async fn step(&mut self) {
        let incoming = soon(self.client.handle.incoming.recv()).await;
        self.take(incoming);
        self.flush().await;
    }

    pub(super) fn take(&mut self, incoming: Option<Incoming>) {
        match incoming.expect("the session goes on") {
            Incoming::Payload(Payload::Output(bytes)) => {
                self.mux.handle_bytes(bytes, Instant::now()).unwrap();
            }
            Incoming::Payload(Payload::Flag(flag)) => self.flags.push(flag),
            _ => {}
        }
        self.follow();
    }

    fn follow(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened(_) | Event::Writable(_) => {}
                Event::Readable(id) => {
                    let received = self.received.entry(id).or_default();
                    while let Some(piece) = self.mux.read(id, Instant::now()) {
                        received.extend_from_slice(&piece);
                    }
                }
                Event::PeerFinished { id, .. } | Event::Reset { id, .. } => {
                    self.over.insert(id);
                }
            }
        }
    }

    /// Sends what the mux has to send, and reads on where the agent does not take it at once.
    async fn flush(&mut self) {
        while let Some(bytes) = self.mux.poll_transmit(32 << 10) {
            while let Some(incoming) = soon(self.hand_over(&bytes)).await {
                self.take(Some(incoming));
            }
        }
        self.follow();
    }

    /// Sends a payload, unless something comes first.
    async fn hand_over(&mut self, bytes: &Bytes) -> Option<Incoming> {
        let handle = &mut self.client.handle;
        select! {
            biased;
            permit = handle.outgoing.reserve() => {
                let payload = Payload::Output(bytes.clone());
                permit.unwrap().send(Outgoing::Payload(payload));
                None
            }
            incoming = handle.incoming.recv() => Some(incoming.expect("the session goes on")),
        }
    }
}
