//! Sessions whose data only agent and client can read.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

use super::client::Client;
use super::harness::{World, soon};
use crate::agent::session::{Keys, Settings};
use crate::agent::transcript::Transcript;
use crate::protocol::channel::{DataKey, Event, KeyRequest};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::handshake::EncryptionContext;
use crate::protocol::wire::task::TaskStatus;
use crate::transport::{Incoming, KeyFuture, KeySource};

const KEY_ID: &str = "alias/sessions";

#[tokio::test]
async fn encrypted_shell_runs_from_prompt_to_exit_status() {
    let kms = Arc::new(Kms::default());
    let mut world = world(&kms);
    world.start("alice-1", document(&[]));
    let mut client = attach(&mut world, Some(kms)).await;

    client.resize(101, 33).await;
    client.wait_for("% ").await;
    client.type_text("stty size; exit 3\n").await;

    client.wait_for("33 101\r\n").await;
    assert_eq!(client.wait_for_exit().await, 3);
    assert_eq!(client.wait_for_state().await, SessionState::Connected);
    assert_eq!(client.wait_for_state().await, SessionState::Terminating);
    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, Some(3))
    );
}

#[tokio::test]
async fn both_streams_of_a_command_are_encrypted() {
    let kms = Arc::new(Kms::default());
    let mut world = world(&kms);
    world.start(
        "alice-1",
        json!({
            "schemaVersion": "1.0", "sessionType": "NonInteractiveCommands",
            "inputs": {"kmsKeyId": KEY_ID},
            "properties": {"linux": {
                "commands": "sh -c 'printf out; printf err >&2; exit 3'", "separateOutputStream": true,
            }},
        }),
    );
    let mut client = attach(&mut world, Some(Arc::clone(&kms))).await;

    assert_eq!(client.wait_for_exit().await, 3);
    assert_eq!(
        (client.seen.as_str(), &client.errors[..]),
        ("out", &b"err"[..])
    );
    assert_eq!(kms.contexts().len(), 1);
}

#[tokio::test]
async fn commands_are_encrypted_with_and_without_a_terminal() {
    for session_type in ["InteractiveCommands", "NonInteractiveCommands"] {
        let kms = Arc::new(Kms::default());
        let mut world = world(&kms);
        world.start(
            "alice-1",
            json!({
                "schemaVersion": "1.0", "sessionType": session_type, "inputs": {"kmsKeyId": KEY_ID},
                "properties": {"linux": {"commands": "sh -c 'echo from-$((40+2)); exit 7'"}},
            }),
        );
        let mut client = attach(&mut world, Some(Arc::clone(&kms))).await;

        let (opened, message) = opened(&mut client).await;
        client.wait_for("from-42").await;

        assert_eq!(opened, session_type);
        assert_eq!(message, "This session is encrypted using AWS KMS.");
        assert_eq!(kms.contexts().len(), 1);
        assert_eq!(client.wait_for_exit().await, 7);
    }
}

#[tokio::test]
async fn nothing_runs_for_a_client_without_the_key() {
    let table = [
        (
            Kms::default(),
            None,
            "Encountered error while initiating handshake. KMSEncryption failed on client with status 2 error: Failed to process action KMSEncryption: this client does not support encryption with KMS",
        ),
        (
            Kms::default(),
            Some(Kms::denying("GenerateDataKey")),
            "Encountered error while initiating handshake. KMSEncryption failed on client with status 2 error: Failed to process action KMSEncryption: AccessDeniedException",
        ),
        (
            Kms::denying("Decrypt"),
            Some(Kms::default()),
            "Encountered error while initiating handshake. Fetching data key failed: AccessDeniedException",
        ),
        (
            Kms::default(),
            Some(Kms::default()),
            "Encountered error while initiating handshake. Fetching data key failed: InvalidCiphertextException",
        ),
    ];
    for (agents, clients, expected) in table {
        let mut world = world(&Arc::new(agents));
        let trace = world.folder.path().join("trace");
        let touch = ["touch", trace.to_str().unwrap()];
        world.start("alice-1", document(&touch));
        let _client = attach(&mut world, clients.map(Arc::new)).await;

        let outcome = world.outcome().await;

        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(outcome.output, expected);
        assert!(!trace.exists(), "the command ran");
        assert_eq!(world.supervisor.active(), 0);
    }
}

#[tokio::test]
async fn session_that_is_ended_during_the_handshake_ends() {
    let mut world = world(&Arc::new(Kms::default()));
    world.start("alice-1", document(&[]));
    let (_, _unanswered) = soon(world.dialled.recv()).await.unwrap();

    world.supervisor.terminate(&super::harness::id("alice-1"));

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
}

