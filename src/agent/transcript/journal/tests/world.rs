//! Sessions, services and a spool folder for the tests of journals.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::super::file_sink;
use super::super::super::uploader::{Confirmed, Upload, UploadError, Uploader};
use super::super::super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: Duration = Duration::ZERO;

pub(super) struct World {
    _folder: tempfile::TempDir,
    services: Arc<Fakes>,
    settings: JournalSettings,
    pub(super) uploads: Arc<Uploads>,
    pub(super) transcript: Transcript,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_disk(64 << 20)
    }

    pub(super) fn with_disk(disk: u64) -> Self {
        Self::with(disk, |_| {})
    }

    pub(super) fn with(disk: u64, change: impl FnOnce(&mut JournalSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let services = Arc::new(Fakes::default());
        let mut settings = JournalSettings::new(folder.path().join("spool"), disk);
        change(&mut settings);
        let uploads = Arc::new(uploads(&settings, &services));
        Self {
            transcript: Transcript::new(None).with_uploads(Arc::clone(&uploads)),
            _folder: folder,
            services,
            settings,
            uploads,
        }
    }

    pub(super) fn another(&self) -> Uploads {
        uploads(&self.settings, &self.services)
    }

    /// Stops everything at once, so that nobody gets the session's end, and starts on the same folder.
    pub(super) async fn crash(&mut self, recorder: Recorder, writer: JoinHandle<()>) {
        self.uploads.shutdown(NOTHING).await;
        writer.abort();
        let _ = writer.await;
        drop(recorder);
        self.uploads = Arc::new(self.another());
        self.transcript = Transcript::new(None).with_uploads(Arc::clone(&self.uploads));
    }

    pub(super) fn service(&self, bucket: &str, mood: Mood) -> Fake {
        let fake = Fake::new(mood);
        let mut fakes = self.services.0.lock().unwrap();
        fakes.push((bucket.to_owned(), fake.clone()));
        fake
    }

    /// A service that wants what has gathered in this time.
    pub(super) fn service_each(&self, bucket: &str, interval: Duration) -> Fake {
        let fake = Fake {
            interval,
            ..Fake::new(Mood::Takes)
        };
        let mut fakes = self.services.0.lock().unwrap();
        fakes.push((bucket.to_owned(), fake.clone()));
        fake
    }

    pub(super) fn start(&self, session: &str) -> (Recorder, JoinHandle<()>) {
        let targets: Vec<Target> = {
            let fakes = self.services.0.lock().unwrap();
            fakes.iter().map(|(bucket, _)| target(bucket)).collect()
        };
        let (recorder, writer) = self.transcript.start(about(session), &targets);
        (recorder, tokio::spawn(writer))
    }

    /// Starts a session and records numbers, which the last service has seen then.
    pub(super) async fn start_and_write(
        &self,
        session: &str,
        count: u32,
    ) -> (Recorder, JoinHandle<()>) {
        let (mut recorder, writer) = self.start(session);
        for number in 0..count {
            recorder.output(format!("{number} ").into()).await;
        }
        let fake = self.services.0.lock().unwrap().last().unwrap().1.clone();
        fake.wait_for_offer(count as usize).await;
        (recorder, writer)
    }

    pub(super) fn spool(&self) -> std::path::PathBuf {
        self.settings.directory.clone()
    }

    pub(super) fn folders(&self) -> Vec<String> {
        let names = fs::read_dir(self.spool()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    pub(super) fn segments(&self, session: &str) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.spool().join(session)).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
            .collect()
    }
}

fn uploads(settings: &JournalSettings, services: &Arc<Fakes>) -> Uploads {
    Uploads::new(
        settings.clone(),
        Arc::clone(services) as Arc<dyn Services>,
        tokio::runtime::Handle::current(),
    )
}

pub(super) fn about(session: &str) -> About {
    file_sink::tests::about(session)
}

pub(super) fn target(bucket: &str) -> Target {
    Target {
        destination: Destination::S3 {
            bucket: bucket.into(),
            key_prefix: String::new(),
            encrypted: false,
            cast: false,
        },
        policy: Policy::FailOpen,
    }
}

pub(super) fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number} ")).collect()
}

pub(super) fn end() -> End {
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
pub(super) enum Mood {
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
pub(super) struct Fake {
    mood: Arc<Mutex<Mood>>,
    seen: watch::Sender<Seen>,
    interval: Duration,
}

impl Fake {
    fn new(mood: Mood) -> Self {
        Self {
            mood: Arc::new(Mutex::new(mood)),
            seen: watch::Sender::default(),
            interval: Duration::from_millis(20),
        }
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn attempts(&self) -> u32 {
        self.seen.borrow().attempts
    }

    pub(super) fn taken(&self) -> Vec<Event> {
        self.seen.borrow().taken.clone()
    }

    pub(super) fn last(&self) -> Option<Event> {
        self.seen.borrow().taken.last().cloned()
    }

    pub(super) fn text(&self) -> String {
        text(&self.seen.borrow())
    }

    async fn wait_for(&self, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = timeout(PATIENCE, seen.wait_for(condition)).await;
        waited.expect("it comes in time").unwrap();
    }

    pub(super) async fn wait_for_text(&self, expected: &str) {
        self.wait_for(|seen| text(seen) == expected).await;
    }

    pub(super) async fn wait_for_data(&self, bytes: usize) {
        let data = |seen: &Seen| seen.taken.iter().map(Event::data_len).sum::<usize>();
        self.wait_for(|seen| data(seen) >= bytes).await;
    }

    pub(super) async fn wait_for_offer(&self, entries: usize) {
        self.wait_for(|seen| seen.offered >= entries).await;
    }

    pub(super) async fn wait_for_end(&self) {
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
        self.interval
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
