//! The network between the two ends: two connections that meet in a relay.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::random::Random;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Agent,
    Client,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Agent => Self::Client,
            Self::Client => Self::Agent,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Agent => 0,
            Self::Client => 1,
        }
    }
}

/// What the network does to messages.
#[derive(Debug, Clone)]
pub struct Weather {
    /// One-way delay of a hop.
    pub delay: Duration,
    /// Added at random to each hop.
    pub jitter: Duration,
    /// Messages dropped, of 100. Only where order is not kept.
    pub drop: usize,
    /// Messages repeated, of 100. Only where order is not kept.
    pub repeat: usize,
    /// Whether a connection keeps order, as a WebSocket does.
    pub fifo: bool,
    /// Bytes per second of a hop.
    pub bandwidth: Option<u64>,
    /// Mean time between cuts of either connection.
    pub cuts: Option<Duration>,
    /// Whether the relay tells the agent that the client went and came.
    pub tells_agent: bool,
}

impl Weather {
    /// A fast, clean line.
    pub fn calm(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            drop: 0,
            repeat: 0,
            fifo: true,
            bandwidth: None,
            cuts: None,
            tells_agent: true,
        }
    }
}

/// A message under way on a hop that it only survives if its connection does.
#[derive(Debug, Clone)]
pub struct Flying {
    pub from: Side,
    /// The connection it is on: that of the sender up to the relay, then that of the receiver.
    pub connection: u32,
    pub raw: Bytes,
}

/// One end's connection to the relay.
#[derive(Debug)]
struct Line {
    /// Counts connections; what flies on an earlier one is lost.
    connection: u32,
    is_up: bool,
    /// When the hop to the relay is free again.
    up_free: Instant,
    /// When the hop from the relay is free again.
    down_free: Instant,
    last_up: Instant,
    last_down: Instant,
}

/// Both lines and what happens on them.
pub struct Network {
    pub weather: Weather,
    random: Random,
    lines: [Line; 2],
}

/// How much a hop may lag before its socket takes no more.
const SOCKET: Duration = Duration::from_millis(2);

impl Network {
    pub fn new(weather: Weather, random: Random, now: Instant) -> Self {
        let line = || Line {
            connection: 0,
            is_up: false,
            up_free: now,
            down_free: now,
            last_up: now,
            last_down: now,
        };
        Self {
            weather,
            random,
            lines: [line(), line()],
        }
    }

    pub fn connect(&mut self, side: Side) {
        let line = &mut self.lines[side.index()];
        line.connection += 1;
        line.is_up = true;
    }

    pub fn cut(&mut self, side: Side) {
        self.lines[side.index()].is_up = false;
    }

    pub fn is_up(&self, side: Side) -> bool {
        self.lines[side.index()].is_up
    }

    /// Whether something on `connection` of `side` still arrives.
    pub fn is_alive(&self, side: Side, connection: u32) -> bool {
        let line = &self.lines[side.index()];
        line.is_up && line.connection == connection
    }

    /// Whether the socket of `side` takes a message; if not, when it will.
    pub fn writable(&self, side: Side, now: Instant) -> Result<(), Instant> {
        let free = self.lines[side.index()].up_free;
        if free <= now + SOCKET {
            Ok(())
        } else {
            Err(free - SOCKET)
        }
    }

    /// A message leaves `from`: when it gets to the relay, once for each copy.
    pub fn leave(&mut self, from: Side, raw: Bytes, now: Instant) -> Vec<(Instant, Flying)> {
        let flying = Flying {
            from,
            connection: self.lines[from.index()].connection,
            raw,
        };
        self.hop(from, true, &flying, now)
    }

    /// A message leaves the relay: when it gets to its destination, unless nobody is there.
    pub fn pass_on(&mut self, flying: Flying, now: Instant) -> Vec<(Instant, Flying)> {
        let to = flying.from.other();
        let line = &self.lines[to.index()];
        if !line.is_up {
            return Vec::new();
        }
        let connection = line.connection;
        self.hop(
            to,
            false,
            &Flying {
                connection,
                ..flying
            },
            now,
        )
    }

    fn hop(
        &mut self,
        side: Side,
        is_up: bool,
        flying: &Flying,
        now: Instant,
    ) -> Vec<(Instant, Flying)> {
        let weather = &self.weather;
        let random = &mut self.random;
        let copies = if random.chance(weather.drop) {
            0
        } else {
            1 + usize::from(random.chance(weather.repeat))
        };
        let line = &mut self.lines[side.index()];
        let (free, last) = if is_up {
            (&mut line.up_free, &mut line.last_up)
        } else {
            (&mut line.down_free, &mut line.last_down)
        };
        (0..copies)
            .map(|_| {
                if let Some(bandwidth) = weather.bandwidth {
                    let micros = flying.raw.len() as u64 * 1_000_000 / bandwidth;
                    *free = (*free).max(now) + Duration::from_micros(micros);
                }
                let jitter = weather
                    .jitter
                    .mul_f64(random.range(0..1000) as f64 / 1000.0);
                let mut arrives = (*free).max(now) + weather.delay + jitter;
                if weather.fifo {
                    arrives = arrives.max(*last);
                    *last = arrives;
                }
                (arrives, flying.clone())
            })
            .collect()
    }
}
