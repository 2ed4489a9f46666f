//! Counts of bytes that were forwarded.

/// Bytes that were forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// From the client to the destination.
    pub(super) up: u64,
    /// From the destination to the client.
    pub(super) down: u64,
}

impl Traffic {
    pub(super) fn add_up(&mut self, count: usize) {
        self.up += as_u64(count);
    }

    pub(super) fn add_down(&mut self, count: usize) {
        self.down += as_u64(count);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
