//! Recordings: uploaded by agents, read and followed by people.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::caller::{Answer, Tool};
use super::{Gateway, gateway, gateway_with};
use crate::gateway::store::Store;
use crate::gateway::store::access::Person;
use crate::gateway::store::sessions::{SessionRecord, SessionStatus};
use crate::gateway::{Running, Settings, start};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::{PART_LIMIT, Progress};

const SESSION: &str = "alice-0123456789abcdef0";
const NODE: &str = "i-0123456789abcdef0";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn parts_add_up_to_a_private_file_with_the_digest_of_the_whole() {
    let (gateway, agent) = gateway_with_session().await;

    assert_eq!(
        put(&agent, 0, 1, b"one ").await,
        (200, progress(4, 1, false))
    );
    assert_eq!(
        put(&agent, 4, 3, b"two").await,
        (200, progress(7, 3, false))
    );
    let last = complete(&agent, 7, 4, b"").await;

    assert_eq!(last, (200, progress(7, 4, true)));
    let file = file(&gateway);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(std::fs::read(&file).unwrap(), b"one two");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    let listed = &list(&gateway.person("alice").await, "").await[0];
    assert_eq!(listed["SessionId"], SESSION);
    assert_eq!(listed["Target"], NODE);
    assert_eq!(listed["Complete"], true);
    assert_eq!(listed["Sha256"].as_str().unwrap(), sha256(b"one two"));
    assert_eq!(listed["SameOnNode"], Value::Null);
}

#[tokio::test]
async fn part_that_is_repeated_or_out_of_place_is_answered_with_where_the_recording_ends() {
    let (gateway, agent) = gateway_with_session().await;
    put(&agent, 0, 1, b"one ").await;
    let stands = (409, progress(4, 1, false));

    assert_eq!(put(&agent, 0, 1, b"one ").await, stands);
    assert_eq!(put(&agent, 3, 2, b" two").await, stands);
    assert_eq!(put(&agent, 5, 2, b"wo").await, stands);
    assert_eq!(put(&agent, 4, 0, b"two").await.0, 400);
    assert_eq!(put(&agent, 4, 1, b"").await, (200, progress(4, 1, false)));

    assert_eq!(std::fs::read(file(&gateway)).unwrap(), b"one ");
}

#[tokio::test]
async fn recording_is_complete_once() {
    let (_gateway, agent) = gateway_with_session().await;
    complete(&agent, 0, 2, b"all").await;

    assert_eq!(
        complete(&agent, 3, 2, b"").await,
        (200, progress(3, 2, true))
    );
    assert_eq!(
        complete(&agent, 0, 2, b"all").await,
        (409, progress(3, 2, true))
    );
    assert_eq!(
        complete(&agent, 3, 3, b"more").await,
        (409, progress(3, 2, true))
    );
    assert_eq!(put(&agent, 3, 2, b"").await, (409, progress(3, 2, true)));
}

#[tokio::test]
async fn only_the_node_of_a_session_uploads_its_recording() {
    let (gateway, agent) = gateway_with_session().await;
    let store = gateway.running.store();
    let other = node(&gateway.running, "i-0123456789abcdef1").await;
    let alice = gateway.person("alice").await;
    let wrong = Tool::new(&gateway.running, agent.access_key_id(), "wrong", None);
    let refused = async |tool: &Tool, path: &str| {
        let answer = tool.rest("PUT", path, b"x").await;
        (answer.status(), code(answer).await)
    };
    let path = format!("/v1/recordings/{SESSION}?offset=0&entries=1");

    let denied = (403, "AccessDeniedException".to_owned());
    assert_eq!(refused(&other, &path).await, denied);
    assert_eq!(refused(&alice, &path).await, denied);
    let invalid = (400, "InvalidSignatureException".to_owned());
    assert_eq!(refused(&wrong, &path).await, invalid);
    let unknown = "/v1/recordings/bob-1?offset=0&entries=1";
    let not_found = (404, "ResourceNotFoundException".to_owned());
    assert_eq!(refused(&agent, unknown).await, not_found);
    for malformed in [
        "/v1/recordings/..%2Fx?offset=0&entries=1".to_owned(),
        format!("/v1/recordings/{SESSION}?offset=-1&entries=1"),
        format!("/v1/recordings/{SESSION}"),
    ] {
        let invalid = (400, "ValidationException".to_owned());
        assert_eq!(refused(&agent, &malformed).await, invalid, "{malformed}");
    }
    assert_eq!(store.recorded_bytes().await.unwrap(), 0);
    assert!(!file(&gateway).exists());
}

