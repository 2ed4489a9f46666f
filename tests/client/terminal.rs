//! The program at a pseudo-terminal.

use nix::sys::signal::Signal;
use ssm_agent::protocol::wire::Payload;

use crate::endpoint::Endpoint;
use crate::program::AtTerminal;
use crate::stand_in::{SESSION, StandIn};

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_up_as_bytes_and_the_terminal_is_given_back() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;
    assert!(!terminal.is_restored());

    terminal.type_keys(b"vi\r\x03\x1a\x1c");
    assert_eq!(stand_in.typed_until(b"\x1c").await, b"vi\r\x03\x1a\x1c");
    stand_in.send(Payload::ExitCode(5));
    stand_in.close(None, "");

    assert_eq!(terminal.exit_status().await, 5);
    assert!(terminal.is_restored());
    terminal.shows("Exiting session with sessionId: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn size_is_told_at_the_start_and_when_it_changes() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("");

    stand_in
        .resized_to(AtTerminal::COLS, AtTerminal::ROWS)
        .await;
    terminal.resize(61, 17);
    stand_in.resized_to(61, 17).await;

    stand_in.close(None, "");
    assert_eq!(terminal.exit_status().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_give_the_terminal_back_and_end_the_session() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut stand_in = StandIn::shell().await;
        let endpoint = Endpoint::start([]).await;
        let terminal = AtTerminal::start(&stand_in, &endpoint);
        stand_in.opened().await;
        stand_in.output("ready$ ");
        terminal.shows("ready$ ").await;
        assert!(!terminal.is_restored());

        terminal.signal(signal);

        assert_eq!(terminal.exit_status().await, 128 + signal as u32);
        assert!(terminal.is_restored(), "{signal}");
        assert_eq!(endpoint.operations(), ["TerminateSession"], "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn escape_sequence_leaves_the_session() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;

    terminal.type_keys(b"~?");
    terminal.shows("leave and end the session").await;
    terminal.type_keys(b"~.");

    assert_eq!(terminal.exit_status().await, 255);
    assert!(terminal.is_restored());
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn person_leaves_before_the_session_is_open() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;

    // The terminal is not raw yet, so the key is a signal.
    terminal.type_keys(b"\x03");

    assert_eq!(terminal.exit_status().await, 130);
    assert!(terminal.is_restored());
    assert_eq!(endpoint.operations(), ["TerminateSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn paste_of_a_megabyte_arrives_whole() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;
    let paste: Vec<u8> = (0..1_usize << 20)
        .map(|n| b"0123456789abcdefghijklmnop~\xc3\xa9\r"[n % 30])
        .collect();

    let keys = paste.clone();
    let keyboard = std::sync::Arc::clone(&terminal);
    let typing = tokio::task::spawn_blocking(move || keyboard.type_keys(&keys));
    let typed = stand_in.typed_bytes(paste.len()).await;
    typing.await.unwrap();

    assert!(typed == paste, "{} bytes came", typed.len());
    stand_in.close(Some(0), "");
    assert_eq!(terminal.exit_status().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_is_given_back_when_the_other_side_is_gone_for_good() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;

    drop(stand_in);

    assert_eq!(terminal.exit_status().await, 255);
    assert!(terminal.is_restored());
    terminal.shows("timed out.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reason_of_the_end_is_shown() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;

    stand_in.close(None, "Your session timed out.");

    assert_eq!(terminal.exit_status().await, 1);
    let screen = terminal.shows("Your session timed out.").await;
    assert!(screen.contains(&format!("SessionId: {SESSION} : ")));
    assert!(terminal.is_restored());
}
