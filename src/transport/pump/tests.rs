mod bench;
mod encryption;

use super::*;

use futures_util::{FutureExt as _, SinkExt, StreamExt as _};
use http::HeaderMap;
use tokio_tungstenite::tungstenite::Message as Frame;

use self::bench::*;
use crate::protocol::wire::{Message, MessageType};
use crate::transport::testing::{Identity, accept, socket_pair};
use crate::transport::websocket::dial;

const MIB: usize = 1 << 20;

/// Sign of life of our own peers, see `link`.
const OURS_PING: Duration = Duration::from_secs(8);
const OURS_SILENT: Duration = Duration::from_secs(13);

fn online(end: End, socket: Socket, is_ours: bool) -> Running {
    let give = if is_ours { give } else { give_foreign };
    give(&end.script, socket);
    end.start()
}

#[tokio::test]
async fn payloads_cross_in_both_directions_in_order() {
    let (agent, client) = socket_pair(64 << 10).await;
    let mut agent = End::agent().online(agent);
    let mut client = End::client().online(client);

    agent.output(b"one ").await;
    agent.output(b"two").await;
    assert_eq!(client.received(7).await, b"one two");
    client.send(Outgoing::Payload(Payload::Size(SIZE))).await;
    client.output(b"ls\n").await;

    let Incoming::Payload(Payload::Size(size)) = agent.next_payload().await else {
        panic!("the size comes first");
    };
    assert_eq!(size, SIZE);
    assert_eq!(agent.received(3).await, b"ls\n");
}

#[tokio::test]
async fn floods_in_both_directions_pass_through_small_buffers_without_a_deadlock() {
    let (agent, client) = socket_pair(4 << 10).await;
    let mut agent = End::agent().online(agent);
    let mut client = End::client().online(client);
    agent.output(b"$").await;
    client.received(1).await;

    let (down, up) = (agent.flood(2 * MIB), client.flood(2 * MIB));
    let (received_up, received_down) =
        tokio::join!(agent.received(2 * MIB), client.received(2 * MIB));

    assert!(received_down == pattern(2 * MIB) && received_up == pattern(2 * MIB));
    down.await.unwrap();
    up.await.unwrap();
}

