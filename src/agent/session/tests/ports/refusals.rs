//! Port sessions that do not come about.

use serde_json::{Value, json};

use super::targets::{closed_port, raw};
use crate::agent::session::tests::harness::World;
use crate::agent::session::{DenyList, Network, Networks, Settings};
use crate::agent::transcript::Transcript;
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::task::TaskStatus;

#[tokio::test]
async fn raw_stream_to_a_refusing_port_fails_the_session() {
    let (_socket, port) = closed_port();
    let mut world = World::new();
    world.start("alice-1", raw(port));
    let client = world.attach(PeerFeatures::ours()).await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "Unable to connect to specified port: cannot connect to ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
    assert!(outcome.output.contains("refused"), "{}", outcome.output);
}

#[tokio::test]
async fn forbidden_destination_fails_the_session() {
    for host in ["169.254.169.254", "::ffff:169.254.169.254", "2852039166"] {
        let mut world = World::new();
        world.start("alice-1", to_host(host));
        let _client = world.attach(PeerFeatures::ours()).await;

        let outcome = world.outcome().await;

        assert_eq!(outcome.status, TaskStatus::Failed);
        let expected = format!("Forwarding to IP address {host} is forbidden.");
        assert_eq!(outcome.output, expected);
    }
}

#[tokio::test]
async fn configured_list_takes_the_place_of_the_default() {
    let deny = |settings: &mut Settings| {
        settings.denied_destinations = DenyList::new(["127.0.0.1".parse().unwrap()]);
    };
    let mut world = World::with(deny, Transcript::new(None));
    world.start("alice-1", to_host("127.0.0.1"));
    let _client = world.attach(PeerFeatures::ours()).await;

    let outcome = world.outcome().await;

    let expected = "Forwarding to IP address 127.0.0.1 is forbidden.";
    assert_eq!(outcome.output, expected);
}

#[tokio::test]
async fn own_addresses_of_the_instance_s_networks_are_forbidden_once_they_are_known() {
    let (tell, told) = tokio::sync::watch::channel(None);
    let know = |settings: &mut Settings| settings.networks = Networks::told_by(told);
    let mut world = World::with(know, Transcript::new(None));
    world.start("alice-1", to_host("10.77.0.2"));
    let _client = world.attach(PeerFeatures::ours()).await;

    tell.send_replace(Some(vec![Network::parse("10.77.0.0/16").unwrap()]));

    let expected = "Forwarding to IP address 10.77.0.2 is forbidden.";
    assert_eq!(world.outcome().await.output, expected);
}

#[tokio::test]
async fn name_that_does_not_resolve_fails_the_session() {
    let mut world = World::new();
    world.start("alice-1", to_host("no-such-host.invalid"));
    let _client = world.attach(PeerFeatures::ours()).await;

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "lookup no-such-host.invalid: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

#[tokio::test]
async fn document_without_a_usable_target_opens_no_data_channel() {
    for (properties, expected) in [
        (
            json!({"portNumber": ""}),
            r#"Port number is empty in session properties. {"portNumber":""}"#,
        ),
        (
            json!({"portNumber": "22; reboot"}),
            r#"property portNumber of the document must be a port number from 1 to 65535, but is "22; reboot""#,
        ),
        (
            json!({"unixSocket": "/run/a", "portNumber": "22"}),
            "property unixSocket of the document excludes portNumber",
        ),
    ] {
        let mut world = World::new();
        world.start("alice-1", document(&properties));

        let outcome = world.outcome().await;

        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(outcome.output, expected);
        assert!(world.dialled.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_answer_the_handshake_fails_the_session() {
    let mut world = World::new();
    world.start("alice-1", raw(22));
    let _nobody = world.dialled.recv().await.unwrap();

    let outcome = world.outcomes.recv().await.unwrap();

    assert_eq!(outcome.status, TaskStatus::Failed);
    assert!(
        outcome.output.contains("Handshake timed out."),
        "{}",
        outcome.output
    );
}

#[tokio::test]
async fn preferred_encryption_is_no_obstacle_for_a_port() {
    let (_socket, port) = closed_port();
    let mut document = raw(port);
    document["inputs"] = json!({"kmsKeyId": "alias/sessions"});
    let mut world = World::new();
    world.start("alice-1", document);
    let client = world.attach(PeerFeatures::ours()).await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;

    let expected = "Unable to connect to specified port: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

fn to_host(host: &str) -> Value {
    document(&json!({"host": host, "portNumber": "80", "type": "LocalPortForwarding"}))
}

fn document(properties: &Value) -> Value {
    json!({"schemaVersion": "1.0", "sessionType": "Port", "properties": properties})
}
