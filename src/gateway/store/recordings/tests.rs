use std::time::Duration;

use super::*;
use crate::gateway::store::Page;
use crate::gateway::store::sessions::{Cursor, SessionRecord, SessionResult, SessionStatus};

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A store with the session `name` of `alice` on `mi-1`, asked for at `start`.
async fn add_session(store: &Store, name: &str, start: u64) {
    let record = SessionRecord {
        start: at(start),
        ..SessionRecord::new(id(name), "mi-1", "arn:alice")
    };
    store.insert_session(record).await.unwrap();
}

fn progress(bytes: u64, complete: bool) -> Progress {
    Progress {
        bytes,
        entries: 1,
        complete,
    }
}

async fn report(store: &Store, name: &str, bytes: u64, sha256: &str) {
    let result = SessionResult {
        session_id: id(name),
        node_id: "mi-1".into(),
        status: SessionStatus::Terminated,
        details: String::new(),
        exit_code: None,
        s3_output: String::new(),
        log_output: String::new(),
        cast: Some(NodeFile {
            bytes,
            sha256: sha256.into(),
        }),
    };
    store.complete_session(result).await.unwrap();
}

#[tokio::test]
async fn recording_begins_with_its_session_and_outlives_it() {
    let store = Store::open_in_memory().unwrap();
    add_session(&store, "a", 5).await;

    assert_eq!(store.begin_recording(&id("x"), at(6)).await.unwrap(), None);
    let begun = store
        .begin_recording(&id("a"), at(6))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(begun.progress, Progress::default());
    store
        .advance_recording(&id("a"), progress(10, true), Some(DIGEST.into()), at(7))
        .await
        .unwrap();
    store
        .end_session(id("a"), SessionStatus::Terminated, String::new())
        .await
        .unwrap();
    let later = SystemTime::now() + Duration::from_secs(40 * 24 * 3600);
    assert_eq!(store.forget_old_sessions(later).await.unwrap(), 1);

    let kept = store.recording(&id("a")).await.unwrap().unwrap();
    assert_eq!(
        (kept.node_id.as_str(), kept.owner.as_str()),
        ("mi-1", "arn:alice")
    );
    assert_eq!((kept.started, kept.updated), (at(5), at(7)));
    assert_eq!(kept.progress, progress(10, true));
    assert_eq!(store.recorded_bytes().await.unwrap(), 10);
    let listed = list(&store, 10, None).await.items;
    assert_eq!((listed.len(), listed[0].status), (1, None));
    assert_eq!(listed[0].recording, Some(kept));
}

#[tokio::test]
async fn digests_agree_differ_or_say_nothing_in_whichever_order_they_come() {
    let store = Store::open_in_memory().unwrap();
    let other = "0".repeat(64);
    for (name, node_bytes, node_sha256, agreement) in [
        ("same", 10, DIGEST.to_uppercase(), Agreement::Same),
        ("differs", 10, other.clone(), Agreement::Differs),
        ("longer", 11, other, Agreement::Unknown),
    ] {
        for first in ["upload", "result"] {
            let name = format!("{name}-{first}");
            add_session(&store, &name, 1).await;
            if first == "result" {
                report(&store, &name, node_bytes, &node_sha256).await;
            }
            store.begin_recording(&id(&name), at(2)).await.unwrap();
            let digest = Some(DIGEST.to_owned());
            store
                .advance_recording(&id(&name), progress(10, true), digest, at(3))
                .await
                .unwrap();
            if first == "upload" {
                report(&store, &name, node_bytes, &node_sha256).await;
            }
            // What a node says later does not count.
            report(&store, &name, 10, DIGEST).await;

            let recording = store.recording(&id(&name)).await.unwrap().unwrap();
            assert_eq!(recording.agreement(), agreement, "{name}");
        }
    }
}

#[tokio::test]
async fn recording_that_is_being_written_is_not_finished_until_nobody_can_add_to_it() {
    let store = Store::open_in_memory().unwrap();
    for (name, complete) in [("running", false), ("broken-off", false), ("whole", true)] {
        add_session(&store, name, 1).await;
        store.begin_recording(&id(name), at(2)).await.unwrap();
        store
            .advance_recording(&id(name), progress(1, complete), None, at(10))
            .await
            .unwrap();
    }
    for name in ["broken-off", "whole"] {
        store
            .end_session(id(name), SessionStatus::Failed, String::new())
            .await
            .unwrap();
    }
    let finished = async |before| {
        let finished = store.finished_recordings(before).await.unwrap();
        let names = finished.iter().map(|r| r.session_id.to_string());
        names.collect::<Vec<_>>()
    };

    assert_eq!(finished(at(10)).await, ["whole"]);
    assert_eq!(finished(at(11)).await, ["broken-off", "whole"]);
}

#[tokio::test]
async fn list_has_pages_and_filters() {
    let store = Store::open_in_memory().unwrap();
    for (name, start) in [("a", 1), ("b", 2), ("c", 3)] {
        add_session(&store, name, start).await;
    }
    store.begin_recording(&id("b"), at(4)).await.unwrap();
    store
        .advance_recording(&id("b"), progress(9, false), None, at(5))
        .await
        .unwrap();

    let first = list(&store, 2, None).await;
    let from = Cursor::parse(first.next.as_deref().unwrap());
    let second = list(&store, 2, from).await;

    let names = |page: &Page<Listed>| -> Vec<(String, Option<u64>)> {
        let items = page.items.iter();
        let bytes = |l: &Listed| l.recording.as_ref().map(|r| r.progress.bytes);
        items
            .map(|l| (l.session_id.to_string(), bytes(l)))
            .collect()
    };
    assert_eq!(names(&first), [("c".into(), None), ("b".into(), Some(9))]);
    assert_eq!(names(&second), [("a".into(), None)]);
    assert_eq!(second.next, None);
    for (node_id, owner, all_sessions, count) in [
        (Some("mi-1"), None, true, 3),
        (Some("mi-2"), None, true, 0),
        (None, Some("arn:bob"), true, 0),
        (None, Some("arn:alice"), false, 1),
    ] {
        let filter = RecordingFilter {
            node_id: node_id.map(Into::into),
            owner: owner.map(Into::into),
            all_sessions,
            from: None,
            limit: 10,
        };
        let page = store.list_recordings(filter).await.unwrap();
        assert_eq!(page.items.len(), count, "{node_id:?} {owner:?}");
    }
}

async fn list(store: &Store, limit: u32, from: Option<Cursor>) -> Page<Listed> {
    let filter = RecordingFilter {
        node_id: None,
        owner: None,
        all_sessions: true,
        from,
        limit,
    };
    store.list_recordings(filter).await.unwrap()
}
