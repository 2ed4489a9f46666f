use bytes::Bytes;
use serde_json::{Value, json};

use super::super::super::cipher::{DataKey, Randomness};
use super::super::super::settings::{EncryptionAnswer, EncryptionRequest};
use super::*;
use crate::protocol::wire::handshake::EncryptionChallenge;

const KEY_ID: &str = "arn:aws:kms:eu-west-1:111122223333:key/k";
/// Base64 of the 16 random bytes that follow the nonce.
const CHALLENGE: &str = "BwcHBwcHBwcHBwcHBwcHBw==";

#[test]
fn agent_asks_for_the_session_type_and_then_for_encryption() {
    let mut agent = agent(false);

    let request: Value = serde_json::from_slice(&agent.start(Instant::now()).unwrap()).unwrap();

    assert_eq!(
        request["RequestedClientActions"],
        json!([
            {"ActionType": "SessionType", "ActionParameters":
                {"SessionType": "Standard_Stream", "Properties": null}},
            {"ActionType": "KMSEncryption", "ActionParameters":
                {"KMSKeyId": KEY_ID, "Challenge": CHALLENGE}},
        ])
    );
    assert!(agent.awaits_key());
}

#[test]
fn agent_has_the_key_decrypted_for_this_session_and_node() {
    for (acknowledged, expected) in [
        (json!(null), json!({})),
        (json!(false), json!({})),
        (json!(true), json!({"aws:ssm:RandomChallenge": CHALLENGE})),
    ] {
        let mut agent = waiting(false);
        let mut result = json!({"KMSCipherTextKey": "ZW5jcnlwdGVk", "KMSCipherTextHash": null});
        if !acknowledged.is_null() {
            result["ChallengeAcknowledgement"] = acknowledged;
        }

        let step = agent.handle_response(&response(&result), Instant::now());

        let Ok(Some(Step::GetKey(KeyRequest::Decrypt {
            kms_key_id,
            ciphertext,
            context,
        }))) = step
        else {
            panic!("{step:?}");
        };
        assert_eq!(
            (kms_key_id.as_str(), &ciphertext[..]),
            (KEY_ID, &b"encrypted"[..])
        );
        let mut expected = expected;
        expected["aws:ssm:SessionId"] = json!("ada-1");
        expected["aws:ssm:TargetId"] = json!("mi-1");
        assert_eq!(json!(context), expected);
    }
}

#[test]
fn agent_refuses_a_client_that_leaves_the_challenge_out_where_it_is_required() {
    let result = json!({"KMSCipherTextKey": "ZW5jcnlwdGVk"});

    let step = waiting(true).handle_response(&response(&result), Instant::now());

    assert_eq!(
        failure(step.unwrap()),
        "client does not support required encryption context random challenge"
    );
}

