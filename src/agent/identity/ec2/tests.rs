use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agent::identity::vault::Registration;
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::aws::{CredentialSource as _, NoCredentials, NodeKey};

const ID: &str = "i-0123456789abcdef0";
const ROLE: &str = "/latest/meta-data/iam/security-credentials/";
const OWN: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";

#[tokio::test]
async fn credentials_of_the_profile_are_used_once_the_service_takes_them() {
    let mut world = World::start(|seen| match seen.operation() {
        "UpdateInstanceInformation" => Reply::json("{}"),
        _ => with_profile(seen),
    })
    .await;

    let credentials = world.source.credentials().await.unwrap();
    world.stop().await;

    assert_eq!(credentials.access_key_id(), "ASIAPROFILE");
    let report = world.asked("UpdateInstanceInformation");
    assert_eq!(report[0].json()["InstanceId"], ID);
    assert!(
        report[0]
            .header("authorization")
            .contains("Credential=ASIAPROFILE/")
    );
    assert_eq!(report[0].header("x-amz-security-token"), "token");
    assert!(world.asked("RegisterManagedInstance").is_empty());
    let config = world.runtime_config();
    assert_eq!(config["IdentityType"], "EC2");
    assert_eq!(config["CredentialSource"], "EC2");
    assert_eq!(config["ShareFile"], "");
    assert!(!world.state.path().join("credentials").exists());
}

#[tokio::test]
async fn instance_without_a_profile_is_registered_and_gets_credentials_by_its_key() {
    let mut world = World::start(managed).await;

    let credentials = world.source.credentials().await.unwrap();
    world.stop().await;

    assert_eq!(credentials.access_key_id(), "ASIAROLE");
    let registration = &world.asked("RegisterManagedInstance")[0];
    assert!(
        registration
            .header("authorization")
            .contains("Credential=ASIAOWN/")
    );
    let stored = Vault::new(world.state.path()).instance_registration();
    let stored = stored.unwrap().unwrap();
    assert_eq!(
        registration.json(),
        json!({"Fingerprint": ID, "PublicKey": stored.public_key, "PublicKeyType": "Rsa"})
    );
    assert_eq!(
        (stored.node_id.as_str(), stored.region.as_str()),
        (ID, "test-1")
    );
    let shared = fs::read_to_string(world.state.path().join("credentials")).unwrap();
    assert!(
        shared.starts_with("[default]\naws_access_key_id = ASIAROLE\n"),
        "{shared}"
    );
    let config = world.runtime_config();
    assert_eq!(config["CredentialSource"], "SSM");
    assert!(
        config["ShareFile"]
            .as_str()
            .unwrap()
            .ends_with("/credentials")
    );
}

#[tokio::test]
async fn token_is_asked_for_with_the_instances_credentials_and_its_key() {
    let mut world = World::start(managed).await;
    world.source.credentials().await.unwrap();
    world.stop().await;

    let token = &world.asked("RequestManagedInstanceRoleToken")[0];

    assert_eq!(token.json(), json!({"Fingerprint": ID}));
    let authorization = token.header("authorization");
    assert!(authorization.contains("Credential=ASIAOWN/"));
    let proof = token.header("ssm-asymmetrickeyauthorization");
    let stored = Vault::new(world.state.path()).instance_registration();
    let key = stored.unwrap().unwrap().public_key;
    assert!(is_signature(
        &key,
        authorization,
        proof.strip_prefix("Signature=").unwrap()
    ));
}

#[tokio::test]
async fn profile_that_is_denied_gives_way_and_comes_back() {
    let allowed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&allowed);
    let world = World::start(move |seen| match seen.operation() {
        "UpdateInstanceInformation" if allowed.load(Ordering::Relaxed) => Reply::json("{}"),
        "UpdateInstanceInformation" => Reply::refusal("AccessDeniedException"),
        "" => with_profile(seen),
        _ => managed(seen),
    })
    .await;
    let first = world.source.credentials().await.unwrap();

    switch.store(true, Ordering::Relaxed);
    world.source.refused();
    let second = world.source.credentials().await.unwrap();

    assert_eq!(first.access_key_id(), "ASIAROLE");
    assert_eq!(second.access_key_id(), "ASIAPROFILE");
}

#[tokio::test]
async fn trouble_of_the_service_is_no_reason_to_register_the_instance() {
    let mut world = World::start(|seen| match seen.operation() {
        "UpdateInstanceInformation" => Reply::refusal("UnrecognizedClientException"),
        _ => with_profile(seen),
    })
    .await;

    let error = world.source.credentials().await.unwrap_err();
    world.stop().await;

    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("UnrecognizedClientException"), "{chain}");
    assert!(world.asked("RegisterManagedInstance").is_empty());
}

#[tokio::test]
async fn instance_with_neither_says_what_is_wrong_with_both() {
    let world = World::start(|seen| match seen.operation() {
        "RegisterManagedInstance" => Reply::refusal("AccessDeniedException"),
        _ => managed(seen),
    })
    .await;

    let error = world.source.credentials().await.unwrap_err();

    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("EC2RoleRequestError"), "{chain}");
    assert!(
        chain.contains("RegisterManagedInstance was refused"),
        "{chain}"
    );
}