#[tokio::test]
async fn part_and_recording_have_a_size_limit() {
    let limit = PART_LIMIT as u64;
    let (gateway, agent) = gateway_with_settings(|settings| settings.recording_limit = limit).await;

    let part = vec![b'x'; PART_LIMIT + 1];
    let path = format!("/v1/recordings/{SESSION}?offset=0&entries=1");
    let refused = agent.rest("PUT", &path, &part).await;
    assert_eq!(refused.status(), 413);
    put(&agent, 0, 1, &part[3..]).await;
    assert_eq!(put(&agent, limit - 2, 2, b"123").await.0, 413);
    let stored = put(&agent, limit - 2, 2, b"12").await;
    assert_eq!(stored, (200, progress(limit, 2, false)));
    assert_eq!(file(&gateway).metadata().unwrap().len(), limit);
}

#[tokio::test]
async fn full_quota_deletes_the_oldest_finished_recording_and_never_one_under_way() {
    let quota = 1 << 20;
    let (gateway, agent) = gateway_with_settings(|settings| settings.recording_quota = quota).await;
    let store = gateway.running.store();
    for name in ["alice-1", "alice-2", "alice-3"] {
        add_session(store, name).await;
    }
    let part = vec![b'x'; 700 << 10];
    let status = async |name: &str, offset, length: usize, complete| {
        let put = put_to(&agent, name, offset, &part[..length], complete);
        put.await.0
    };
    assert_eq!(status("alice-1", 0, 500 << 10, true).await, 200);
    assert_eq!(status("alice-2", 0, 300 << 10, false).await, 200);

    assert_eq!(status("alice-3", 0, 700 << 10, false).await, 200);
    let full = status("alice-3", 700 << 10, 30 << 10, false).await;

    assert_eq!(full, 507);
    let folder = gateway.state.path().join("recordings");
    let left = |name: &str| folder.join(format!("{name}.cast")).exists();
    assert_eq!(
        ["alice-1", "alice-2", "alice-3"].map(left),
        [false, true, true]
    );
    assert_eq!(store.recorded_bytes().await.unwrap(), 1000 << 10);
}

#[tokio::test]
async fn restarted_gateway_goes_on_and_cuts_off_what_a_crash_has_left() {
    let state = tempfile::tempdir().unwrap();
    let run = async || {
        let cancel = CancellationToken::new();
        let settings = Settings::on_loopback(state.path());
        let (running, serving) = start(settings, cancel.clone()).await.unwrap();
        (running, cancel, tokio::spawn(serving))
    };
    let (running, cancel, serving) = run().await;
    let key = running
        .store()
        .create_node_access_key("lab", NODE, SystemTime::now());
    let key = key.await.unwrap();
    let agent = |running| Tool::new(running, &key.access_key_id, key.secret.expose(), None);
    add_session(running.store(), SESSION).await;
    put(&agent(&running), 0, 1, b"one ").await;
    cancel.cancel();
    serving.await.unwrap();
    let file = state.path().join(format!("recordings/{SESSION}.cast"));
    std::fs::write(&file, b"one and a half part").unwrap();

    let (running, _cancel, _serving) = run().await;
    let agent = agent(&running);

    assert_eq!(put(&agent, 0, 0, b"").await, (409, progress(4, 1, false)));
    assert_eq!(
        complete(&agent, 4, 2, b"two").await,
        (200, progress(7, 2, true))
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"one two");
}

