//! Reproducible randomness, and runs over many seeds.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A small generator (xorshift64*), so that a seed means the same on every machine.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        // Zero is a fixed point; spreading the seed keeps neighbours apart.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = Self { state };
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A generator of its own for a part of the simulation.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub fn range(&mut self, range: Range<usize>) -> usize {
        let width = (range.end - range.start) as u64;
        range.start + usize::try_from(self.next() % width).expect("below a usize")
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.range(0..100) < percent
    }

    pub fn millis(&mut self, range: Range<usize>) -> Duration {
        let micros = self.range(range.start * 1000..range.end * 1000);
        Duration::from_micros(micros as u64)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Runs a scenario over many seeds and names the seed that broke a law.
pub fn for_seeds(runs: u64, scenario: impl Fn(u64)) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_RUNS").unwrap_or(runs),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            eprintln!("failed with seed {seed}; rerun with SIMULATION_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