#[tokio::test]
async fn client_of_ours_ties_the_key_to_the_handshake_as_can_be_required() {
    let kms = Arc::new(Kms::default());
    let requires = |settings: &mut Settings| {
        settings.keys = Some(Keys {
            source: Arc::clone(&kms) as _,
            requires_challenge: true,
        });
    };
    let mut world = World::with(requires, Transcript::new(None));
    world.start("alice-1", document(&["printf", "fine"]));

    let mut client = attach(&mut world, Some(Arc::clone(&kms))).await;

    client.wait_for("fine").await;
    let contexts = kms.contexts();
    assert!(contexts[0].contains_key("aws:ssm:RandomChallenge"));
}

#[tokio::test]
async fn person_is_told_that_the_session_is_encrypted() {
    let kms = Arc::new(Kms::default());
    let mut world = world(&kms);
    world.start("alice-1", document(&["cat"]));
    let mut client = attach(&mut world, Some(kms)).await;

    let (session_type, message) = opened(&mut client).await;

    assert_eq!(session_type, "Standard_Stream");
    assert_eq!(message, "This session is encrypted using AWS KMS.");
}

#[tokio::test]
async fn port_session_is_not_encrypted_whatever_the_preferences_say() {
    let kms = Arc::new(Kms::default());
    let mut world = world(&kms);
    world.start(
        "alice-1",
        json!({
            "schemaVersion": "1.0", "sessionType": "Port", "inputs": {"kmsKeyId": KEY_ID},
            "properties": {"portNumber": "9", "type": "LocalPortForwarding"},
        }),
    );
    let mut client = attach(&mut world, None).await;

    let (session_type, message) = opened(&mut client).await;

    assert_eq!((session_type.as_str(), message.as_str()), ("Port", ""));
    assert!(kms.contexts().is_empty());
}

/// Session type and message to the person, once the channel is open.
async fn opened(client: &mut Client) -> (String, String) {
    loop {
        let incoming = soon(client.handle.incoming.recv()).await.unwrap();
        if let Incoming::Event(Event::Open {
            session_type,
            customer_message,
            ..
        }) = incoming
        {
            return (session_type, customer_message);
        }
    }
}

fn world(kms: &Arc<Kms>) -> World {
    let keys = Keys {
        source: Arc::clone(kms) as _,
        requires_challenge: false,
    };
    let change = |settings: &mut Settings| settings.keys = Some(keys);
    World::with(change, Transcript::new(None))
}

async fn attach(world: &mut World, kms: Option<Arc<Kms>>) -> Client {
    let (_, socket) = soon(world.dialled.recv()).await.unwrap();
    let keys = kms.map(|kms| kms as Arc<dyn KeySource>);
    Client::attach_with(socket, PeerFeatures::ours(), keys).await
}

fn document(command: &[&str]) -> Value {
    let mut document = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream",
        "inputs": {"kmsKeyId": KEY_ID},
    });
    if !command.is_empty() {
        document["properties"] = json!({"command": command});
    }
    document
}

/// Makes keys, and decrypts those that it made, in the context that they were made in.
#[derive(Default)]
struct Kms {
    made: Mutex<Vec<EncryptionContext>>,
    denied: Option<&'static str>,
}

impl Kms {
    fn denying(operation: &'static str) -> Self {
        Self {
            denied: Some(operation),
            ..Self::default()
        }
    }

    fn contexts(&self) -> Vec<EncryptionContext> {
        self.made.lock().unwrap().clone()
    }

    fn answer(&self, request: KeyRequest) -> Result<DataKey, String> {
        let mut made = self.made.lock().unwrap();
        let (operation, number) = match request {
            KeyRequest::Generate {
                kms_key_id,
                context,
            } => {
                assert_eq!(kms_key_id, KEY_ID);
                made.push(context);
                ("GenerateDataKey", made.len())
            }
            KeyRequest::Decrypt {
                kms_key_id,
                ciphertext,
                context,
            } => {
                assert_eq!(kms_key_id, KEY_ID);
                let number = usize::from(ciphertext[0]);
                let known = made.get(number - 1) == Some(&context);
                let denied = self.denied == Some("Decrypt");
                if !known && !denied {
                    return Err("InvalidCiphertextException".into());
                }
                ("Decrypt", number)
            }
        };
        if self.denied == Some(operation) {
            return Err("AccessDeniedException".into());
        }
        let number = u8::try_from(number).unwrap();
        Ok(DataKey::new(&[number; 64], Bytes::copy_from_slice(&[number])).unwrap())
    }
}

impl KeySource for Kms {
    fn key(&self, request: KeyRequest) -> KeyFuture {
        let answer = self.answer(request);
        Box::pin(async { answer })
    }
}
