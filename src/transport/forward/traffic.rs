//! Counts of bytes that were forwarded.

/// Bytes that were forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the destination.
    pub up: u64,
    /// From the destination to the client.
    pub down: u64,
}

impl Traffic {
    /// Counts bytes to the destination.
    pub fn add_up(&mut self, count: usize) {
        self.up += as_u64(count);
    }

    /// Counts bytes to the client.
    pub fn add_down(&mut self, count: usize) {
        self.down += as_u64(count);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
