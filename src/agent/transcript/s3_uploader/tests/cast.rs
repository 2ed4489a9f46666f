//! The cast beside the text.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::agent::transcript::file_sink::tests::settings;
use crate::agent::transcript::{
    Destination, JournalSettings, Policy, RecordedFile, Recorder, Services, Standing, Target,
    Transcript, Uploads, Verdict, verify,
};

/// Reads of a long session.
const READS: usize = 384;

#[tokio::test]
async fn cast_is_stored_under_its_own_key_and_type() {
    let s3 = Fake::start().await;
    let mut uploader = s3.cast_uploader(None);

    let first = [output("one\r\n")];
    assert_eq!(confirmed_cast(&mut uploader, &first).await, 0);
    let all = [output("one\r\n"), output("\u{1b}[31mtwo"), end()];
    assert_eq!(confirmed_cast(&mut uploader, &all).await, 3);

    assert_eq!(uploader.place(), "s3://my-logs/pre/fix/alice-1.cast");
    let put = s3.requests("PUT").pop().unwrap();
    assert_eq!(put.path, CAST_KEY);
    assert_eq!(put.header("content-type"), "application/x-asciicast");
    assert_eq!(put.header("x-amz-acl"), "bucket-owner-full-control");
    assert_eq!(put.header("x-amz-server-side-encryption"), "AES256");
    assert_eq!(verdict(&s3.text()), Verdict::Complete);
}

#[tokio::test]
async fn next_run_goes_on_with_the_cast_where_the_object_is_confirmed() {
    let s3 = Fake::start().await;
    let mut uploader = s3.cast_uploader(None);
    let session = long_session();
    let half = session.len() / 2;
    assert_eq!(confirmed_cast(&mut uploader, &session[..half]).await, half);
    let state = uploader.state();
    // The agent is killed before it notes that this arrived.
    confirmed_cast(&mut uploader, &session[half..half + 3]).await;

    let mut next_run = s3.cast_uploader(Some(state));
    let rest = &session[half..];
    assert_eq!(confirmed_cast(&mut next_run, rest).await, rest.len());

    let text = s3.text();
    let text = String::from_utf8_lossy(&text);
    for number in 0..READS {
        assert_eq!(text.matches(&format!("<{number}>")).count(), 1, "{number}");
    }
    assert_eq!(text.matches("\"version\":2").count(), 1);
    assert!(matches!(
        verdict(text.as_bytes()),
        Verdict::Unended { proven: 1.. }
    ));
}

#[tokio::test]
async fn cast_in_the_bucket_is_the_file_on_the_host_however_small_the_entries() {
    let world = World::start().await;
    let (mut recorder, writer) = world.record();
    let writer = tokio::spawn(writer);

    // Far more entries than a batch could hold one by one.
    for letter in (b'a'..=b'z').cycle().take(2000) {
        recorder.output(vec![letter].into()).await;
    }
    recorder.output(vec![b'x'; 40 << 10].into()).await;
    let report = world.finish(recorder).await;
    writer.await.unwrap();

    let RecordedFile { path, .. } = &report.files[0];
    assert!(fs::read(path).unwrap() == world.s3.text(), "they differ");
    assert_eq!(verdict(&world.s3.text()), Verdict::Complete);
}

#[tokio::test]
async fn cast_of_a_session_without_a_byte_is_its_end() {
    let world = World::start().await;
    let (recorder, writer) = world.record();
    let writer = tokio::spawn(writer);

    world.finish(recorder).await;
    writer.await.unwrap();

    let cast = String::from_utf8(world.s3.text()).unwrap();
    assert_eq!(cast.lines().count(), 3, "{cast}");
    assert_eq!(verdict(cast.as_bytes()), Verdict::Complete);
}

/// A transcript with a file and a bucket, which get the cast.
struct World {
    _folder: TempDir,
    s3: Arc<Fake>,
    transcript: Transcript,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let s3 = Arc::new(Fake::start().await);
        let journal = JournalSettings::new(folder.path().join("spool"), 64 << 20);
        let services = Arc::new(OneBucket(Arc::clone(&s3)));
        let uploads = Uploads::new(journal, services, tokio::runtime::Handle::current());
        let transcript = Transcript::new(Some(settings(folder.path())));
        Self {
            _folder: folder,
            s3,
            transcript: transcript.with_uploads(Arc::new(uploads)),
        }
    }

    fn record(&self) -> (Recorder, impl Future<Output = ()> + Send + use<> + 'static) {
        let target = Target {
            destination: Destination::S3 {
                bucket: "my-logs".into(),
                key_prefix: "pre/fix".into(),
                encrypted: false,
                cast: true,
            },
            policy: Policy::FailOpen,
        };
        self.transcript.start(story(), &[target])
    }

    async fn finish(&self, recorder: Recorder) -> crate::agent::transcript::Report {
        let report = recorder
            .finish(End {
                reason: "the shell exited".into(),
                exit_code: Some(0),
            })
            .await;
        assert_eq!(report.copies[0].standing, Standing::Complete);
        report
    }
}

struct OneBucket(Arc<Fake>);

impl Services for OneBucket {
    fn uploader(
        &self,
        _about: &Arc<About>,
        _destination: &Destination,
        state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>> {
        Some(Box::new(self.0.cast_uploader(state.cloned())))
    }
}

async fn confirmed_cast(uploader: &mut S3Uploader, entries: &[Entry]) -> usize {
    assert_eq!(uploader.wants(), Wants::Cast);
    let mut piece = uploader.cast().unwrap();
    entries.iter().for_each(|entry| piece.add(entry));
    uploader.upload_cast(piece).await.unwrap().entries
}

/// Twelve megabytes in numbered reads, and the end.
fn long_session() -> Vec<Entry> {
    let read = |number| {
        let text = format!("<{number}>{}", "x".repeat(32 << 10));
        entry(Event::Output(text.into()))
    };
    (0..READS).map(read).chain([end()]).collect()
}

fn verdict(cast: &[u8]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stored.cast");
    fs::write(&path, cast).unwrap();
    verify(&path).unwrap().verdict
}
