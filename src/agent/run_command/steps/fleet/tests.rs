use std::fs;

use serde_json::{Value, json};

use super::super::Begun;
use super::*;
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::aws::tests::server::{Reply, TestServer};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

struct World {
    root: tempfile::TempDir,
    settings: Settings,
    services: Services,
    command: CommandId,
}

impl World {
    fn new(server: Option<&TestServer>) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            settings: Settings::new(root.path().join("mi-1"), "mi-1"),
            services: Services {
                parameters: None,
                client: server.map(TestServer::client),
                audit: AuditLog::off(),
            },
            command: CommandId::new("c-1".to_owned()).unwrap(),
            root,
        }
    }

    async fn run(&self, plugin: &str, id: &str, properties: Value) -> Ended {
        let task = Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            folder: &self.root.path().join("command"),
            boot_id: "boot",
            within: "",
            depth: 0,
            plugin,
            id,
            properties: &properties,
            begun: Begun::No,
        };
        run(task, &CancellationToken::new()).await
    }
}

#[tokio::test]
async fn inventory_is_gathered_sent_and_told_in_the_references_words() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    let world = World::new(Some(&server));

    let ended = world
        .run(INVENTORY, "gather", json!({"networkConfig": "Enabled"}))
        .await;

    assert_eq!((&ended.status, ended.code), (&Status::Success, 0));
    assert_eq!(ended.output, SENT);
    assert_eq!(
        server.seen()[0].json()["Items"][0]["TypeName"],
        "AWS:Network"
    );
    let written = world
        .root
        .path()
        .join("command/awssoftwareInventory/gather/stdout");
    assert_eq!(fs::read_to_string(written).unwrap(), SENT);
    assert!(
        world
            .root
            .path()
            .join("mi-1/inventory/contentHash")
            .exists()
    );
}

#[tokio::test]
async fn nothing_to_send_is_a_success_and_a_refusal_is_none() {
    let server = TestServer::start(|_, _| Reply::refusal("AccessDeniedException")).await;
    let world = World::new(Some(&server));

    let nothing = world.run(INVENTORY, "gather", json!({})).await;
    let refused = world
        .run(INVENTORY, "gather", json!({"networkConfig": "Enabled"}))
        .await;

    assert_eq!(
        (nothing.status, nothing.output.as_str()),
        (Status::Success, NOTHING)
    );
    assert_eq!(refused.status, Status::Failed);
    assert!(
        refused
            .error_output
            .starts_with("inventory data could not be uploaded")
    );
    let written = world
        .root
        .path()
        .join("command/awssoftwareInventory/gather/stderr");
    assert_eq!(fs::read_to_string(written).unwrap(), refused.error_output);
}

#[tokio::test]
async fn cancelled_step_gathers_nothing() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    let world = World::new(Some(&server));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let properties = json!({"networkConfig": "Enabled"});
    let task = Task {
        settings: &world.settings,
        services: &world.services,
        command: &world.command,
        folder: world.root.path(),
        boot_id: "boot",
        within: "",
        depth: 0,
        plugin: INVENTORY,
        id: "gather",
        properties: &properties,
        begun: Begun::No,
    };

    let ended = run(task, &cancel).await;

    assert_eq!(ended.status, Status::Cancelled);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn associations_are_noted_and_told_at_once() {
    let world = World::new(None);
    let mut noted = world.settings.refresh.subscribe();

    let some = world
        .run(REFRESH, "refresh", json!({"associationIds": ["a", "b"]}))
        .await;
    let ids = noted.borrow_and_update().clone();
    let all = world.run(REFRESH, REFRESH, json!({})).await;

    assert_eq!(
        some.output,
        "Associations [a b] have been requested to execute immediately"
    );
    assert_eq!(some.status, Status::Success);
    assert!(!ids.all && ids.some.contains("a") && ids.some.contains("b"));
    assert_eq!(
        all.output,
        "All associations have been requested to execute immediately"
    );
    assert!(noted.borrow_and_update().all);
    let folder = world.root.path().join("command/awsrefreshAssociation");
    assert!(folder.join("refresh/stdout").exists());
    assert!(folder.join("awsrefreshAssociation/stdout").exists());
}
