//! Port sessions whose other end a stand-in plays: raw streams, old agents that take one connection
//! at a time, and everything that can go wrong.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use ssm_agent::protocol::wire::payload::Flag;
use ssm_agent::protocol::wire::{Payload, PeerFeatures};
use tokio::time::timeout;

use crate::DEADLINE;
use crate::pipes::{start, wait};
use crate::stand_in::StandIn;

/// The last agent that does not multiplex.
const BASIC_AGENT: &str = "3.0.196.0";
/// More than the buffers of a connection and the windows of a session hold.
const MUCH: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn raw_stream_puts_nothing_but_its_bytes_on_standard_output() {
    let ours = PeerFeatures::ours().to_string();
    for (features, end) in [
        (ours.as_str(), Flag::DisconnectToPort),
        ("", Flag::TerminateSession),
    ] {
        let properties = json!({"portNumber": "22", "ssmFeatures": features});
        let (mut stand_in, endpoint, mut child) = start(StandIn::of_port(properties).await).await;

        stand_in.opened().await;
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"\x00in\xff")
            .unwrap();
        let typed = stand_in.typed_until(b"in\xff").await;
        let flag = stand_in.flag().await;
        stand_in.output(&b"SSH-2.0\r\n\x00\xff"[..]);
        stand_in.close(None, "");
        let output = wait(child).await;

        assert_eq!(typed, b"\x00in\xff");
        assert_eq!(flag, end, "{features}");
        assert_eq!(output.stdout, b"SSH-2.0\r\n\x00\xff");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(endpoint.operations(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_stream_ends_when_input_and_output_are_closed_although_the_destination_goes_on() {
    let features = PeerFeatures::ours().to_string();
    let properties = json!({"portNumber": "22", "ssmFeatures": features});
    let (mut stand_in, endpoint, mut child) = start(StandIn::of_port(properties).await).await;
    stand_in.opened().await;
    drop(child.stdin.take());
    assert_eq!(stand_in.flag().await, Flag::DisconnectToPort);

    drop(child.stdout.take());

    assert_eq!(wait(child).await.status.code(), Some(141));
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_agent_gets_one_connection_after_the_other() {
    let (mut stand_in, _endpoint, mut child) = start(basic().await).await;
    stand_in.opened().await;
    let port = wait_for_port(&mut child);

    for (question, answer) in [("one", "eins"), ("two", "zwei")] {
        let mut program = TcpStream::connect(("127.0.0.1", port)).unwrap();
        program.write_all(question.as_bytes()).unwrap();
        stand_in.typed_until(question.as_bytes()).await;
        stand_in.output(answer);
        let mut read = vec![0; answer.len()];
        program.read_exact(&mut read).unwrap();
        assert_eq!(read, answer.as_bytes());

        drop(program);

        assert_eq!(stand_in.flag().await, Flag::DisconnectToPort);
    }
    stand_in.close(None, "");
    assert_eq!(wait(child).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_writes_much_before_it_reads_gets_all_through_an_old_agent() {
    let (mut stand_in, _endpoint, mut child) = start(basic().await).await;
    stand_in.opened().await;
    let port = wait_for_port(&mut child);

    let program = tokio::task::spawn_blocking(move || {
        let bytes: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(MUCH).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut echoed = vec![0; MUCH];
        stream.read_exact(&mut echoed).unwrap();
        echoed == bytes
    });
    stand_in.echo(MUCH).await;

    assert!(timeout(DEADLINE, program).await.unwrap().unwrap());
    stand_in.close(None, "");
    assert_eq!(wait(child).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_an_old_agent_s_session_is_noticed_while_a_program_takes_nothing() {
    let (mut stand_in, _endpoint, mut child) = start(basic().await).await;
    stand_in.opened().await;
    let port = wait_for_port(&mut child);
    let mut program = TcpStream::connect(("127.0.0.1", port)).unwrap();
    program.write_all(b"question").unwrap();
    stand_in.typed_until(b"question").await;
    for _ in 0..MUCH >> 15 {
        stand_in.output(vec![0; 32 << 10]);
    }

    stand_in.close(None, "");

    assert_eq!(wait(child).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn complaints_that_nobody_reads_stop_no_connection() {
    let (mut stand_in, _endpoint, mut child) = start(StandIn::of_port(forwarding("0")).await).await;
    stand_in.opened().await;
    let port = wait_for_port(&mut child);
    // Their lines are more than a pipe holds.
    for _ in 0..2000 {
        stand_in.send(Payload::Flag(Flag::ConnectToPortError));
    }

    // No end of one comes between the bytes of the others.
    let mut programs = Vec::new();
    for round in 0..20 {
        let text = format!("through, the {round}. time");
        let mut program = TcpStream::connect(("127.0.0.1", port)).unwrap();
        program.write_all(text.as_bytes()).unwrap();
        stand_in.typed_until(text.as_bytes()).await;
        programs.push(program);
    }

    stand_in.close(None, "");
    assert_eq!(wait(child).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn port_that_is_taken_is_named_and_ends_the_session() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();

    let expected = format!("cannot listen on localhost:{port}");
    refused(forwarding(&port.to_string()), &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_make_no_sense_are_named_and_end_the_session() {
    for (properties, expected) in [
        (
            forwarding("65536"),
            "localPortNumber of the session must be 0 to 65535, got \"65536\"",
        ),
        (
            json!({"type": "LocalPortForwarding", "localPortNumber": 8080}),
            "property localPortNumber of the session must be a string",
        ),
        (
            json!({"type": "LocalPortForwarding", "localConnectionType": "unix"}),
            "property localUnixSocket of the session is empty",
        ),
    ] {
        refused(properties, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_breaks_the_mux_protocol_ends_the_session() {
    // A version and a command that nobody has: the first and the second byte of a frame.
    for garbage in [
        &b"\x09\x02\x00\x00\x01\x00\x00\x00"[..],
        b"\x01\x77\x00\x00\x01\x00\x00\x00",
    ] {
        let (mut stand_in, endpoint, mut child) =
            start(StandIn::of_port(forwarding("0")).await).await;
        stand_in.opened().await;
        wait_for_line(&mut child, "Waiting for connections...");

        stand_in.output(garbage);
        let output = wait(child).await;

        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("the agent broke the protocol"), "{errors}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(endpoint.operations(), ["TerminateSession"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_the_destination_refuses_is_told() {
    let (mut stand_in, _endpoint, mut child) = start(StandIn::of_port(forwarding("0")).await).await;
    stand_in.opened().await;
    wait_for_line(&mut child, "Waiting for connections...");

    stand_in.send(Payload::Flag(Flag::ConnectToPortError));
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Connection to destination port failed") {
        assert_ne!(errors.read_line(&mut line).unwrap(), 0, "{line}");
    }
    stand_in.close(None, "the person has left");

    assert_eq!(wait(child).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_leaves_a_port_session_without_a_failure() {
    let (mut stand_in, endpoint, mut child) = start(StandIn::of_port(forwarding("0")).await).await;
    stand_in.opened().await;
    wait_for_line(&mut child, "Waiting for connections...");

    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();

    let output = wait(child).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("Exiting session"), "{errors}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

/// A session that the client cannot serve ends with a message, and for the other side too.
async fn refused(properties: Value, expected: &str) {
    let (mut stand_in, endpoint, child) = start(StandIn::of_port(properties).await).await;

    stand_in.opened().await;
    let output = wait(child).await;

    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

/// An agent that takes one connection at a time.
async fn basic() -> StandIn {
    StandIn::of_port_at(BASIC_AGENT, forwarding("0")).await
}

fn forwarding(local_port: &str) -> Value {
    json!({"type": "LocalPortForwarding", "portNumber": "80", "localPortNumber": local_port})
}

/// Reads standard output up to a line; the rest stays with the program.
fn wait_for_line(child: &mut Child, expected: &str) {
    while next_line(child) != expected {}
}

/// Reads standard output until the port is named.
fn wait_for_port(child: &mut Child) -> u16 {
    loop {
        let line = next_line(child);
        if let Some(rest) = line.strip_prefix("Port ")
            && let Some((port, _)) = rest.split_once(" opened for sessionId ")
        {
            return port.parse().unwrap();
        }
    }
}

fn next_line(child: &mut Child) -> String {
    let output = child.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        match byte {
            [b'\n'] => return String::from_utf8(line).unwrap(),
            [other] => line.push(other),
        }
    }
}
