use super::*;
use crate::aws::metadata::Places;
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::aws::{NodeKey, Secret};

#[tokio::test]
async fn registration_comes_before_a_stated_identity() {
    let world = World::new().await;
    world.register();
    let settings = Settings {
        custom: vec![stated("i-1")],
        ..world.settings()
    };

    let (identity, _upkeep) = world.open(&settings).await.unwrap();

    assert_eq!(identity.kind(), Kind::OnPrem);
    assert_eq!(identity.node_id(), "mi-1");
    assert_eq!(identity.region(), "test-1");
}

#[tokio::test]
async fn order_of_the_configuration_is_kept() {
    let world = World::new().await;
    world.register();
    let settings = Settings {
        order: vec![Kind::Custom, Kind::OnPrem],
        custom: vec![stated("i-1")],
        ..world.settings()
    };

    let (identity, _upkeep) = world.open(&settings).await.unwrap();

    assert_eq!(identity.kind(), Kind::Custom);
    let written = world
        .state
        .path()
        .join("runtimeconfig/identity_config.json");
    let written = std::fs::read_to_string(written).unwrap();
    assert!(written.contains(r#""InstanceId":"i-1","IdentityType":"CustomIdentity""#));
}

#[tokio::test]
async fn cleared_registration_is_no_identity_and_the_error_says_what_was_looked_for() {
    let world = World::new().await;
    let vault = Vault::new(world.state.path());
    vault.store_registration(&Registration::default()).unwrap();

    let error = world.open(&world.settings()).await.err().unwrap();

    let text = error.to_string();
    assert!(text.contains(&format!("no registration in {}", vault.folder().display())));
    assert!(
        text.contains("EC2: instance metadata refused /latest/api/token"),
        "{text}"
    );
    assert!(text.contains("CustomIdentity: none in the configuration"));
    assert!(error.hint().contains("ssm-agent register"));
}

#[tokio::test]
async fn unusable_key_is_an_error_and_not_another_identity() {
    let world = World::new().await;
    let registration = Registration {
        private_key: Secret::new("bm8ga2V5"),
        ..registered()
    };
    Vault::new(world.state.path())
        .store_registration(&registration)
        .unwrap();
    let settings = Settings {
        custom: vec![stated("i-1")],
        ..world.settings()
    };

    let error = world.open(&settings).await.err().unwrap();

    assert!(matches!(error, IdentityError::Key { .. }));
}

#[tokio::test]
async fn region_of_a_damaged_registration_is_refused() {
    let world = World::new().await;
    let registration = Registration {
        region: "not/a/region".into(),
        ..registered()
    };
    Vault::new(world.state.path())
        .store_registration(&registration)
        .unwrap();

    let error = world.open(&world.settings()).await.err().unwrap();

    assert!(matches!(error, IdentityError::Endpoint { .. }));
}

#[tokio::test]
async fn long_ids_are_short_in_paths() {
    let world = World::new().await;
    let long = format!("ecs:{}_task_container", "c".repeat(64));
    for (id, short) in [("i-1", "i-1"), (long.as_str(), "container")] {
        let settings = Settings {
            custom: vec![stated(id)],
            ..world.settings()
        };

        let (identity, _upkeep) = world.open(&settings).await.unwrap();

        assert_eq!((identity.node_id(), identity.short_id()), (id, short));
    }
}

#[test]
fn kinds_are_found_by_name() {
    for kind in [Kind::OnPrem, Kind::Ec2, Kind::Ecs, Kind::Custom] {
        assert_eq!(Kind::parse(kind.name()), Some(kind));
    }
    assert_eq!(Kind::parse("onprem"), None);
}

#[tokio::test]
async fn instance_comes_before_a_stated_identity_and_after_a_registration() {
    let world = World::on_ec2().await;
    let settings = Settings {
        custom: vec![stated("i-1")],
        ..world.settings()
    };

    let (instance, _upkeep) = world.open(&settings).await.unwrap();
    let who = who(&settings, &world.server.tls()).await.unwrap();
    world.register();
    let (registered, _upkeep) = world.open(&settings).await.unwrap();

    assert_eq!(instance.kind(), Kind::Ec2);
    assert_eq!(
        (instance.node_id(), instance.region()),
        ("i-0abc", "test-1")
    );
    assert_eq!(instance.instance().unwrap().availability_zone, "test-1a");
    assert_eq!((who.kind, who.node_id.as_str()), (Kind::Ec2, "i-0abc"));
    assert_eq!(registered.kind(), Kind::OnPrem);
    assert_eq!(registered.instance(), None);
}

#[tokio::test]
async fn instance_whose_metadata_come_up_late_is_found() {
    let world = World::with(|count, seen| match seen.path.as_str() {
        _ if count < 2 => Reply(404, vec![], String::new()),
        path => metadata(path),
    })
    .await;

    let (identity, _upkeep) = world.open(&world.settings()).await.unwrap();

    assert_eq!(identity.kind(), Kind::Ec2);
}

struct World {
    state: tempfile::TempDir,
    server: TestServer,
}

impl World {
    /// A host where nobody has metadata.
    async fn new() -> Self {
        Self::with(|_, _| Reply(404, vec![], String::new())).await
    }

    async fn on_ec2() -> Self {
        Self::with(|_, seen| metadata(&seen.path)).await
    }

    async fn with(handler: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            state: tempfile::tempdir().unwrap(),
            server: TestServer::start(handler).await,
        }
    }

    fn metadata(&self) -> ec2::Settings {
        let url = format!("http://{}", self.server.address);
        let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
        ec2::Settings {
            places: Places::from_lookup(|name| (name == variable).then(|| url.clone())),
            is_instance: None,
        }
    }

    fn register(&self) {
        Vault::new(self.state.path())
            .store_registration(&registered())
            .unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            state: self.state.path().to_owned(),
            order: Kind::DEFAULT_ORDER.to_vec(),
            custom: vec![],
            ec2: self.metadata(),
            overrides: Overrides::default(),
            share: None,
            rotate_key_after: None,
        }
    }

    async fn open(&self, settings: &Settings) -> Result<(Identity, Upkeep), IdentityError> {
        open(settings, &self.server.tls(), CancellationToken::new()).await
    }
}

fn metadata(path: &str) -> Reply {
    match path {
        "/latest/api/token" => Reply::json("TOKEN"),
        "/latest/meta-data/instance-id" => Reply::json("i-0abc"),
        "/latest/dynamic/instance-identity/document" => {
            Reply::json(r#"{"region":"test-1","availabilityZone":"test-1a"}"#)
        }
        _ => Reply(404, vec![], String::new()),
    }
}

fn registered() -> Registration {
    Registration {
        node_id: "mi-1".into(),
        region: "test-1".into(),
        private_key: NodeKey::generate().unwrap().private_text().unwrap(),
        ..Registration::default()
    }
}

fn stated(node_id: &str) -> CustomIdentity {
    CustomIdentity {
        node_id: node_id.into(),
        region: "test-1".into(),
        credentials_provider: "DEFAULT".into(),
    }
}
