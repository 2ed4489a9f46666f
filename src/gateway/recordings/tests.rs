use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::gateway::store::Store;
use crate::gateway::store::sessions::{SessionRecord, SessionStatus};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::Part;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn recordings_are_deleted_when_they_are_too_old_but_not_those_of_running_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        retention: 2 * DAY,
        ..Settings::new(folder.path())
    };
    let recordings = recordings(settings, &["whole", "broken-off", "running"]).await;
    append(&recordings, "whole", true).await.unwrap();
    append(&recordings, "broken-off", false).await.unwrap();
    append(&recordings, "running", false).await.unwrap();
    let store = &recordings.shared.store;
    for name in ["whole", "broken-off"] {
        let ended = SessionStatus::Terminated;
        store
            .end_session(id(name), ended, String::new())
            .await
            .unwrap();
    }
    let left = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let now = SystemTime::now();

    recordings.sweep_at(now + DAY, 0).await;
    assert_eq!(left().len(), 3);
    recordings.sweep_at(now + 3 * DAY, 0).await;
    assert_eq!(left(), ["running.cast"]);

    assert_eq!(recordings.used(), 4);
    assert_eq!(store.recorded_bytes().await.unwrap(), 4);
    assert_eq!(store.recording(&id("whole")).await.unwrap(), None);
}

#[tokio::test]
async fn recording_of_before_the_clock_stepped_back_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let recordings = recordings(Settings::new(folder.path()), &["a"]).await;
    append(&recordings, "a", true).await.unwrap();

    recordings.sweep_at(SystemTime::now() - 100 * DAY, 0).await;

    assert!(folder.path().join("a.cast").exists());
}

#[tokio::test]
async fn folder_that_cannot_be_made_is_an_error_and_nothing_counts_as_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"in the way").unwrap();
    let recordings = recordings(Settings::new(&path), &["a"]).await;

    let refused = append(&recordings, "a", false).await;

    assert!(matches!(refused, Err(AppendError::Io(_))), "{refused:?}");
    assert_eq!(recordings.used(), 0);
    std::fs::remove_file(&path).unwrap();
    append(&recordings, "a", false).await.unwrap();
}

#[tokio::test]
async fn parts_of_one_recording_that_come_at_once_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let recordings = recordings(Settings::new(folder.path()), &["a"]).await;

    let both = tokio::join!(
        append(&recordings, "a", false),
        append(&recordings, "a", false)
    );

    let stored = [both.0, both.1].into_iter().filter(Result::is_ok).count();
    assert_eq!(stored, 1);
    assert_eq!(
        std::fs::read(folder.path().join("a.cast")).unwrap(),
        b"part"
    );
}

/// Recordings that nobody sweeps, of these sessions.
async fn recordings(settings: Settings, sessions: &[&str]) -> Recordings {
    let store = Store::open_in_memory().unwrap();
    for name in sessions {
        let record = SessionRecord::new(id(name), "mi-1", "arn:alice");
        store.insert_session(record).await.unwrap();
    }
    let made = Recordings::new(store, settings, CancellationToken::new());
    made.await.unwrap().0
}

async fn append(
    recordings: &Recordings,
    name: &str,
    complete: bool,
) -> Result<crate::protocol::wire::recording::Progress, AppendError> {
    let part = Part {
        offset: 0,
        entries: 1,
        complete,
    };
    let bytes = Bytes::from_static(b"part");
    recordings.append("mi-1", id(name), part, bytes).await
}

fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}
