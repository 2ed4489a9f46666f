//! Hosts and their agents: registration, credentials, reports.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::caller::{Host, Tool};
use super::{activate, gateway};
use crate::gateway::store::activations::NewActivation;

#[tokio::test]
async fn host_registers_gets_credentials_reports_and_is_listed() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({"DefaultInstanceName": "web"})).await;

    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();
    let report = json!({
        "InstanceId": node_id, "AgentName": "amazon-ssm-agent", "AgentVersion": "3.3.0.0",
        "AgentStatus": "Active", "PlatformType": "Linux", "PlatformName": "Debian GNU/Linux",
        "PlatformVersion": "12", "ComputerName": "host.fqdn", "IPAddress": "10.0.0.5",
        "SSMConnectionChannel": "", "AvailabilityZone": ""
    });
    agent
        .ssm("UpdateInstanceInformation", report)
        .await
        .unwrap();
    let listed = alice
        .ssm("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();

    let node = &listed["InstanceInformationList"][0];
    assert_eq!(node["InstanceId"], node_id.as_str());
    assert_eq!(node["PingStatus"], "Online");
    assert_eq!(node["Name"], "web");
    assert_eq!(node["ActivationId"], id.as_str());
    assert_eq!(node["IPAddress"], "10.0.0.5");
    assert_eq!(node["ResourceType"], "ManagedInstance");
    assert!(node["LastPingDateTime"].is_f64() && node["RegistrationDate"].is_f64());
    let activations = alice.ssm("DescribeActivations", json!({})).await.unwrap();
    assert_eq!(activations["ActivationList"][0]["RegistrationsCount"], 1);
}

#[tokio::test]
async fn refused_registrations_say_why_in_codes_that_agents_know() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let register = async |host: &Host, id: &str, code: &str| {
        host.register(&gateway.running, id, code).await.unwrap_err()
    };
    let (first, second) = (Host::new(), Host::new());

    assert_eq!(
        register(&first, &id, "wrong code, long enough").await,
        "InvalidActivation"
    );
    assert_eq!(
        register(&first, "no uuid", &code).await,
        "InvalidActivation"
    );
    first.register(&gateway.running, &id, &code).await.unwrap();
    assert_eq!(
        register(&second, &id, &code).await,
        "RegistrationLimitExceeded"
    );

    let (id, code) = activate(&alice, json!({"RegistrationLimit": 5})).await;
    assert_eq!(
        register(&first, &id, &code).await,
        "PublicKeyAlreadyRegistered"
    );
    alice
        .ssm("DeleteActivation", json!({"ActivationId": id}))
        .await
        .unwrap();
    assert_eq!(register(&second, &id, &code).await, "InvalidActivation");
}

#[tokio::test]
async fn expired_activation_registers_nobody() {
    let gateway = gateway().await;
    let new = NewActivation {
        description: None,
        default_instance_name: None,
        iam_role: "role".into(),
        registration_limit: 1,
        expires: SystemTime::now() - Duration::from_secs(1),
        tags: Vec::new(),
    };
    let issued = gateway.running.create_activation(new).await.unwrap();

    let code = issued.code.expose();
    let refused = Host::new()
        .register(&gateway.running, &issued.activation_id, code)
        .await;

    assert_eq!(refused.unwrap_err(), "ActivationExpired");
}

#[tokio::test]
async fn unusable_keys_are_refused_at_registration() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;

    for (key, error) in [
        ("short".to_owned(), "ValidationException"),
        ("A".repeat(392), "InvalidPublicKey"),
        ("not base64 ".repeat(40), "InvalidPublicKey"),
    ] {
        let request = json!({
            "ActivationId": id, "ActivationCode": code, "PublicKey": key,
            "PublicKeyType": "Rsa", "Fingerprint": "f"
        });
        let refused = alice
            .unsigned("AmazonSSM.RegisterManagedInstance", request)
            .await;
        assert_eq!(refused.unwrap_err(), error);
    }
}

#[tokio::test]
async fn node_speaks_for_itself_only() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({"RegistrationLimit": 2})).await;
    let (host, other) = (Host::new(), Host::new());
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let other_id = other.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();

    let for_other = json!({"InstanceId": other_id, "AgentVersion": "9.9.9.9"});
    for (operation, request) in [
        ("UpdateInstanceInformation", for_other.clone()),
        ("PutInventory", for_other.clone()),
        ("StartSession", json!({"Target": other_id})),
        ("CreateActivation", json!({"IamRole": "r"})),
        ("DeregisterManagedInstance", json!({"InstanceId": other_id})),
    ] {
        let refused = agent.ssm(operation, request).await;
        assert_eq!(refused.unwrap_err(), "AccessDeniedException", "{operation}");
    }
    let polled = json!({"Destination": other_id, "VisibilityTimeoutInSeconds": 0});
    let refused = agent.delivery("GetMessages", polled).await;
    assert_eq!(refused.unwrap_err(), "AccessDeniedException");
    let stolen = host.credentials(&gateway.running, &other_id).await;
    assert_eq!(stolen.err().unwrap(), "InvalidSignatureException");
    assert_eq!(
        alice
            .ssm("UpdateInstanceInformation", for_other)
            .await
            .unwrap_err(),
        "UnknownOperationException"
    );
}

