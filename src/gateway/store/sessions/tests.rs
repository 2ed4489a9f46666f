use std::time::Duration;

use super::*;

#[tokio::test]
async fn record_comes_back_as_it_was_stored() {
    let store = Store::open_in_memory().unwrap();
    let record = SessionRecord {
        document_name: "SSM-SessionManagerRunShell".into(),
        reason: "look at the disk".into(),
        exit_code: Some(-1),
        s3_output: "s3".into(),
        log_output: "log".into(),
        limits: SessionLimits {
            idle_timeout: Duration::from_secs(60),
            activity: Activity::InputOrOutput,
            max_duration: Some(Duration::from_secs(3600)),
        },
        ..at("alice-1", 1_700_000_000_123)
    };

    store.insert_session(record.clone()).await.unwrap();

    assert_eq!(
        store.session(&record.session_id).await.unwrap(),
        Some(record)
    );
    assert_eq!(store.session(&id("alice-2")).await.unwrap(), None);
}

#[tokio::test]
async fn session_ends_once() {
    let store = Store::open_in_memory().unwrap();
    store.insert_session(at("alice-1", 1)).await.unwrap();

    let end = |status, text: &str| store.end_session(id("alice-1"), status, text.into());
    end(SessionStatus::Failed, "first").await.unwrap();
    end(SessionStatus::Terminated, "second").await.unwrap();
    store
        .set_session_status(id("alice-1"), SessionStatus::Connected)
        .await
        .unwrap();

    let record = store.session(&id("alice-1")).await.unwrap().unwrap();
    assert_eq!(record.status, SessionStatus::Failed);
    assert_eq!(record.details, "first");
    assert!(record.end.is_some());
}

