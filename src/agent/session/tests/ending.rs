//! How sessions end, and what is left of them: nothing but a record.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::harness::{PATIENCE, World, command_document, id, is_running, soon, until_gone};
use crate::agent::session::{Settings, Stop};
use crate::agent::transcript::{self, Transcript};
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{Payload, PeerFeatures};

#[tokio::test]
async fn jobs_left_behind_end_and_the_last_output_arrives() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client
        .type_text("nohup sleep 98761 >/dev/null 2>&1 & sleep 98762 & echo la''st; exit\n")
        .await;

    client.wait_for("last\r\n").await;
    client.wait_for_exit().await;
    world.outcome().await;

    assert!(!is_running("98761") && !is_running("98762"));
}

#[tokio::test]
async fn terminated_session_ends_with_its_processes() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;
    client.type_text("sleep 98763\n").await;
    while !is_running("98763") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    world.supervisor.terminate(&id("alice-1"));

    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, None)
    );
    assert_eq!(outcome.output, "");
    until_gone("98763").await;
}

#[tokio::test]
async fn terminating_an_unknown_session_does_nothing() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;

    world.supervisor.terminate(&id("alice-2"));

    client.type_text("echo st''ill\n").await;
    client.wait_for("still").await;
    assert_eq!(world.supervisor.active(), 1);
}

#[tokio::test]
async fn session_ends_when_the_gateway_closes_its_channel() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    client.close_session();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn session_ends_by_the_gateway_even_if_nobody_reads_its_input() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client
        .type_text("stty raw -echo; echo rea''dy; sleep 1000\n")
        .await;
    client.wait_for("ready").await;
    let full = Bytes::from(vec![b'x'; 32 << 10]);
    for _ in 0..40 {
        client.send(Payload::Output(full.clone())).await;
    }

    client.close_session();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn session_ends_when_the_client_asks_for_it() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    client.send(Payload::Flag(Flag::TerminateSession)).await;
    client.ignore_the_rest();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn session_the_gateway_has_forgotten_ends() {
    let mut world = World::new();
    let client = world.shell("alice-1").await;

    drop(world.dialled);
    client.cut();

    let outcome = soon(world.outcomes.recv()).await.unwrap();
    assert_eq!(outcome.status, TaskStatus::Success);
}

#[tokio::test]
async fn stopping_agent_ends_every_session_and_says_why() {
    let mut world = World::new();
    for name in ["alice-1", "alice-2", "alice-3"] {
        let client = world.shell(name).await;
        client.type_text("trap '' HUP; sleep 98764\n").await;
        client.ignore_the_rest();
    }

    soon(
        world
            .supervisor
            .shutdown(Stop::Agent, Duration::from_secs(20)),
    )
    .await;

    for _ in 0..3 {
        let outcome = world.outcomes.recv().await.unwrap();
        assert_eq!(outcome.status, TaskStatus::Success);
        assert_eq!(outcome.output, "the agent was stopped");
    }
    assert!(!is_running("98764"));
}

#[tokio::test]
async fn host_that_shuts_down_ends_its_sessions_and_says_so() {
    let mut world = World::new();
    let mut client = world.shell("alice-1").await;
    client.type_text("echo re''ady\n").await;
    client.wait_for("ready").await;
    client.ignore_the_rest();

    soon(world.supervisor.shutdown(Stop::Host, PATIENCE)).await;

    let outcome = world.outcomes.recv().await.unwrap();
    assert_eq!(outcome.output, "the host is shutting down");
    assert_eq!(outcome.reason, "the host shut down");
}

#[tokio::test]
async fn shutdown_kills_what_does_not_end_by_its_deadline() {
    let patient = |settings: &mut Settings| settings.grace = Duration::from_secs(1000);
    let mut world = World::with(patient, Transcript::new(None));
    let mut client = world.shell("alice-1").await;
    client
        .type_text("trap '' HUP; echo se''t; sleep 98765\n")
        .await;
    client.wait_for("set").await;

    soon(
        world
            .supervisor
            .shutdown(Stop::Agent, Duration::from_millis(100)),
    )
    .await;

    until_gone("98765").await;
}

#[tokio::test]
async fn session_is_recorded_as_the_client_saw_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with(|_| {}, Transcript::new(Some(recording(folder.path()))));
    world.start("alice-1", command_document(&["printf", "one\\ntwo\\n"]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for_exit().await;
    client.ignore_the_rest();
    let outcome = world.outcome().await;

    assert_eq!(outcome.output, "");
    let log = std::fs::read_to_string(folder.path().join("alice-1.log")).unwrap();
    assert_eq!(log, "one\ntwo\n");
}

#[tokio::test]
async fn session_runs_where_nothing_can_be_recorded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-folder");
    std::fs::write(&file, "").unwrap();
    let mut world = World::with(|_| {}, Transcript::new(Some(recording(&file))));
    world.start("alice-1", command_document(&["printf", "runs"]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for("runs").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;
    assert_eq!(outcome.status, TaskStatus::Success);
    assert!(
        outcome.output.starts_with("recording incomplete: "),
        "{}",
        outcome.output
    );
}

pub(super) fn recording(folder: &Path) -> transcript::Settings {
    transcript::Settings {
        directory: folder.to_owned(),
        formats: transcript::Format::ALL.to_vec(),
        retention: Duration::from_secs(3600),
        quota: 1 << 30,
        record_input: false,
        spool: transcript::DEFAULT_SPOOL,
        policy: transcript::Policy::FailOpen,
    }
}
