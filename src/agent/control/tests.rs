//! Opening channels against a gateway on loopback, with real calls, TLS and WebSockets.

mod gateway;

use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;

use super::{DataChannels, Settings, Status, open};
use crate::protocol::wire::task::{TaskComplete, TaskStatus};
use crate::protocol::wire::{Message, SessionId};
use crate::runtime::backoff::Backoff;
use crate::runtime::network::NetworkChanges;
use crate::transport::websocket::Socket;
use crate::transport::{ConnectError, Connected, Connector};
use gateway::{Gateway, Mood, Seen};

#[tokio::test]
async fn control_channel_opens_as_the_reference_does() {
    let mut gateway = Gateway::listen(Mood::Accepts).await;
    let cancel = CancellationToken::new();
    let (mut handle, task) = open(
        Settings::new("mi-1"),
        gateway.client(),
        NetworkChanges::default(),
        cancel.clone(),
    );
    let task = tokio::spawn(task);

    let mut socket = gateway.accept().await;
    let first = first_message(&mut socket).await;

    let [create, upgrade] = &gateway.seen()[..] else {
        panic!("{:?}", gateway.seen());
    };
    assert_eq!(
        (&create.method, create.target.as_str()),
        (&Method::POST, "/v1/control-channel/mi-1")
    );
    assert_eq!(json(create)["MessageSchemaVersion"], "1.0");
    assert_eq!(
        upgrade.target,
        "/v1/control-channel/mi-1?role=subscribe&stream=input"
    );
    assert_signed(upgrade);
    assert_eq!(first["TokenValue"], "a&token");
    assert_eq!(first["Cookie"], Value::Null);
    assert_eq!(first["PlatformType"], "linux");
    assert_ne!(first["RequestId"], json(create)["RequestId"]);
    let status = handle
        .status
        .wait_for(|s| matches!(s, Status::Connected { .. }));
    let Status::Connected { features, .. } = status.await.unwrap().clone() else {
        unreachable!("it was waited for");
    };
    assert!(features.exit_code);
    assert_eq!(features.max_payload, 32 << 10);
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn control_channel_comes_back_with_a_new_token_and_its_results() {
    let mut gateway = Gateway::listen(Mood::Accepts).await;
    let cancel = CancellationToken::new();
    let (handle, task) = open(
        Settings::new("mi-1"),
        gateway.client(),
        NetworkChanges::default(),
        cancel.clone(),
    );
    let task = tokio::spawn(task);
    let mut socket = gateway.accept().await;
    first_message(&mut socket).await;
    let result = TaskComplete {
        exit_code: Some(3),
        ..TaskComplete::new("a-1", "mi-1", TaskStatus::Success, "")
    };
    handle.outbox.complete(result).await;
    let before = hear(&mut socket).await;

    drop(socket);
    let mut socket = gateway.accept().await;
    first_message(&mut socket).await;
    let after = hear(&mut socket).await;

    assert_eq!(before.id, after.id);
    assert_eq!(
        TaskComplete::decode(&after.payload).unwrap().exit_code,
        Some(3)
    );
    let posts = gateway
        .seen()
        .into_iter()
        .filter(|seen| seen.method == Method::POST);
    assert_eq!(posts.count(), 2);
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn gateway_that_hangs_or_refuses_is_tried_again_and_does_not_hold_up_a_stop() {
    let moods = [
        Mood::RefusesToken(403, "<AccessDeniedException/>"),
        Mood::RefusesToken(201, "this is no XML"),
        Mood::RefusesToken(200, "<R><TokenValue>t</TokenValue></R>"),
        Mood::RefusesUpgrade(503),
    ];
    let mut gateway = Gateway::listen(moods[0].clone()).await;
    let cancel = CancellationToken::new();
    let settings = Settings {
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(50)),
        ..Settings::new("mi-1")
    };
    let (mut handle, task) = open(
        settings,
        gateway.client(),
        NetworkChanges::default(),
        cancel.clone(),
    );
    let task = tokio::spawn(task);

    for mood in moods {
        gateway.set(mood);
        let status = &mut handle.status;
        status.mark_unchanged();
        status.changed().await.unwrap();
        status
            .wait_for(|s| matches!(s, Status::Waiting { .. }))
            .await
            .unwrap();
    }
    gateway.set(Mood::Accepts);
    drop(gateway.accept().await);
    gateway.set(Mood::HangsInUpgrade);
    let upgrades = gateway.upgrades();
    gateway.wait_for_upgrades(upgrades + 1).await;

    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn data_channel_opens_as_the_reference_does() {
    let mut gateway = Gateway::listen(Mood::Accepts).await;
    let session = SessionId::new("alice@corp-0123").unwrap();
    let channels = DataChannels::new(gateway.client(), "mi-1".into());

    let Connected { socket, features } = channels.connector(&session).connect(0).await.unwrap();
    let first = first_message(&mut gateway.accept().await).await;

    let [create, upgrade] = &gateway.seen()[..] else {
        panic!("{:?}", gateway.seen());
    };
    assert_eq!(create.target, "/v1/data-channel/alice@corp-0123");
    assert_eq!(json(create)["ClientId"], "");
    assert_eq!(
        upgrade.target,
        "/v1/data-channel/alice@corp-0123?role=publish_subscribe"
    );
    assert_signed(upgrade);
    assert_eq!(first["TokenValue"], "a&token");
    assert_eq!(first["ClientInstanceId"], "mi-1");
    assert_eq!(first["ClientId"], "");
    assert!(features.exit_code);
    drop(socket);
}

#[tokio::test]
async fn data_channel_of_a_session_that_has_ended_is_not_tried_again() {
    let text = "<BadRequest><Message>Session is already terminated</Message></BadRequest>";
    let gateway = Gateway::listen(Mood::RefusesToken(400, text)).await;

    let error = connect_data_channel(&gateway).await;

    assert!(matches!(error, ConnectError::Ended(_)), "{error:?}");
}

#[tokio::test]
async fn other_refusals_of_a_data_channel_are_worth_another_try() {
    for mood in [Mood::RefusesToken(500, "broken"), Mood::RefusesUpgrade(403)] {
        let gateway = Gateway::listen(mood).await;

        let error = connect_data_channel(&gateway).await;

        assert!(matches!(error, ConnectError::Retry(_)), "{error:?}");
    }
}

async fn connect_data_channel(gateway: &Gateway) -> ConnectError {
    let session = SessionId::new("a-1").unwrap();
    let channels = DataChannels::new(gateway.client(), "mi-1".into());
    match channels.connector(&session).connect(0).await {
        Ok(_) => panic!("the gateway refuses"),
        Err(error) => error,
    }
}

async fn first_message(socket: &mut Socket) -> Value {
    let frame = socket.next().await.unwrap().unwrap();
    assert!(frame.is_text());
    serde_json::from_slice(&frame.into_data()).unwrap()
}

async fn hear(socket: &mut Socket) -> Message {
    match socket.next().await.unwrap().unwrap() {
        Frame::Binary(bytes) => Message::decode(&bytes).unwrap(),
        frame => panic!("{frame:?}"),
    }
}

fn json(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn assert_signed(upgrade: &Seen) {
    let authorization = upgrade.headers["authorization"].to_str().unwrap();
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
        "{authorization}"
    );
    assert!(
        authorization.contains("/ssmmessages/aws4_request"),
        "{authorization}"
    );
    assert_eq!(upgrade.headers["x-amz-security-token"], "session-token");
    assert!(upgrade.headers.contains_key("x-amz-date"));
}
