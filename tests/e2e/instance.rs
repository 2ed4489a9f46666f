//! An agent that is an EC2 instance, as stand-ins for its metadata tell it, and its inventory.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use ssm_agent::client::Io;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ports;
use super::programs::{LOOK, PATIENCE, World};
use super::shell::Shell;

const NODE: &str = "i-0123456789abcdef0";
const PROFILE: &str = "/latest/meta-data/iam/security-credentials/";
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";
const MAC: &str = "02:29:96:8f:6a:2d";
const OWN: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";

#[tokio::test(flavor = "multi_thread")]
async fn instance_with_a_profile_has_shells_commands_and_inventory() {
    let mut world = World::start();
    let metadata = Metadata::start(&world, Credentials::OfProfile).await;
    world.become_instance(&metadata.url);
    world.start_agent();
    world.wait_connected(NODE).await;

    let mut shell = Shell::open(&world, NODE).await;
    shell.type_text("echo on''ec2; exit 4\n").await;
    shell.wait_for("onec2").await;
    assert_eq!(shell.ending().await.exit_code, Some(4));

    let custom = world.folder.path().join("custom");
    fs::create_dir(&custom).unwrap();
    let rack = r#"{"SchemaVersion":"1.0","TypeName":"Custom:Rack","Content":{"Slot":"4"}}"#;
    fs::write(custom.join("rack.json"), rack).unwrap();
    let done = gather(&world, &custom.display().to_string()).await;
    assert_eq!(done["Status"], "Success", "{done}");
    let entries = call(
        &world,
        "ListInventoryEntries",
        json!({"InstanceId": NODE, "TypeName": "Custom:Rack"}),
    );
    assert_eq!(entries.await["Entries"], json!([{"Slot": "4"}]));
    // The second time the service has it, and gets a hash.
    assert_eq!(
        gather(&world, &custom.display().to_string()).await["Status"],
        "Success"
    );
    let wanted = json!({"ResultAttributes": [{"TypeName": "AWS:BillingInfo"}, {"TypeName": "AWS:InstanceInformation"}]});
    let inventory = call(&world, "GetInventory", wanted).await;
    let data = &inventory["Entities"][0]["Data"];
    assert_eq!(
        data["AWS:BillingInfo"]["Content"],
        json!([{"BillingProductId": "bp-1"}])
    );
    let information = &data["AWS:InstanceInformation"]["Content"][0];
    assert_eq!(information["ResourceType"], "EC2Instance");

    let config = runtime_config(&world).await;
    assert_eq!(config["IdentityType"], "EC2");
    assert_eq!(config["CredentialSource"], "EC2");
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_without_a_profile_is_managed_by_its_key() {
    let mut world = World::start();
    let metadata = Metadata::start(&world, Credentials::OfItself).await;
    world.become_instance(&metadata.url);
    world.start_agent();
    world.wait_connected(NODE).await;

    let state = world.folder.path().join("agent");
    let key = fs::read(state.join("Vault/Store/EC2RegistrationKey")).unwrap();
    let key: Value = serde_json::from_slice(&key).unwrap();
    assert_eq!(key["instanceID"], NODE);
    assert_eq!(runtime_config(&world).await["CredentialSource"], "SSM");
    assert!(state.join("credentials").exists());
    // Another run finds the registration and needs no other.
    world.stop_agent();
    world.wait_disconnected(NODE).await;
    world.start_agent();
    world.wait_connected(NODE).await;
    let again = fs::read(state.join("Vault/Store/EC2RegistrationKey")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), key);
    let diagnostics = world
        .cli_command()
        .args(["get-diagnostics", "--json"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&diagnostics.stdout).into_owned();
    assert!(
        told.contains("IMDS is accessible and has instance id i-0123456789abcdef0"),
        "{told}"
    );
    assert!(
        told.contains("is registered for Default Host Management"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn own_addresses_of_the_instance_s_networks_are_no_destinations() {
    let mut world = World::start();
    let metadata = Metadata::start(&world, Credentials::OfProfile).await;
    world.become_instance(&metadata.url);
    for keeps in [false, true] {
        world.runtime = keeps.then(|| world.folder.path().join("run"));
        world.start_agent();
        world.wait_connected(NODE).await;

        for host in ["10.77.0.2", "10.77.255.255", "fd00:77::1"] {
            let parameters = [("host", host), ("portNumber", "80")];
            let document = "AWS-StartPortForwardingSessionToRemoteHost";
            let io = Io::pipes(tokio::io::empty(), tokio::io::sink(), tokio::io::sink());
            let running = ports::run(&world, NODE, document, &parameters, io).await;
            let ending = timeout(PATIENCE, running).await.unwrap().unwrap();

            let expected = format!("Forwarding to IP address {host} is forbidden.");
            assert!(ending.reason.contains(&expected), "{ending:?}");
        }
        world.stop_agent();
        world.wait_disconnected(NODE).await;
    }
}

/// Gathers inventory, also from the folder `custom`; returns how the command ended.
async fn gather(world: &World, custom: &str) -> Value {
    let content = json!({
        "schemaVersion": "2.2",
        "parameters": {"folder": {"type": "String"}},
        "mainSteps": [{"action": "aws:softwareInventory", "name": "gather", "inputs": {
            "applications": "Enabled", "networkConfig": "Enabled", "billingInfo": "Enabled",
            "customInventory": "Enabled", "customInventoryDirectory": "{{ folder }}",
        }}],
    });
    let document =
        json!({"Name": "Gather", "DocumentType": "Command", "Content": content.to_string()});
    // It may be there already.
    let _ = world
        .client
        .ssm::<_, Value>("CreateDocument", &document)
        .await;
    let sent = call(
        world,
        "SendCommand",
        json!({"DocumentName": "Gather", "InstanceIds": [NODE], "Parameters": {"folder": [custom]}}),
    )
    .await;
    let asked = json!({"CommandId": sent["Command"]["CommandId"], "InstanceId": NODE});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = call(world, "GetCommandInvocation", asked.clone()).await;
        if !matches!(found["Status"].as_str(), Some("Pending" | "InProgress")) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found}");
        sleep(LOOK).await;
    }
}

async fn call(world: &World, operation: &str, request: Value) -> Value {
    world.client.ssm(operation, &request).await.unwrap()
}

/// What the agent shares with the other programs of its host, once it does: it may be online before.
async fn runtime_config(world: &World) -> Value {
    let path = world
        .folder
        .path()
        .join("agent/runtimeconfig/identity_config.json");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::read(&path) {
            Ok(text) => return serde_json::from_slice(&text).unwrap(),
            Err(error) => assert!(Instant::now() < deadline, "{}: {error}", path.display()),
        }
        sleep(LOOK).await;
    }
}

/// What the instance has credentials by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credentials {
    OfProfile,
    OfItself,
}

