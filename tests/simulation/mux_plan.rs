//! What is to become of each stream of a simulated session. Both ends work it out for themselves from
//! the seed and the stream's number, so that neither has to trust the other.

use std::time::Duration;

use bytes::Bytes;

use crate::network::Side;
use crate::random::Random;

/// How a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Both ends say all they have to and hear all of the other.
    Finishes,
    /// One end resets it once it has heard this much.
    IsReset(Side, usize),
    /// One end never reads.
    Stalls(Side),
}

/// One stream's plan.
#[derive(Debug, Clone)]
pub struct Plan {
    pub fate: Fate,
    /// Bytes that agent and client have to say.
    pub length: [usize; 2],
    /// Longest pause of agent and client after reading; zero reads all at once.
    pub read_pause: [Duration; 2],
    number: u32,
}

/// What kinds of streams there are in a session.
#[derive(Debug, Clone)]
pub struct Mix {
    pub seed: u64,
    /// Largest number of bytes in a direction.
    pub longest: usize,
    /// Streams of 100 that are reset.
    pub resets: usize,
    /// Streams of 100 that stall.
    pub stalls: usize,
}

impl Mix {
    pub fn plan(&self, number: u32) -> Plan {
        let mut random = Random::new(self.seed ^ (u64::from(number) << 20));
        let mut length = || match random.range(0..4) {
            0 => 0,
            1 => random.range(1..100),
            _ => random.range(1..self.longest),
        };
        let length = [length(), length()];
        let mut pause = || {
            if random.chance(60) {
                Duration::ZERO
            } else {
                random.millis(0..50)
            }
        };
        let read_pause = [pause(), pause()];
        let side = if random.chance(50) {
            Side::Agent
        } else {
            Side::Client
        };
        let fate = match random.range(0..100) {
            dice if dice < self.resets => Fate::IsReset(side, random.range(0..self.longest)),
            dice if dice < self.resets + self.stalls => Fate::Stalls(side),
            _ => Fate::Finishes,
        };
        Plan {
            fate,
            length,
            read_pause,
            number,
        }
    }
}

impl Plan {
    pub fn length(&self, side: Side) -> usize {
        self.length[index(side)]
    }

    pub fn read_pause(&self, side: Side) -> Duration {
        self.read_pause[index(side)]
    }

    /// The bytes that `side` says from `start` on.
    pub fn bytes(&self, side: Side, start: usize, length: usize) -> Bytes {
        (start..start + length)
            .map(|at| {
                let salt = self.number as usize * 2 + index(side);
                (at.wrapping_mul(31) + (at >> 7) + salt * 17).to_le_bytes()[0]
            })
            .collect()
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Client)
}