#[tokio::test]
async fn recording_that_lost_bytes_behind_the_gateways_back_takes_no_more() {
    let (gateway, agent) = gateway_with_session().await;
    put(&agent, 0, 1, b"one ").await;

    std::fs::write(file(&gateway), b"on").unwrap();
    assert_eq!(put(&agent, 4, 2, b"two").await.0, 410);
    std::fs::remove_file(file(&gateway)).unwrap();
    assert_eq!(put(&agent, 4, 2, b"two").await.0, 410);
}

#[tokio::test]
async fn people_read_their_own_recordings_and_auditors_all() {
    let (gateway, agent) = gateway_with_session().await;
    put(&agent, 0, 1, b"one two").await;
    let alice = gateway.person("alice").await;
    let bob = gateway.person("bob").await;
    let auditor = Person {
        name: "carol",
        run_as: None,
        auditor: true,
    };
    let key = gateway
        .running
        .store()
        .create_person_key(auditor, SystemTime::now());
    let key = key.await.unwrap();
    let carol = Tool::new(
        &gateway.running,
        &key.access_key_id,
        key.secret.expose(),
        None,
    );

    for reader in [&alice, &carol] {
        let read = get(reader, "").await;
        assert_eq!(read.status(), 200);
        assert_eq!(read.head.headers["content-type"], "application/x-asciicast");
        assert_eq!(read.head.headers["x-ssm-recording-bytes"], "7");
        assert_eq!(read.head.headers["x-ssm-recording-complete"], "false");
        assert_eq!(read.text().await, "one two");
        assert_eq!(get(reader, "?offset=4").await.text().await, "two");
        assert_eq!(get(reader, "?offset=8").await.status(), 416);
        assert_eq!(list(reader, "").await.len(), 1);
        assert_eq!(list(reader, "?node=i-other").await.len(), 0);
    }
    let refused = get(&bob, "").await;
    assert_eq!(refused.status(), 404);
    assert_eq!(code(refused).await, "ResourceNotFoundException");
    assert_eq!(list(&bob, "").await.len(), 0);
    let refused = get(&agent, "").await;
    assert_eq!(refused.status(), 403);
    for query in ["?limit=0", "?limit=201", "?from=x"] {
        let answer = alice
            .rest("GET", &format!("/v1/recordings{query}"), b"")
            .await;
        assert_eq!(answer.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn follower_gets_each_part_as_it_comes_and_ends_with_the_last() {
    let (gateway, agent) = gateway_with_session().await;
    let alice = gateway.person("alice").await;
    assert_eq!(get(&alice, "?follow=true").await.status(), 404);
    put(&agent, 0, 1, b"one ").await;
    let mut follower = get(&alice, "?follow=true").await;

    assert_eq!(next(&mut follower).await.unwrap(), "one ");
    put(&agent, 4, 2, b"two ").await;
    assert_eq!(next(&mut follower).await.unwrap(), "two ");
    complete(&agent, 8, 3, b"three").await;
    assert_eq!(next(&mut follower).await.unwrap(), "three");
    assert_eq!(next(&mut follower).await, None);
}

#[tokio::test]
async fn follower_learns_that_the_gateway_stops_by_an_answer_without_end() {
    let state = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let settings = Settings::on_loopback(state.path());
    let (running, serving) = start(settings, cancel.clone()).await.unwrap();
    let serving = tokio::spawn(serving);
    let agent = node(&running, NODE).await;
    add_session(running.store(), SESSION).await;
    let key = running.create_access("alice").await.unwrap();
    let alice = Tool::new(&running, &key.access_key_id, key.secret.expose(), None);
    put(&agent, 0, 1, b"one ").await;
    let mut follower = get(&alice, "?follow=true").await;
    assert_eq!(next(&mut follower).await.unwrap(), "one ");

    cancel.cancel();

    let broken = timeout(PATIENCE, follower.next()).await.unwrap();
    assert!(broken.is_some_and(|next| next.is_err()));
    serving.await.unwrap();
}

#[tokio::test]
async fn followers_that_do_not_read_hold_nothing_back_and_have_a_limited_number() {
    let (gateway, agent) = gateway_with_session().await;
    let alice = gateway.person("alice").await;
    put(&agent, 0, 1, b"one ").await;
    let mut followers = Vec::new();
    loop {
        let follower = get(&alice, "?follow=true").await;
        if follower.status() == 503 {
            break;
        }
        followers.push(follower);
    }
    assert_eq!(followers.len(), 64);

    let part = vec![b'x'; PART_LIMIT];
    let mut length = 4;
    for number in 0..8 {
        let (status, stands) = put(&agent, length, number + 2, &part).await;
        assert_eq!(status, 200);
        length = stands.bytes;
    }

    assert_eq!(length, 4 + 8 * PART_LIMIT as u64);
}

async fn gateway_with_session() -> (Gateway, Tool) {
    let gateway = gateway().await;
    let agent = node(&gateway.running, NODE).await;
    add_session(gateway.running.store(), SESSION).await;
    (gateway, agent)
}

async fn gateway_with_settings(change: impl FnOnce(&mut Settings)) -> (Gateway, Tool) {
    let gateway = gateway_with(change).await;
    let agent = node(&gateway.running, NODE).await;
    add_session(gateway.running.store(), SESSION).await;
    (gateway, agent)
}

/// The agent of the node `id`.
async fn node(running: &Running, id: &str) -> Tool {
    let key = running
        .store()
        .create_node_access_key("lab", id, SystemTime::now());
    let key = key.await.unwrap();
    Tool::new(running, &key.access_key_id, key.secret.expose(), None)
}

/// A session of alice on the node, which runs no more.
async fn add_session(store: &Store, name: &str) {
    let id = SessionId::new(name).unwrap();
    let owner = "arn:aws:iam::000000000000:user/alice";
    let record = SessionRecord::new(id.clone(), NODE, owner);
    store.insert_session(record).await.unwrap();
    let ended = SessionStatus::Terminated;
    store.end_session(id, ended, String::new()).await.unwrap();
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway
        .state
        .path()
        .join(format!("recordings/{SESSION}.cast"))
}

fn progress(bytes: u64, entries: u64, complete: bool) -> Progress {
    Progress {
        bytes,
        entries,
        complete,
    }
}

async fn put(agent: &Tool, offset: u64, entries: u64, part: &[u8]) -> (u16, Progress) {
    upload(
        agent,
        &format!("{SESSION}?offset={offset}&entries={entries}"),
        part,
    )
    .await
}

async fn complete(agent: &Tool, offset: u64, entries: u64, part: &[u8]) -> (u16, Progress) {
    let query = format!("offset={offset}&entries={entries}&complete=true");
    upload(agent, &format!("{SESSION}?{query}"), part).await
}

async fn put_to(
    agent: &Tool,
    session: &str,
    offset: u64,
    part: &[u8],
    complete: bool,
) -> (u16, Progress) {
    let query = format!("offset={offset}&entries={offset}&complete={complete}");
    upload(agent, &format!("{session}?{query}"), part).await
}

/// Status and progress; nothing but the status of a refusal.
async fn upload(agent: &Tool, path: &str, part: &[u8]) -> (u16, Progress) {
    let answer = agent
        .rest("PUT", &format!("/v1/recordings/{path}"), part)
        .await;
    let status = answer.status();
    let text = answer.text().await;
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn get(reader: &Tool, query: &str) -> Answer {
    reader
        .rest("GET", &format!("/v1/recordings/{SESSION}{query}"), b"")
        .await
}

async fn list(reader: &Tool, query: &str) -> Vec<Value> {
    let answer = reader
        .rest("GET", &format!("/v1/recordings{query}"), b"")
        .await;
    assert_eq!(answer.status(), 200);
    let page: Value = serde_json::from_str(&answer.text().await).unwrap();
    assert_eq!(page["NextToken"], Value::Null);
    page["Recordings"].as_array().unwrap().clone()
}

async fn next(follower: &mut Answer) -> Option<String> {
    let next = timeout(PATIENCE, follower.next())
        .await
        .expect("bytes come");
    next.map(|bytes| String::from_utf8(bytes.unwrap().into()).unwrap())
}

async fn code(answer: Answer) -> String {
    let body: Value = serde_json::from_str(&answer.text().await).unwrap();
    body["__type"].as_str().unwrap().to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