/// A stand-in for instance metadata. The credentials that it gives are a key pair of the gateway: no
/// other could check them.
struct Metadata {
    url: String,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Answers {
    which: Credentials,
    given: Arc<String>,
}

impl Metadata {
    async fn start(world: &World, which: Credentials) -> Self {
        let created = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"))
            .args([
                "access", "create", "lab", "--node", NODE, "--json", "--state",
            ])
            .arg(world.folder.path().join("gateway"))
            .output()
            .unwrap();
        let key: Value = serde_json::from_slice(&created.stdout).unwrap();
        let given = json!({
            "Code": "Success", "AccessKeyId": key["AccessKeyId"],
            "SecretAccessKey": key["SecretAccessKey"], "Token": "",
            "Expiration": "2099-01-01T00:00:00Z",
        });
        let answers = Answers {
            which,
            given: Arc::new(given.to_string()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(answers);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, _tasks: tasks }
    }
}

async fn answer(State(answers): State<Answers>, request: Request) -> Response {
    let path = request.uri().path();
    let token = request.headers().get("x-aws-ec2-metadata-token");
    if request.method() == Method::PUT && path == "/latest/api/token" {
        return "TOKEN".into_response();
    }
    if token.is_none_or(|token| token != "TOKEN") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let credentials = || answers.given.as_str().to_owned().into_response();
    match path {
        "/latest/meta-data/instance-id" => NODE.into_response(),
        "/latest/dynamic/instance-identity/document" => {
            r#"{"region":"us-east-1","availabilityZone":"us-east-1a","billingProducts":["bp-1"]}"#
                .into_response()
        }
        "/latest/meta-data/placement/availability-zone-id" => "use1-az4".into_response(),
        MACS => MAC.into_response(),
        path if path == format!("{MACS}{MAC}/vpc-ipv4-cidr-blocks") => {
            "10.77.0.0/16\n10.78.0.0/16".into_response()
        }
        path if path == format!("{MACS}{MAC}/vpc-ipv6-cidr-blocks") => {
            "fd00:77::/56".into_response()
        }
        PROFILE if answers.which == Credentials::OfProfile => "lab".into_response(),
        OWN => credentials(),
        path if path.strip_prefix(PROFILE) == Some("lab") => credentials(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
