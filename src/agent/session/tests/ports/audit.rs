//! What the audit log says of connections.

use std::time::Duration;

use serde_json::Value;

use super::targets::{Target, break_off, closed_port, pattern, raw, read_exact, write};
use super::tunnel::Tunnel;
use crate::agent::session::Settings;
use crate::agent::session::tests::audit::Audited;
use crate::agent::transcript::Transcript;
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::payload::Flag;

#[tokio::test]
async fn every_stream_is_told_once_at_its_end() {
    let mut audited = Audited::new();
    let target = Target::new().await;
    let mut world = audited.world(Transcript::new(None));
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let closed = tunnel.open().await;
    let mut connection = target.accept().await;
    tunnel.write(closed, b"up").await;
    read_exact(&mut connection, 2).await;
    write(&mut connection, b"down").await;
    tunnel.read(closed, 4).await;
    drop(connection);
    tunnel.finish(closed).await;
    tunnel.read_to_end(closed).await;
    let broken = tunnel.open().await;
    let mut connection = target.accept().await;
    tunnel.write(broken, b"x").await;
    read_exact(&mut connection, 1).await;
    break_off(connection);
    tunnel.finish(broken).await;
    tunnel.read_to_end(broken).await;
    let open = tunnel.open().await;
    let mut open_connection = target.accept().await;
    tunnel.write(open, b"x").await;
    read_exact(&mut open_connection, 1).await;

    let ending = crate::protocol::wire::Payload::Flag(Flag::TerminateSession);
    tunnel.client.send(ending).await;
    tunnel.client.ignore_the_rest();
    world.outcome().await;

    let lines = audited.lines().await;
    let names: Vec<&str> = lines.iter().map(|line| text(line, "event")).collect();
    let connections = ["connection"; 3];
    assert_eq!(names[0], "session-started");
    assert_eq!(names[1..4], connections);
    assert_eq!(names[4..], ["session-ended"]);
    assert_eq!(
        text(&lines[0], "target"),
        format!("localhost:{}", target.port)
    );
    let address = format!("127.0.0.1:{}", target.port);
    for line in &lines[1..4] {
        assert_eq!(text(line, "target"), address);
        assert!(text(line, "opened").ends_with('Z'));
        assert!(line["seconds"].as_f64().unwrap() < 60.0);
    }
    assert_eq!((&lines[1]["up"], &lines[1]["down"]), (&2.into(), &4.into()));
    assert_eq!(text(&lines[1], "outcome"), "closed");
    assert!(text(&lines[2], "outcome").starts_with("the connection broke: "));
    assert_eq!(text(&lines[3], "outcome"), "the client ended the session");
}

#[tokio::test]
async fn stream_that_stops_the_others_is_reset_and_told_and_they_go_on() {
    let mut audited = Audited::new();
    let hasten = |settings: &mut Settings| settings.stall_timeout = Duration::from_millis(300);
    let mut world = audited.world_with(hasten, Transcript::new(None));
    let target = Target::new().await;
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let other = tunnel.open().await;
    let mut connection = target.accept().await;
    let deaf = tunnel.open().await;
    let _unread = target.accept().await;

    // More than the agent and the kernel hold; once the stream is reset, the rest is dropped.
    tunnel.write(deaf, &pattern(64 << 20)).await;
    tunnel.write(other, b"through").await;

    assert_eq!(read_exact(&mut connection, 7).await, b"through");
    tunnel.read_to_end(deaf).await;
    tunnel.client.close_session();
    tunnel.client.ignore_the_rest();
    world.outcome().await;
    let lines = audited.lines().await;
    let outcome = text(&lines[1], "outcome");
    assert!(
        outcome.contains("bytes were not read for")
            && outcome.contains("stopped the other streams"),
        "{outcome}"
    );
    let reason = "the gateway closed the session";
    assert_eq!(text(&lines[2], "outcome"), reason);
    assert_eq!(text(&lines[3], "reason"), reason);
}

#[tokio::test]
async fn refused_stream_is_told_with_its_error() {
    let mut audited = Audited::new();
    let (_socket, port) = closed_port();
    let mut world = audited.world(Transcript::new(None));
    let mut tunnel = Tunnel::to(&mut world, port).await;
    let stream = tunnel.open().await;
    tunnel.read_to_end(stream).await;
    tunnel.client.close_session();
    tunnel.client.ignore_the_rest();
    world.outcome().await;

    let lines = audited.lines().await;

    assert_eq!(text(&lines[1], "event"), "connection");
    assert!(text(&lines[1], "target").contains(&format!("127.0.0.1:{port}")));
    assert!(
        text(&lines[1], "outcome").contains("refused"),
        "{}",
        lines[1]
    );
}

