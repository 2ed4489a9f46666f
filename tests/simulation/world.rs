//! Two ends on a network under a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_agent::protocol::wire::{Message, MessageId, MessageType, PayloadType};

use crate::network::{Flying, Network, Side, Weather};
use crate::random::Random;

/// One end: a channel with its owner, or a model of a foreign one.
pub trait Peer {
    fn connected(&mut self, now: Instant);
    fn disconnected(&mut self, now: Instant);
    fn receive(&mut self, raw: Bytes, now: Instant);
    /// Timers and whatever the owner wants to do by now.
    fn work(&mut self, now: Instant);
    /// When `work` has something to do.
    fn next_work(&self, now: Instant) -> Option<Instant>;
    /// The next message for the socket.
    fn transmit(&mut self, now: Instant) -> Option<Bytes>;
    /// Every byte sent so far.
    fn sent(&self) -> &[u8];
    /// Every byte received so far.
    fn received(&self) -> &[u8];
    /// Fails if more is held in memory than allowed.
    fn check_memory(&self);
    /// What a relay passes to the agent about this client.
    fn features(&self) -> String;
}

#[derive(Debug)]
enum Happening {
    AtRelay(Flying),
    Arrival(Flying),
    Cut(Side),
    Connect(Side),
}

struct Entry {
    at: Instant,
    order: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The simulation.
pub struct World<A, C> {
    pub now: Instant,
    pub start: Instant,
    pub agent: A,
    pub client: C,
    pub network: Network,
    /// Messages each end put on its socket.
    pub transmitted: [u64; 2],
    happenings: BinaryHeap<Reverse<Entry>>,
    order: u64,
    steps_in_place: u64,
    random: Random,
    compared: [usize; 2],
}

impl<A: Peer, C: Peer> World<A, C> {
    /// Both ends about to connect at `start`.
    pub fn new(agent: A, client: C, weather: Weather, random: &mut Random, start: Instant) -> Self {
        let mut world = Self {
            now: start,
            start,
            agent,
            client,
            network: Network::new(weather, random.fork(), start),
            transmitted: [0; 2],
            happenings: BinaryHeap::new(),
            order: 0,
            steps_in_place: 0,
            random: random.fork(),
            compared: [0; 2],
        };
        world.plan(start, Happening::Connect(Side::Agent));
        world.plan(start, Happening::Connect(Side::Client));
        world.plan_cut(Side::Agent);
        world.plan_cut(Side::Client);
        world
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Cuts a connection in `delay`; it comes back by itself.
    pub fn cut_in(&mut self, side: Side, delay: Duration) {
        self.plan(self.now + delay, Happening::Cut(side));
    }

    /// Cuts a connection at once; it comes back after `duration`.
    pub fn cut_for(&mut self, side: Side, duration: Duration) {
        self.cut(side, duration);
    }

    /// No more trouble from here on.
    pub fn calm_down(&mut self) {
        let delay = self.network.weather.delay;
        self.network.weather = Weather::calm(delay);
    }

    /// Runs until `done`; fails if that takes longer than `limit`, or if time stands still.
    pub fn run_until(&mut self, what: &str, limit: Duration, done: impl Fn(&Self) -> bool) {
        let deadline = self.now + limit;
        let mut steps = 0_u64;
        self.exchange();
        while !done(self) {
            assert!(
                self.step(deadline),
                "{what} did not happen within {limit:?}: {}",
                self.describe()
            );
            steps += 1;
            assert!(
                steps < 3_000_000,
                "livelock before {what}: {}",
                self.describe()
            );
        }
    }

    /// Runs for `duration`, or until nothing is left to happen.
    pub fn run_for(&mut self, duration: Duration) {
        let deadline = self.now + duration;
        while self.step(deadline) {}
        self.now = deadline;
    }

    /// Whether nothing is under way and no end has anything planned.
    pub fn is_silent(&self) -> bool {
        self.happenings.is_empty()
            && self.agent.next_work(self.now).is_none()
            && self.client.next_work(self.now).is_none()
    }

    /// One step in time, if one is due before `deadline`.
    fn step(&mut self, deadline: Instant) -> bool {
        let Some(next) = self.next_time() else {
            return false;
        };
        if next > deadline {
            return false;
        }
        if next > self.now {
            self.now = next;
            self.steps_in_place = 0;
        }
        self.steps_in_place += 1;
        assert!(
            self.steps_in_place < 100_000,
            "livelock: {}",
            self.describe()
        );
        while let Some(Reverse(entry)) = self.happenings.peek()
            && entry.at <= self.now
        {
            let Some(Reverse(entry)) = self.happenings.pop() else {
                break;
            };
            self.happen(entry.happening);
        }
        self.exchange();
        true
    }

    fn next_time(&self) -> Option<Instant> {
        let happening = self.happenings.peek().map(|Reverse(entry)| entry.at);
        let blocked = [Side::Agent, Side::Client]
            .into_iter()
            .filter_map(|side| self.network.writable(side, self.now).err())
            .min();
        [
            happening,
            self.agent.next_work(self.now),
            self.client.next_work(self.now),
            blocked,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets both ends work and write, then checks the laws that hold at all times.
    fn exchange(&mut self) {
        let now = self.now;
        self.agent.work(now);
        self.client.work(now);
        self.write(Side::Agent);
        self.write(Side::Client);
        self.agent.check_memory();
        self.client.check_memory();
        compare(
            "client",
            self.agent.sent(),
            self.client.received(),
            &mut self.compared[0],
        );
        compare(
            "agent",
            self.client.sent(),
            self.agent.received(),
            &mut self.compared[1],
        );
    }

    fn write(&mut self, side: Side) {
        while self.network.is_up(side) && self.network.writable(side, self.now).is_ok() {
            let raw = match side {
                Side::Agent => self.agent.transmit(self.now),
                Side::Client => self.client.transmit(self.now),
            };
            let Some(raw) = raw else { return };
            self.transmitted[usize::from(side == Side::Client)] += 1;
            for (at, flying) in self.network.leave(side, raw, self.now) {
                self.plan(at, Happening::AtRelay(flying));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::AtRelay(flying) => {
                if self.network.is_alive(flying.from, flying.connection) {
                    for (at, flying) in self.network.pass_on(flying, self.now) {
                        self.plan(at, Happening::Arrival(flying));
                    }
                }
            }
            Happening::Arrival(flying) => {
                let to = flying.from.other();
                if self.network.is_alive(to, flying.connection) {
                    match to {
                        Side::Agent => self.agent.receive(flying.raw, self.now),
                        Side::Client => self.client.receive(flying.raw, self.now),
                    }
                }
            }
            Happening::Cut(side) => {
                let away = self.random.millis(1..3000);
                self.cut(side, away);
                self.plan_cut(side);
            }
            Happening::Connect(side) => self.connect(side),
        }
    }

    fn cut(&mut self, side: Side, away: Duration) {
        if self.network.is_up(side) {
            self.network.cut(side);
            match side {
                Side::Agent => self.agent.disconnected(self.now),
                Side::Client => {
                    self.client.disconnected(self.now);
                    self.tell_agent(MessageType::PausePublication, "");
                }
            }
            self.plan(self.now + away, Happening::Connect(side));
        }
    }

    fn connect(&mut self, side: Side) {
        self.network.connect(side);
        match side {
            Side::Agent => self.agent.connected(self.now),
            Side::Client => self.client.connected(self.now),
        }
        // Whoever comes second learns of the first.
        if self.network.is_up(Side::Client) {
            let features = self.client.features();
            self.tell_agent(MessageType::StartPublication, &features);
        } else {
            self.tell_agent(MessageType::PausePublication, "");
        }
    }

    fn tell_agent(&mut self, message_type: MessageType, payload: &str) {
        if !self.network.weather.tells_agent || !self.network.is_up(Side::Agent) {
            return;
        }
        let raw = Message {
            message_type,
            created_ms: 1,
            sequence_number: 0,
            flags: 0,
            id: MessageId::from_wire([0; 16]),
            payload_type: PayloadType::None,
            payload: payload.to_owned().into(),
        }
        .encode();
        let flying = Flying {
            from: Side::Client,
            connection: 0,
            raw,
        };
        for (at, flying) in self.network.pass_on(flying, self.now) {
            self.plan(at, Happening::Arrival(flying));
        }
    }

    fn plan_cut(&mut self, side: Side) {
        if let Some(mean) = self.network.weather.cuts {
            let millis = usize::try_from(mean.as_millis()).expect("a short time");
            let wait = self.random.millis(1..2 * millis);
            self.plan(self.now + wait, Happening::Cut(side));
        }
    }

    fn plan(&mut self, at: Instant, happening: Happening) {
        self.order += 1;
        self.happenings.push(Reverse(Entry {
            at,
            order: self.order,
            happening,
        }));
    }

    fn describe(&self) -> String {
        format!(
            "after {:?}, agent sent {} and got {}, client sent {} and got {}, {:?} messages written, \
             next work of agent in {:?}, of client in {:?}, {} messages under way",
            self.elapsed(),
            self.agent.sent().len(),
            self.agent.received().len(),
            self.client.sent().len(),
            self.client.received().len(),
            self.transmitted,
            self.agent.next_work(self.now).map(|at| at - self.now),
            self.client.next_work(self.now).map(|at| at - self.now),
            self.happenings.len(),
        )
    }
}

/// Every byte arrives once and in order.
fn compare(receiver: &str, sent: &[u8], received: &[u8], compared: &mut usize) {
    assert!(
        received.len() <= sent.len() && received[*compared..] == sent[*compared..received.len()],
        "the {receiver} got other bytes than were sent, within {}..{}",
        *compared,
        received.len()
    );
    *compared = received.len();
}