#[tokio::test]
async fn bulk_crosses_real_tls_unharmed() {
    let identity = Identity::for_names(&["localhost"]);
    let (address, server) = identity
        .serve(|stream| async { Some(accept(stream).await.0) })
        .await;
    let url = format!("wss://localhost:{}/", address.port());

    let (socket, _) = dial(&url, HeaderMap::new(), &identity.trusting())
        .await
        .unwrap();
    let agent = End::agent().online(socket);
    let mut client = End::client().online(server.await.unwrap().unwrap());
    let flood = agent.flood(16 * MIB);

    assert!(client.received(16 * MIB).await == pattern(16 * MIB));
    flood.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_nothing_is_lost() {
    let (agent, client) = socket_pair(64 << 10).await;
    let agent = End::agent().online(agent);
    let mut client = End::client().online(client);
    let total = 12 * MIB;

    let flood = agent.flood(total);
    client.wait_connected().await;
    wait_until_stalled(&agent.handle.outgoing).await;

    assert!(
        !flood.is_finished(),
        "the send window holds less than the flood"
    );
    assert!(client.received(total).await == pattern(total));
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_it_dials_again_and_sends_what_was_not_acknowledged() {
    let (lost, _unread) = socket_pair(64 << 10).await;
    let (agent_socket, client_socket) = socket_pair(64 << 10).await;
    let mut agent = End::agent().online(lost);
    agent.wait_connected().await;
    agent.output(b"survives").await;

    drop(_unread);
    let give_up = agent.wait_disconnected().await;
    assert_eq!(give_up, Instant::now() + settings().reconnect_for);
    agent.give(agent_socket);
    let mut client = End::client().online(client_socket);

    assert_eq!(client.received(8).await, b"survives");
    agent.wait_connected().await;
    assert_eq!(agent.attempts(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_noticed_after_the_read_timeout_although_it_takes_our_pings() {
    for (is_ours, limit) in [(false, settings().read_timeout), (true, OURS_SILENT)] {
        let (near, _silent) = socket_pair(64 << 10).await;
        let mut agent = online(End::agent(), near, is_ours);
        agent.wait_connected().await;
        let connected = Instant::now();

        agent.wait_disconnected().await;

        assert_eq!(connected.elapsed(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn pongs_keep_an_idle_connection_alive() {
    for (is_ours, interval) in [(false, settings().ping_interval), (true, OURS_PING)] {
        let (near, mut peer) = socket_pair(64 << 10).await;
        let mut agent = online(End::agent(), near, is_ours);
        agent.wait_connected().await;
        let connected = Instant::now();

        // Reading is what answers the pings.
        for _ in 0..5 {
            assert_eq!(next_frame(&mut peer).await, Frame::Ping("keepalive".into()));
        }

        assert_eq!(connected.elapsed(), interval * 5);
        assert_eq!(agent.attempts(), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_ours_that_is_heard_is_not_pinged() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let mut client = online(End::client(), near, true);
    client.wait_connected().await;

    for number in 0..20 {
        tokio::time::sleep(OURS_PING - Duration::from_millis(1)).await;
        peer.send(stream_message(number, b".")).await.unwrap();
    }
    client.received(20).await;

    let frames = std::iter::from_fn(|| peer.next().now_or_never());
    let pings = frames.filter(|frame| matches!(frame, Some(Ok(Frame::Ping(_)))));
    assert_eq!(pings.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_session_is_there_again_within_two_seconds_of_its_network() {
    let (near, peer) = socket_pair(64 << 10).await;
    let mut agent = online(End::agent(), near, true);
    agent.wait_connected().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(peer);
    agent.wait_disconnected().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (near, _peer) = socket_pair(64 << 10).await;

    let is_back = Instant::now();
    agent.give(near);
    agent.wait_connected().await;

    assert!(is_back.elapsed() <= Duration::from_secs(1));
    assert!(agent.attempts().len() < 120, "{:?}", agent.attempts());
}

#[tokio::test(start_paused = true)]
async fn a_ping_at_open_goes_out_before_anything_else() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let mut agent = End::agent();
    agent.settings.ping_at_open = true;
    let agent = agent.online(near);
    let opened = Instant::now();
    agent.output(b"$").await;

    assert_eq!(next_frame(&mut peer).await, Frame::Ping("keepalive".into()));

    assert_eq!(opened.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_peers_ping_is_answered_while_nothing_else_happens() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let mut agent = End::agent().online(near);
    agent.wait_connected().await;

    peer.send(Frame::Ping("are you there".into()))
        .await
        .unwrap();

    assert_eq!(
        next_frame(&mut peer).await,
        Frame::Pong("are you there".into())
    );
}

#[tokio::test]
async fn closing_drains_then_says_goodbye() {
    let (near, far) = socket_pair(64 << 10).await;
    let agent = End::agent().online(near);
    let mut client = End::client().online(far);
    agent.output(b"last words").await;

    agent.send(Outgoing::State(SessionState::Terminating)).await;
    agent.send(Outgoing::Close).await;

    assert_eq!(client.received(10).await, b"last words");
    let end = agent.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: true }), "{end:?}");
    client.wait_disconnected().await;
}

#[tokio::test(start_paused = true)]
async fn closing_ends_although_the_peer_acknowledges_nothing() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let agent = End::agent().online(near);
    agent.output(b"unheard").await;
    let _ = next_frame(&mut peer).await;

    agent.send(Outgoing::Close).await;

    let end = agent.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: false }), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn states_and_close_get_through_while_the_client_is_away() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let mut agent = End::agent().online(near);
    peer.send(service(MessageType::PausePublication, b""))
        .await
        .unwrap();
    agent
        .wait_for(|incoming| matches!(incoming, Incoming::Event(Event::Paused)))
        .await;

    agent.output(b"nobody sees this").await;
    agent.send(Outgoing::State(SessionState::Terminating)).await;
    agent.send(Outgoing::Close).await;

    let state = Message::decode(&next_frame(&mut peer).await.into_data()).unwrap();
    assert_eq!(state.message_type, MessageType::AgentSessionState);
    let end = agent.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: false }), "{end:?}");
}

#[tokio::test]
async fn the_end_of_the_session_is_told_after_all_its_payloads_and_no_one_dials_again() {
    let (near, mut peer) = socket_pair(MIB).await;
    let mut client = End::client().online(near);
    let payloads = 4 * INCOMING_QUEUE;
    for number in 0..payloads {
        let number = i64::try_from(number).unwrap();
        peer.send(stream_message(number, b"x")).await.unwrap();
    }
    peer.send(service(MessageType::ChannelClosed, &closed("bye")))
        .await
        .unwrap();
    drop(peer);

    assert_eq!(client.received(payloads).await, vec![b'x'; payloads]);
    let Some(Incoming::Event(Event::Closed(closed))) = client.handle.incoming.recv().await else {
        panic!("nothing comes between the last payload and the end");
    };

    assert_eq!(closed.output, "bye");
    assert_eq!(client.attempts(), [0]);
    client.send(Outgoing::Close).await;
    let end = client.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: true }), "{end:?}");
}

#[tokio::test]
async fn malformed_messages_are_ignored() {
    let (near, mut peer) = socket_pair(64 << 10).await;
    let mut client = End::client().online(near);

    peer.send(Frame::binary(&b"\0\0\0\x74too short"[..]))
        .await
        .unwrap();
    peer.send(Frame::text("{}")).await.unwrap();
    peer.send(stream_message(0, b"fine")).await.unwrap();

    assert_eq!(client.received(4).await, b"fine");
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_when_the_time_for_connecting_is_over() {
    let agent = End::agent();
    let started = Instant::now();
    let mut agent = agent.start();

    let end = (&mut agent.pump).await.unwrap();

    assert!(
        matches!(end, PumpEnd::GaveUp(ConnectError::Retry(_))),
        "{end:?}"
    );
    assert_eq!(started.elapsed(), settings().reconnect_for);
    // Doubling from 200 ms with a cap of 30 s fills ten minutes with some thirty attempts.
    assert!(
        (20..60).contains(&agent.attempts().len()),
        "{:?}",
        agent.attempts()
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_hangs_up_at_once_is_not_dialled_in_a_tight_loop() {
    let mut agent = End::agent();
    agent.settings.reconnect_for = Duration::from_secs(60);
    for _ in 0..1000 {
        let (near, _) = socket_pair(1024).await;
        agent.give(near);
    }
    let mut agent = agent.start();

    let end = (&mut agent.pump).await.unwrap();

    assert!(matches!(end, PumpEnd::GaveUp(_)), "{end:?}");
    assert!(agent.attempts().len() < 20, "{}", agent.attempts().len());
}

#[tokio::test]
async fn a_session_that_is_over_ends_the_pump_with_the_connectors_reason() {
    let agent = End::agent();
    agent
        .script
        .send(Err(ConnectError::Ended("terminated".into())))
        .unwrap();

    let end = agent.start().pump.await.unwrap();

    assert!(matches!(end, PumpEnd::Ended(reason) if reason == "terminated"));
}

#[tokio::test]
async fn what_was_received_is_delivered_before_the_session_ends_for_good() {
    let (near, mut peer) = socket_pair(MIB).await;
    let client = End::client();
    client.give(near);
    client
        .script
        .send(Err(ConnectError::Ended("timed out".into())))
        .unwrap();
    let payloads = 4 * INCOMING_QUEUE;
    for number in 0..payloads {
        let number = i64::try_from(number).unwrap();
        peer.send(stream_message(number, b"x")).await.unwrap();
    }
    drop(peer);
    let mut client = client.start();

    assert_eq!(client.received(payloads).await, vec![b'x'; payloads]);
    let end = client.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Ended(_)), "{end:?}");
}

#[tokio::test]
async fn cancelling_ends_it_online_and_offline() {
    let (near, _far) = socket_pair(1024).await;
    let mut online = End::agent().online(near);
    online.wait_connected().await;
    let offline = End::agent().start();

    for end in [online, offline] {
        end.cancel.cancel();
        assert!(matches!(end.pump.await.unwrap(), PumpEnd::Cancelled));
    }
}

#[tokio::test]
async fn dropping_the_handle_ends_it() {
    let (near, _far) = socket_pair(1024).await;
    let Running { handle, pump, .. } = End::agent().online(near);

    drop(handle);

    let end = pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: false }), "{end:?}");
}

#[tokio::test]
async fn a_close_counts_although_the_handle_is_dropped_behind_it() {
    let (near, far) = socket_pair(64 << 10).await;
    let agent = End::agent().online(near);
    let mut client = End::client().online(far);
    agent.output(b"last words").await;
    agent.send(Outgoing::Close).await;

    drop(agent.handle);

    assert_eq!(client.received(10).await, b"last words");
    let end = agent.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { drained: true }), "{end:?}");
}
