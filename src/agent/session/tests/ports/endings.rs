//! How port sessions end, and what is left of them: nothing.

use bytes::Bytes;

use super::targets::{Target, raw, read_exact, read_to_end, write};
use super::tunnel::Tunnel;
use crate::agent::session::tests::harness::{World, id, soon};
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::payload::Flag;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{Payload, PeerFeatures};

#[tokio::test]
async fn client_ends_the_session_with_all_its_connections() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    tunnel.open().await;
    tunnel.open().await;
    let mut connections = [target.accept().await, target.accept().await];

    tunnel
        .client
        .send(Payload::Flag(Flag::TerminateSession))
        .await;

    let mut states = std::mem::replace(
        &mut tunnel.client.states,
        tokio::sync::mpsc::unbounded_channel().1,
    );
    tunnel.client.ignore_the_rest();
    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, &*outcome.output),
        (TaskStatus::Success, "")
    );
    for connection in &mut connections {
        assert_eq!(read_to_end(connection).await, b"");
    }
    assert_eq!(soon(states.recv()).await, Some(SessionState::Connected));
    assert!(states.try_recv().is_err(), "ports do not say Terminating");
}

#[tokio::test]
async fn terminated_session_closes_its_connections() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    tunnel.open().await;
    let mut connection = target.accept().await;
    tunnel.client.ignore_the_rest();

    world.supervisor.terminate(&id("alice-1"));

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
    assert_eq!(read_to_end(&mut connection).await, b"");
}

#[tokio::test]
async fn session_that_the_gateway_closes_closes_its_connections() {
    for document in [super::targets::forwarding, raw] {
        let target = Target::new().await;
        let mut world = World::new();
        world.start("alice-1", document(target.port));
        let mut tunnel = Tunnel::attach(&mut world, PeerFeatures::ours()).await;
        tunnel.open().await;
        let mut connection = target.accept().await;

        tunnel.client.close_session();

        assert_eq!(world.outcome().await.status, TaskStatus::Success);
        // A raw stream passes on the bytes of the frame that opened the stream.
        read_to_end(&mut connection).await;
    }
}

#[tokio::test]
async fn session_ends_by_the_gateway_even_if_no_destination_takes_anything() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let _connection = target.accept().await;
    let bytes = vec![0; 64 << 20];
    let mut writing = Box::pin(tunnel.write(stream, &bytes));
    let wait = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(wait, &mut writing).await.is_err());
    drop(writing);

    tunnel.client.close_session();

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn byte_stream_that_is_no_mux_fails_the_session() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    tunnel.open().await;
    let mut connection = target.accept().await;

    let junk = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
    tunnel.client.send(Payload::Output(junk)).await;

    tunnel.client.ignore_the_rest();
    let outcome = world.outcome().await;
    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "malformed smux frame: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
    assert_eq!(read_to_end(&mut connection).await, b"");
}

#[tokio::test]
async fn raw_stream_ends_with_its_destination_after_the_last_byte() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    write(&mut connection, b"SSH-2.0-gone").await;

    drop(connection);

    client.wait_for("SSH-2.0-gone").await;
    client.ignore_the_rest();
    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, &*outcome.output),
        (TaskStatus::Success, "")
    );
}

#[tokio::test]
async fn raw_stream_that_breaks_fails_the_session() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    write(&mut connection, b"SSH-2.0-test").await;
    client.wait_for("SSH-2.0-test").await;
    client.ignore_the_rest();

    super::targets::break_off(connection);

    let outcome = world.outcome().await;
    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "Failed to read from port: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

#[tokio::test]
async fn what_was_sent_before_the_end_of_a_raw_stream_arrives() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", raw(target.port));
    let client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    client.type_text("last words").await;
    client.send(Payload::Flag(Flag::TerminateSession)).await;
    client.ignore_the_rest();

    assert_eq!(read_exact(&mut connection, 10).await, b"last words");

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}
