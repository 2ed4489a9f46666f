//! What passes through the streams of a multiplexed session.

use tokio::io::AsyncWriteExt;

use super::targets::{Target, break_off, closed_port, pattern, read_exact, read_to_end, write};
use super::tunnel::Tunnel;
use crate::agent::session::tests::harness::{World, soon};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::payload::Flag;

/// More than all buffers on the way hold together.
const MUCH: usize = 24 << 20;

/// A client that shares large payloads with us, and nothing else.
const FOREIGN: PeerFeatures = PeerFeatures {
    max_payload: 1024,
    exit_code: false,
    reacknowledge: false,
    empty_output: false,
    half_close: false,
    recordings: false,
    recording_upload: false,
};

// Session and pump run at once, as they do in an agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_both_ways_unharmed() {
    let target = Target::new().await.echo();
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let bytes = pattern(MUCH);

    tunnel.write(stream, &bytes).await;
    tunnel.finish(stream).await;

    assert!(tunnel.read_to_end(stream).await == bytes);
}

#[tokio::test]
async fn client_that_ended_its_direction_still_gets_the_answer() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    tunnel.write(stream, b"question").await;
    tunnel.finish(stream).await;
    let mut connection = target.accept().await;

    assert_eq!(read_to_end(&mut connection).await, b"question");
    write(&mut connection, b"answer").await;
    drop(connection);

    assert_eq!(tunnel.read_to_end(stream).await, b"answer");
}

#[tokio::test]
async fn destination_that_ended_its_direction_still_gets_the_rest() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    write(&mut connection, b"greeting").await;
    connection.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(stream).await, b"greeting");

    tunnel.write(stream, b"late").await;
    tunnel.finish(stream).await;

    assert_eq!(read_to_end(&mut connection).await, b"late");
}

#[tokio::test]
async fn end_of_a_foreign_client_s_stream_ends_both_directions() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", super::targets::forwarding(target.port));
    let mut tunnel = Tunnel::attach(&mut world, FOREIGN).await;
    let stream = tunnel.open().await;
    tunnel.write(stream, b"question").await;
    let mut connection = target.accept().await;
    assert_eq!(read_exact(&mut connection, 8).await, b"question");

    tunnel.finish(stream).await;

    assert_eq!(read_to_end(&mut connection).await, b"");
    while connection.write_all(b"nobody reads this").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn foreign_client_gets_all_that_the_destination_sent_before_it_ended() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", super::targets::forwarding(target.port));
    let mut tunnel = Tunnel::attach(&mut world, FOREIGN).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    let bytes = pattern(1 << 20);
    let sent = bytes.clone();
    let sending = tokio::spawn(async move { connection.write_all(&sent).await });

    let received = tunnel.read_to_end(stream).await;

    sending.await.unwrap().unwrap();
    assert!(received == bytes);
}

#[tokio::test]
async fn refused_connection_is_told_of_and_the_session_goes_on() {
    let (socket, port) = closed_port();
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, port).await;

    let refused = tunnel.open().await;

    assert_eq!(tunnel.wait_for_flag().await, Flag::ConnectToPortError);
    assert_eq!(tunnel.read_to_end(refused).await, b"");
    let listener = socket.listen(1).unwrap();
    let stream = tunnel.open().await;
    tunnel.write(stream, b"now").await;
    let (mut connection, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(read_exact(&mut connection, 3).await, b"now");
}

#[tokio::test]
async fn broken_connection_ends_its_stream_alone() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let broken = tunnel.open().await;
    let connection = target.accept().await;
    let whole = tunnel.open().await;
    let mut other = target.accept().await;

    break_off(connection);

    tunnel.read_to_end(broken).await;
    tunnel.write(whole, b"still here").await;
    assert_eq!(read_exact(&mut other, 10).await, b"still here");
}

#[tokio::test]
async fn client_that_takes_no_more_closes_the_connection() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;

    tunnel.reset(stream).await;

    while connection.write_all(b"nobody reads this").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_sent_while_the_agent_dials_arrives() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let streams = [tunnel.open().await, tunnel.open().await];
    for stream in streams {
        tunnel.write(stream, b"early").await;
        tunnel.finish(stream).await;
    }

    for _ in streams {
        let mut connection = target.accept().await;
        assert_eq!(read_to_end(&mut connection).await, b"early");
    }
}

#[tokio::test]
async fn cut_of_the_data_channel_loses_and_repeats_nothing() {
    let target = Target::new().await.echo();
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let bytes = pattern(MUCH);
    let (first, second) = bytes.split_at(MUCH / 2);
    tunnel.write(stream, first).await;

    tunnel.client.cut();
    let (_, socket) = soon(world.dialled.recv()).await.unwrap();
    tunnel.client.reconnect(socket);
    tunnel.client.announce(PeerFeatures::ours());

    tunnel.write(stream, second).await;
    tunnel.finish(stream).await;
    assert!(tunnel.read_to_end(stream).await == bytes);
}
