use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::aws::NoCredentials;
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::runtime::cause::in_one_line;

#[tokio::test]
async fn first_call_waits_for_the_first_token() {
    let world = World::start(|count, _| token(count, in_an_hour())).await;

    let credentials = world.source.credentials().await.unwrap();

    assert_eq!(credentials.access_key_id(), "ASIA0");
    assert_eq!(credentials.session_token(), Some("token"));
    let seen = &world.server.seen()[0];
    assert_eq!(seen.operation(), "RequestManagedInstanceRoleToken");
    assert!(seen.header("authorization").contains("Credential=mi-1/"));
    assert!(!seen.headers.contains_key("x-amz-security-token"));
    let fingerprint = world.vault.fingerprint().unwrap().unwrap().fingerprint;
    assert_eq!(seen.json(), json!({"Fingerprint": fingerprint}));
}

#[tokio::test]
async fn many_calls_make_one_request() {
    let world = World::start(|count, _| token(count, in_an_hour())).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let source = Arc::clone(&world.source);
        calls.spawn(async move { source.credentials().await });
    }

    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().access_key_id(), "ASIA0");
    }

    assert_eq!(world.server.seen().len(), 1);
}

#[tokio::test]
async fn refused_credentials_are_replaced() {
    let world = World::start(|count, _| token(count, in_an_hour())).await;
    world.source.credentials().await.unwrap();

    world.source.refused();

    let credentials = world.source.credentials().await.unwrap();
    assert_eq!(credentials.access_key_id(), "ASIA1");
}

#[tokio::test]
async fn refusal_by_the_service_reaches_who_waits() {
    let world = World::start(|_, _| Reply::refusal("MachineFingerprintDoesNotMatch")).await;

    let error = world.source.credentials().await.unwrap_err();

    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("MachineFingerprintDoesNotMatch"), "{chain}");
}

#[tokio::test]
async fn node_gets_its_credentials_when_the_service_recovers() {
    let allowed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&allowed);
    let world = World::start(move |count, _| {
        if allowed.load(Ordering::Relaxed) {
            token(count, in_an_hour())
        } else {
            Reply::refusal("AccessDeniedException")
        }
    })
    .await;
    world.source.credentials().await.unwrap_err();

    switch.store(true, Ordering::Relaxed);

    let mut state = world.source.state.clone();
    let recovered = state.wait_for(|state| state.token.is_some());
    tokio::time::timeout(Duration::from_secs(20), recovered)
        .await
        .expect("the refresher tries again within seconds")
        .unwrap();
    world.source.credentials().await.unwrap();
}

#[tokio::test]
async fn expired_token_is_not_taken() {
    let world = World::start(|count, _| token(count, 1_000_000_000.0)).await;

    let error = world.source.credentials().await.unwrap_err();

    assert!(format!("{:#}", anyhow::Error::from(error)).contains("already expired"));
}

#[tokio::test]
async fn host_with_a_wrong_clock_gets_along() {
    // The service lives in 2015, and so do its tokens.
    let world = World::start(|count, _| {
        let Reply(status, mut headers, body) = token(count, 1_445_416_080.0);
        headers.push(("date", "Wed, 21 Oct 2015 07:28:00 GMT".into()));
        Reply(status, headers, body)
    })
    .await;

    let credentials = world.source.credentials().await.unwrap();

    assert_eq!(credentials.access_key_id(), "ASIA0");
}

#[tokio::test]
async fn token_is_written_for_other_tools() {
    let mut world = World::start(|count, _| token(count, in_an_hour())).await;
    let config = world
        .state
        .path()
        .join("runtimeconfig/identity_config.json");

    world.source.credentials().await.unwrap();
    world.stop().await;

    let shared = fs::read_to_string(world.state.path().join("aws/credentials")).unwrap();
    assert!(shared.starts_with("[node]\naws_access_key_id = ASIA0\n"));
    let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    assert_eq!(config["InstanceId"], "mi-1");
    assert_eq!(config["CredentialSource"], "SSM");
    assert_eq!(config["ShareProfile"], "node");
}

#[tokio::test]
async fn key_is_changed_when_the_service_asks_for_it() {
    let world = World::start(|count, seen| match seen.operation() {
        "UpdateManagedInstancePublicKey" => Reply::json("{}"),
        _ => {
            let Reply(status, headers, body) = token(count, in_an_hour());
            Reply(status, headers, body.replace("false", "true"))
        }
    })
    .await;
    let old = world.vault.registration().unwrap().unwrap();

    world.source.credentials().await.unwrap();
    // The second request starts when the first, with its rotation, is over.
    world.source.refused();
    world.source.credentials().await.unwrap();

    let new = world.vault.registration().unwrap().unwrap();
    assert_ne!(new.private_key, old.private_key);
    assert_ne!(new.private_key_created, "");
    assert_eq!(new.node_id, old.node_id);
}

#[tokio::test]
async fn copy_of_a_host_is_told_what_it_is() {
    let world = World::start(|_, _| Reply::refusal("MachineFingerprintDoesNotMatch")).await;

    let error = world.source.credentials().await.unwrap_err();

    let text = in_one_line(&error);
    let expected = "this host is not the one that was registered as mi-1: it is a copy";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("ssm-agent register"), "{text}");
    assert!(text.contains("MachineFingerprintDoesNotMatch"), "{text}");
}

#[tokio::test]
async fn stopped_refresher_leaves_nobody_waiting() {
    let mut world = World::start(|_, _| Reply::refusal("AccessDeniedException")).await;
    let source = Arc::clone(&world.source);

    world.stop().await;
    let answer = source.credentials().await;

    assert!(answer.is_err());
}

#[test]
fn renewal_comes_at_half_of_the_lifetime() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_341_923);

    let hour = half_of_lifetime(now, now + Duration::from_secs(3600));
    let moment = half_of_lifetime(now, now + Duration::from_secs(1));

    assert_eq!(hour, Duration::from_secs(1800));
    assert_eq!(moment, SHORTEST_RENEWAL);
}

struct World {
    state: tempfile::TempDir,
    server: TestServer,
    vault: Vault,
    source: Arc<RoleCredentials>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    async fn start(handler: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let server = TestServer::start(handler).await;
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());
        let registration = Registration {
            node_id: "mi-1".into(),
            region: "test-1".into(),
            private_key: NodeKey::generate().unwrap().private_text().unwrap(),
            ..Registration::default()
        };
        vault.store_registration(&registration).unwrap();
        let settings = Settings {
            state: state.path().to_owned(),
            share: Some(share::Settings {
                file: state.path().join("aws/credentials"),
                profile: "node".into(),
                force: false,
            }),
            rotate_after: None,
        };
        let client = server.client_with(NoCredentials);
        let (source, refresher) = open(settings, client, vault.clone(), registration).unwrap();
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(refresher.run(cancel.clone()));
        Self {
            state,
            server,
            vault,
            source: Arc::new(source),
            cancel,
            tasks,
        }
    }

    async fn stop(&mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn token(count: usize, expires: f64) -> Reply {
    let body = json!({
        "AccessKeyId": format!("ASIA{count}"),
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "TokenExpirationDate": expires,
        "UpdateKeyPair": false,
    });
    Reply::json(&body.to_string())
}

fn in_an_hour() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs_f64() + 3600.0
}
