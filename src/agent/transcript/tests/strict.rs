//! Sinks that have to take everything, and very long sessions.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::writer::WRITE_LIMIT;
use super::*;

#[tokio::test(start_paused = true)]
async fn session_that_must_be_recorded_learns_at_once_that_its_disk_refuses() {
    let fake = Fake::new(Mood::Fails);
    let (mut recorder, _writer) = start_strict(&fake);
    let (broken, began) = (recorder.broken(), Instant::now());

    recorder.output("lost".into()).await;
    broken.cancelled().await;

    assert!(began.elapsed() < Duration::from_secs(1));
    let report = recorder.finish(end()).await;
    assert_eq!(report.lost_bytes, 4);
}

#[tokio::test(start_paused = true)]
async fn session_that_must_be_recorded_learns_in_time_that_its_disk_hangs() {
    for (blocks, limit) in [(1, WRITE_LIMIT), (100, STALL_LIMIT)] {
        let fake = Fake::new(Mood::Hangs);
        let (mut recorder, _writer) = start_strict(&fake);
        let (broken, began) = (recorder.broken(), Instant::now());

        for _ in 0..blocks {
            recorder.output(block()).await;
        }
        broken.cancelled().await;

        let took = began.elapsed();
        assert!(
            took <= limit + Duration::from_secs(1),
            "{took:?} of {limit:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn session_that_need_not_be_recorded_never_breaks() {
    for mood in [Mood::Fails, Mood::Hangs, Mood::Broken] {
        let fake = Fake::new(mood);
        let (mut recorder, _writer) = start(&[&fake]);
        let broken = recorder.broken();

        for _ in 0..100 {
            recorder.output(block()).await;
        }
        tokio::time::sleep(2 * WRITE_LIMIT).await;

        assert!(!broken.is_cancelled(), "{mood:?}");
        recorder.finish(end()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn session_that_must_be_recorded_goes_on_while_it_is() {
    let fake = Fake::new(Mood::Slow(Duration::from_millis(500)));
    let (mut recorder, _writer) = start_strict(&fake);
    let broken = recorder.broken();

    for _ in 0..100 {
        recorder.output(block()).await;
    }
    let report = recorder.finish(end()).await;

    assert!(!broken.is_cancelled());
    assert_eq!(report, Report::default());
}

#[tokio::test(start_paused = true)]
async fn five_gigabytes_pass_without_loss_and_never_more_than_the_spool_at_once() {
    const BYTES: u64 = 5 << 30;
    static PIECE: [u8; 32 << 10] = [b'x'; 32 << 10];
    let counter = Counter::default();
    let sinks = vec![(Box::new(counter.clone()) as Box<dyn Sink>, None)];
    let (mut recorder, writer) = record(sinks, SPOOL, false, Span::none());
    let _writer = tokio::spawn(writer);

    for _ in 0..BYTES / PIECE.len() as u64 {
        recorder.output(Bytes::from_static(&PIECE)).await;
    }
    let report = recorder.finish(end()).await;

    assert_eq!(report, Report::default());
    assert_eq!(counter.bytes.load(Ordering::Relaxed), BYTES);
    let largest = counter.largest.load(Ordering::Relaxed);
    assert!(largest <= SPOOL as u64, "{largest} bytes in one batch");
}

/// A sink that counts.
#[derive(Clone, Default)]
struct Counter {
    bytes: Arc<AtomicU64>,
    largest: Arc<AtomicU64>,
}

impl Sink for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn write(&mut self, batch: Arc<[Entry]>) -> Write<'_> {
        let bytes = batch.iter().map(|entry| entry.event.data_len() as u64);
        let bytes: u64 = bytes.sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.largest.fetch_max(bytes, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }

    fn file(&self) -> Option<&RecordedFile> {
        None
    }
}
