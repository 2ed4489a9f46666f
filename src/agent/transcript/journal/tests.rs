//! What a journal promises while services are slow, hang, fail and come back, and across a crash.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::file_sink;
use super::super::uploader::{Confirmed, Upload, UploadError, Uploader};
use super::super::*;

const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: Duration = Duration::ZERO;

#[tokio::test]
async fn service_gets_every_entry_in_order_and_the_folder_goes_with_the_last() {
    let world = World::new();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, writer) = world.start("alice-1");

    for number in 0..100 {
        recorder.output(format!("{number} ").into()).await;
    }
    let report = recorder.finish(end()).await;

    writer.await.unwrap();
    assert_eq!(fake.text(), numbers(0..100));
    assert_eq!(fake.last(), Some(Event::End(end())));
    assert_eq!(report.copies[0].standing, Standing::Complete);
    assert_eq!(report.problem, None);
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn hanging_service_holds_back_neither_another_nor_the_end_of_the_session() {
    let world = World::new();
    let hanging = world.service("one", Mood::Hangs);
    let sound = world.service("two", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = timeout(PATIENCE, recorder.finish(end())).await.unwrap();

    assert_eq!(sound.text(), "text");
    assert_eq!(hanging.text(), "");
    let standings: Vec<_> = report.copies.iter().map(|copy| &copy.standing).collect();
    assert_eq!(standings, [&Standing::Continuing, &Standing::Complete]);
    assert_eq!(report.problem, None);
}

#[tokio::test]
async fn crash_loses_nothing_and_no_entry_is_uploaded_twice() {
    let mut world = World::new();
    let fast = world.service("one", Mood::Takes);
    let slow = world.service("two", Mood::Fails);
    let (mut recorder, writer) = world.start("alice-1");
    for number in 0..50 {
        recorder.output(format!("{number} ").into()).await;
    }
    fast.wait_for_text(&numbers(0..50)).await;

    world.crash(recorder, writer).await;
    slow.set(Mood::Takes);
    world.uploads.recover().await;
    fast.wait_for_end().await;
    slow.wait_for_end().await;

    assert_eq!(fast.text(), numbers(0..50));
    assert_eq!(slow.text(), numbers(0..50));
    for fake in [&fast, &slow] {
        let Some(Event::End(end)) = fake.last() else {
            panic!("no end");
        };
        assert_eq!(end.reason, "the agent stopped while the session ran");
    }
    world.uploads.shutdown(PATIENCE).await;
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn torn_tail_is_cut_off_and_what_is_whole_is_uploaded() {
    let mut world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, writer) = world.start_and_write("alice-1", 10).await;
    world.crash(recorder, writer).await;
    let segment = world.segments("alice-1").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[9, 0, 0, 0, 1, 2, 3]);
    fs::write(&segment, bytes).unwrap();

    fake.set(Mood::Takes);
    world.uploads.recover().await;
    fake.wait_for_end().await;

    assert_eq!(fake.text(), numbers(0..10));
}

#[tokio::test]
async fn journal_that_somebody_works_on_is_not_recovered_by_another_agent() {
    let world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, _writer) = world.start_and_write("alice-1", 10).await;

    let other = world.another();
    fake.set(Mood::Takes);
    other.recover().await;
    let report = recorder.finish(end()).await;

    fake.wait_for_end().await;
    assert_eq!(fake.text(), numbers(0..10));
    assert_eq!(report.problem, None);
}

#[tokio::test]
async fn broken_folder_is_set_aside_and_harms_no_other() {
    let mut world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, writer) = world.start_and_write("alice-1", 10).await;
    world.crash(recorder, writer).await;
    let broken = world.spool().join("bob-1");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("about.json"), "{").unwrap();

    fake.set(Mood::Takes);
    world.uploads.recover().await;
    fake.wait_for_end().await;
    world.uploads.shutdown(PATIENCE).await;

    assert_eq!(fake.text(), numbers(0..10));
    assert_eq!(world.folders(), [".broken-bob-1"]);
}

