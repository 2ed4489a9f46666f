//! Sessions that are encrypted with a key of KMS, between our programs and with an independent client.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Instant;

use aws_config::{BehaviorVersion, Region};
use aws_ssm_bridge::documents::{InteractiveCommand, NonInteractiveCommand};
use aws_ssm_bridge::{EndpointPolicy, Session, SessionBuilder, SessionManager};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use serde_json::{Value, json};
use ssm_agent::client::{Parameters, start_session};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::time::timeout;

use super::bridge::Shell;
use super::kms::{KEY_ID, Kms};
use super::programs::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_shell_reports_its_exit_status_and_kms_sees_both_ends() {
    let kms = Kms::start().await;
    let (world, node) = world(&kms).await;

    let output = plugin(&world, &node, &kms.url, "echo sum=$((40 + 2)); exit 9\n").await;

    let (out, err) = texts(&output);
    assert!(out.contains("sum=42"), "{out}");
    assert!(
        err.contains("This session is encrypted using AWS KMS."),
        "{err}"
    );
    assert_eq!(output.status.code(), Some(9));
    let calls = kms.calls();
    let operations: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(operations, ["GenerateDataKey", "Decrypt"]);
    let person = world.credentials.access_key_id();
    assert_eq!(calls[0].access_key_id, person);
    assert_ne!(
        calls[1].access_key_id, person,
        "the node signs with its own"
    );
    assert_eq!(calls[0].context, calls[1].context);
    assert_eq!(calls[0].context["aws:ssm:TargetId"], node.as_str());
    assert!(calls[0].context["aws:ssm:RandomChallenge"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_that_refuses_either_end_ends_the_session_with_its_reason() {
    for (operation, expected) in [
        (
            "GenerateDataKey",
            "Encountered error while initiating handshake. KMSEncryption failed on client with status 2 error: \
             Failed to process action KMSEncryption: GenerateDataKey was refused: AccessDeniedException: you may not",
        ),
        (
            "Decrypt",
            "Encountered error while initiating handshake. Fetching data key failed: \
             Decrypt was refused: AccessDeniedException: you may not",
        ),
    ] {
        let kms = Kms::start().await;
        let (world, node) = world(&kms).await;
        kms.deny(operation);

        let output = plugin(&world, &node, &kms.url, "echo reached\n").await;

        let (out, err) = texts(&output);
        assert!(err.contains(expected), "{err}");
        assert!(!out.contains("reached"), "{out}");
        assert_eq!(output.status.code(), Some(1));
        wait_until_over(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_that_cannot_be_reached_is_named() {
    let kms = Kms::start().await;
    let (world, node) = world(&kms).await;
    // Bound, so that nobody else gets the port, but listening to nobody.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());

    let output = plugin(&world, &node, &nobody, "").await;

    let (_, err) = texts(&output);
    let expected = "GenerateDataKey got no answer: cannot connect to 127.0.0.1";
    assert!(err.contains(expected), "{err}");
    assert_eq!(output.status.code(), Some(1));
    wait_until_over(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_that_answers_neither_end_ends_the_session_in_time_with_a_reason() {
    let story = async |operation: &'static str, expected: &str| {
        let kms = Kms::start().await;
        let (world, node) = world(&kms).await;
        kms.silence(operation);

        let output = plugin(&world, &node, &kms.url, "echo reached\n").await;

        let (out, err) = texts(&output);
        assert!(err.contains(expected), "{err}");
        assert!(!out.contains("reached"), "{out}");
        assert_eq!(output.status.code(), Some(1));
        wait_until_over(&world).await;
    };
    tokio::join!(
        story(
            "GenerateDataKey",
            "Failed to process action KMSEncryption: KMS has not answered within 12 s",
        ),
        story("Decrypt", "Fetching data key failed: "),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_has_an_encrypted_shell() {
    let kms = Kms::start().await;
    let (world, node) = world(&kms).await;
    let session = open(&world, &kms, SessionBuilder::new(&node)).await;

    let mut shell = Shell::of(&session).await;
    session.send_terminal_size(97, 31).await.unwrap();
    session
        .send("stty size; echo sum=$((40 + 2))\r")
        .await
        .unwrap();

    shell.wait_for("31 97").await;
    shell.wait_for("sum=42").await;
    assert!(session.is_encrypted());
    session.terminate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_runs_encrypted_commands() {
    let kms = Kms::start().await;
    let (world, node) = world(&kms).await;
    let command = "sh -c 'echo from-$((40+2)); exit 6'";
    let interactive = SessionBuilder::new(&node).document(InteractiveCommand::new(command));
    let plain = SessionBuilder::new(&node).document(NonInteractiveCommand::new(command));
    for settings in [interactive, plain] {
        let session = open(&world, &kms, settings).await;
        let mut shell = Shell::of(&session).await;

        shell.wait_for("from-42").await;
        assert!(session.is_encrypted());
        timeout(PATIENCE, session.closed()).await.unwrap();
    }
}

/// Starts a session of the independent client.
async fn open(world: &World, kms: &Kms, settings: SessionBuilder) -> Session {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(world.credentials.clone())
        .load()
        .await
        .into_builder()
        .service_config(TwoEndpoints {
            ssm: world.plain_url.clone(),
            kms: kms.url.clone(),
        })
        .build();
    let settings = settings
        .endpoint_policy(EndpointPolicy::AllowAny)
        .into_config();
    SessionManager::from_conf(&config)
        .start_session(settings)
        .await
        .unwrap()
}

/// A gateway whose preferences name the key, and an agent that finds its KMS at `kms`.
async fn world(kms: &Kms) -> (World, String) {
    let mut world = World::start();
    let mut config: Value = serde_json::from_slice(&fs::read(world.config()).unwrap()).unwrap();
    config["Kms"] = json!({"Endpoint": kms.url, "RequireKMSChallengeResponse": false});
    fs::write(world.config(), config.to_string()).unwrap();
    let preferences = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream",
        "inputs": {"kmsKeyId": KEY_ID},
    });
    let request = json!({
        "Name": "SSM-SessionManagerRunShell", "DocumentType": "Session",
        "Content": preferences.to_string(),
    });
    let _: Value = world.client.ssm("CreateDocument", &request).await.unwrap();
    let node = world.register().await;
    world.start_agent();
    world.wait_connected(&node).await;
    (world, node)
}

/// Runs our plugin as the AWS CLI does, with `input` on its standard input.
async fn plugin(world: &World, node: &str, kms: &str, input: &str) -> Output {
    let started = start_session(&world.client, node, None, &Parameters::new(), None)
        .await
        .unwrap();
    let response = json!({
        "SessionId": started.session_id, "TokenValue": started.token, "StreamUrl": started.stream_url,
    });
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_session-manager-plugin"))
        .args([&response.to_string(), "us-east-1", "StartSession", ""])
        .args([&json!({"Target": node}).to_string(), &world.url])
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", world.credentials.access_key_id())
        .env(
            "AWS_SECRET_ACCESS_KEY",
            world.credentials.secret_access_key(),
        )
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL_KMS", kms)
        .env("SSL_CERT_FILE", world.folder.path().join("gateway/ca.pem"))
        .env("HOME", world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = plugin.stdin.take().unwrap();
    // A plugin that fails reads nothing.
    let _ = stdin.write_all(input.as_bytes()).await;
    let output = timeout(PATIENCE, plugin.wait_with_output()).await;
    output.expect("the plugin ends").unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Waits until the gateway has no active session.
async fn wait_until_over(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = json!({"State": "Active"});
        let answer: Value = world
            .client
            .ssm("DescribeSessions", &request)
            .await
            .unwrap();
        if answer["Sessions"].as_array().is_none_or(Vec::is_empty) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
        tokio::task::yield_now().await;
    }
}

/// Systems Manager without TLS at the gateway, KMS at its stand-in.
#[derive(Debug)]
struct TwoEndpoints {
    ssm: String,
    kms: String,
}

impl LoadServiceConfig for TwoEndpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        match (key.service_id(), key.profile()) {
            ("SSM", "endpoint_url") => Some(self.ssm.clone()),
            ("KMS", "endpoint_url") => Some(self.kms.clone()),
            _ => None,
        }
    }
}
