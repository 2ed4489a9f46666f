//! Commands on a terminal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::command::document;
use super::harness::World;
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::task::TaskStatus;

#[tokio::test]
async fn interactive_command_runs_on_a_terminal_and_ends_with_its_exit_status() {
    let mut world = World::new();
    let script = "test -t 0 && stty -a | grep -o ' echo '; read line; echo \"got $line\"; exit 5";
    world.start("alice-1", interactive(script));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.resize(80, 24).await;
    client.wait_for(" echo ").await;
    client.type_text("typed\n").await;

    client.wait_for("got typed\r\n").await;
    assert_eq!(client.wait_for_exit().await, 5);
    client.ignore_the_rest();
    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, Some(5))
    );
}

#[tokio::test]
async fn interactive_command_gets_no_profile() {
    let mut world = World::new();
    let mut document = interactive("echo done");
    document["inputs"] = json!({"shellProfile": {"linux": "echo profile"}});
    world.start("alice-1", document);
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.resize(80, 24).await;
    client.wait_for_exit().await;

    assert_eq!(client.seen, "done\r\n");
}

#[tokio::test]
async fn interactive_command_starts_with_the_size_of_the_client() {
    let mut world = World::new();
    world.start("alice-1", interactive("stty size"));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.resize(99, 33).await;

    client.wait_for("33 99\r\n").await;
}

#[tokio::test]
async fn interactive_command_does_not_wait_for_a_client_that_waits_for_output() {
    let mut world = World::new();
    world.start("alice-1", interactive("stty size"));
    let mut client = world.attach(PeerFeatures::default()).await;
    let began = Instant::now();

    client.wait_for("24 80\r\n").await;

    assert!(began.elapsed() < Duration::from_secs(1), "it is awaited");
}

fn interactive(commands: &str) -> Value {
    document("InteractiveCommands", commands)
}