#[tokio::test]
async fn hanging_service_cannot_make_disk_or_memory_grow_beyond_their_bounds() {
    let world = World::with_disk(256 << 10);
    let fake = world.service("one", Mood::Hangs);
    let (mut recorder, _writer) = world.start("alice-1");
    let block = Bytes::from(vec![b'x'; 64 << 10]);

    let mut sent = 0;
    for _ in 0..256 {
        sent += block.len() as u64;
        recorder.output(block.clone()).await;
    }
    let report = recorder.finish(end()).await;

    let on_disk: u64 = world
        .segments("alice-1")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(on_disk <= 256 << 10, "{on_disk}");
    assert!(report.problem.is_some());
    // What is not lost is on disk or in 4 MiB of memory.
    assert!(sent - report.lost_bytes <= (256 << 10) + (4 << 20));
    assert_eq!(fake.text(), "");
}

#[tokio::test]
async fn disk_that_refuses_is_replaced_by_memory() {
    let world = World::new();
    fs::write(world.spool(), "no folder").unwrap();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = recorder.finish(end()).await;

    assert_eq!(fake.text(), "text");
    assert_eq!(report.problem, None);
    assert_eq!(report.copies[0].standing, Standing::Complete);
}

#[tokio::test]
async fn confirmed_segments_are_deleted_while_the_session_runs() {
    let world = World::new();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");
    let block = Bytes::from(vec![b'x'; 64 << 10]);

    for _ in 0..256 {
        recorder.output(block.clone()).await;
    }
    fake.wait_for_data(256 * block.len()).await;

    let segments = world.segments("alice-1").len();
    assert!(segments <= 2, "{segments} segments of 16 MiB are left");
    recorder.finish(end()).await;
}

#[tokio::test]
async fn service_that_refuses_is_given_up_and_reported_and_harms_no_other() {
    let world = World::new();
    let refusing = world.service("one", Mood::Refuses);
    let sound = world.service("two", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = recorder.finish(end()).await;

    let problem = "the upload was refused: access denied";
    assert_eq!(report.copies[0].standing, Standing::GivenUp(problem.into()));
    assert_eq!(report.problem, Some(format!("fake: {problem}")));
    assert_eq!(refusing.attempts(), 1);
    assert_eq!(sound.text(), "text");
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn session_that_must_be_recorded_learns_that_its_service_was_given_up() {
    let world = World::new();
    world.service("one", Mood::Refuses);
    let mut target = target("one");
    target.policy = Policy::FailClosed;
    let (mut recorder, writer) = (world.transcript).start(about("alice-1"), &[target]);
    let _writer = tokio::spawn(writer);

    recorder.output("text".into()).await;

    let broken = recorder.broken();
    timeout(PATIENCE, broken.cancelled()).await.unwrap();
}

struct World {
    folder: tempfile::TempDir,
    services: Arc<Fakes>,
    disk: u64,
    uploads: Arc<Uploads>,
    transcript: Transcript,
}

impl World {
    fn new() -> Self {
        Self::with_disk(64 << 20)
    }

    fn with_disk(disk: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let services = Arc::new(Fakes::default());
        let uploads = Arc::new(uploads(folder.path(), disk, &services));
        Self {
            transcript: Transcript::new(None).with_uploads(Arc::clone(&uploads)),
            folder,
            services,
            disk,
            uploads,
        }
    }

    fn another(&self) -> Uploads {
        uploads(self.folder.path(), self.disk, &self.services)
    }

    /// Stops everything at once, so that nobody gets the session's end, and starts on the same folder.
    async fn crash(&mut self, recorder: Recorder, writer: JoinHandle<()>) {
        self.uploads.shutdown(NOTHING).await;
        writer.abort();
        let _ = writer.await;
        drop(recorder);
        self.uploads = Arc::new(self.another());
        self.transcript = Transcript::new(None).with_uploads(Arc::clone(&self.uploads));
    }

    fn service(&self, bucket: &str, mood: Mood) -> Fake {
        let fake = Fake::new(mood);
        let mut fakes = self.services.0.lock().unwrap();
        fakes.push((bucket.to_owned(), fake.clone()));
        fake
    }

    fn start(&self, session: &str) -> (Recorder, JoinHandle<()>) {
        let targets: Vec<Target> = {
            let fakes = self.services.0.lock().unwrap();
            fakes.iter().map(|(bucket, _)| target(bucket)).collect()
        };
        let (recorder, writer) = self.transcript.start(about(session), &targets);
        (recorder, tokio::spawn(writer))
    }

    /// Starts a session and records numbers, which the last service has seen then.
    async fn start_and_write(&self, session: &str, count: u32) -> (Recorder, JoinHandle<()>) {
        let (mut recorder, writer) = self.start(session);
        for number in 0..count {
            recorder.output(format!("{number} ").into()).await;
        }
        let fake = self.services.0.lock().unwrap().last().unwrap().1.clone();
        fake.wait_for_offer(count as usize).await;
        (recorder, writer)
    }

    fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool")
    }

    fn folders(&self) -> Vec<String> {
        let names = fs::read_dir(self.spool()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn segments(&self, session: &str) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.spool().join(session)).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
            .collect()
    }
}

fn uploads(folder: &Path, disk: u64, services: &Arc<Fakes>) -> Uploads {
    let settings = JournalSettings {
        directory: folder.join("spool"),
        session_bytes: disk,
        total_bytes: disk,
    };
    Uploads::new(settings, Arc::clone(services) as Arc<dyn Services>)
}

fn about(session: &str) -> About {
    file_sink::tests::about(session)
}

fn target(bucket: &str) -> Target {
    Target {
        destination: Destination::S3 {
            bucket: bucket.into(),
            key_prefix: String::new(),
            encrypted: false,
        },
        policy: Policy::FailOpen,
    }
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number} ")).collect()
}

