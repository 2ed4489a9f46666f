//! Many streams, slow ends, and how little they may cost.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use super::targets::{Target, forwarding, pattern, read_exact, read_to_end};
use super::tunnel::Tunnel;
use crate::agent::session::tests::harness::{World, soon};
use crate::protocol::wire::{Payload, PeerFeatures};
use crate::transport::Outgoing;

/// Nothing moves any more if nothing has moved for so long.
const STILL: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_thousand_streams_are_open_at_once() {
    let target = Target::new().await.echo();
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let mut streams = Vec::new();
    for number in 0_u32..1000 {
        let stream = tunnel.open().await;
        tunnel.write(stream, &number.to_le_bytes()).await;
        streams.push((stream, number));
    }

    for &(stream, number) in &streams {
        assert_eq!(tunnel.read(stream, 4).await, number.to_le_bytes());
    }
    for &(stream, _) in streams.iter().rev() {
        tunnel.write(stream, b"bye").await;
        tunnel.finish(stream).await;
        assert_eq!(tunnel.read_to_end(stream).await, b"bye");
    }
}

#[tokio::test]
async fn destination_that_takes_nothing_stops_no_other_stream() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stalled = tunnel.open().await;
    let _connection = target.accept().await;
    tunnel.write(stalled, &pattern(6 << 20)).await;

    let stream = tunnel.open().await;
    tunnel.write(stream, b"through").await;

    let mut connection = target.accept().await;
    assert_eq!(read_exact(&mut connection, 7).await, b"through");
}

#[tokio::test]
async fn client_waits_for_a_destination_that_takes_nothing() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    let bytes = pattern(64 << 20);
    let (reader, mut writer) = (&mut connection, Box::pin(tunnel.write(stream, &bytes)));

    let waits = timeout(STILL, &mut writer).await.is_err();

    assert!(waits, "the agent cannot hold so much");
    let read = async {
        let mut received = vec![0; bytes.len()];
        soon(reader.read_exact(&mut received)).await.unwrap();
        received
    };
    let (received, ()) = tokio::join!(read, writer);
    assert!(received == bytes);
}

#[tokio::test]
async fn destination_waits_for_a_client_that_takes_nothing() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    let bytes = pattern(64 << 20);
    let mut sending = Box::pin(async {
        connection.write_all(&bytes).await.unwrap();
        connection.shutdown().await.unwrap();
    });

    let waits = timeout(STILL, &mut sending).await.is_err();

    assert!(waits, "the agent cannot hold so much");
    let (received, ()) = tokio::join!(tunnel.read_to_end(stream), sending);
    assert!(received == bytes);
}

#[tokio::test]
async fn destination_waits_while_the_client_is_away() {
    let target = Target::new().await;
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    tunnel.client.pause();
    let bytes = pattern(64 << 20);
    let mut sending = Box::pin(async {
        connection.write_all(&bytes).await.unwrap();
        connection.shutdown().await.unwrap();
    });

    let waits = timeout(STILL, &mut sending).await.is_err();

    assert!(waits, "nobody takes it");
    tunnel.client.announce(PeerFeatures::ours());
    let (received, ()) = tokio::join!(tunnel.read_to_end(stream), sending);
    assert!(received == bytes);
}

#[tokio::test(start_paused = true)]
async fn silent_destination_is_given_up_and_the_session_goes_on() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(connection)) = timeout(
        Duration::from_secs(1),
        tokio::net::TcpStream::connect(("127.0.0.1", port)),
    )
    .await
    {
        queued.push(connection);
    }
    let mut world = World::new();
    let mut tunnel = Tunnel::to(&mut world, port).await;

    let silent = tunnel.open().await;

    // The clock stands still until nothing else can happen, and then leaps.
    while tunnel.flags.is_empty() {
        let incoming = tunnel.client.handle.incoming.recv().await;
        tunnel.take(incoming);
    }
    assert_eq!(tunnel.read_to_end(silent).await, b"");
    drop(listener);
    assert_eq!(world.supervisor.active(), 1);
}

#[tokio::test]
async fn raw_client_waits_for_a_destination_that_takes_nothing() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", super::targets::raw(target.port));
    let client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    let bytes = Bytes::from(pattern(64 << 20));
    let outgoing = client.handle.outgoing.clone();
    let pieces = bytes.clone();
    let mut sending = Box::pin(async move {
        for start in (0..pieces.len()).step_by(32 << 10) {
            let piece = pieces.slice(start..start + (32 << 10));
            let payload = Outgoing::Payload(Payload::Output(piece));
            outgoing.send(payload).await.unwrap();
        }
    });

    let waits = timeout(STILL, &mut sending).await.is_err();

    assert!(waits, "the agent cannot hold so much");
    let read = read_exact(&mut connection, bytes.len());
    let (received, ()) = tokio::join!(read, sending);
    assert!(received == bytes);
}

#[tokio::test]
async fn foreign_client_s_small_payloads_pass_as_well() {
    let target = Target::new().await;
    let mut world = World::new();
    world.start("alice-1", forwarding(target.port));
    let mut tunnel = Tunnel::attach(&mut world, PeerFeatures::default()).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    let bytes = pattern(3 << 20);

    tunnel.write(stream, &bytes).await;
    tunnel.finish(stream).await;

    assert!(read_to_end(&mut connection).await == bytes);
}
