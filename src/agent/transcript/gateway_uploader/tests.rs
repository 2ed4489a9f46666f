use std::fs;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use super::*;
use crate::agent::transcript::entry::Event;
use crate::agent::transcript::file_sink::FileSink;
use crate::agent::transcript::file_sink::tests::{about, settings};
use crate::agent::transcript::shelf::Shelf;
use crate::agent::transcript::{End, Format, Sink, Verdict, verify};
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::protocol::wire::recording::PART_LIMIT;

#[tokio::test]
async fn upload_is_the_file_that_the_file_sink_writes() {
    let gateway = Gateway::start().await;
    let mut uploader = gateway.uploader(None);
    let session = session();

    for batch in session.chunks(2) {
        let confirmed = uploader.upload(batch).await.unwrap();
        assert_eq!(confirmed.entries, batch.len());
    }

    assert_eq!(gateway.text(), file(&session).await);
    assert!(gateway.stands().complete);
    assert_eq!(gateway.verdict(), Verdict::Complete);
    let seen = &gateway.server.seen()[0];
    assert_eq!(seen.method, http::Method::PUT);
    assert_eq!(seen.path, "/v1/recordings/alice-1");
    assert!(
        seen.header("authorization")
            .contains("/ssmmessages/aws4_request")
    );
    assert_eq!(uploader.place(), "gateway:alice-1");
}

#[tokio::test]
async fn session_without_a_byte_is_complete() {
    let gateway = Gateway::start().await;
    let end = session().pop().unwrap();

    let confirmed = gateway
        .uploader(None)
        .upload(std::slice::from_ref(&end))
        .await
        .unwrap();

    assert_eq!(confirmed.entries, 1);
    assert_eq!(gateway.text(), file(&[end]).await);
    assert_eq!(gateway.verdict(), Verdict::Complete);
}

#[tokio::test]
async fn part_whose_answer_was_lost_is_not_stored_twice() {
    let gateway = Gateway::start().await;
    let mut uploader = gateway.uploader(None);
    let session = session();

    gateway.lose_answers(true);
    assert!(!uploader.upload(&session[..2]).await.unwrap_err().is_final());
    gateway.lose_answers(false);
    let confirmed = uploader.upload(&session).await.unwrap();

    assert_eq!(confirmed.entries, session.len());
    assert_eq!(gateway.text(), file(&session).await);
    assert_eq!(gateway.verdict(), Verdict::Complete);
}

#[tokio::test]
async fn next_run_goes_on_where_the_gateway_stands_and_stores_nothing_twice() {
    let gateway = Gateway::start().await;
    let mut uploader = gateway.uploader(None);
    let session = session();
    uploader.upload(&session[..2]).await.unwrap();
    let state = uploader.state();
    // The agent is killed before it notes that this arrived.
    uploader.upload(&session[2..4]).await.unwrap();

    let mut next_run = gateway.uploader(Some(state));
    let confirmed = next_run.upload(&session[2..]).await.unwrap();

    assert_eq!(confirmed.entries, session.len() - 2);
    assert!(gateway.stands().complete);
    let text = gateway.text();
    for word in ["one", "two", "three", "four", "five", "session ended"] {
        assert_eq!(text.matches(word).count(), 1, "{word} in {text}");
    }
    assert!(
        text.contains("€"),
        "a character cut between two runs: {text}"
    );
    assert!(matches!(
        gateway.verdict(),
        Verdict::Unended { proven: 1.. }
    ));
}

#[tokio::test]
async fn what_the_gateway_has_lost_is_marked_as_missing() {
    let gateway = Gateway::start().await;
    let mut uploader = gateway.uploader(None);
    let session = session();
    uploader.upload(&session[..2]).await.unwrap();
    let before = gateway.keep();
    uploader.upload(&session[2..4]).await.unwrap();
    let lost = gateway.stands().bytes - before.1.bytes;

    gateway.bring_back(before);
    uploader.upload(&session[4..]).await.unwrap();

    let text = gateway.text();
    let marker = format!("\"m\",\"{lost} bytes are missing here\"");
    assert_eq!(text.matches(&marker).count(), 1, "{text}");
    assert!(text.contains("two") && !text.contains("three"), "{text}");
    assert!(gateway.stands().complete);
}

#[tokio::test]
async fn large_batches_go_out_in_pieces_that_a_gateway_takes() {
    let gateway = Gateway::start().await;
    let mut uploader = gateway.uploader(None);
    let entries: Vec<Entry> = (0..20)
        .map(|second| output(second, &vec![0x1b; 32 << 10]))
        .collect();

    let confirmed = uploader.upload(&entries).await.unwrap();

    assert_eq!(confirmed.entries, entries.len());
    assert_eq!(gateway.text(), file(&entries).await);
    let seen = gateway.server.seen();
    assert!(seen.len() > 5 && seen.iter().all(|part| part.body.len() <= PART_LIMIT));
}