#[tokio::test]
async fn registered_instance_keeps_its_key_and_a_copy_of_it_gets_its_own() {
    let registered = |id: &str| Registration {
        node_id: id.into(),
        region: "test-1".into(),
        private_key: NodeKey::generate().unwrap().private_text().unwrap(),
        ..Registration::default()
    };

    let same = registered(ID);
    let mut world = World::with(Some(&same), managed).await;
    world.source.credentials().await.unwrap();
    world.stop().await;
    let copied = registered("i-00000000");
    let mut copy = World::with(Some(&copied), managed).await;
    copy.source.credentials().await.unwrap();
    copy.stop().await;

    assert!(world.asked("RegisterManagedInstance").is_empty());
    assert_eq!(copy.asked("RegisterManagedInstance").len(), 1);
    let stored = Vault::new(copy.state.path()).instance_registration();
    let stored = stored.unwrap().unwrap();
    assert_eq!(stored.node_id, ID);
    assert_ne!(stored.private_key, copied.private_key);
}

#[tokio::test]
async fn second_registration_counts_as_one() {
    let mut world = World::start(|seen| match seen.operation() {
        "RegisterManagedInstance" => Reply::refusal("InstanceAlreadyRegistered"),
        _ => managed(seen),
    })
    .await;

    let credentials = world.source.credentials().await.unwrap();
    world.stop().await;

    assert_eq!(credentials.access_key_id(), "ASIAROLE");
    let stored = Vault::new(world.state.path()).instance_registration();
    assert_eq!(stored.unwrap().unwrap().node_id, ID);
}

#[test]
fn word_of_the_configuration_decides_how_long_metadata_are_waited_for() {
    let settings = |named: bool, is_instance| Settings {
        places: Places::from_lookup(|name| {
            let is_endpoint = name == "AWS_EC2_METADATA_SERVICE_ENDPOINT";
            (named && is_endpoint).then(|| "http://127.0.0.1:1".into())
        }),
        is_instance,
    };

    assert!(settings(false, Some(true)).is_certain());
    assert!(settings(true, None).is_certain());
    assert!(!settings(true, Some(false)).is_certain());
}

/// An instance, its metadata and its service, which are one server.
struct World {
    state: tempfile::TempDir,
    server: TestServer,
    source: Refreshed,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(None, handler).await
    }

    async fn with(
        registration: Option<&Registration>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let server = TestServer::start(move |_, seen| handler(seen)).await;
        let state = tempfile::tempdir().unwrap();
        if let Some(registration) = registration {
            let vault = Vault::new(state.path());
            vault.store_instance_registration(registration).unwrap();
        }
        let url = format!("http://{}", server.address);
        let places = Places::from_lookup(|name| {
            (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| url.clone())
        });
        let metadata = Metadata::new(&places, server.tls(), Patience::CERTAIN);
        let instance = Instance {
            id: ID.into(),
            region: "test-1".into(),
            ..Instance::default()
        };
        let client = server.client_with(NoCredentials);
        let (source, refresher) = open(state.path().to_owned(), client, &metadata, instance);
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(refresher.run(cancel.clone()));
        Self {
            state,
            server,
            source,
            cancel,
            tasks,
        }
    }

    async fn stop(&mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// The requests of `operation`.
    fn asked(&self, operation: &str) -> Vec<Seen> {
        let mut seen = self.server.seen();
        seen.retain(|seen| seen.operation() == operation);
        seen
    }

    fn runtime_config(&self) -> Value {
        let path = self.state.path().join("runtimeconfig/identity_config.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

/// Metadata of an instance with a profile.
fn with_profile(seen: &Seen) -> Reply {
    match seen.path.as_str() {
        "/latest/api/token" => Reply::json("TOKEN"),
        ROLE => Reply::json("role"),
        path if path == format!("{ROLE}role") => credentials("ASIAPROFILE"),
        OWN => credentials("ASIAOWN"),
        _ => Reply(404, vec![], String::new()),
    }
}

/// An instance without a profile, and a service that manages it.
fn managed(seen: &Seen) -> Reply {
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    match seen.operation() {
        "RegisterManagedInstance" => Reply::json(&json!({"InstanceId": ID}).to_string()),
        "RequestManagedInstanceRoleToken" => Reply::json(
            &json!({
                "AccessKeyId": "ASIAROLE", "SecretAccessKey": "secret", "SessionToken": "token",
                "TokenExpirationDate": expires.as_secs_f64(), "UpdateKeyPair": false,
            })
            .to_string(),
        ),
        _ if seen.path == ROLE => Reply(404, vec![], String::new()),
        _ => with_profile(seen),
    }
}

fn credentials(id: &str) -> Reply {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(6);
    let body = json!({
        "Code": "Success", "AccessKeyId": id, "SecretAccessKey": "secret", "Token": "token",
        "Expiration": end.to_string(),
    });
    Reply::json(&body.to_string())
}

fn is_signature(public_key: &str, message: &str, signature: &str) -> bool {
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let key = BASE64.decode(public_key).unwrap();
    let signature = BASE64.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key)
        .verify(message.as_bytes(), &signature)
        .is_ok()
}