#[tokio::test]
async fn raw_stream_is_told_with_its_bytes() {
    let mut audited = Audited::new();
    let target = Target::new().await;
    let mut world = audited.world(Transcript::new(None));
    world.start("alice-1", raw(target.port));
    let mut client = world.attach(PeerFeatures::ours()).await;
    let mut connection = target.accept().await;
    client.type_text("question").await;
    read_exact(&mut connection, 8).await;
    write(&mut connection, b"answer\n").await;
    client.wait_for("answer\n").await;
    drop(connection);
    client.ignore_the_rest();
    world.outcome().await;

    let lines = audited.lines().await;

    let [_started, connection, ended] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        text(connection, "target"),
        format!("127.0.0.1:{}", target.port)
    );
    assert_eq!(
        (&connection["up"], &connection["down"]),
        (&8.into(), &7.into())
    );
    let reason = "the destination closed the connection";
    assert_eq!(text(connection, "outcome"), reason);
    assert_eq!(text(ended, "reason"), reason);
}

#[tokio::test]
async fn raw_stream_that_is_refused_is_told() {
    let mut audited = Audited::new();
    let (_socket, port) = closed_port();
    let mut world = audited.world(Transcript::new(None));
    world.start("alice-1", raw(port));
    let client = world.attach(PeerFeatures::ours()).await;
    client.ignore_the_rest();
    world.outcome().await;

    let lines = audited.lines().await;

    assert_eq!(text(&lines[1], "event"), "connection");
    assert!(
        text(&lines[1], "outcome").contains("refused"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2]["status"], "Failed");
}

#[tokio::test]
async fn connections_that_are_open_when_the_session_is_cut_off_are_told_at_once() {
    let mut audited = Audited::new();
    let target = Target::new().await;
    let mut world = audited.world(Transcript::new(None));
    let mut tunnel = Tunnel::to(&mut world, target.port).await;
    let stream = tunnel.open().await;
    let mut connection = target.accept().await;
    tunnel.write(stream, b"up").await;
    read_exact(&mut connection, 2).await;
    tunnel.client.ignore_the_rest();

    // Its tasks are aborted.
    drop(world);

    audited.until_told("session-ended").await;
    let lines = audited.lines().await;
    let [_started, connection, ended] = &lines[..] else {
        panic!("{lines:?}");
    };
    let address = format!("127.0.0.1:{}", target.port);
    assert_eq!(text(connection, "target"), address);
    assert_eq!(connection["up"], 2);
    let reason = "the session broke off inside the agent";
    assert_eq!(text(connection, "outcome"), reason);
    assert_eq!(text(ended, "reason"), reason);
}

#[tokio::test]
async fn session_with_very_many_connections_leaves_the_log_to_others() {
    const CONNECTIONS: u64 = 260;
    let mut audited = Audited::new();
    let (_socket, port) = closed_port();
    let mut world = audited.world(Transcript::new(None));
    let mut tunnel = Tunnel::to(&mut world, port).await;
    for _ in 0..CONNECTIONS {
        let stream = tunnel.open().await;
        tunnel.read_to_end(stream).await;
    }
    tunnel.client.close_session();
    tunnel.client.ignore_the_rest();
    world.outcome().await;

    let lines = audited.lines().await;

    let of = |name: &str| {
        lines
            .iter()
            .filter(|line| text(line, "event") == name)
            .count() as u64
    };
    let single = of("connection");
    // One more each ten seconds, on a slow machine.
    assert!((200..210).contains(&single), "{single} lines");
    let [.., together, _ended] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(text(together, "event"), "connections");
    assert!(text(together, "target").contains(&format!("127.0.0.1:{port}")));
    let outcomes = together["outcomes"].as_object().unwrap();
    assert!(outcomes.keys().next().unwrap().contains("refused"));
    let rest: u64 = lines
        .iter()
        .filter_map(|line| line["connections"].as_u64())
        .sum();
    assert_eq!(single + rest, CONNECTIONS);
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap()
}
