use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::protocol::channel::{
    DataKey, EncryptionAnswer, EncryptionRequest, HandshakeRole, KeyRequest, Randomness, Settings,
};

#[tokio::test]
async fn keys_are_gotten_and_data_passes_encrypted() {
    let (agent, client) = socket_pair(64 << 10).await;
    let mut agent = encrypting_agent(Ok(())).online(agent);
    let mut client = encrypting_client(Ok(())).online(client);

    // Sent ahead of the handshake's end; it waits.
    agent.output(b"secret").await;

    assert_eq!(client.received(6).await, b"secret");
    client.output(b"ls\n").await;
    assert_eq!(agent.received(3).await, b"ls\n");
}

#[tokio::test]
async fn both_ends_learn_why_there_is_no_key() {
    let table = [
        (
            encrypting_agent(Err("denied")),
            encrypting_client(Ok(())),
            "Fetching data key failed: denied",
        ),
        (
            encrypting_agent(Ok(())),
            encrypting_client(Err("denied")),
            "KMSEncryption failed on client with status 2 error: Failed to process action KMSEncryption: denied",
        ),
    ];
    for (agent, client, expected) in table {
        let (agent_socket, client_socket) = socket_pair(64 << 10).await;
        let mut agent = agent.online(agent_socket);
        let _client = client.online(client_socket);

        assert_eq!(agent.refusal().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn key_service_that_never_answers_fails_the_handshake_and_stops_nothing_else() {
    let (agent_socket, client_socket) = socket_pair(64 << 10).await;
    let mut agent = encrypting_agent(Ok(()));
    agent.keys = Some(Arc::new(Silence));
    let mut agent = agent.online(agent_socket);
    let _client = encrypting_client(Ok(())).online(client_socket);
    let began = Instant::now();

    let text = agent.refusal().await;

    assert_eq!(
        text,
        "Fetching data key failed: KMS has not answered within 15 s."
    );
    assert_eq!(began.elapsed(), Duration::from_secs(15));
    agent.send(Outgoing::Close).await;
    let end = agent.pump.await.unwrap();
    assert!(matches!(end, PumpEnd::Closed { .. }), "{end:?}");
}

/// Gives the same key each time, or always refuses.
struct OneKey(Result<(), &'static str>);

impl KeySource for OneKey {
    fn key(&self, _request: KeyRequest) -> KeyFuture {
        let key = self.0.map_err(str::to_owned);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let new = |()| DataKey::new(&[7; 64], Bytes::from_static(b"encrypted")).unwrap();
            key.map(new)
        })
    }
}

struct Silence;

impl KeySource for Silence {
    fn key(&self, _request: KeyRequest) -> KeyFuture {
        Box::pin(std::future::pending())
    }
}

fn encrypting_agent(key: Result<(), &'static str>) -> End {
    let handshake = HandshakeRole::Request {
        session_type: "Standard_Stream".into(),
        properties: Value::Null,
        encryption: Some(EncryptionRequest {
            kms_key_id: "alias/k".into(),
            target_id: "mi-1".into(),
            requires_challenge: true,
            randomness: Randomness::new(&[1; Randomness::SIZE]),
        }),
    };
    let mut end = End::new(|id, clock| Settings::agent(id, handshake, clock, 1));
    end.keys = Some(Arc::new(OneKey(key)));
    end
}

fn encrypting_client(key: Result<(), &'static str>) -> End {
    let mut end = End::new(|id, clock| {
        let mut settings = Settings::client(id, clock, 2);
        settings.handshake = HandshakeRole::Answer {
            encryption: Ok(EncryptionAnswer {
                target_id: "mi-1".into(),
                randomness: Randomness::new(&[2; Randomness::SIZE]),
            }),
        };
        settings
    });
    end.keys = Some(Arc::new(OneKey(key)));
    end
}

impl Running {
    /// The text with which the handshake fails.
    async fn refusal(&mut self) -> String {
        let is_refusal =
            |incoming: &Incoming| matches!(incoming, Incoming::Event(Event::HandshakeFailed(_)));
        match self.wait_for(is_refusal).await {
            Incoming::Event(Event::HandshakeFailed(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}