#[test]
fn agent_says_what_is_wrong_with_a_response_that_leads_to_no_key() {
    let bare = json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": []}).to_string();
    let table = [
        (
            bare.into_bytes(),
            "the client has not answered the request for KMS encryption",
        ),
        (response(&Value::Null), "the client sent no usable data key"),
        (
            response(&json!({"KMSCipherTextKey": null})),
            "the client sent no usable data key",
        ),
        (
            response(&json!({"KMSCipherTextKey": "***"})),
            "the client sent no usable data key",
        ),
    ];
    for (response, expected) in table {
        let step = waiting(false).handle_response(&response, Instant::now());

        let text = failure(step.unwrap());
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn agent_says_why_there_is_no_key() {
    let mut agent = decrypting();

    let step = agent.handle_key(Err("AccessDeniedException: no".into()), Instant::now());

    assert_eq!(
        failure(step),
        "Fetching data key failed: AccessDeniedException: no"
    );
    assert!(agent.handle_key(Ok(key(1)), Instant::now()).is_none());
}

#[test]
fn each_wait_of_the_agent_ends_after_15_seconds_with_its_own_text() {
    let now = Instant::now();
    let mut challenging = decrypting();
    challenging.handle_key(Ok(key(1)), now);
    for (mut agent, expected) in [
        (waiting(false), TIMED_OUT),
        (
            decrypting(),
            "Fetching data key failed: KMS has not answered within 15 s.",
        ),
        (challenging, "Timed out waiting for encryption challenge."),
    ] {
        let deadline = agent.deadline().unwrap();
        assert!(deadline <= Instant::now() + Duration::from_secs(15));

        let early = agent.handle_timeout(deadline - Duration::from_millis(1));
        let due = agent.handle_timeout(deadline);

        assert_eq!((early, due.as_deref()), (None, Some(expected)));
        assert_eq!(agent.deadline(), None);
    }
}

#[test]
fn both_ends_agree_on_a_key_and_the_person_is_told() {
    let now = Instant::now();
    let (mut agent, mut client) = (agent(true), client());

    let request = agent.start(now).unwrap();
    let asked = generate_request(client.handle_request(&request).unwrap());
    let (mut client_cipher, response) = encrypt(client.handle_key(Ok(key(1))));
    let step = agent.handle_response(&response, now).unwrap();
    assert!(matches!(step, Some(Step::GetKey(_))), "{step:?}");
    let (agent_cipher, challenge) = encrypt(agent.handle_key(Ok(key(1)), now));
    let proof = client.handle_challenge(&challenge, &mut client_cipher);
    let Ok(Some(Step::Send(PayloadType::EncryptionChallengeResponse, proof))) = proof else {
        panic!("{proof:?}");
    };
    let end = agent.handle_challenge_answer(&proof, &agent_cipher, now);

    let Ok(Some(Step::Complete(complete, Event::Open { .. }))) = end else {
        panic!("{end:?}");
    };
    let opened = client.handle_complete(&complete).unwrap();
    let Some(Event::Open {
        session_type,
        customer_message,
        ..
    }) = opened
    else {
        panic!("{opened:?}");
    };
    assert_eq!(session_type, "Standard_Stream");
    assert_eq!(customer_message, "This session is encrypted using AWS KMS.");
    assert_eq!(asked["aws:ssm:RandomChallenge"], CHALLENGE);
    assert_eq!(asked["aws:ssm:TargetId"], "mi-1");
}

#[test]
fn client_acknowledges_no_challenge_that_an_old_agent_did_not_send() {
    let mut client = client();
    let request = json!({"AgentVersion": "2.3.0.0", "RequestedClientActions": [
        {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": KEY_ID}}]});

    let context = generate_request(
        client
            .handle_request(request.to_string().as_bytes())
            .unwrap(),
    );
    let (_, response) = encrypt(client.handle_key(Ok(key(1))));

    assert!(context.get("aws:ssm:RandomChallenge").is_none());
    let response: Value = serde_json::from_slice(&response).unwrap();
    assert_eq!(
        response["ProcessedClientActions"][0]["ActionResult"],
        json!({"KMSCipherTextKey": "ZW5jcnlwdGVk", "KMSCipherTextHash": null,
            "ChallengeAcknowledgement": false})
    );
}

#[test]
fn client_tells_the_agent_why_there_is_no_key() {
    let mut client = client();
    client
        .handle_request(&agent(false).start(Instant::now()).unwrap())
        .unwrap();

    let step = client.handle_key(Err("AccessDeniedException: no".into()));

    let Some(Step::Send(PayloadType::HandshakeResponse, response)) = step else {
        panic!("{step:?}");
    };
    let reason = "Failed to process action KMSEncryption: AccessDeniedException: no";
    let value: Value = serde_json::from_slice(&response).unwrap();
    let action = &value["ProcessedClientActions"][1];
    assert_eq!(
        (&action["ActionStatus"], &action["Error"]),
        (&json!(2), &json!(reason))
    );
    let mut agent = waiting(false);
    let text = failure(agent.handle_response(&response, Instant::now()).unwrap());
    assert_eq!(
        text,
        format!("KMSEncryption failed on client with status 2 error: {reason}")
    );
}

#[test]
fn client_with_another_key_fails_at_the_challenge() {
    let (mut client, mut cipher) = keyed_client(2);
    let (_, challenge) = encrypt(decrypting().handle_key(Ok(key(1)), Instant::now()));

    let step = client.handle_challenge(&challenge, &mut cipher);

    let text = failure(step.unwrap());
    assert!(text.contains("cannot be decrypted"), "{text}");
}

#[test]
fn agent_refuses_an_answer_that_does_not_match_its_challenge() {
    let mut agent = decrypting();
    let (cipher, _) = encrypt(agent.handle_key(Ok(key(1)), Instant::now()));
    let (_, mut client) = keyed_client(1);
    let wrong = EncryptionChallenge::new(&client.seal(&[0; 64])).encode();

    let step = agent.handle_challenge_answer(&wrong, &cipher, Instant::now());

    let text = failure(step.unwrap());
    assert!(
        text.starts_with("Encryption challenge does not match"),
        "{text}"
    );
}

#[test]
fn client_is_no_oracle_for_what_is_not_a_challenge() {
    let (mut agent, _) = encrypt(decrypting().handle_key(Ok(key(1)), Instant::now()));
    let output = EncryptionChallenge::new(&agent.seal(b"output of the agent")).encode();
    let (mut client, mut cipher) = keyed_client(1);

    let step = client.handle_challenge(&output, &mut cipher).unwrap();
    let again = client.handle_challenge(&output, &mut cipher).unwrap();

    let text = failure(step);
    assert!(text.contains("19 bytes instead of 64"), "{text}");
    assert!(again.is_none());
}

#[test]
fn client_that_waits_for_its_key_does_not_open_and_takes_no_second_request() {
    let mut client = client();
    let request = agent(false).start(Instant::now()).unwrap();
    client.handle_request(&request).unwrap();

    assert_eq!(client.handle_output(), None);
    assert!(client.handle_request(&request).unwrap().is_none());
    let complete = br#"{"HandshakeTimeToComplete":1,"CustomerMessage":""}"#;
    assert_eq!(client.handle_complete(complete), Ok(None));
    assert!(matches!(client, Client::Keying { .. }));
}

#[test]
fn encryption_that_is_asked_twice_is_refused_once() {
    let mut client = client();
    let action = json!({"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": KEY_ID}});
    let request = json!({"AgentVersion": "3.3.0.0",
        "RequestedClientActions": [action.clone(), action]});
    client
        .handle_request(request.to_string().as_bytes())
        .unwrap();

    let (_, response) = encrypt(client.handle_key(Ok(key(1))));

    let response: Value = serde_json::from_slice(&response).unwrap();
    let status = |n: usize| response["ProcessedClientActions"][n]["ActionStatus"].clone();
    assert_eq!((status(0), status(1)), (json!(1), json!(2)));
}

fn agent(requires_challenge: bool) -> Agent {
    let encryption = EncryptionRequest {
        kms_key_id: KEY_ID.into(),
        target_id: "mi-1".into(),
        requires_challenge,
        randomness: Randomness::new(&[7; Randomness::SIZE]),
    };
    Agent::new(
        session(),
        "Standard_Stream".into(),
        Value::Null,
        Some(encryption),
    )
}

fn waiting(requires_challenge: bool) -> Agent {
    let mut agent = agent(requires_challenge);
    agent.start(Instant::now());
    agent
}

fn decrypting() -> Agent {
    let mut agent = waiting(false);
    let result = json!({"KMSCipherTextKey": "ZW5jcnlwdGVk"});
    agent
        .handle_response(&response(&result), Instant::now())
        .unwrap();
    agent
}

fn client() -> Client {
    let encryption = EncryptionAnswer {
        target_id: "mi-1".into(),
        randomness: Randomness::new(&[8; Randomness::SIZE]),
    };
    Client::new(session(), Ok(encryption))
}

fn keyed_client(seed: u8) -> (Client, Box<Cipher>) {
    let mut client = client();
    client
        .handle_request(&agent(false).start(Instant::now()).unwrap())
        .unwrap();
    let (cipher, _) = encrypt(client.handle_key(Ok(key(seed))));
    (client, cipher)
}

fn key(seed: u8) -> DataKey {
    DataKey::new(&[seed; 64], Bytes::from_static(b"encrypted")).unwrap()
}

fn encrypt(step: Option<Step>) -> (Box<Cipher>, Bytes) {
    match step {
        Some(Step::Encrypt(cipher, _, payload)) => (cipher, payload),
        other => panic!("{other:?} encrypts nothing"),
    }
}

/// The encryption context of the key that is asked for.
fn generate_request(step: Option<Step>) -> Value {
    match step {
        Some(Step::GetKey(KeyRequest::Generate {
            kms_key_id,
            context,
        })) => {
            assert_eq!(kms_key_id, KEY_ID);
            json!(context)
        }
        other => panic!("{other:?} asks for no key"),
    }
}

fn response(result: &Value) -> Vec<u8> {
    json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""},
        {"ActionType": "KMSEncryption", "ActionStatus": 1, "ActionResult": result, "Error": ""}],
        "Errors": null})
    .to_string()
    .into_bytes()
}
