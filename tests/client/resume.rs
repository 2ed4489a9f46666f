//! The program after a cut.

use ssm_agent::protocol::wire::Payload;
use ssm_agent::protocol::wire::features::PeerFeatures;
use ssm_agent::protocol::wire::version::CLIENT_WIRE_VERSION;

use crate::endpoint::{Endpoint, Resume};
use crate::program::AtTerminal;
use crate::stand_in::{SESSION, StandIn, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn session_goes_on_after_a_cut_with_a_fresh_token() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([Resume::Token("second-token")]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    let first = stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;
    terminal.type_keys(b"before ");
    stand_in.typed_until(b"before ").await;

    stand_in.cut();
    terminal.type_keys(b"meanwhile ");
    let second = stand_in.opened().await;
    terminal.type_keys(b"after");
    let typed = stand_in.typed_until(b"after").await;
    stand_in.output("still here");
    terminal.shows("still here").await;
    stand_in.send(Payload::ExitCode(0));
    stand_in.close(None, "");

    assert_eq!(terminal.exit_status().await, 0);
    assert_eq!(typed, b"before meanwhile after");
    assert_eq!(endpoint.operations(), ["ResumeSession"]);
    assert_eq!(endpoint.requests()[0]["SessionId"], SESSION);
    assert_eq!(first.token_value, TOKEN);
    assert_eq!(second.token_value, "second-token");
    assert_eq!(first.client_id, second.client_id);
    assert_ne!(first.request_id, second.request_id);
    assert_eq!(second.client_instance_id, None);
    assert_eq!(second.client_version.as_deref(), Some(CLIENT_WIRE_VERSION));
    assert_eq!(
        second.features,
        Some(PeerFeatures::ours().to_string()),
        "the features have to be told on each connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_is_over_after_a_cut_timed_out() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([Resume::Null]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;

    stand_in.cut();

    assert_eq!(terminal.exit_status().await, 255);
    let screen = terminal.shows("timed out.").await;
    assert!(screen.contains(&format!("Session: {SESSION} timed out.")));
    assert!(terminal.is_restored());
    assert_eq!(endpoint.operations(), ["ResumeSession"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_resume_is_told_and_not_repeated() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([Resume::Denied]).await;
    let terminal = AtTerminal::start(&stand_in, &endpoint);
    stand_in.opened().await;
    stand_in.output("ready$ ");
    terminal.shows("ready$ ").await;

    stand_in.cut();

    assert_eq!(terminal.exit_status().await, 255);
    terminal.shows("AccessDeniedException: not yours").await;
    assert!(terminal.is_restored());
    assert_eq!(endpoint.operations(), ["ResumeSession"]);
}