#[tokio::test]
async fn refusals_are_final_unless_a_later_attempt_can_help() {
    for (status, code, is_final) in [
        (404, "ResourceNotFoundException", true),
        (403, "AccessDeniedException", true),
        (410, "ResourceGoneException", true),
        (413, "RequestEntityTooLargeException", true),
        (400, "ValidationException", true),
        (400, "InvalidSignatureException", false),
        (500, "InternalServerError", false),
        (503, "", false),
        (507, "InsufficientStorageException", false),
    ] {
        let server = TestServer::start_tls(move |_, _| {
            Reply(
                status,
                vec![],
                format!(r#"{{"__type":"{code}","message":"no"}}"#),
            )
        })
        .await;
        let mut uploader = GatewayUploader::new(server.client(), story(), None);

        let refused = uploader.upload(&session()).await.unwrap_err();

        assert_eq!(refused.is_final(), is_final, "{status} {code}");
    }
}

/// What the stand-in has stored.
type Kept = (Vec<u8>, Progress);

#[derive(Default)]
struct Disk {
    kept: Kept,
    loses_answers: bool,
}

/// Stores as the gateway does, one session.
struct Gateway {
    server: TestServer,
    disk: Arc<Mutex<Disk>>,
}

impl Gateway {
    async fn start() -> Self {
        let disk = Arc::<Mutex<Disk>>::default();
        let stored = Arc::clone(&disk);
        let server = TestServer::start_tls(move |_, request| stored.lock().unwrap().take(request));
        Self {
            server: server.await,
            disk,
        }
    }

    fn uploader(&self, state: Option<Value>) -> GatewayUploader {
        GatewayUploader::new(self.server.client(), story(), state)
    }

    fn lose_answers(&self, loses_answers: bool) {
        self.disk.lock().unwrap().loses_answers = loses_answers;
    }

    fn keep(&self) -> Kept {
        self.disk.lock().unwrap().kept.clone()
    }

    fn bring_back(&self, kept: Kept) {
        self.disk.lock().unwrap().kept = kept;
    }

    fn stands(&self) -> Progress {
        self.disk.lock().unwrap().kept.1
    }

    fn text(&self) -> String {
        String::from_utf8(self.keep().0).unwrap()
    }

    fn verdict(&self) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uploaded.cast");
        fs::write(&path, self.keep().0).unwrap();
        verify(&path).unwrap().verdict
    }
}

impl Disk {
    fn take(&mut self, request: &Seen) -> Reply {
        let members = request.query.split('&').filter_map(|m| m.split_once('='));
        let member = |name| members.clone().find(|m| m.0 == name).map(|m| m.1);
        let number = |name| member(name).unwrap().parse::<u64>().unwrap();
        let (bytes, stands) = &mut self.kept;
        let mut status = 409;
        if number("offset") == stands.bytes && !stands.complete {
            bytes.extend_from_slice(&request.body);
            *stands = Progress {
                bytes: bytes.len() as u64,
                entries: number("entries"),
                complete: member("complete") == Some("true"),
            };
            status = 200;
        }
        if self.loses_answers {
            return Reply(500, vec![], String::new());
        }
        Reply(status, vec![], String::from_utf8(stands.encode()).unwrap())
    }
}

/// Whom the recording is about; the header has the time in it.
fn story() -> Arc<About> {
    let started = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Arc::new(About {
        started,
        ..about("alice-1")
    })
}

/// Six entries with a character that is cut between the second and the third.
fn session() -> Vec<Entry> {
    let end = End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    };
    vec![
        output(1, b"one"),
        output(2, b"two \xe2\x82"),
        output(3, b"\xac three"),
        output(20, b"four"),
        output(21, b"five"),
        Entry {
            at: Duration::from_secs(22),
            event: Event::End(end),
        },
    ]
}

fn output(second: u64, bytes: &[u8]) -> Entry {
    Entry {
        at: Duration::from_secs(second),
        event: Event::Output(Bytes::copy_from_slice(bytes)),
    }
}

/// The cast that the file sink makes of the same entries.
async fn file(entries: &[Entry]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::new(&settings(folder.path())));
    let mut sink = FileSink::new(Format::Cast, shelf, story());
    for batch in entries.chunks(3) {
        sink.write(batch.into()).await.unwrap();
    }
    fs::read_to_string(&sink.file().unwrap().path).unwrap()
}