fn end() -> End {
    End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    }
}

#[derive(Default)]
struct Fakes(Mutex<Vec<(String, Fake)>>);

impl Services for Fakes {
    fn uploader(
        &self,
        _about: &Arc<About>,
        destination: &Destination,
        _state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>> {
        let Destination::S3 { bucket, .. } = destination else {
            return None;
        };
        let fakes = self.0.lock().unwrap();
        let (_, fake) = fakes.iter().find(|(name, _)| name == bucket)?;
        Some(Box::new(fake.clone()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Fails,
    Refuses,
    Hangs,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    taken: Vec<Event>,
    offered: usize,
    attempts: u32,
}

/// A service whose behaviour the test changes while it runs.
#[derive(Clone)]
struct Fake {
    mood: Arc<Mutex<Mood>>,
    seen: watch::Sender<Seen>,
}

impl Fake {
    fn new(mood: Mood) -> Self {
        Self {
            mood: Arc::new(Mutex::new(mood)),
            seen: watch::Sender::default(),
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn attempts(&self) -> u32 {
        self.seen.borrow().attempts
    }

    fn last(&self) -> Option<Event> {
        self.seen.borrow().taken.last().cloned()
    }

    fn text(&self) -> String {
        text(&self.seen.borrow())
    }

    async fn wait_for(&self, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = timeout(PATIENCE, seen.wait_for(condition)).await;
        waited.expect("it comes in time").unwrap();
    }

    async fn wait_for_text(&self, expected: &str) {
        self.wait_for(|seen| text(seen) == expected).await;
    }

    async fn wait_for_data(&self, bytes: usize) {
        let data = |seen: &Seen| seen.taken.iter().map(Event::data_len).sum::<usize>();
        self.wait_for(|seen| data(seen) >= bytes).await;
    }

    async fn wait_for_offer(&self, entries: usize) {
        self.wait_for(|seen| seen.offered >= entries).await;
    }

    async fn wait_for_end(&self) {
        let is_end = |event: Option<&Event>| matches!(event, Some(Event::End(_)));
        self.wait_for(|seen| is_end(seen.taken.last())).await;
    }
}

fn text(seen: &Seen) -> String {
    let texts = seen.taken.iter().map(|event| match event {
        Event::Output(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Event::End(_) => String::new(),
        other => format!("{other:?}"),
    });
    texts.collect()
}

impl Uploader for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn place(&self) -> String {
        "fake://".into()
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn batch_limit(&self) -> usize {
        1 << 20
    }

    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a> {
        Box::pin(async move {
            let mood = *self.mood.lock().unwrap();
            self.seen.send_modify(|seen| {
                seen.attempts += 1;
                seen.offered = seen.offered.max(entries.len());
            });
            match mood {
                Mood::Takes => {}
                Mood::Fails => return Err(UploadError::Transient("slow down".into())),
                Mood::Refuses => return Err(UploadError::Refused("access denied".into())),
                Mood::Hangs => std::future::pending().await,
            }
            let events = entries.iter().map(|entry| entry.event.clone());
            self.seen.send_modify(|seen| seen.taken.extend(events));
            Ok(Confirmed {
                entries: entries.len(),
            })
        })
    }

    fn state(&self) -> Value {
        json!({"parts": 1})
    }
}