#[tokio::test]
async fn key_is_replaced_by_a_request_that_the_old_key_signed() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let (old, new) = (Host::new(), Host::new());
    let node_id = old.register(&gateway.running, &id, &code).await.unwrap();

    let request = json!({"NewPublicKey": new.public_key(), "NewPublicKeyType": "Rsa"});
    old.call(
        &gateway.running,
        &node_id,
        "UpdateManagedInstancePublicKey",
        request,
    )
    .await
    .unwrap();

    let refused = old.credentials(&gateway.running, &node_id).await;
    assert_eq!(refused.err().unwrap(), "InvalidSignatureException");
    assert!(new.credentials(&gateway.running, &node_id).await.is_ok());
}

#[tokio::test]
async fn key_on_another_machine_gets_no_credentials() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();

    let request = json!({"Fingerprint": "another machine"});
    let refused = host
        .call(
            &gateway.running,
            &node_id,
            "RequestManagedInstanceRoleToken",
            request,
        )
        .await;

    assert_eq!(refused.unwrap_err(), "MachineFingerprintDoesNotMatch");
}

#[tokio::test]
async fn deregistered_node_is_locked_out_at_once() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();
    let deregister = json!({"InstanceId": node_id});

    alice
        .ssm("DeregisterManagedInstance", deregister.clone())
        .await
        .unwrap();

    let report = agent
        .ssm("UpdateInstanceInformation", json!({"InstanceId": node_id}))
        .await;
    assert_eq!(report.unwrap_err(), "UnrecognizedClientException");
    let credentials = host.credentials(&gateway.running, &node_id).await;
    assert_eq!(credentials.err().unwrap(), "UnrecognizedClientException");
    let again = alice.ssm("DeregisterManagedInstance", deregister).await;
    assert_eq!(again.unwrap_err(), "InvalidInstanceId");
}

#[tokio::test]
async fn node_with_an_access_key_of_its_own_needs_no_registration() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let node_id = "i-0123456789abcdef0";
    let now = SystemTime::now();
    let key = gateway
        .running
        .store()
        .create_node_access_key("lab", node_id, now)
        .await
        .unwrap();
    let agent = Tool::new(
        &gateway.running,
        &key.access_key_id,
        key.secret.expose(),
        None,
    );

    agent
        .ssm("UpdateInstanceInformation", json!({"InstanceId": node_id}))
        .await
        .unwrap();
    let listed = alice
        .ssm("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();

    assert_eq!(listed["InstanceInformationList"][0]["InstanceId"], node_id);
    assert_eq!(
        listed["InstanceInformationList"][0]["ResourceType"],
        "EC2Instance"
    );
}

#[tokio::test]
async fn what_agents_ask_at_start_has_valid_answers() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();

    for (operation, request, answer) in [
        (
            "ListInstanceAssociations",
            json!({"InstanceId": node_id, "MaxResults": 20}),
            json!({"Associations": []}),
        ),
        (
            "PutInventory",
            json!({"InstanceId": node_id, "Items": [{"TypeName": "Custom:A", "SchemaVersion": "1.0",
                "CaptureTime": "2026-01-31T12:00:00Z", "ContentHash": "", "Content": []}]}),
            json!({"Message": "Inventory was successfully applied."}),
        ),
        (
            "PutComplianceItems",
            json!({"ResourceId": node_id}),
            json!({}),
        ),
        (
            "GetParameters",
            json!({"Names": ["a"]}),
            json!({"Parameters": [], "InvalidParameters": ["a"]}),
        ),
    ] {
        assert_eq!(
            agent.ssm(operation, request).await,
            Ok(answer),
            "{operation}"
        );
    }
    let document = agent.ssm("GetDocument", json!({"Name": "AWS-X"})).await;
    assert_eq!(document.unwrap_err(), "InvalidDocument");
    let document = json!({"Name": "AWS-RunRemoteScript", "DocumentVersion": "1"});
    let got = agent.ssm("GetDocument", document.clone()).await.unwrap();
    assert!(
        got["Content"]
            .as_str()
            .unwrap()
            .contains("aws:downloadContent")
    );
    let described = agent.ssm("DescribeDocument", document).await.unwrap();
    assert_eq!(described["Document"]["Status"], "Active");
}
