//! A link between two hosts: each packet comes late, or not at all.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};

use super::host::Host;

/// Address of the one end …
pub const NEAR: &str = "10.77.0.1";
/// … and of the other.
pub const FAR: &str = "10.77.0.2";
/// How often a direction without packets looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
/// Packets taken in before those that are due are let out.
const BATCH: usize = 64;
/// Decides which packets are lost.
const SEED: u64 = 7;

/// What a link does to packets.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// From one end to the other.
    pub delay: Duration,
    /// Of this many packets one is dropped; of 0 none.
    pub drop_one_in: u64,
    /// Largest packet.
    pub mtu: u32,
}

/// See the module. It ends when this is dropped.
pub struct Link {
    switch: Arc<Switch>,
    directions: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Switch {
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

impl Link {
    /// Joins two hosts.
    pub fn between(near: &Host, far: &Host, conditions: Conditions) -> Self {
        let near = near.attach(NEAR, FAR, conditions.mtu);
        let far = far.attach(FAR, NEAR, conditions.mtu);
        let switch = Arc::new(Switch::default());
        let ends = [
            (near.try_clone().unwrap(), far.try_clone().unwrap(), SEED),
            (far, near, SEED + 1),
        ];
        let directions = ends.map(|(from, to, seed)| {
            let direction = Direction {
                from,
                to,
                conditions,
                switch: Arc::clone(&switch),
                dice: Dice(seed),
                waiting: VecDeque::new(),
            };
            thread::spawn(|| direction.run())
        });
        Self {
            switch,
            directions: directions.into(),
        }
    }

    /// Drops everything from now on, also what is under way.
    pub fn cut(&self) {
        self.switch.is_cut.store(true, Ordering::SeqCst);
    }

    /// Ends the cut.
    pub fn mend(&self) {
        self.switch.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.switch.is_over.store(true, Ordering::SeqCst);
        for direction in self.directions.drain(..) {
            // A direction that panicked has failed the story already.
            let _ = direction.join();
        }
    }
}

/// One way of a link.
struct Direction {
    from: File,
    to: File,
    conditions: Conditions,
    switch: Arc<Switch>,
    dice: Dice,
    /// Packets under way, with the time at which they arrive.
    waiting: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction {
    fn run(mut self) {
        let mut buffer = vec![0; usize::try_from(self.conditions.mtu).unwrap()];
        while !self.switch.is_over.load(Ordering::SeqCst) {
            let has_more = self.take(&mut buffer);
            self.deliver();
            if !has_more {
                self.wait();
            }
        }
    }

    /// Takes packets in; returns whether there may be more.
    fn take(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..BATCH {
            match self.from.read(buffer) {
                Ok(length) => self.take_packet(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("a device of the link broke: {error}"),
            }
        }
        true
    }

    fn take_packet(&mut self, packet: &[u8]) {
        let is_cut = self.switch.is_cut.load(Ordering::SeqCst);
        let is_lost = is_cut || self.dice.is_one_in(self.conditions.drop_one_in);
        if !is_lost {
            let due = Instant::now() + self.conditions.delay;
            self.waiting.push_back((due, packet.to_vec()));
        }
    }

    /// Lets out the packets that are due.
    fn deliver(&mut self) {
        let now = Instant::now();
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, packet)) = self.waiting.pop_front() else {
                return;
            };
            if !self.switch.is_cut.load(Ordering::SeqCst) {
                self.to.write_all(&packet).expect("the other host is there");
            }
        }
    }

    /// Waits for a packet to come or to be due.
    fn wait(&self) {
        let next = self.waiting.front();
        let wait = next.map_or(LOOK, |(due, _)| {
            due.saturating_duration_since(Instant::now())
        });
        let mut ends = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut ends, Some(wait.min(LOOK).into()), None).unwrap();
    }
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn is_one_in(&mut self, sides: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        sides > 0 && (mixed ^ (mixed >> 31)).is_multiple_of(sides)
    }
}
