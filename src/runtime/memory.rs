//! How this process keeps memory between two uses.

use std::hint::black_box;

/// Memory kept for the next buffers: what a send window holds. The C library keeps up to twice of it.
const KEPT: usize = 4 << 20;

/// Lets this process keep the memory of buffers that it will need again, instead of giving it back to
/// the kernel and getting other pages, zeroed, for the next ones. To be called when a program starts.
///
/// By itself glibc keeps a quarter of a megabyte, and a bulk transfer spends a fifth of its time in
/// page faults. It keeps more once a large piece was freed: see `M_MMAP_THRESHOLD` in mallopt(3).
pub fn keep_freed() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT)));
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{UsageWho, getrusage};

    use super::*;

    #[test]
    fn freed_buffers_are_used_again() {
        keep_freed();
        use_buffers();
        let before = faults();
        for _ in 0..20 {
            use_buffers();
        }

        // 20 times 3 MiB are 15,360 pages.
        let faults = faults() - before;
        assert!(faults < 2000, "{faults} page faults");
    }

    fn use_buffers() {
        let buffers: Vec<Vec<u8>> = (0..12).map(|_| vec![1; 256 << 10]).collect();
        drop(black_box(buffers));
    }

    fn faults() -> i64 {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        usage.minor_page_faults()
    }
}
