use std::fs;

use serde_json::json;

use super::*;
use crate::aws::Secret;
use crate::aws::tests::server::{Reply, TestServer};

#[tokio::test]
async fn registration_is_unsigned_and_stored() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    let server = TestServer::start(|_, _| Reply::json(r#"{"InstanceId":"mi-1"}"#)).await;

    let registration = register_at(&server, &vault).await.unwrap();

    let seen = &server.seen()[0];
    let body = seen.json();
    assert_eq!(seen.operation(), "RegisterManagedInstance");
    assert_eq!(seen.header("authorization"), "");
    assert_eq!(body["ActivationCode"], "code-of-20-characters");
    assert_eq!(body["ActivationId"], "activation-id");
    assert_eq!(body["PublicKeyType"], "Rsa");
    let key = NodeKey::parse(&registration.private_key).unwrap();
    assert_eq!(body["PublicKey"], json!(key.public_text().unwrap()));
    let fingerprint = vault.fingerprint().unwrap().unwrap();
    assert_eq!(body["Fingerprint"], json!(fingerprint.fingerprint));
    assert_eq!(vault.registration().unwrap(), Some(registration));
    assert_eq!(registered_as(&vault).unwrap().as_deref(), Some("mi-1"));
    assert_eq!(
        fs::read_to_string(state.path().join("registration")).unwrap(),
        r#"{"ManagedInstanceID":"mi-1","Region":"test-1"}"#
    );
}

#[tokio::test]
async fn refused_activation_leaves_a_host_unregistered() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    let server = TestServer::start(|_, _| Reply::refusal("ActivationExpired")).await;

    let error = register_at(&server, &vault).await.unwrap_err();

    assert!(matches!(&error, RegistrationError::Call(_)));
    assert!(error.hint().unwrap().contains("activation"));
    assert_eq!(server.seen().len(), 1);
    assert_eq!(registered_as(&vault).unwrap(), None);
    assert!(!vault.registration().unwrap().unwrap().is_complete());
}

#[tokio::test]
async fn refused_activation_leaves_an_older_registration_in_place() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_registration(&older()).unwrap();
    let server = TestServer::start(|_, _| Reply::refusal("InvalidActivation")).await;

    register_at(&server, &vault).await.unwrap_err();

    assert_eq!(vault.registration().unwrap(), Some(older()));
}

#[tokio::test]
async fn overloaded_service_is_asked_again() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    let server = TestServer::start(|count, _| match count {
        0 => Reply::refusal("TooManyUpdates"),
        _ => Reply::json(r#"{"InstanceId":"mi-1"}"#),
    })
    .await;

    register_at(&server, &vault).await.unwrap();

    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn folder_that_cannot_be_written_is_noticed_before_the_activation_is_spent() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("file");
    fs::write(&file, "").unwrap();
    let server = TestServer::start(|_, _| Reply::json(r#"{"InstanceId":"mi-1"}"#)).await;

    let error = register_at(&server, &Vault::new(&file)).await.unwrap_err();

    assert!(matches!(error, RegistrationError::Vault(_)));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn similarity_check_can_be_disabled() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    let server = TestServer::start(|_, _| Reply::json(r#"{"InstanceId":"mi-1"}"#)).await;
    let request = Request {
        disable_similarity_check: true,
        ..request()
    };

    register(&vault, &overrides(&server), server.tls(), &request)
        .await
        .unwrap();

    let fingerprint = vault.fingerprint().unwrap().unwrap();
    assert_eq!(fingerprint.similarity_threshold, -1);
}

#[test]
fn cleared_registration_is_gone_for_everyone() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_registration(&older()).unwrap();
    vault.write_notice(&older()).unwrap();

    clear(&vault).unwrap();

    assert_eq!(registered_as(&vault).unwrap(), None);
    assert_eq!(vault.registration().unwrap(), Some(Registration::default()));
    assert!(!state.path().join("registration").exists());
}

#[test]
fn key_dates_are_those_of_the_reference() {
    let now: Timestamp = "2026-11-22T10:06:07.478227429Z".parse().unwrap();

    assert_eq!(key_date(now), "2026-11-22 10:06:07.478227429 +0000 UTC");
}

#[test]
fn key_ages_are_read_in_every_zone() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let table = [
        ("2026-11-22 10:00:00 +0000 UTC", 2),
        ("2026-11-22 12:00:00.5 +0200 CEST", 1),
        ("2026-11-21 12:00:00 +0000 UTC", 24),
        ("", 24 * 3650),
        ("yesterday", 24 * 3650),
    ];

    for (date, hours) in table {
        let registration = Registration {
            private_key_created: date.into(),
            ..Registration::default()
        };
        assert_eq!(key_age(&registration, now).as_hours(), hours, "{date}");
    }
}

fn request() -> Request {
    Request {
        activation: Activation {
            code: Secret::new("code-of-20-characters"),
            id: "activation-id".into(),
        },
        region: "test-1".into(),
        disable_similarity_check: false,
    }
}

fn older() -> Registration {
    Registration {
        node_id: "mi-old".into(),
        region: "test-1".into(),
        private_key: Secret::new("b2xk"),
        ..Registration::default()
    }
}

fn overrides(server: &TestServer) -> Overrides {
    Overrides {
        ssm: Some(format!("http://{}", server.address)),
        ..Overrides::default()
    }
}

async fn register_at(
    server: &TestServer,
    vault: &Vault,
) -> Result<Registration, RegistrationError> {
    register(vault, &overrides(server), server.tls(), &request()).await
}
