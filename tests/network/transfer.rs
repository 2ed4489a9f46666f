//! Bytes that are sent from one end to the other and checked there.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

const CHUNK: usize = 256 << 10;

/// When a sender has sent enough: whatever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Plenty {
    pub bytes: u64,
    pub time: Duration,
}

/// What a transfer was like for who received it.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub bytes: u64,
    /// From the start to the end.
    pub took: Duration,
    /// Longest time without a byte.
    pub longest_gap: Duration,
}

impl Received {
    /// Mean rate in MB/s.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }
}

/// Sends one way until there was plenty, then the end of the stream; receives and checks all of it.
pub async fn transfer(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    plenty: Plenty,
) -> Received {
    transfer_with(to, from, plenty, &watch::Sender::default()).await
}

/// [`transfer`] that says how many bytes have come so far.
pub async fn transfer_with(
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    plenty: Plenty,
    progress: &watch::Sender<u64>,
) -> Received {
    let (sent, received) = tokio::join!(send(to, plenty), receive(from, progress));
    assert_eq!(received.bytes, sent, "all bytes come, and no more");
    received
}

async fn send(to: &mut (impl AsyncWrite + Unpin), plenty: Plenty) -> u64 {
    let began = Instant::now();
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    while sent < plenty.bytes && began.elapsed() < plenty.time {
        fill(&mut chunk, sent);
        to.write_all(&chunk).await.unwrap();
        sent += CHUNK as u64;
    }
    to.shutdown().await.unwrap();
    sent
}

async fn receive(from: &mut (impl AsyncRead + Unpin), progress: &watch::Sender<u64>) -> Received {
    let began = Instant::now();
    let mut last = began;
    let mut longest_gap = Duration::ZERO;
    let (mut buffer, mut expected) = (vec![0; CHUNK], vec![0; CHUNK + 2 * WORD]);
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer).await.unwrap();
        let now = Instant::now();
        longest_gap = longest_gap.max(now - last);
        last = now;
        if count == 0 {
            let took = now - began;
            return Received {
                bytes,
                took,
                longest_gap,
            };
        }
        let within = usize::try_from(bytes % WORD as u64).unwrap();
        fill(
            &mut expected[..(within + count).next_multiple_of(WORD)],
            bytes - within as u64,
        );
        // Not `assert_eq`, which would print them.
        assert!(
            buffer[..count] == expected[within..within + count],
            "other bytes than those sent, between {bytes} and {}",
            bytes + count as u64
        );
        bytes += count as u64;
        progress.send_replace(bytes);
    }
}

const WORD: usize = size_of::<u64>();

/// Fills whole words with what a stream has from `start` on. No two words of a stream are the same, so that
/// nothing can be lost, repeated or swapped unnoticed.
fn fill(buffer: &mut [u8], start: u64) {
    let first = start / WORD as u64;
    for (number, word) in (first..).zip(buffer.chunks_exact_mut(WORD)) {
        let bytes = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        word.copy_from_slice(&bytes);
    }
}