#[tokio::test]
async fn first_result_of_the_agent_stays_and_ends_the_session() {
    let store = Store::open_in_memory().unwrap();
    store.insert_session(at("alice-1", 1)).await.unwrap();

    let first = result("alice-1", "mi-1", SessionStatus::Failed, Some(3));
    assert!(store.complete_session(first).await.unwrap());
    let second = result("alice-1", "mi-1", SessionStatus::Terminated, Some(4));
    assert!(store.complete_session(second).await.unwrap());

    let record = store.session(&id("alice-1")).await.unwrap().unwrap();
    assert_eq!(record.status, SessionStatus::Failed);
    assert_eq!(record.exit_code, Some(3));
    assert!(store.open_sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn reason_to_end_outlives_the_agents_result() {
    let store = Store::open_in_memory().unwrap();
    store.insert_session(at("alice-1", 1)).await.unwrap();

    let reason = "too long".to_owned();
    store
        .terminate_session(id("alice-1"), reason)
        .await
        .unwrap();
    let ending = store.session(&id("alice-1")).await.unwrap().unwrap();
    let over = result("alice-1", "mi-1", SessionStatus::Terminated, Some(0));
    store.complete_session(over).await.unwrap();

    assert_eq!(ending.status, SessionStatus::Terminating);
    let record = store.session(&id("alice-1")).await.unwrap().unwrap();
    assert_eq!(record.status, SessionStatus::Terminated);
    assert_eq!(
        (record.details.as_str(), record.exit_code),
        ("too long", Some(0))
    );
}

#[tokio::test]
async fn result_from_another_node_changes_nothing() {
    let store = Store::open_in_memory().unwrap();
    store.insert_session(at("alice-1", 1)).await.unwrap();

    let foreign = result("alice-1", "mi-2", SessionStatus::Failed, None);
    assert!(!store.complete_session(foreign).await.unwrap());

    let record = store.session(&id("alice-1")).await.unwrap().unwrap();
    assert_eq!(record.status, SessionStatus::Connecting);
}

#[tokio::test]
async fn ended_session_is_unconfirmed_until_its_agent_reports() {
    let store = Store::open_in_memory().unwrap();
    for name in ["alice-1", "alice-2", "alice-3"] {
        store.insert_session(at(name, 1)).await.unwrap();
    }
    for name in ["alice-1", "alice-2"] {
        store
            .end_session(id(name), SessionStatus::Terminated, "lost".into())
            .await
            .unwrap();
    }
    let late = result("alice-1", "mi-1", SessionStatus::Terminated, Some(0));
    store.complete_session(late).await.unwrap();

    let unconfirmed = |since| store.unconfirmed_sessions("mi-1", since);
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    assert_eq!(unconfirmed(now - hour).await.unwrap(), [id("alice-2")]);
    assert!(unconfirmed(now + hour).await.unwrap().is_empty());
    let first = store.session(&id("alice-1")).await.unwrap().unwrap();
    assert_eq!((first.details.as_str(), first.exit_code), ("lost", Some(0)));
}

#[tokio::test]
async fn history_is_forgotten_after_thirty_days_and_what_has_not_ended_never() {
    let store = Store::open_in_memory().unwrap();
    for name in ["old-1", "open-1"] {
        store.insert_session(at(name, 1)).await.unwrap();
    }
    let terminated = SessionStatus::Terminated;
    store
        .end_session(id("old-1"), terminated, String::new())
        .await
        .unwrap();
    let ended = store.session(&id("old-1")).await.unwrap().unwrap().end;
    let forget = |after| store.forget_old_sessions(ended.unwrap() + after);

    assert_eq!(forget(HISTORY).await.unwrap(), 0);
    assert_eq!(forget(HISTORY + Duration::from_secs(1)).await.unwrap(), 1);

    assert_eq!(store.session(&id("old-1")).await.unwrap(), None);
    assert!(store.session(&id("open-1")).await.unwrap().is_some());
}

#[tokio::test]
async fn pages_list_every_session_once_newest_first() {
    let store = Store::open_in_memory().unwrap();
    for (name, start) in [
        ("a-1", 10),
        ("b-1", 20),
        ("c-1", 20),
        ("d-1", 30),
        ("e-1", 40),
    ] {
        store.insert_session(at(name, start)).await.unwrap();
    }

    let mut filter = SessionFilter::new(Selection::Active, 2);
    let mut seen = Vec::new();
    loop {
        let page = store.list_sessions(filter.clone()).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|r| r.session_id.to_string()));
        let Some(next) = page.next else { break };
        filter.from = Some(Cursor::parse(&next).unwrap());
    }

    assert_eq!(seen, ["e-1", "d-1", "c-1", "b-1", "a-1"]);
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let store = Store::open_in_memory().unwrap();
    for (name, start) in [("a-1", 10), ("b-1", 20), ("c-1", 30)] {
        store.insert_session(at(name, start)).await.unwrap();
    }
    let other = SessionRecord::new(id("bob-1"), "mi-2", "arn:bob");
    store.insert_session(other).await.unwrap();
    store
        .end_session(id("a-1"), SessionStatus::Failed, String::new())
        .await
        .unwrap();
    let all = || SessionFilter::new(Selection::Active, 50);
    let list = async |filter| -> Vec<String> {
        let page = store.list_sessions(filter).await.unwrap();
        page.items
            .into_iter()
            .map(|r| r.session_id.into())
            .collect()
    };

    let history = SessionFilter::new(Selection::History, 50);
    assert_eq!(list(history.clone()).await, ["a-1"]);
    let status = Some(SessionStatus::Terminated);
    assert!(list(SessionFilter { status, ..history }).await.is_empty());
    let node_id = Some("mi-2".to_owned());
    assert_eq!(list(SessionFilter { node_id, ..all() }).await, ["bob-1"]);
    let owner = Some("arn:alice".to_owned());
    assert_eq!(list(SessionFilter { owner, ..all() }).await, ["c-1", "b-1"]);
    let session_id = Some("b-1".to_owned());
    assert_eq!(
        list(SessionFilter {
            session_id,
            ..all()
        })
        .await,
        ["b-1"]
    );
    let window = SessionFilter {
        invoked_after: Some(from_millis(20)),
        invoked_before: Some(from_millis(30)),
        ..all()
    };
    assert_eq!(list(window).await, ["b-1"]);
}

#[test]
fn text_that_is_no_cursor_is_refused() {
    for text in ["", "!", "MTI", "eCBhLTE", "MTIgLi4"] {
        assert_eq!(Cursor::parse(text), None, "{text:?}");
    }
}

fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn at(name: &str, start_ms: i64) -> SessionRecord {
    SessionRecord {
        start: from_millis(start_ms),
        ..SessionRecord::new(id(name), "mi-1", "arn:alice")
    }
}

fn result(name: &str, node: &str, status: SessionStatus, exit_code: Option<i32>) -> SessionResult {
    SessionResult {
        session_id: id(name),
        node_id: node.into(),
        status,
        details: String::new(),
        exit_code,
        s3_output: String::new(),
        log_output: String::new(),
        cast: None,
    }
}
