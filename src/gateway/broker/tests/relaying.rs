//! How messages pass: in order, with back-pressure, and without losing an acknowledgement.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::stand_in::*;
use crate::gateway::store::sessions::SessionStatus;
use crate::protocol::wire::MessageType;
use crate::protocol::wire::codec::Limit;

/// Payload of a large message.
const LARGE: usize = 32 << 10;

#[tokio::test(start_paused = true)]
async fn messages_pass_unchanged_and_in_order_both_ways_at_once() {
    const COUNT: i64 = 500;
    let world = World::new().await;
    let (_, _control, agent, client) = world.session().await;
    let down: Vec<Bytes> = (0..COUNT).map(|n| output(n, vec![b'o'; LARGE])).collect();
    let up: Vec<Bytes> = (0..COUNT).map(|n| input(n, vec![b'i'; 1024])).collect();

    let (agent_got, client_got) = tokio::join!(
        exchange(agent, down.clone(), up.len()),
        exchange(client, up.clone(), down.len()),
    );

    assert!(agent_got == up);
    assert!(client_got == down);
}

#[tokio::test(start_paused = true)]
async fn slow_client_stops_the_agent() {
    let world = World::new().await;
    let (_, _control, mut agent, _client) = world.session().await;

    let taken = send_until_blocked(&mut agent, Duration::from_secs(1)).await;

    // The relay's buffers, not the agent's whole output.
    assert!(taken < 2 << 20, "{taken} bytes were taken");
}

#[tokio::test(start_paused = true)]
async fn stalled_client_pauses_the_agent_and_loses_no_acknowledgement() {
    const COUNT: i64 = 300;
    let world = World::new().await;
    let (_, _control, mut agent, mut client) = world.session().await;
    send_until_blocked(&mut agent, Duration::from_secs(1)).await;

    agent.expect(MessageType::PausePublication).await;
    for number in 0..COUNT {
        agent.send(acknowledge(number)).await;
        agent.send(output(1000 + number, vec![0; LARGE])).await;
    }
    let mut acknowledgements = 0;
    while acknowledgements < COUNT {
        let message = client.next().await;
        acknowledgements += i64::from(is(&message, &MessageType::Acknowledge));
    }

    agent.expect(MessageType::StartPublication).await;
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_while_the_other_end_is_stalled() {
    let world = World::new().await;
    let (_, _control, mut agent, _client) = world.session().await;
    send_until_blocked(&mut agent, Duration::from_secs(1)).await;
    agent.expect(MessageType::PausePublication).await;

    timeout(Duration::from_secs(1), agent.sync()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stalled_agent_does_not_hold_its_own_output_up() {
    let world = World::new().await;
    let (_, _control, mut agent, mut client) = world.session().await;
    let flood = async {
        for number in 0.. {
            client.send(input(number, vec![0; LARGE])).await;
        }
    };
    timeout(Duration::from_secs(1), flood).await.unwrap_err();

    agent.send(output(0, "news")).await;

    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "news"
    );
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_an_old_connection_swallowed_are_repeated() {
    let world = World::new().await;
    let (id, _control, agent, mut client) = world.session().await;
    let mut sent = vec![acknowledge(0), acknowledge(1)];
    for message in &sent {
        client.send(message.clone()).await;
    }
    client.sync().await;

    drop(agent);
    world.until_status(&id, SessionStatus::Disconnected).await;
    sent.push(acknowledge(2));
    client.send(sent[2].clone()).await;
    let mut agent = world.agent(&id).await;

    agent.expect(MessageType::StartPublication).await;
    for message in sent {
        assert_eq!(agent.next().await, message);
    }
}

#[tokio::test(start_paused = true)]
async fn output_is_held_once_while_no_client_is_there() {
    let world = World::new().await;
    let mut control = world.control().await;
    let ticket = world.start().await;
    control.expect_start().await;
    let mut agent = world.agent(&ticket.session_id).await;
    let (first, second) = (output(0, "a"), output(1, "b"));
    for message in [&first, &first, &second, &first, &second] {
        agent.send(message.clone()).await;
    }
    agent.sync().await;

    let mut client = world.client(&ticket).await;
    agent.expect(MessageType::StartPublication).await;
    agent.send(output(2, "c")).await;

    assert_eq!(client.next().await, first);
    assert_eq!(client.next().await, second);
    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "c"
    );
}

#[tokio::test(start_paused = true)]
async fn fragmented_message_arrives_whole() {
    let world = World::new().await;
    let (_, _control, mut agent, mut client) = world.session().await;
    let whole = output(0, vec![7; 10_000]);

    let (first, rest) = (whole.slice(..4096), whole.slice(4096..));
    let first = RawFrame::message(first, OpCode::Data(Data::Binary), false);
    let rest = RawFrame::message(rest, OpCode::Data(Data::Continue), true);
    agent.send_frame(Frame::Frame(first)).await;
    client.send(acknowledge(0)).await;
    agent.expect(MessageType::Acknowledge).await;
    agent.send_frame(Frame::Frame(rest)).await;

    assert_eq!(client.next().await, whole);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_the_other_end_stays_here() {
    let world = World::new().await;
    let (_, _control, mut agent, mut client) = world.session().await;

    agent.send("no message at all".into()).await;
    for kind in [
        MessageType::ChannelClosed,
        MessageType::StartPublication,
        MessageType::InputStreamData,
        MessageType::AgentTaskComplete,
    ] {
        agent
            .send(message(kind, 0, uuid::Uuid::new_v4(), "{}".into()))
            .await;
    }
    agent.send(output(0, "ok")).await;

    assert_eq!(
        client.expect(MessageType::OutputStreamData).await.payload,
        "ok"
    );
}

#[tokio::test(start_paused = true)]
async fn message_that_is_too_large_closes_its_connection_with_a_reason() {
    let world = World::new().await;
    let (id, _control, agent, mut client) = world.session().await;

    let huge = Frame::binary(vec![0; 4 * Limit::PAYLOAD]);
    // The other side closes while this is being sent.
    let _ = timeout(Duration::from_secs(1), client.socket.send(huge)).await;

    assert_eq!(client.close_reason().await, "message is too large");
    world.until_status(&id, SessionStatus::Disconnected).await;
    drop(agent);
}

/// Sends `messages` while receiving `count` others.
async fn exchange(peer: Peer, messages: Vec<Bytes>, count: usize) -> Vec<Bytes> {
    use futures_util::StreamExt;
    let (mut sink, stream) = peer.socket.split();
    let send = async {
        for message in messages {
            sink.feed(Frame::Binary(message)).await.unwrap();
        }
        sink.flush().await.unwrap();
    };
    let receive = stream
        .filter_map(async |frame| match frame.unwrap() {
            Frame::Binary(bytes) => Some(bytes),
            _ => None,
        })
        .take(count)
        .collect();
    tokio::join!(send, receive).1
}

/// Sends large output until nothing is taken for `patience`; returns how many bytes were.
async fn send_until_blocked(agent: &mut Peer, patience: Duration) -> usize {
    let mut taken = 0;
    for number in 0.. {
        let message = output(number, vec![0; LARGE]);
        match timeout(patience, agent.send(message)).await {
            Ok(()) => taken += LARGE,
            Err(_) => break,
        }
    }
    taken
}

fn is(message: &Bytes, kind: &MessageType) -> bool {
    crate::protocol::wire::message::Header::decode(message)
        .unwrap()
        .message_type
        == *kind
}
