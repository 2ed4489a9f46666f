//! The handshake without encryption; `encryption` holds the rest.

mod encryption;

use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{TIMED_OUT, TIMEOUT};
use super::client::SESSION_TYPES;
use super::*;
use crate::protocol::wire::handshake::{STATUS_FAILED, STATUS_UNSUPPORTED};
use crate::protocol::wire::version::{AGENT_WIRE_VERSION, CLIENT_WIRE_VERSION};

#[test]
fn agent_asks_once_with_its_version_and_the_session_type_first() {
    let now = Instant::now();
    let mut agent = agent();

    let request: Value = serde_json::from_slice(&agent.start(now).unwrap()).unwrap();

    assert_eq!(
        request,
        json!({"AgentVersion": AGENT_WIRE_VERSION, "RequestedClientActions": [
            {"ActionType": "SessionType", "ActionParameters":
                {"SessionType": "Port", "Properties": {"portNumber": "22"}}}]})
    );
    assert_eq!(agent.start(now), None);
}

#[test]
fn agent_reports_the_duration_in_nanoseconds_and_the_client_version() {
    let now = Instant::now();
    let mut agent = agent();
    agent.start(now);

    let step = agent
        .handle_response(&response(1, ""), now + Duration::from_nanos(202_961_716))
        .unwrap();

    let Some(Step::Complete(payload, opened)) = step else {
        panic!("{step:?}");
    };
    assert_eq!(
        payload,
        r#"{"HandshakeTimeToComplete":202961716,"CustomerMessage":""}"#
    );
    assert_eq!(
        opened,
        Event::Open {
            session_type: "Port".into(),
            properties: Value::Null,
            peer_version: "1.2.0.0".into(),
            customer_message: String::new(),
        }
    );
}

#[test]
fn agent_fails_with_the_reference_text_when_the_client_refuses() {
    for status in [0, 2, 3] {
        let now = Instant::now();
        let mut agent = agent();
        agent.start(now);

        let step = agent.handle_response(&response(status, "no"), now).unwrap();

        let text = format!("SessionType failed on client with status {status} error: no");
        assert_eq!(failure(step), text);
        let again = agent.handle_response(&response(1, ""), now).unwrap();
        assert!(again.is_none());
    }
}

#[test]
fn agent_fails_after_15_seconds_without_a_response_and_only_once() {
    let now = Instant::now();
    let mut agent = agent();
    assert_eq!(agent.handle_timeout(now + 2 * TIMEOUT), None);
    agent.start(now);

    let early = agent.handle_timeout(now + Duration::from_millis(14_999));
    let due = agent.handle_timeout(now + Duration::from_secs(15));

    assert_eq!(early, None);
    assert_eq!(due.as_deref(), Some(TIMED_OUT));
    assert_eq!(agent.handle_timeout(now + 2 * TIMEOUT), None);
}

#[test]
fn client_accepts_the_four_session_types() {
    for session_type in SESSION_TYPES {
        let mut client = client();

        let answer = answer(&mut client, &[("SessionType", session_type)]);

        assert_eq!(
            answer["ProcessedClientActions"],
            json!([{"ActionType": "SessionType", "ActionStatus": 1,
                "ActionResult": null, "Error": ""}])
        );
        assert_eq!(answer["Errors"], Value::Null);
        assert_eq!(answer["ClientVersion"], CLIENT_WIRE_VERSION);
    }
}

#[test]
fn client_refuses_unknown_session_types_encryption_and_unknown_actions() {
    let mut client = client();

    let answer = answer(
        &mut client,
        &[
            ("SessionType", "Tunnel"),
            ("KMSEncryption", ""),
            ("Dance", ""),
        ],
    );

    let status: Vec<_> = answer["ProcessedClientActions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["ActionStatus"].as_i64().unwrap())
        .collect();
    assert_eq!(status, [STATUS_FAILED, STATUS_FAILED, STATUS_UNSUPPORTED]);
    assert_eq!(
        answer["Errors"],
        json!([
            "Failed to process action SessionType: Unknown session type Tunnel",
            "Failed to process action KMSEncryption: there is no KMS here",
            "Unsupported action Dance",
        ])
    );
}

#[test]
fn client_opens_with_what_the_agent_said() {
    let mut client = client();
    answer(&mut client, &[("SessionType", "Port")]);

    let opened = client
        .handle_complete(br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"hello"}"#)
        .unwrap();

    assert_eq!(
        opened,
        Some(Event::Open {
            session_type: "Port".into(),
            properties: json!({"portNumber": "22"}),
            peer_version: "3.3.0.0".into(),
            customer_message: "hello".into(),
        })
    );
    assert_eq!(client.handle_output(), None);
}

#[test]
fn client_infers_a_shell_from_the_first_output_only() {
    let mut client = client();

    let opened = client.handle_output();

    assert!(matches!(
        opened,
        Some(Event::Open { session_type, .. }) if session_type == "Standard_Stream"
    ));
    assert_eq!(client.handle_output(), None);
    assert!(client.handle_request(b"{}").unwrap().is_none());
}

#[test]
fn client_ignores_an_end_without_a_beginning() {
    let mut client = client();

    let opened = client.handle_complete(br#"{"HandshakeTimeToComplete":1}"#);

    assert_eq!(opened, Ok(None));
}

#[test]
fn malformed_payloads_are_errors_and_leave_the_handshake_as_it_was() {
    let now = Instant::now();
    let mut agent = agent();
    agent.start(now);
    let mut client = client();

    assert!(agent.handle_response(b"{", now).is_err());
    assert!(client.handle_request(b"[]").is_err());

    assert!(
        agent
            .handle_response(&response(1, ""), now)
            .unwrap()
            .is_some()
    );
    answer(&mut client, &[("SessionType", "Port")]);
}

fn agent() -> Agent {
    Agent::new(session(), "Port".into(), json!({"portNumber": "22"}), None)
}

fn client() -> Client {
    Client::new(session(), Err("there is no KMS here".into()))
}

fn session() -> SessionId {
    SessionId::new("ada-1").unwrap()
}

fn failure(step: Option<Step>) -> String {
    match step {
        Some(Step::Fail(text)) => text,
        other => panic!("{other:?} is no failure"),
    }
}

fn response(status: i64, error: &str) -> Vec<u8> {
    json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": status, "ActionResult": null, "Error": error}],
        "Errors": null})
    .to_string()
    .into_bytes()
}

fn answer(client: &mut Client, actions: &[(&str, &str)]) -> Value {
    let actions: Vec<_> = actions
        .iter()
        .map(|(action, session_type)| {
            json!({"ActionType": action, "ActionParameters":
                {"SessionType": session_type, "Properties": {"portNumber": "22"}}})
        })
        .collect();
    let request = json!({"AgentVersion": "3.3.0.0", "RequestedClientActions": actions});
    let step = client.handle_request(request.to_string().as_bytes());
    let Ok(Some(Step::Send(PayloadType::HandshakeResponse, answer))) = step else {
        panic!("{step:?} is no response");
    };
    serde_json::from_slice(&answer).unwrap()
}
