//! What a recording promises while its sinks work, fail, hang and come back.

mod strict;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::sink::Write;
use super::transcript::record;
use super::*;
use crate::protocol::wire::TerminalSize;

const SPOOL: usize = 64 << 10;

#[tokio::test(start_paused = true)]
async fn entries_arrive_in_order_and_the_end_comes_last() {
    let fake = Fake::new(Mood::Takes);
    let (mut recorder, _writer) = start(&[&fake]);

    recorder.output("one".into()).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    recorder.resize(TerminalSize { cols: 90, rows: 30 }).await;
    recorder.error_output("two".into()).await;
    let report = recorder.finish(end()).await;

    let entries = fake.entries();
    let events: Vec<Event> = entries.iter().map(|entry| entry.event.clone()).collect();
    assert_eq!(
        events,
        [
            Event::Output("one".into()),
            Event::Resize(TerminalSize { cols: 90, rows: 30 }),
            Event::ErrorOutput("two".into()),
            Event::End(end()),
        ]
    );
    assert!(entries.is_sorted_by_key(|entry| entry.at));
    assert_eq!(entries[1].at, Duration::from_secs(1));
    assert_eq!(report, Report::default());
}

#[tokio::test(start_paused = true)]
async fn failing_sink_never_holds_the_session_back() {
    let fake = Fake::new(Mood::Fails);
    let (mut recorder, _writer) = start(&[&fake]);
    recorder.output(block()).await;
    fake.wait_for_attempts(1).await;
    let started = Instant::now();

    for _ in 0..100 {
        recorder.output(block()).await;
    }

    assert_eq!(started.elapsed(), Duration::ZERO);
    let report = recorder.finish(end()).await;
    assert_eq!(report.lost_bytes, 101 * block().len() as u64);
    let problem = report.problem.unwrap();
    assert!(problem.contains("No space left on device"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn sink_that_comes_back_is_told_how_many_bytes_are_missing() {
    let fake = Fake::new(Mood::Fails);
    let (mut recorder, _writer) = start(&[&fake]);
    recorder.output(block()).await;
    fake.wait_for_attempts(1).await;
    for _ in 0..100 {
        recorder.output(block()).await;
    }

    fake.set(Mood::Takes);
    tokio::time::sleep(Duration::from_mins(1)).await;
    recorder.output("after".into()).await;
    let report = recorder.finish(end()).await;

    let entries = fake.entries();
    let taken: usize = entries.iter().map(|entry| entry.event.data_len()).sum();
    let sent = 101 * block().len() + "after".len();
    assert_eq!(taken as u64 + report.lost_bytes, sent as u64);
    let [gap, after, _end] = entries.last_chunk().unwrap();
    let bytes = report.lost_bytes;
    assert_eq!(gap.event, Event::Missing { bytes });
    assert_eq!(after.event, Event::Output("after".into()));
    assert!(report.problem.is_some());
}

#[tokio::test(start_paused = true)]
async fn failing_sink_is_not_tried_busily() {
    let fake = Fake::new(Mood::Fails);
    let (mut recorder, _writer) = start(&[&fake]);

    for _ in 0..600 {
        recorder.output("tick".into()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let attempts = fake.attempts();
    assert!(
        (10..40).contains(&attempts),
        "{attempts} attempts in 10 minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn hanging_sink_holds_the_session_back_once_and_not_for_longer_than_the_limit() {
    let (first, second) = (Fake::new(Mood::Hangs), Fake::new(Mood::Hangs));
    let (mut recorder, _writer) = start(&[&first, &second]);
    let started = Instant::now();

    for _ in 0..100 {
        recorder.output(block()).await;
    }

    let stalled = started.elapsed();
    assert!(stalled >= STALL_LIMIT, "{stalled:?}");
    assert!(
        stalled < STALL_LIMIT + Duration::from_millis(100),
        "{stalled:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn hanging_sink_does_not_hold_up_the_end_of_the_session() {
    let fake = Fake::new(Mood::Hangs);
    let (mut recorder, writer) = start(&[&fake]);
    recorder.output("lost".into()).await;
    let started = Instant::now();

    let report = recorder.finish(end()).await;

    assert!(started.elapsed() <= FINISH_LIMIT + Duration::from_millis(100));
    assert_eq!(report.lost_bytes, 4);
    assert!(report.problem.is_some());
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_sink_that_catches_up_loses_nothing() {
    let fake = Fake::new(Mood::Slow(Duration::from_millis(500)));
    let (mut recorder, _writer) = start(&[&fake]);

    for _ in 0..100 {
        recorder.output(block()).await;
    }
    fake.set(Mood::Takes);
    let report = recorder.finish(end()).await;

    assert_eq!(report, Report::default());
    let entries = fake.entries();
    let taken: usize = entries.iter().map(|entry| entry.event.data_len()).sum();
    assert_eq!(taken, 100 * block().len());
}

#[tokio::test(start_paused = true)]
async fn failing_sink_does_not_harm_the_other() {
    let (broken, sound) = (Fake::new(Mood::Fails), Fake::new(Mood::Takes));
    let (mut recorder, _writer) = start(&[&broken, &sound]);

    for _ in 0..100 {
        recorder.output(block()).await;
    }
    let report = recorder.finish(end()).await;

    let entries = sound.entries();
    let taken: usize = entries.iter().map(|entry| entry.event.data_len()).sum();
    assert_eq!(taken, 100 * block().len());
    assert_eq!(report.lost_bytes, 100 * block().len() as u64);
}

#[tokio::test(start_paused = true)]
async fn sink_that_broke_for_good_is_not_tried_again() {
    let fake = Fake::new(Mood::Broken);
    let (mut recorder, writer) = start(&[&fake]);

    recorder.output("lost".into()).await;
    writer.await.unwrap();
    recorder.output("lost too".into()).await;
    let report = recorder.finish(end()).await;

    assert_eq!(fake.attempts(), 1);
    assert_eq!(report.lost_bytes, 12);
}

#[tokio::test(start_paused = true)]
async fn recorder_dropped_without_an_end_still_ends_the_recording() {
    let fake = Fake::new(Mood::Takes);
    let (mut recorder, writer) = start(&[&fake]);

    recorder.output("one".into()).await;
    drop(recorder);
    writer.await.unwrap();

    let entries = fake.entries();
    assert!(matches!(entries.last().unwrap().event, Event::End(_)));
}

#[tokio::test(start_paused = true)]
async fn writer_that_is_gone_does_not_stop_the_session() {
    let fake = Fake::new(Mood::Takes);
    let (mut recorder, writer) = start(&[&fake]);
    recorder.output("one".into()).await;
    fake.wait_for_attempts(1).await;
    writer.abort();
    let _ = writer.await;
    let started = Instant::now();

    for _ in 0..100 {
        recorder.output(block()).await;
    }
    let report = recorder.finish(end()).await;

    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(report.lost_bytes, 100 * block().len() as u64);
    assert!(report.problem.is_some());
}

#[tokio::test(start_paused = true)]
async fn input_is_recorded_only_where_the_settings_say_so() {
    for record_input in [false, true] {
        let fake = Fake::new(Mood::Takes);
        let sinks = vec![(Box::new(fake.clone()) as Box<dyn Sink>, None)];
        let (mut recorder, writer) = record(sinks, SPOOL, record_input, Span::none());
        let _writer = tokio::spawn(writer);

        recorder.input("secret".into()).await;
        recorder.finish(end()).await;

        let has_input = fake
            .entries()
            .iter()
            .any(|e| matches!(e.event, Event::Input(_)));
        assert_eq!(has_input, record_input);
    }
}

#[tokio::test(start_paused = true)]
async fn event_larger_than_the_spool_passes() {
    let fake = Fake::new(Mood::Takes);
    let (mut recorder, _writer) = start(&[&fake]);
    let large = Bytes::from(vec![b'x'; SPOOL * 2]);

    recorder.output(large.clone()).await;
    recorder.output(large).await;
    let report = recorder.finish(end()).await;

    assert_eq!(report, Report::default());
}

#[tokio::test(start_paused = true)]
async fn without_settings_nothing_is_recorded() {
    let transcript = Transcript::new(None);
    let (mut recorder, writer) = transcript.start(file_sink::tests::about("alice-1"), &[]);
    writer.await;

    recorder.output("one".into()).await;
    let report = recorder.finish(end()).await;

    assert_eq!(report, Report::default());
}

fn start(fakes: &[&Fake]) -> (Recorder, JoinHandle<()>) {
    let boxed = |fake: &&Fake| (Box::new(Fake::clone(fake)) as Box<dyn Sink>, None);
    let sinks: Vec<_> = fakes.iter().map(boxed).collect();
    let (recorder, writer) = record(sinks, SPOOL, false, Span::none());
    (recorder, tokio::spawn(writer))
}

fn block() -> Bytes {
    Bytes::from_static(&[b'x'; 8 << 10])
}

fn end() -> End {
    End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    }
}

/// Starts to record to a sink that has to take everything.
fn start_strict(fake: &Fake) -> (Recorder, JoinHandle<()>) {
    let broken = CancellationToken::new();
    let sink = Box::new(fake.clone()) as Box<dyn Sink>;
    let sinks = vec![(sink, Some(broken.clone()))];
    let (recorder, writer) = record(sinks, SPOOL, false, Span::none());
    (recorder.with_journal(None, broken), tokio::spawn(writer))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Slow(Duration),
    Fails,
    Hangs,
    Broken,
}

/// A sink whose behaviour the test changes while it runs.
#[derive(Clone)]
struct Fake {
    mood: Arc<Mutex<Mood>>,
    taken: Arc<Mutex<Vec<Entry>>>,
    attempts: watch::Sender<u32>,
}

impl Fake {
    fn new(mood: Mood) -> Self {
        Self {
            mood: Arc::new(Mutex::new(mood)),
            taken: Arc::default(),
            attempts: watch::Sender::new(0),
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn entries(&self) -> Vec<Entry> {
        self.taken.lock().unwrap().clone()
    }

    fn attempts(&self) -> u32 {
        *self.attempts.borrow()
    }

    async fn wait_for_attempts(&self, number: u32) {
        let mut attempts = self.attempts.subscribe();
        attempts.wait_for(|&so_far| so_far >= number).await.unwrap();
    }
}

impl Sink for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn write(&mut self, batch: Arc<[Entry]>) -> Write<'_> {
        Box::pin(async move {
            let mood = *self.mood.lock().unwrap();
            let result = match mood {
                Mood::Takes => Ok(()),
                Mood::Slow(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                }
                Mood::Fails => Err(SinkError::Io {
                    path: "/recordings".into(),
                    source: io::Error::from_raw_os_error(28),
                }),
                Mood::Hangs => std::future::pending().await,
                Mood::Broken => Err(SinkError::Broken("a panic".into())),
            };
            if result.is_ok() {
                self.taken.lock().unwrap().extend_from_slice(&batch);
            }
            self.attempts.send_modify(|attempts| *attempts += 1);
            result
        })
    }

    fn file(&self) -> Option<&RecordedFile> {
        None
    }
}
