//! The program between pipes.

use std::io::{Read, Write};
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ssm_agent::protocol::wire::Payload;

use crate::DEADLINE;
use crate::endpoint::Endpoint;
use crate::program::{arguments, piped};
use crate::stand_in::{SESSION, StandIn};

#[tokio::test(flavor = "multi_thread")]
async fn output_exit_status_and_messages_keep_apart() {
    let (mut stand_in, endpoint, child) = start(StandIn::shell().await).await;

    stand_in.opened().await;
    stand_in.output("$ ");
    stand_in.send(Payload::StdErr(Bytes::from_static(b"oops\n")));
    stand_in.send(Payload::ExitCode(3));
    stand_in.close(None, "");
    let output = wait(child).await;

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.stdout, b"$ ");
    assert!(errors.contains(&format!("Starting session with SessionId: {SESSION}")));
    assert!(errors.contains("oops\n"));
    assert!(errors.contains(&format!("Exiting session with sessionId: {SESSION}.")));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(endpoint.operations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_of_the_gateway_counts_if_the_agent_told_none() {
    let (mut stand_in, _endpoint, child) = start(StandIn::shell().await).await;

    stand_in.opened().await;
    stand_in.output("");
    stand_in.close(Some(7), "");

    assert_eq!(wait(child).await.status.code(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn end_with_a_reason_is_told_and_fails() {
    let (mut stand_in, _endpoint, child) = start(StandIn::shell().await).await;

    stand_in.opened().await;
    stand_in.close(None, "no such user");
    let output = wait(child).await;

    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(&format!("SessionId: {SESSION} : no such user")));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn piped_input_is_typed_and_ended() {
    let (mut stand_in, _endpoint, mut child) = start(StandIn::shell().await).await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo hi\nexit 3").unwrap();
    drop(stdin);

    stand_in.opened().await;
    stand_in.output("$ ");
    let typed = stand_in.typed_until(b"\x04").await;
    stand_in.close(Some(3), "");

    assert_eq!(typed, b"echo hi\nexit 3\n\x04");
    assert_eq!(stand_in.sizes().len(), 1);
    assert_eq!(
        (stand_in.sizes()[0].cols, stand_in.sizes()[0].rows),
        (300, 100)
    );
    assert_eq!(wait(child).await.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_output_arrives_whole() {
    const PIECE: usize = 32 << 10;
    const PIECES: usize = 120;
    let (mut stand_in, _endpoint, child) = start(StandIn::shell().await).await;
    let all: Vec<u8> = (0..PIECE * PIECES)
        .map(|n| b"abcdefghijklmnopqrstuvwxyz\n"[n / 7 % 27])
        .collect();

    stand_in.opened().await;
    for piece in all.chunks(PIECE) {
        stand_in.output(Bytes::copy_from_slice(piece));
    }
    stand_in.close(Some(0), "");
    let output = wait(child).await;

    assert!(output.stdout == all, "{} bytes came", output.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_output_so_the_session_is_ended() {
    let (mut stand_in, endpoint, mut child) = start(StandIn::shell().await).await;
    drop(child.stdout.take());

    stand_in.opened().await;
    stand_in.output("to nobody");

    assert_eq!(wait(child).await.status.code(), Some(141));
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_the_session_for_both_sides() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let (mut stand_in, endpoint, mut child) = start(StandIn::shell().await).await;
        // Input stays open: the end of the session has to come from the signal.
        let _stdin = child.stdin.take();
        stand_in.opened().await;
        stand_in.output("$ ");
        let mut prompt = [0; 2];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut prompt)
            .unwrap();

        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = wait(child).await;

        assert_eq!(output.status.code(), Some(128 + signal as i32), "{signal}");
        assert_eq!(endpoint.operations(), ["TerminateSession"], "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_kind_of_session_is_refused() {
    let (mut stand_in, endpoint, child) = start(StandIn::of_type("Telepathy").await).await;

    let reason = stand_in.refused().await;
    stand_in.close(None, &reason);
    let output = wait(child).await;

    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        reason.contains("Unknown session type Telepathy"),
        "{reason}"
    );
    assert!(errors.contains(&reason), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(endpoint.operations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_without_terminal_gets_interrupts_and_its_streams_come_apart() {
    let stand_in = StandIn::of_type("NonInteractiveCommands").await;
    let (mut stand_in, endpoint, mut child) = start(stand_in).await;
    // Bytes that would be keys to the agent; a command reads no input.
    child.stdin.take().unwrap().write_all(b"x\x03\x1c").unwrap();
    stand_in.opened().await;
    stand_in.output("ready\n");
    let mut line = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    let signal = |signal| kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();

    signal(Signal::SIGINT);
    stand_in.typed_until(b"\x03").await;
    signal(Signal::SIGQUIT);
    assert_eq!(stand_in.typed_until(b"\x1c").await, b"\x03\x1c");
    stand_in.output(&b"\x80done"[..]);
    stand_in.send(Payload::StdErr(Bytes::from_static(b"\xffoops")));
    stand_in.send(Payload::ExitCode(4));
    stand_in.close(None, "");
    let output = wait(child).await;

    assert_eq!(output.stdout, b"\x80done");
    assert!(
        output.stderr.windows(5).any(|bytes| bytes == b"\xffoops"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(4));
    assert!(endpoint.operations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn third_interrupt_within_a_second_ends_the_client() {
    let stand_in = StandIn::of_type("NonInteractiveCommands").await;
    let (mut stand_in, endpoint, mut child) = start(stand_in).await;
    stand_in.opened().await;
    stand_in.output("ready\n");
    let mut line = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    let id = Pid::from_raw(child.id().try_into().unwrap());

    while child.try_wait().unwrap().is_none() {
        kill(id, Signal::SIGINT).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = wait(child).await;

    assert_eq!(output.status.code(), Some(130));
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_upgrade_is_told_at_once() {
    let mut stand_in = StandIn::shell().await;
    stand_in.url = stand_in.url.replace("data-channel", "other");
    let begun = Instant::now();
    let (_stand_in, _endpoint, child) = start(stand_in).await;

    let output = wait(child).await;

    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains(&format!("cannot reach session {SESSION}")),
        "{errors}"
    );
    assert!(errors.contains("403"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() < DEADLINE / 2);
}

pub async fn start(stand_in: StandIn) -> (StandIn, Endpoint, Child) {
    let endpoint = Endpoint::start([]).await;
    let mut command = piped();
    command.args(arguments(&stand_in, &endpoint));
    (stand_in, endpoint, command.spawn().unwrap())
}

pub async fn wait(child: Child) -> Output {
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let wait = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(output) => output.unwrap(),
        Err(late) => {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("the program did not end: {late}");
        }
    }
}
