//! Raw streams, as `ssh` uses them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::targets::{Target, raw, read_exact, read_to_end, write};
use crate::agent::session::tests::harness::{World, soon};
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{Payload, PeerFeatures};

#[tokio::test]
async fn bytes_pass_both_ways() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;

    client
        .send(Payload::Output(Bytes::from_static(b"\n\0\xff")))
        .await;
    assert_eq!(read_exact(&mut connection, 3).await, b"\n\0\xff");
    write(&mut connection, b"SSH-2.0-test\r\n").await;

    client.wait_for("SSH-2.0-test\r\n").await;
}

#[tokio::test]
async fn our_client_s_end_of_input_reaches_the_destination_before_the_answer() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    client.type_text("question").await;

    client.send(Payload::Flag(Flag::DisconnectToPort)).await;

    assert_eq!(read_to_end(&mut connection).await, b"question");
    write(&mut connection, b"answer").await;
    drop(connection);
    client.wait_for("answer").await;
    client.ignore_the_rest();
    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn foreign_client_s_disconnect_ends_the_session() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let client = world.attach(PeerFeatures::default()).await;
    let mut connection = target.accept().await;
    client.type_text("last").await;

    client.send(Payload::Flag(Flag::DisconnectToPort)).await;

    client.ignore_the_rest();
    assert_eq!(read_to_end(&mut connection).await, b"last");
    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn unix_socket_of_the_host_is_a_destination() {
    let mut world = World::new();
    let path = world.folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let document = json!({
        "schemaVersion": "1.0", "sessionType": "Port",
        "parameters": {"path": {"type": "String", "default": path}},
        "properties": {"unixSocket": "{{ path }}"},
    });
    world.start("alice-1", document);
    let mut client = world.attach(PeerFeatures::ours()).await;
    let (mut connection, _) = soon(listener.accept()).await.unwrap();
    client.type_text("GET /info").await;
    client.send(Payload::Flag(Flag::DisconnectToPort)).await;
    let mut request = String::new();

    soon(connection.read_to_string(&mut request)).await.unwrap();
    connection.write_all(b"200 OK").await.unwrap();

    assert_eq!(request, "GET /info");
    client.wait_for("200 OK").await;
}

#[tokio::test]
async fn flood_in_one_direction_does_not_stop_the_other() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    let outgoing = client.handle.outgoing.clone();
    let flood = tokio::spawn(async move {
        let piece = Payload::Output(Bytes::from(vec![0; 32 << 10]));
        let send = || outgoing.send(crate::transport::Outgoing::Payload(piece.clone()));
        while send().await.is_ok() {}
    });
    let (mut from, mut to) = connection.split();
    let sink = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await };
    let talk = async {
        for _ in 0..20 {
            to.write_all(b"tick").await.unwrap();
            client.wait_for("tick").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    tokio::select! {
        () = talk => {}
        ended = sink => panic!("{ended:?}"),
    }
    flood.abort();
}
